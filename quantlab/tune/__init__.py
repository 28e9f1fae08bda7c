"""Choices by measurement, and what INT8 does where."""

from quantlab.arguments import guard
from quantlab.tune.auto import AutoResult, Choice, calibrate_auto
from quantlab.tune.bias import correct_bias
from quantlab.tune.closest import quantize_closest
from quantlab.tune.closest_result import Closest, Step
from quantlab.tune.latency_table import LatencyTable, load_latency_table
from quantlab.tune.problem import Problem
from quantlab.tune.sensitivity import SensitivityOptions, measure_sensitivity
from quantlab.tune.sensitivity_merge import merge_sensitivity
from quantlab.tune.sensitivity_table import Effect, SensitivityRow, SensitivityTable
from quantlab.tune.target import Accuracy, Target
from quantlab.tune.tuned import Tuned

__all__ = [
    "Accuracy",
    "AutoResult",
    "Choice",
    "Closest",
    "Effect",
    "LatencyTable",
    "Problem",
    "SensitivityOptions",
    "SensitivityRow",
    "SensitivityTable",
    "Step",
    "Target",
    "Tuned",
    "calibrate_auto",
    "correct_bias",
    "load_latency_table",
    "measure_sensitivity",
    "merge_sensitivity",
    "quantize_closest",
]

guard(globals())
