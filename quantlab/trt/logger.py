"""TensorRT's logger."""

from __future__ import annotations

import logging

from quantlab.engines.messages import Messages
from quantlab.trt.features import trt

_LOG = logging.getLogger("quantlab.tensorrt")

_LEVELS = {
    "INTERNAL_ERROR": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}


class _Logger(trt.ILogger):  # type: ignore[misc]
    """TensorRT keeps one logger per process. This one prints nothing: it hands every message to all that collect."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._collecting: list[Messages] = []

    def collect(self, messages: Messages) -> Messages:
        """Hand everything reported from now on to `messages`, until `release`."""
        self._collecting.append(messages)
        return messages

    def release(self, messages: Messages) -> None:
        """Stop; harmless when done already."""
        self._collecting = [m for m in self._collecting if m is not messages]

    def log(self, severity: object, message: str) -> None:
        """TensorRT calls this."""
        level = _LEVELS.get(str(severity).rsplit(".", 1)[-1], logging.DEBUG)
        for messages in self._collecting:
            messages.add(level, message)
        _LOG.log(min(level, logging.INFO), "%s", message)  # what matters is raised or reported, not logged past


LOGGER = _Logger()
"""The logger of this process. It lives as long as the process: TensorRT keeps a pointer to it."""
