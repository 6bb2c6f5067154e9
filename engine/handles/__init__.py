"""The handles: `Engine`, `Run`, `Branch` and `Attempt`, and what they share."""
