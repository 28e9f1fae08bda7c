"""Reading ONNX models: one loader with clear errors."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from quantlab.errors import GraphError, first_line
from quantlab.files import is_file, read_together
from quantlab.onnx_model.large import LIMIT, model_bytes, why_invalid
from quantlab.onnx_model.mend import is_recursive, mended
from quantlab.onnx_model.ranks import with_ranks

Model = str | Path | onnx.ModelProto
"""What every function that takes a model accepts: a path of an ONNX file, or the loaded ModelProto."""

_LOG = logging.getLogger(__name__)


def load_model(model: Model) -> onnx.ModelProto:
    """The ModelProto, checked, local functions inlined. GraphError if it is missing, empty, truncated or not ONNX."""
    if isinstance(model, onnx.ModelProto):
        proto, name = model, "model"
    else:
        path = Path(model)
        proto, name = read_together(path, lambda: _read(path)), str(path)
        _LOG.info("read model %s: %d nodes", path, len(proto.graph.node))
    if not proto.HasField("graph") or not proto.graph.node:
        raise GraphError(f"{name} is not an ONNX model: it has no graph", hint="is this file an export that failed?")
    if proto.functions:
        if model_bytes(proto) > LIMIT:
            raise GraphError(f"{name} has local functions and more than 2 GB of weights", hint="export it without them")
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except Exception as error:  # the inliner raises RuntimeError and onnx's own types
            raise GraphError(
                f"{name} has local functions that cannot be written out: {first_line(error)}"
                f"{' (they are recursive)' if is_recursive(proto) else ''}",
                hint="export it without functions",
            ) from error
    proto = with_ranks(mended(proto))
    reason = why_invalid(proto, full_check=False)
    if reason is not None:
        raise GraphError(f"{name} is not a valid ONNX model: {reason}", hint="export the model again")
    return proto


def _read(path: Path) -> onnx.ModelProto:
    if not is_file(path):
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
