"""Proof: recomputes a history's hashes, links and reductions, and defines what can be erased without breaking them."""
