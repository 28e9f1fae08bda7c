"""ONNX model to engine: parse, configure, calibrate, build; every failure is an error with TensorRT's own reason."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import onnx

from quantlab.calibration.table import CalibrationTable
from quantlab.errors import BuildError, ConfigError
from quantlab.large import LIMIT, as_file, model_bytes
from quantlab.memory import open_driver
from quantlab.model import QDQ_OPS, Model, load_model, model_hash
from quantlab.trt.configure import configure
from quantlab.trt.engine import Engine, EngineRecord
from quantlab.trt.features import FEATURES, MAJOR, VERSION, trt
from quantlab.trt.messages import LOGGER, Messages
from quantlab.trt.network import WHOLE_NETWORK, cached_tensors, network_inputs, set_dynamic_ranges
from quantlab.trt.options import BuildOptions
from quantlab.trt.timing_cache import load_timing_cache, merge_timing_cache


@dataclass(frozen=True, slots=True)
class DynamicRanges:
    """Scales by `ITensor.set_dynamic_range` in place of a cache: +-amax for every tensor of the table."""

    table: CalibrationTable


def build(model: Model, options: BuildOptions | None = None, int8: object = None) -> Engine:
    """An engine, with its record and TensorRT's warnings.

    int8: for the implicit path, a calibrator (one of `quantlab.trt.calibrators`, or any object that TensorRT takes) or
    `DynamicRanges`. Q/DQ models take none. Raises BuildError with node names for what the parser refuses, with
    TensorRT's reason for a failed build, and the user's own exception, with its batch number, if calibration failed:
    whatever TensorRT built from too few batches is thrown away.
    """
    options = options or BuildOptions()
    proto = load_model(model)
    _check_int8(proto, options, int8)
    driver = open_driver()
    driver.activate()
    messages = LOGGER.collect(Messages())
    try:
        started = time.perf_counter()
        digest = model_hash(proto)
        plan = _build_plan(proto, options, int8, messages, digest, driver.info.name)
        record = EngineRecord(
            tensorrt=VERSION,
            gpu=driver.info.name,
            compute_capability=driver.info.compute_capability,
            model_hash=digest,
            options=options.to_dict(),
            int8=_describe(proto, int8),
            build_seconds=time.perf_counter() - started,
        )
        return Engine(plan, record, messages.warnings())
    finally:
        LOGGER.release(messages)
        driver.deactivate()


def _build_plan(
    proto: onnx.ModelProto, options: BuildOptions, int8: Any, messages: Messages, digest: str, gpu: str
) -> bytes:
    try:
        builder = trt.Builder(LOGGER)
    except TypeError as error:  # the bindings' way to say that TensorRT returned nothing
        raise BuildError(f"TensorRT cannot start: {messages.first_error}", hint="run quantlab doctor") from error
    network, parser = _parse(builder, proto, options)
    config, profiles = configure(builder, network, options)
    timing_cache = load_timing_cache(config, options.timing_cache)
    try:
        if isinstance(int8, DynamicRanges):
            set_dynamic_ranges(network, int8.table)
        elif int8 is not None:
            if hasattr(int8, "complete"):
                int8.complete(network)
            _attach_calibrator(config, network, int8, options, digest, gpu)
            if profiles:
                config.set_calibration_profile(profiles[-1])
        plan = builder.build_serialized_network(network, config)
        del parser  # it owns the weights that the network refers to
    finally:
        if hasattr(int8, "close"):
            int8.close()
    failed_before = plan is None and getattr(int8, "error", None) is None  # TensorRT's own reason then says more
    if hasattr(int8, "raise_problem") and not failed_before:
        int8.raise_problem()
    if plan is None:
        raise BuildError(f"TensorRT could not build the engine: {messages.first_error}", hint=_hint(messages))
    merge_timing_cache(timing_cache, options.timing_cache)
    return bytes(plan)


def _attach_calibrator(
    config: Any, network: Any, calibrator: Any, options: BuildOptions, digest: str, gpu: str
) -> None:
    """Set it, having told ours what it needs to check its batches and its cache."""
    if hasattr(calibrator, "bind"):
        calibrator.model_hash, calibrator.gpu = calibrator.model_hash or digest, gpu
        calibrator.tensors = cached_tensors(network) if calibrator.algorithm in WHOLE_NETWORK else ()
        calibrator.bind(network_inputs(network, options.profiles[-1].opt if options.profiles else None))
        calibrator.check_cache()
    config.int8_calibrator = calibrator


def has_qdq(proto: onnx.ModelProto) -> bool:
    """Whether a model takes the explicit path."""
    return any(node.op_type in QDQ_OPS for node in proto.graph.node)


def _check_int8(proto: onnx.ModelProto, options: BuildOptions, int8: object) -> None:
    wants = options.precision in ("int8", "best")
    if has_qdq(proto):
        if int8 is not None:
            raise ConfigError(
                "the model has Q/DQ nodes and a calibrator was given, which TensorRT would ignore",
                hint="give the FP32 model to the calibrator, or leave the calibrator out",
            )
        if not wants and not options.strongly_typed and FEATURES.weak_typing:
            raise ConfigError(
                f"the model has Q/DQ nodes, precision '{options.precision}' does not allow INT8",
                hint="use precision 'int8' or 'best'",
            )
    elif wants and int8 is None and not options.strongly_typed:
        raise ConfigError(
            f"precision '{options.precision}' without scales: TensorRT would leave the network in float",
            hint="give a calibrator, a table, or a Q/DQ model (quantlab quantize)",
        )
    elif int8 is not None and not wants:
        raise ConfigError(
            f"a calibrator was given, precision '{options.precision}' does not allow INT8",
            hint="use precision 'int8' or 'best'",
        )


def _parse(builder: Any, proto: onnx.ModelProto, options: BuildOptions) -> tuple[Any, Any]:
    flags = 0
    known = trt.NetworkDefinitionCreationFlag.__members__
    if "EXPLICIT_BATCH" in known and MAJOR < 10:
        flags |= 1 << int(known["EXPLICIT_BATCH"])
    if options.strongly_typed:
        if not FEATURES.strong_typing:
            raise ConfigError(f"TensorRT {VERSION} has no strongly typed networks", hint="use TensorRT 10 or newer")
        if "STRONGLY_TYPED" in known:
            flags |= 1 << int(known["STRONGLY_TYPED"])
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, LOGGER)
    with as_file(proto) if model_bytes(proto) > LIMIT else nullcontext() as file:
        parsed = parser.parse(proto.SerializeToString()) if file is None else parser.parse_from_file(str(file))
    if not parsed:
        raise BuildError(f"TensorRT cannot parse the model: {_parser_errors(parser, proto)}", hint=_parse_hint(proto))
    return network, parser


def _parser_errors(parser: Any, proto: onnx.ModelProto) -> str:
    texts = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = proto.graph.node[error.node()] if 0 <= error.node() < len(proto.graph.node) else None
        where = f"node '{node.name or node.output[0]}' ({node.op_type}): " if node is not None else ""
        texts.append(f"{where}{error.desc()}")
    return "; ".join(texts) or "it gave no reason"


def _parse_hint(proto: onnx.ModelProto) -> str:
    scales = {n.input[1] for n in proto.graph.node if n.op_type in QDQ_OPS}
    half = any(t.name in scales and t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer)
    if half and MAJOR < 10:
        return f"TensorRT {VERSION} reads float32 scales only: build from the model before quantlab half"
    return "export the model without this operator, or with another opset"


def _describe(proto: onnx.ModelProto, int8: Any) -> str:
    if has_qdq(proto):
        return "explicit Q/DQ"
    if isinstance(int8, DynamicRanges):
        return f"dynamic ranges of a table ({int8.table.provenance.algorithm or 'unknown'})"
    if int8 is None:
        return ""
    return getattr(int8, "algorithm", "") or type(int8).__name__


def _hint(messages: Messages) -> str:
    text = " ".join(messages.errors).lower()
    if "memory" in text or "workspace" in text:
        return "give more workspace (memory pool), or a smaller batch"
    if "myelincache" in text:
        return "the timing cache holds entries that this TensorRT cannot read back: delete it, or build without one"
    if "convertmyelinweightstofp32" in text:
        return "this TensorRT takes no int8 weights in such a network: quantlab quantize --float-weights"
    if "precision" in text:
        return "use precision constraints 'prefer', or allow another precision"
    return "the log of quantlab.tensorrt has everything TensorRT said"
