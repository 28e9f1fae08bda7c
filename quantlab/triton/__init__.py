"""A model repository for NVIDIA's Triton Inference Server, of a model or an engine."""

from quantlab.arguments import guard
from quantlab.triton.options import Ensemble, Scheduling, TritonOptions
from quantlab.triton.repository import Repository, ServedModel, write_repository

__all__ = ["Ensemble", "Repository", "Scheduling", "ServedModel", "TritonOptions", "write_repository"]

guard(globals())
