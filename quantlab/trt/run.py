"""Running an engine: numpy in, numpy out. Lanes are contexts with their own buffers and stream."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch
from quantlab.data.check import check_batch
from quantlab.errors import BuildError, DataError, DeviceError
from quantlab.memory import DeviceMemory, open_driver
from quantlab.model import TensorSpec
from quantlab.trt.engine import Engine
from quantlab.trt.features import trt
from quantlab.trt.messages import LOGGER, Messages

Shapes = Mapping[str, tuple[int, ...]]


class Runner:
    """`with Runner(engine) as run: outputs = run({"input": x})`.

    Entering it checks that the engine runs on this TensorRT and GPU, and loads it. The engine outlives its contexts;
    leaving frees everything. Use it in one thread; for several streams take several `new_lane()`.
    """

    def __init__(self, engine: Engine, provider: str | None = None) -> None:
        self.engine = engine
        self._provider = provider

    def __enter__(self) -> Runner:
        self.memory = DeviceMemory(open_driver(self._provider)).__enter__()
        self._messages = LOGGER.collect(Messages())
        try:
            info = self.memory.driver.info
            self.engine.check_runs_here(info.name, info.compute_capability)
            before = self.memory.driver.memory_used()
            self._runtime = trt.Runtime(LOGGER)
            if self.engine.record.options.get("version_compatible"):
                self._runtime.engine_host_code_allowed = True
            self.cuda_engine = self._runtime.deserialize_cuda_engine(self.engine.plan)
            if self.cuda_engine is None:
                raise BuildError(f"TensorRT cannot load the engine: {self.reason}", hint="build it again here")
            self.inputs, self.outputs = _specs(self.cuda_engine)
            self._lanes: list[Lane] = []
            self.lane = self.new_lane()
            self.memory_bytes = self.memory.driver.memory_used() - before
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        for lane in getattr(self, "_lanes", []):
            lane.close()
        for name in ("_lanes", "lane", "cuda_engine", "_runtime"):  # contexts go before their engine
            if hasattr(self, name):
                delattr(self, name)
        LOGGER.release(self._messages)
        self.memory.close()

    @property
    def reason(self) -> str:
        """The first error that TensorRT has reported since this runner was entered."""
        return self._messages.first_error

    def fixed_batch(self) -> int | None:
        """The only batch size that the engine takes, or None if its profiles allow several."""
        for spec in (s for s in self.inputs if s.shape):
            if isinstance(spec.shape[0], int):
                return spec.shape[0]
            engine = self.cuda_engine
            limits = [engine.get_tensor_profile_shape(spec.name, i) for i in range(engine.num_optimization_profiles)]
            sizes = {int(edge[0]) for low, _, high in limits for edge in (low, high)}
            if len(sizes) == 1:
                return sizes.pop()
        return None

    def new_lane(self) -> Lane:
        """A further context with buffers and a stream of its own."""
        lane = Lane(self, len(self._lanes))
        self._lanes.append(lane)
        return lane

    def __call__(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Outputs by name. DataError if the batch does not fit the engine or any of its profiles."""
        return self.lane(batch)


class Lane:
    """One execution context. Made by `Runner.new_lane`."""

    def __init__(self, runner: Runner, number: int) -> None:
        self._runner, self._prefix = runner, f"lane{number}/"
        self._memory = runner.memory
        self.driver = runner.memory.driver
        self.stream = self.driver.new_stream()
        self.context = runner.cuda_engine.create_execution_context()
        if self.context is None:
            raise DeviceError("TensorRT cannot make an execution context", hint="free device memory")
        self._shapes: dict[str, tuple[int, ...]] = {}

    def close(self) -> None:
        """Drop the context, then its stream."""
        self.driver.synchronize(self.stream)
        del self.context
        self.driver.free_stream(self.stream)

    def __call__(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Copy in, run, copy out."""
        self.bind(batch)
        self.copy_in()
        self.enqueue()
        self.copy_out()
        self.driver.synchronize(self.stream)
        return {s.name: self._memory.staging(self._prefix + s.name).copy() for s in self._runner.outputs}

    def bind(self, batch: Batch) -> None:
        """Choose a profile, set shapes and addresses, and fill the staging memory of the inputs."""
        check_batch(batch, self._runner.inputs, 0)
        shapes = {name: tuple(x.shape) for name, x in batch.items()}
        if shapes != self._shapes:
            self._choose_profile(shapes)
        for spec in self._runner.inputs:
            name = self._prefix + spec.name
            address = self._memory.reserve(name, shapes[spec.name], spec.dtype)
            if shapes != self._shapes and not self.context.set_input_shape(spec.name, shapes[spec.name]):
                raise DataError(
                    f"TensorRT refuses shape {shapes[spec.name]} for input '{spec.name}': {self._runner.reason}",
                    hint="build with a profile for it",
                )
            self.context.set_tensor_address(spec.name, address)
            np.copyto(self._memory.staging(name), batch[spec.name])
        for spec in self._runner.outputs:
            shape = tuple(int(d) for d in self.context.get_tensor_shape(spec.name))
            if min(shape, default=0) < 0:
                raise DataError(
                    f"the shape of output '{spec.name}' depends on the values of the input, which is not supported",
                    hint="end the model before that operator (NonZero, NMS)",
                )
            address = self._memory.reserve(self._prefix + spec.name, shape, spec.dtype)
            self.context.set_tensor_address(spec.name, address)
        self._shapes = shapes

    def _choose_profile(self, shapes: Shapes) -> None:
        engine = self._runner.cuda_engine
        ranges = []
        for index in range(engine.num_optimization_profiles):
            limits = {name: engine.get_tensor_profile_shape(name, index) for name in shapes}
            if all(_holds(limits[name], shape) for name, shape in shapes.items()):
                self._shapes = {}  # a failure from here on must not leave shapes behind that are not set
                handle = self.driver.handle(self.stream)
                if self.context.active_optimization_profile != index and not (
                    self.context.set_optimization_profile_async(index, handle)
                ):
                    raise DeviceError(
                        f"TensorRT cannot switch to profile {index}: {self._runner.reason}",
                        hint="build the engine again with quantlab build",
                    )
                self.driver.synchronize(self.stream)
                return
            ranges.append({n: f"{tuple(low)} to {tuple(high)}" for n, (low, _, high) in limits.items()})
        raise DataError(
            f"no optimization profile holds {dict(shapes)}; profiles: {ranges}", hint="build with a profile for it"
        )

    def copy_in(self) -> None:
        """Staging memory of the inputs to the device, in the stream."""
        for spec in self._runner.inputs:
            self._memory.send(self._prefix + spec.name, self.stream)

    def enqueue(self) -> None:
        """Run the network, in the stream."""
        if not self.context.execute_async_v3(self.driver.handle(self.stream)):
            raise DeviceError("TensorRT could not run the engine", hint="the log of quantlab.tensorrt has the reason")

    def copy_out(self) -> None:
        """Outputs to staging memory, in the stream."""
        for spec in self._runner.outputs:
            self._memory.fetch(self._prefix + spec.name, self.stream)


def _holds(limits: tuple[Any, Any, Any], shape: tuple[int, ...]) -> bool:
    low, _, high = (tuple(x) for x in limits)
    return len(low) == len(shape) and all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True))


def _specs(engine: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(None if d < 0 else int(d) for d in engine.get_tensor_shape(name))
        spec = TensorSpec(name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))), shape)
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(spec)
    return inputs, outputs
