"""The works to measure, one module for each."""
