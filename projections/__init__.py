"""The read side: what is, folded from what happened. Every table here can be rebuilt from events alone."""
