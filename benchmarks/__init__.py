"""Measurements that decisions were made on. Ratios within one run travel between machines; absolute figures do not."""
