"""The options of ONNX Runtime's TensorRT provider for an INT8 model: Q/DQ, or FP32 with a calibration table.

Their names are those of onnxruntime-gpu 1.24. The provider reads a table from the folder of its engine cache and no
other; TensorRT takes none beside Q/DQ nodes. A stored engine is found by the names in the graph, not by weights or
scales, so that an engine of other scales would be used again: the prefix here changes with both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantlab.calibration import load_table
from quantlab.calibration.ep_table import is_ep_flatbuffers
from quantlab.calibration.trt_cache import TrtCache
from quantlab.engines.trtexec import TrtexecOptions, profile_texts
from quantlab.errors import ConfigError
from quantlab.files import is_file, read_bytes
from quantlab.onnx_model import has_qdq, load_model, model_hash, require_float

PROVIDER = "TensorrtExecutionProvider"


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What the provider shall do.

    Attributes:
        batch: The largest and best served batch of a dynamic model, whose smallest is 1; None to let the provider make
            its engines as batches come.
        shapes: Input -> exact shape, for dynamic dimensions other than the batch.
        fp16: What is not INT8 may run in FP16.
        engine_cache: The folder where engines are kept; None to build them anew in every session.
    """

    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fp16: bool = True
    engine_cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """How a session is made.

    Attributes:
        model: The file of the model.
        options: Of the provider, by their names.
    """

    model: Path
    options: Mapping[str, str]

    def python(self) -> str:
        """The lines that make the session, ready to paste."""
        lines = "".join(f"    {name!r}: {value!r},\n" for name, value in self.options.items())
        return (
            f"import onnxruntime\n\noptions = {{\n{lines}}}\n"
            f'providers = [("{PROVIDER}", options), "CUDAExecutionProvider", "CPUExecutionProvider"]\n'
            f"session = onnxruntime.InferenceSession({str(self.model)!r}, providers=providers)\n"
        )


def provider(model: str | Path, table: str | Path | None = None, options: ProviderOptions | None = None) -> Provider:
    """The options for a Q/DQ model, or for an FP32 model with its calibration table.

    Args:
        model: The file.
        table: Of an FP32 model: `calibration.flatbuffers`, or a calibration cache of TensorRT.
        options: What else the provider shall do.

    Returns:
        The options, and the lines that make a session with them.

    Raises:
        ConfigError: There are no scales, the table is of a kind that the provider cannot read or where it does not
            look, or the options do not fit the model.
        DataError: The table does not fit the model.
        GraphError: A table was given for a Q/DQ model.
    """
    options, model = options or ProviderOptions(), Path(model)
    if options.engine_cache is not None and is_file(options.engine_cache):
        raise ConfigError(f"engine cache {options.engine_cache} is a file", hint="--engine-cache FOLDER")
    proto = load_model(model)
    made: dict[str, str] = {"trt_int8_enable": "1"}
    if table is not None:
        made |= _table_options(Path(table), proto, options)
    elif not has_qdq(proto):
        raise ConfigError(
            f"{model} has no Q/DQ nodes, and no calibration table was given: nothing says how to quantize it",
            hint="--table calibration.flatbuffers, or a model of quantlab quantize",
        )
    if options.fp16:
        made["trt_fp16_enable"] = "1"
    made |= _profiles(proto, options)
    if options.engine_cache is not None:
        made["trt_engine_cache_enable"] = "1"
        made["trt_engine_cache_path"] = str(options.engine_cache)
        made["trt_engine_cache_prefix"] = _prefix(model, proto, table)
    elif table is not None:
        made["trt_engine_cache_path"] = str(Path(table).parent)
    return Provider(model, made)


def _table_options(path: Path, proto: onnx.ModelProto, options: ProviderOptions) -> dict[str, str]:
    """What names a table, once it is one that the provider reads and that fits."""
    require_float(proto, "a calibration table")
    content = read_bytes(path, "calibration table")
    is_native = not is_ep_flatbuffers(content)
    if is_native and not _is_cache(content, path):
        raise ConfigError(
            f"{path} is no table that the provider reads",
            hint=f"quantlab migrate MODEL --table {path} -o {path.with_suffix('.flatbuffers')}",
        )
    table = load_table(path)
    table.check_model(proto)
    if is_native and (names := [name for name in table.amax if ":" in name]):
        raise ConfigError(
            f"{path} names the tensor '{names[0]}', and the provider reads a cache up to the first ':' of a line",
            hint=f"quantlab migrate MODEL --table {path} -o {path.with_suffix('.flatbuffers')}",
        )
    if options.engine_cache is not None and options.engine_cache.absolute() != path.parent.absolute():
        raise ConfigError(
            f"the provider looks for its table in the engine cache {options.engine_cache}, and it is {path}",
            hint=f"move it there, or --engine-cache {path.parent}",
        )
    return {
        "trt_int8_calibration_table_name": path.name,
        "trt_int8_use_native_calibration_table": str(int(is_native)),
    }


def _is_cache(content: bytes, path: Path) -> bool:
    """Whether it is a calibration cache of TensorRT, whose scales the provider reads."""
    if not content.startswith(b"TRT-"):
        return False
    TrtCache.from_bytes(content, str(path))
    return True


def _profiles(proto: onnx.ModelProto, options: ProviderOptions) -> dict[str, str]:
    """The range of shapes; where nothing is said the provider makes it from the batches that come."""
    if options.batch is None and not options.shapes:
        return {}
    texts = profile_texts(proto, TrtexecOptions(batch=options.batch, shapes=options.shapes))
    return {f"trt_profile_{kind}_shapes": text for kind, text in texts.items()}


def _prefix(model: Path, proto: onnx.ModelProto, table: str | Path | None) -> str:
    """A name for engines that another model or other scales do not have."""
    digest = hashlib.sha256(model_hash(proto).encode())
    if table is not None:
        digest.update(read_bytes(Path(table), "calibration table"))
    return f"{model.stem}_{digest.hexdigest()[:12]}"
