"""Proof: a history's hashes, links and reductions made again, and what can be erased with all of them whole."""
