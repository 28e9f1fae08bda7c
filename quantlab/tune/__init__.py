"""Choices by measurement."""

from quantlab.tune.auto import AutoResult, Choice, calibrate_auto
from quantlab.tune.bias import correct_bias

__all__ = ["AutoResult", "Choice", "calibrate_auto", "correct_bias"]
