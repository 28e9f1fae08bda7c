"""Every exception quantlab raises on purpose. The CLI prints these and exits 2; anything else is a bug."""

from __future__ import annotations


class QuantlabError(Exception):
    """What failed on which named thing, got X, expected Y, and a hint: the next command or argument."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class ConfigError(QuantlabError):
    """An argument, option or configuration value that cannot be used."""


class DataError(QuantlabError):
    """Images, arrays, labels, tables or caches that are missing, broken or do not fit the model."""


class NotCalibratedError(QuantlabError):
    """A result was asked of an observer that has seen no data, or a tensor has no scale."""


class GraphError(QuantlabError):
    """A model that cannot be read, checked, calibrated or quantized."""


class BuildError(QuantlabError):
    """TensorRT could not build or load an engine."""


class DeviceError(QuantlabError):
    """The GPU, its driver or its memory."""


class MissingDependencyError(QuantlabError):
    """An optional package that this path needs is not installed, or is of a version that cannot do it."""
