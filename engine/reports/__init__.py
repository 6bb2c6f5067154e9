"""Reports on runs: explanations of their state, differences between them, and evidence to keep."""
