"""The model.py of a preprocess model: it runs in Triton's Python backend, with NumPy and Pillow.

What it imports of quantlab is written beside it, see `quantlab.triton.preprocess`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from quantlab.data.decode import from_array
from quantlab.data.preprocess import Preprocess
from quantlab.errors import DataError, QuantlabError


class TritonPythonModel:
    """Decoded images to the input of a network. See `quantlab.data.Preprocess`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Triton calls it once."""
        config = json.loads(args["model_config"])
        self._images: str = config["input"][0]["name"]
        self._output: str = config["output"][0]["name"]
        values = json.loads(Path(__file__).with_name("preprocess.json").read_text("utf-8"))
        self._preprocess = Preprocess.from_dict(values)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Triton calls it with requests: one response for each, an error where its images cannot be used."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        pixels = pb_utils.get_input_tensor_by_name(request, self._images).as_numpy()
        try:
            made = pb_utils.Tensor(self._output, self._made(pixels))
        except QuantlabError as error:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(error.message))
        return pb_utils.InferenceResponse(output_tensors=[made])

    def _made(self, pixels: Any) -> Any:
        if pixels.ndim == 3:
            return self._preprocess.apply(from_array(pixels))
        if len(pixels) == 0:
            raise DataError("there are no images", hint="send at least one")
        return np.stack([self._preprocess.apply(from_array(one)) for one in pixels])
