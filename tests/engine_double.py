"""A runtime of engines without TensorRT and without a GPU: ONNX Runtime computes, memory is the host's.

An "engine" is the ONNX model itself; INT8 ranges are asked of their source as TensorRT asks, and change nothing.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.calibration import CalibrationTable
from quantlab.data import Batch, Batches, BatchSize, check_batch, narrowed
from quantlab.engines.choose_int8 import build_source
from quantlab.engines.engine import Binding, Engine, EngineRecord
from quantlab.engines.features import Features
from quantlab.engines.inspector import Inspection, layer_rows
from quantlab.engines.int8 import Int8Source, ParsedNetwork, build_with
from quantlab.engines.legacy_calibrator import LegacyStreamCalibrator
from quantlab.engines.messages import Warned, explain
from quantlab.engines.network import NetworkLayer, NetworkTensor
from quantlab.engines.options import BuildOptions, Shape
from quantlab.engines.profiles import Limits, batch_size_of, check_profiles, choose_profile
from quantlab.engines.stream_calibrator import CalibratorOptions, StreamCalibrator
from quantlab.engines.table_calibrator import TableScalesCalibrator
from quantlab.errors import BuildError, MissingDependencyError
from quantlab.memory import DeviceMemory, HostDriver
from quantlab.onnx_model import TensorSpec, input_specs, load_model, model_hash, node_label, output_specs
from quantlab.ort import Session
from quantlab.qdq.rules import WEIGHTED

if TYPE_CHECKING:
    from quantlab.engines.runtime import Runtime

TENSORRT = "8.6.0"
GPU = "host double"
FEATURES = Features(
    calibrators=True, weak_typing=True, strong_typing=False, dynamic_range=True, optimization_level=True,
    version_compatible=True, int64=False,
)  # fmt: skip
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Row major linear FP16 format"


class HostBase:
    """In place of a bound class of TensorRT, which must be initialised by name."""

    def __init__(self) -> None:
        self.initialised = True


class HostEntropy2(StreamCalibrator, HostBase):
    trt_base = HostBase
    algorithm = "EntropyCalibration2"
    tensorrt = TENSORRT


class HostMinMax(StreamCalibrator, HostBase):
    trt_base = HostBase
    algorithm = "MinMaxCalibration"
    tensorrt = TENSORRT


class HostEntropy(StreamCalibrator, HostBase):
    trt_base = HostBase
    algorithm = "EntropyCalibration"
    tensorrt = TENSORRT


class HostLegacy(LegacyStreamCalibrator, HostBase):
    trt_base = HostBase
    tensorrt = TENSORRT


class HostTable(TableScalesCalibrator, HostBase):
    trt_base = HostBase
    tensorrt = TENSORRT


CALIBRATORS: dict[str, type[StreamCalibrator]] = {
    "entropy2": HostEntropy2, "minmax": HostMinMax, "entropy": HostEntropy, "legacy": HostLegacy,
}  # fmt: skip


@dataclass
class HostConfig:
    """In place of TensorRT's builder configuration."""

    int8_calibrator: Any = None
    calibration_profile: Any = None

    def set_calibration_profile(self, profile: Any) -> None:
        self.calibration_profile = profile


@dataclass
class HostTensor:
    """A tensor that remembers its range."""

    range: tuple[float, float] | None = None

    def set_dynamic_range(self, low: float, high: float) -> None:
        self.range = (low, high)


def layers_of(proto: onnx.ModelProto) -> tuple[NetworkLayer, ...]:
    """Every node is a layer, every output holds floats."""
    return tuple(
        NetworkLayer("", tuple(node.input), tuple(NetworkTensor(name, True) for name in node.output))
        for node in proto.graph.node
    )


def as_parsed(specs: list[TensorSpec]) -> list[TensorSpec]:
    """As TensorRT 8.6's parser makes them: it has no int64."""
    return [replace(s, dtype=np.dtype(np.int32)) if s.dtype == np.int64 else s for s in specs]


def parsed(proto: onnx.ModelProto, options: BuildOptions | None = None, features: Features = FEATURES) -> ParsedNetwork:
    """A model as a source of ranges sees it; the tensors are the same at every call."""
    options = options or BuildOptions()
    tensors = {
        name: HostTensor() for layer in layers_of(proto) for name in (*layer.inputs, *(o.name for o in layer.outputs))
    }
    shapes = options.calibration_shapes
    return ParsedNetwork(
        inputs=lambda: [replace(s, shape=shapes.get(s.name, s.shape)) for s in as_parsed(input_specs(proto))],
        layers=lambda: layers_of(proto),
        tensors=lambda: tensors,
        model_hash=model_hash(proto),
        gpu=GPU,
        tensorrt=TENSORRT,
        features=features,
        calibration_profile=options.profiles[-1] if options.profiles else None,
    )


def calibrate_as_tensorrt(calibrator: Any, inputs: list[str], tensors: list[str]) -> None:
    """Call a calibrator back as a build does: for its cache, else for all batches, then with the new cache."""
    if calibrator.read_calibration_cache() is not None:
        calibrator.read_calibration_cache()
        return
    calibrator.get_batch_size()
    while calibrator.get_batch(inputs) is not None:
        pass
    lines = [f"TRT-8600-{calibrator.description.split()[0]}", *(f"{name}: 3c010204" for name in tensors), ""]
    calibrator.write_calibration_cache("\n".join(lines).encode())


@dataclass
class HostRuntime:
    """See `quantlab.engines.runtime.Runtime`.

    Attributes:
        features: Of the TensorRT that it plays.
        fails: The reason why no engine can be built, '' where they can.
        messages: What TensorRT reports while building.
        float_nodes: Weighted nodes that run in FP16 in spite of INT8.
        memory_bytes: What loading an engine takes.
        builds: Options and source of every build.
        providers: Of the engines that were opened.
    """

    features: Features = FEATURES
    fails: str = ""
    messages: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()
    memory_bytes: int = 3 * 2**20
    builds: list[tuple[BuildOptions, Int8Source]] = field(default_factory=list)
    providers: list[str | None] = field(default_factory=list)
    driver: HostDriver = field(default_factory=HostDriver)

    def build(self, model: onnx.ModelProto, options: BuildOptions, int8: Int8Source | None = None) -> Engine:
        proto = load_model(model)
        source = build_source(proto, options, int8, self.features)
        specs = input_specs(proto)
        check_profiles(
            {s.name: tuple(d if isinstance(d, int) else -1 for d in s.shape) for s in specs}, options.profiles
        )
        network, config = parsed(proto, options, self.features), HostConfig()
        self.builds.append((options, source))

        def serialize() -> bytes | None:
            if config.int8_calibrator is not None:
                tensors = [o.name for layer in network.layers() for o in layer.outputs]
                calibrate_as_tensorrt(config.int8_calibrator, [s.name for s in specs], [specs[0].name, *tensors])
            return None if self.fails else proto.SerializeToString()

        plan = build_with(source, network, config, serialize)
        if plan is None:
            raise BuildError(f"TensorRT could not build the engine: {self.fails}", hint="ask it")
        warnings: tuple[Warned, ...] = tuple(explain(text) for text in self.messages)
        options_record = options.to_dict()
        inputs, outputs = (tuple(map(Binding.of, as_parsed(s))) for s in (specs, output_specs(proto)))
        record = EngineRecord(
            TENSORRT, GPU, (0, 0), network.model_hash, options_record, source.description, 0.25, inputs, outputs
        )
        return Engine(plan, record, warnings)

    def open(self, engine: Engine, provider: str | None = None) -> HostEngine:
        self.providers.append(provider)
        return HostEngine(engine, self)

    def inspect(self, engine: Engine, batch: Batch, runs: int = 20) -> Inspection:
        with self.open(engine) as running:
            for _ in range(runs):
                running(batch)
        nodes = [n for n in onnx.load_from_string(engine.plan).graph.node if n.op_type in WEIGHTED]
        rows: list[Any] = []
        for node in nodes:
            in_int8 = bool(engine.record.int8) and node_label(node) not in self.float_nodes
            tensor = {"Name": node.input[0], "Format/Datatype": INT8 if in_int8 else FP16}
            rows.append({"Name": node_label(node), "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": []})
        if engine.record.options["profiling_verbosity"] != "detailed":
            rows = [row["Name"] for row in rows]
        times = {node_label(node): 0.5 for node in nodes}
        return Inspection(layer_rows(json.dumps({"Layers": rows})), times)

    def stream_calibrator(self, name: str, batches: Batches, options: CalibratorOptions | None = None) -> Int8Source:
        self._require_calibrators()
        options = replace(options or CalibratorOptions(), open_memory=lambda: DeviceMemory(self.driver))
        return CALIBRATORS[name](batches, options)

    def table_calibrator(self, table: CalibrationTable) -> Int8Source:
        self._require_calibrators()
        return HostTable(table)

    def _require_calibrators(self) -> None:
        if not self.features.calibrators:
            raise MissingDependencyError("TensorRT 11.4.0 has no calibrators", hint="take the explicit path")


class HostEngine:
    """See `quantlab.engines.runtime.RunningEngine`."""

    def __init__(self, engine: Engine, runtime: HostRuntime) -> None:
        self.engine = engine
        self.memory_bytes = runtime.memory_bytes
        self.lanes: list[HostLane] = []
        self.proto = onnx.load_from_string(engine.plan)
        self.inputs: list[TensorSpec] = as_parsed(input_specs(self.proto))
        self.outputs: list[TensorSpec] = as_parsed(output_specs(self.proto))
        self._stack = ExitStack()
        self._driver = runtime.driver

    def __enter__(self) -> HostEngine:
        self.engine.check_runs_here(TENSORRT, GPU, (0, 0))
        self.memory = self._stack.enter_context(DeviceMemory(self._driver))
        self.session = Session(self.proto, optimize=False)
        self.lane = self.new_lane()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    @property
    def profiles(self) -> list[dict[str, Limits]]:
        built_for = self.engine.record.options["profiles"]
        fixed = {s.name: tuple(d for d in s.shape if isinstance(d, int)) for s in self.inputs}
        if not built_for:
            return [{name: (shape, shape, shape) for name, shape in fixed.items()}]
        edges = [
            [{n: tuple(s) for n, s in profile[edge].items()} for edge in ("min", "opt", "max")] for profile in built_for
        ]
        return [
            {n: (low.get(n, fixed[n]), opt.get(n, fixed[n]), high.get(n, fixed[n])) for n in fixed}
            for low, opt, high in edges
        ]

    @property
    def batch_size(self) -> BatchSize:
        return batch_size_of(self.inputs, self.profiles)

    @property
    def opt_shapes(self) -> dict[str, Shape]:
        return {name: limits[1] for name, limits in self.profiles[0].items()}

    def new_lane(self) -> HostLane:
        self.lanes.append(HostLane(self, f"lane{len(self.lanes)}/"))
        return self.lanes[-1]

    def __call__(self, batch: Batch) -> dict[str, NDArray[Any]]:
        return self.lane(batch)


class HostLane:
    """See `quantlab.engines.runtime.Lane`. Batches go through the buffers of the host driver."""

    def __init__(self, running: HostEngine, prefix: str) -> None:
        self._running, self._prefix, self._memory = running, prefix, running.memory
        self.driver: HostDriver = running._driver
        self.stream: Any = self._memory.stream
        self._addresses: dict[str, int] = {}
        self.runs = 0

    def __call__(self, batch: Batch) -> dict[str, NDArray[Any]]:
        batch = narrowed(batch, self._running.inputs)
        check_batch(batch, self._running.inputs)
        choose_profile(self._running.profiles, {name: x.shape for name, x in batch.items()})
        for name, x in batch.items():
            self._addresses[name] = self._memory.reserve(self._prefix + name, x.shape, x.dtype)
            np.copyto(self._memory.staging(self._prefix + name), x)
        self.copy_in()
        self.enqueue()
        self.copy_out()
        return {s.name: self._memory.staging(self._prefix + s.name).copy() for s in self._running.outputs}

    def copy_in(self) -> None:
        for spec in self._running.inputs:
            self._memory.send(self._prefix + spec.name, self.stream)

    def enqueue(self) -> None:
        self.runs += 1
        batch = {}
        types = {spec.name: spec.dtype for spec in input_specs(self._running.proto)}
        for spec in self._running.inputs:
            like = self._memory.staging(self._prefix + spec.name)
            batch[spec.name] = (
                self.driver.live[self._addresses[spec.name]][: like.nbytes].view(like.dtype).reshape(like.shape)
            ).astype(types[spec.name])
        for name, y in self._running.session.run(batch).items():
            y = y.astype(np.int32) if y.dtype == np.int64 else y
            address = self._memory.reserve(self._prefix + name, y.shape, y.dtype)
            self.driver.live[address][: y.nbytes] = np.ascontiguousarray(y).reshape(-1).view(np.uint8)

    def copy_out(self) -> None:
        for spec in self._running.outputs:
            self._memory.fetch(self._prefix + spec.name, self.stream)


if TYPE_CHECKING:
    _RUNTIME: Runtime = HostRuntime()
