"""Measurements behind decisions. Compare ratios within one run: absolute figures depend on the machine."""
