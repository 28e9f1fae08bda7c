"""Batches from a pipeline of NVIDIA DALI, on the host or, for TensorRT's calibrators, on the GPU where it made them."""

from quantlab.arguments import guard
from quantlab.dali.batches import PipelineBatches

__all__ = ["PipelineBatches"]

guard(globals())
