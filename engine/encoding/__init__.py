"""Encoding: checks of callers' values and of decoded payloads, event ids, and structs and values in plain JSON."""
