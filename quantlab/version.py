"""The version of quantlab: the build reads it here, and results record it."""

__version__ = "0.1.0"
