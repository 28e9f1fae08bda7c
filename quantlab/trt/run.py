"""Running an engine: numpy in, numpy out. Lanes are contexts with their own buffers and stream."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data import Batch, BatchSize, check_batch, narrowed
from quantlab.engines.engine import Engine
from quantlab.engines.messages import Messages
from quantlab.engines.options import Shape
from quantlab.engines.profiles import Limits, batch_size_of, choose_profile
from quantlab.errors import BuildError, DataError, DeviceError
from quantlab.memory import DeviceMemory, Driver, open_driver
from quantlab.onnx_model import TensorSpec
from quantlab.trt.features import VERSION, trt
from quantlab.trt.logger import LOGGER


class Runner:
    """`with Runner(engine) as run: outputs = run({"input": x})`.

    Entering it checks that the engine runs on this TensorRT and GPU, and loads it. The engine outlives its contexts;
    leaving frees everything. Use it in one thread; for several streams take several `new_lane()`.

    Attributes:
        cuda_engine: TensorRT's `ICudaEngine`.
        memory: Its buffers.
        inputs, outputs: None for a dynamic dimension.
        profiles: The limits of every input, per profile.
        lane: The first lane.
        memory_bytes: Device memory that loading took.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    profiles: list[dict[str, Limits]]
    lane: Lane
    memory_bytes: int

    def __init__(self, engine: Engine, provider: str | None = None) -> None:
        self.engine = engine
        self._provider = provider

    def __enter__(self) -> Runner:
        self._stack = ExitStack()
        try:
            self._open()
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    def _open(self) -> None:
        """Load the engine; the stack frees what is there, in reverse order: contexts go before their engine."""
        self.memory = self._stack.enter_context(DeviceMemory(open_driver(self._provider)))
        self._messages = LOGGER.collect(Messages())
        self._stack.callback(LOGGER.release, self._messages)
        info = self.memory.driver.info
        self.engine.check_runs_here(VERSION, info.name, info.compute_capability)
        before = self.memory.driver.memory_used()
        self._stack.callback(self._unload)
        self._runtime: Any = trt.Runtime(LOGGER)
        if self.engine.record.options.get("version_compatible"):
            self._runtime.engine_host_code_allowed = True
        self.cuda_engine: Any = self._runtime.deserialize_cuda_engine(self.engine.plan)
        if self.cuda_engine is None:
            raise BuildError(f"TensorRT cannot load the engine: {self.reason}", hint="build it again here")
        self.inputs, self.outputs = _specs(self.cuda_engine)
        self.profiles = _profiles(self.cuda_engine, self.inputs)
        self._lanes = 0
        self.lane = self.new_lane()
        self.memory_bytes = self.memory.driver.memory_used() - before

    def _unload(self) -> None:
        self.cuda_engine = None
        self._runtime = None

    @property
    def reason(self) -> str:
        """The first error that TensorRT has reported since this runner was entered."""
        return self._messages.first_error

    @property
    def batch_size(self) -> BatchSize:
        """How many samples it takes at once."""
        return batch_size_of(self.inputs, self.profiles)

    @property
    def opt_shapes(self) -> dict[str, Shape]:
        """Input -> opt shape of the first profile."""
        return {name: opt for name, (_, opt, _) in self.profiles[0].items()}

    def new_lane(self) -> Lane:
        """A further context with buffers and a stream of its own."""
        lane = Lane(self, f"lane{self._lanes}/")
        self._lanes += 1
        self._stack.callback(lane.close)
        return lane

    def __call__(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Outputs by name. DataError if the batch does not fit the engine or any of its profiles."""
        return self.lane(batch)


class Lane:
    """One execution context. Made by `Runner.new_lane`.

    Attributes:
        driver, stream: The device, and the stream of this lane.
        context: TensorRT's `IExecutionContext`.
    """

    def __init__(self, runner: Runner, prefix: str) -> None:
        self._runner, self._prefix = runner, prefix
        self._memory = runner.memory
        self._shapes: dict[str, Shape] = {}
        self.driver: Driver = runner.memory.driver
        self.context: Any = runner.cuda_engine.create_execution_context()
        if self.context is None:
            raise DeviceError("TensorRT cannot make an execution context", hint="free device memory")
        self.stream = self.driver.new_stream()

    def close(self) -> None:
        """Drop the context, then its stream."""
        self.driver.synchronize(self.stream)
        self.context = None
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
        batch = narrowed(batch, self._runner.inputs)
        check_batch(batch, self._runner.inputs)
        shapes = {name: tuple(x.shape) for name, x in batch.items()}
        if shapes != self._shapes:
            self._set_profile(choose_profile(self._runner.profiles, shapes))
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

    def _set_profile(self, index: int) -> None:
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


def _profiles(engine: Any, inputs: list[TensorSpec]) -> list[dict[str, Limits]]:
    return [
        {spec.name: _limits(engine.get_tensor_profile_shape(spec.name, index)) for spec in inputs}
        for index in range(engine.num_optimization_profiles)
    ]


def _limits(shapes: Any) -> Limits:
    low, opt, high = (tuple(int(d) for d in shape) for shape in shapes)
    return low, opt, high


def _specs(engine: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(None if d < 0 else int(d) for d in engine.get_tensor_shape(name))
        spec = TensorSpec(name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))), shape)
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(spec)
    return inputs, outputs
