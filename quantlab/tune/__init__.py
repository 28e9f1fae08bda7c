"""Choices by measurement."""

from quantlab.tune.auto import AutoResult, Choice, calibrate_auto

__all__ = ["AutoResult", "Choice", "calibrate_auto"]
