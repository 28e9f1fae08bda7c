"""Choices by measurement, and what INT8 does where."""

from quantlab.tune.auto import AutoResult, Choice, calibrate_auto
from quantlab.tune.bias import correct_bias
from quantlab.tune.sensitivity import SensitivityOptions, measure_sensitivity
from quantlab.tune.sensitivity_merge import merge_sensitivity
from quantlab.tune.sensitivity_table import Effect, SensitivityRow, SensitivityTable

__all__ = [
    "AutoResult",
    "Choice",
    "Effect",
    "SensitivityOptions",
    "SensitivityRow",
    "SensitivityTable",
    "calibrate_auto",
    "correct_bias",
    "measure_sensitivity",
    "merge_sensitivity",
]
