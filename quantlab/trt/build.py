"""ONNX model to engine: parse, configure, calibrate, build; every failure is an error with TensorRT's own reason."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx

from quantlab.engines.choose_int8 import build_source
from quantlab.engines.engine import Binding, Engine, EngineRecord
from quantlab.engines.int8 import Int8Source, ParsedNetwork, build_with
from quantlab.engines.messages import Messages, build_hint
from quantlab.engines.options import BuildOptions
from quantlab.engines.parse_errors import parse_error
from quantlab.engines.reduce_axes import axes_as_attributes
from quantlab.errors import BuildError, ConfigError
from quantlab.memory import open_driver
from quantlab.onnx_model import LIMIT, Model, as_file, load_model, model_bytes, model_hash
from quantlab.trt.configure import configure
from quantlab.trt.features import FEATURES, MAJOR, VERSION, trt
from quantlab.trt.logger import LOGGER
from quantlab.trt.network import network_bindings, network_inputs, network_layers, network_tensors
from quantlab.trt.timing_cache import load_timing_cache, merge_timing_cache


def build(model: Model, options: BuildOptions | None = None, int8: Int8Source | None = None) -> Engine:
    """Build an engine.

    Args:
        model: FP32, or with Q/DQ nodes.
        options: How.
        int8: For the implicit path: one of `quantlab.trt.calibrators`, `DynamicRanges`, or a `ForeignCalibrator` around
            any object that TensorRT takes. Q/DQ models take none.

    Returns:
        The engine, with its record and TensorRT's warnings.

    Raises:
        ConfigError: Model, options and source do not fit together.
        BuildError: The parser refuses the model (with node names), or the build failed (with TensorRT's reason).
        BaseException: The user's own exception, with its batch number, if calibration failed: whatever TensorRT built
            from too few batches is thrown away.
    """
    options = options or BuildOptions()
    proto = load_model(model)
    source = build_source(proto, options, int8, FEATURES)
    driver = open_driver()
    driver.activate()
    messages = LOGGER.collect(Messages())
    try:
        started = time.perf_counter()
        job = _Job(proto, options, source, messages, model_hash(proto), driver.info.name)
        plan, inputs, outputs = _build_plan(job)
        record = EngineRecord(
            tensorrt=VERSION,
            gpu=driver.info.name,
            compute_capability=driver.info.compute_capability,
            model_hash=job.model_hash,
            options=options.to_dict(),
            int8=source.description,
            build_seconds=time.perf_counter() - started,
            inputs=inputs,
            outputs=outputs,
        )
        return Engine(plan, record, messages.warnings())
    finally:
        LOGGER.release(messages)
        driver.deactivate()


@dataclass(frozen=True, slots=True)
class _Job:
    """One build."""

    proto: onnx.ModelProto
    options: BuildOptions
    source: Int8Source
    messages: Messages
    model_hash: str
    gpu: str


def _build_plan(job: _Job) -> tuple[bytes, tuple[Binding, ...], tuple[Binding, ...]]:
    """The engine, its inputs and its outputs."""
    options, messages = job.options, job.messages
    try:
        builder = trt.Builder(LOGGER)
    except TypeError as error:  # the bindings' way to say that TensorRT returned nothing
        raise BuildError(f"TensorRT cannot start: {messages.first_error}", hint="run quantlab doctor") from error
    network, parser = _parse(builder, job.proto, options)
    config, profiles = configure(builder, network, options)
    timing_cache = load_timing_cache(config, options.timing_cache)
    parsed = ParsedNetwork(
        inputs=partial(network_inputs, network, options.calibration_shapes),
        layers=partial(network_layers, network),
        tensors=partial(network_tensors, network),
        model_hash=job.model_hash,
        gpu=job.gpu,
        tensorrt=VERSION,
        features=FEATURES,
        calibration_profile=profiles[-1] if profiles else None,
    )
    plan = build_with(job.source, parsed, config, partial(builder.build_serialized_network, network, config))
    inputs, outputs = network_bindings(network)
    del parser  # it owns the weights that the network refers to
    if plan is None:
        raise BuildError(
            f"TensorRT could not build the engine: {messages.first_error}", hint=build_hint(messages.errors)
        )
    merge_timing_cache(timing_cache, options.timing_cache)
    return bytes(plan), inputs, outputs


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
    if MAJOR < 10:
        proto = axes_as_attributes(proto)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, LOGGER)
    with as_file(proto) if model_bytes(proto) > LIMIT else nullcontext() as file:
        parsed = parser.parse(proto.SerializeToString()) if file is None else parser.parse_from_file(str(file))
    if not parsed:
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise parse_error(proto, [(error.node(), error.desc()) for error in errors], VERSION)
    return network, parser
