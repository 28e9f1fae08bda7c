"""Reading ONNX models: one loader with clear errors."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from quantlab.errors import GraphError
from quantlab.onnx_model.large import LIMIT, model_bytes, why_invalid

Model = str | Path | onnx.ModelProto
"""What every function that takes a model accepts: a path of an ONNX file, or the loaded ModelProto."""


def load_model(model: Model) -> onnx.ModelProto:
    """The ModelProto, checked, local functions inlined. GraphError if it is missing, empty, truncated or not ONNX."""
    if isinstance(model, onnx.ModelProto):
        proto, name = model, "model"
    elif isinstance(model, (str, Path)):
        path = Path(model)
        proto, name = _read(path), str(path)
    else:
        raise GraphError(
            f"a model is a {type(model).__name__}, expected the path of an ONNX file or a ModelProto",
            hint="export it to ONNX first, e.g. with torch.onnx.export",
        )
    if not proto.HasField("graph") or not proto.graph.node:
        raise GraphError(f"{name} is not an ONNX model: it has no graph", hint="is this file an export that failed?")
    if proto.functions:
        if model_bytes(proto) > LIMIT:
            raise GraphError(f"{name} has local functions and more than 2 GB of weights", hint="export it without them")
        proto = onnx.inliner.inline_local_functions(proto)
    reason = why_invalid(proto, full_check=False)
    if reason is not None:
        raise GraphError(f"{name} is not a valid ONNX model: {reason}", hint="export the model again")
    return proto


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise GraphError(f"model {path} does not exist or is not a file", hint="give the path of an .onnx file")
    if path.stat().st_size == 0:
        raise GraphError(f"model {path} is empty (0 bytes)", hint="export or download it again")
    try:
        return onnx.load(str(path), format="protobuf")
    except DecodeError as error:
        raise GraphError(
            f"model {path} is truncated or not an ONNX file ({path.stat().st_size} bytes)",
            hint="export or download it again",
        ) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(
            f"model {path}: external data cannot be read: {error}", hint="keep the data file beside the model"
        ) from error
