"""What a report file says of itself."""

FORMAT = "quantlab.report"
VERSION = 3
READABLE = (2, 3)
"""Versions that can serve as a baseline: what is read of them is the same in all."""
