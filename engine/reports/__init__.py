"""Reports: what is to be said of a run. Why it stands as it does, what differs, and evidence of it to be kept."""
