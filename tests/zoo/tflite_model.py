"""A TensorFlow Lite model as ONNX, the way converters write it: float, channels first inside, a Transpose at the ends.

Enough of the operators for the models of the zoo. Half precision constants become single precision.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
"""tflite.TensorType -> type."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def convert(content: bytes, schema: Path) -> onnx.ModelProto:
    """Convert a model.

    Args:
        content: The .tflite file.
        schema: The wheel of `tflite`, the reader of such files; it is imported from there.

    Returns:
        The ONNX model: inputs and outputs in the layout of the original, all else with channels first.
    """
    sys.path.insert(0, str(schema))
    try:
        import tflite
    finally:
        sys.path.pop(0)
    return _Converter(tflite, content).model()


class _Converter:
    def __init__(self, tflite: Any, content: bytes) -> None:
        self.tflite = tflite
        self.source = tflite.Model.GetRootAsModel(content, 0)
        self.graph = self.source.Subgraphs(0)
        self.codes = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.constants: dict[int, NDArray[Any]] = {}
        self.names: dict[int, str] = {}

    def model(self) -> onnx.ModelProto:
        graph = self.graph
        inputs = [graph.Inputs(k) for k in range(graph.InputsLength())]
        outputs = [graph.Outputs(k) for k in range(graph.OutputsLength())]
        for index in inputs:
            self.names[index] = name = self.name(index)
            if self.rank(index) == 4:
                self.names[index] = self.add("Transpose", [name], name + "_first", perm=TO_FIRST)
        for k in range(graph.OperatorsLength()):
            self.operator(graph.Operators(k))
        ends = []
        for index in outputs:
            last = self.read(index)
            if self.rank(index) == 4:
                last = self.add("Transpose", [last], self.name(index) + "_last", perm=TO_LAST)
            ends.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, self.shape(index)))
        starts = [helper.make_tensor_value_info(self.name(i), TensorProto.FLOAT, self.shape(i)) for i in inputs]
        made = helper.make_graph(self.nodes, "tflite", starts, ends, self.initializers)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    def name(self, index: int) -> str:
        return str(self.graph.Tensors(index).Name().decode()) or f"tensor_{index}"

    def shape(self, index: int) -> list[int]:
        values = self.graph.Tensors(index).ShapeAsNumpy()
        return [int(n) for n in values] if isinstance(values, np.ndarray) else []

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    def constant(self, index: int) -> NDArray[Any] | None:
        """The values of a constant in the original layout, or None."""
        if index in self.constants:
            return self.constants[index]
        tensor = self.graph.Tensors(index)
        data = self.source.Buffers(tensor.Buffer()).DataAsNumpy()
        if not isinstance(data, np.ndarray):
            return None
        values = np.frombuffer(data.tobytes(), TYPES[tensor.Type()]).reshape(self.shape(index))
        return values.astype(np.float32) if values.dtype == np.float16 else values

    def read(self, index: int) -> str:
        """The name of a tensor; a constant becomes an initializer, with channels first where it has four axes."""
        if index not in self.names:
            values = self.constant(index)
            assert values is not None, self.name(index)
            self.names[index] = self.initializer(
                self.name(index), values.transpose(TO_FIRST) if values.ndim == 4 else values
            )
        return self.names[index]

    def initializer(self, name: str, values: NDArray[Any]) -> str:
        if all(tensor.name != name for tensor in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], f"{op}_{len(self.nodes)}", **attributes))
        return output

    def operator(self, op: Any) -> None:
        code = self.source.OperatorCodes(op.OpcodeIndex())
        kind = self.codes[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        ins, out = list(op.InputsAsNumpy()), int(op.Outputs(0))
        getattr(self, {"ADD": "add_"}.get(kind, kind.lower()))(op, ins, out)

    def options(self, op: Any, kind: str) -> Any:
        found = getattr(self.tflite, kind)()
        table = op.BuiltinOptions()
        found.Init(table.Bytes, table.Pos)
        return found

    def activated(self, value: str, activation: int, out: int) -> None:
        """The fused activation of an operator, whose own result is `value`."""
        name = self.name(out)
        if activation == 0:
            self.nodes[-1].output[0] = name
        elif activation == 1:
            self.add("Relu", [value], name)
        elif activation == 3:
            low, high = (self.initializer(n, np.array(v, np.float32)) for n, v in (("zero", 0), ("six", 6)))
            self.add("Clip", [value, low, high], name)
        else:
            raise NotImplementedError(f"activation {activation}")
        self.names[out] = name

    def dequantize(self, op: Any, ins: list[int], out: int) -> None:
        values = self.constant(ins[0])
        assert values is not None
        self.constants[out] = values.astype(np.float32)

    def _pads(self, options: Any, ins: list[int], out: int, kernel: tuple[int, int]) -> list[int]:
        if options.Padding() == 1:  # VALID
            return [0, 0, 0, 0]
        strides = (options.StrideH(), options.StrideW())
        sizes, results = self.shape(ins[0])[1:3], self.shape(out)[1:3]
        needed = [max((r - 1) * s + k - n, 0) for n, r, s, k in zip(sizes, results, strides, kernel, strict=True)]
        return [n // 2 for n in needed] + [n - n // 2 for n in needed]

    def _conv(self, op: Any, ins: list[int], out: int, depthwise: bool) -> None:
        options = self.options(op, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
        weight = self.constant(ins[1])
        assert weight is not None
        dilations = (options.DilationHFactor(), options.DilationWFactor())
        size = (weight.shape[1], weight.shape[2])
        kernel = ((size[0] - 1) * dilations[0] + 1, (size[1] - 1) * dilations[1] + 1)
        first = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        inputs = [self.read(ins[0]), self.initializer(self.name(ins[1]), first)]
        inputs += [self.read(i) for i in ins[2:] if i >= 0]
        result = self.add(
            "Conv", inputs, self.name(out) + "_conv", pads=self._pads(options, ins, out, kernel), dilations=dilations,
            strides=(options.StrideH(), options.StrideW()), group=self.shape(ins[0])[3] if depthwise else 1,
            kernel_shape=size,
        )  # fmt: skip
        self.activated(result, options.FusedActivationFunction(), out)

    def conv_2d(self, op: Any, ins: list[int], out: int) -> None:
        self._conv(op, ins, out, depthwise=False)

    def depthwise_conv_2d(self, op: Any, ins: list[int], out: int) -> None:
        self._conv(op, ins, out, depthwise=True)

    def fully_connected(self, op: Any, ins: list[int], out: int) -> None:
        options = self.options(op, "FullyConnectedOptions")
        _, columns = self.shape(ins[1])
        flat = self.read(ins[0])
        if self.rank(ins[0]) == 4:
            flat = self.add("Transpose", [flat], self.name(out) + "_last", perm=TO_LAST)
        if self.rank(ins[0]) != 2:
            shape = self.initializer(self.name(out) + "_flat", np.array([-1, columns], np.int64))
            flat = self.add("Reshape", [flat, shape], self.name(out) + "_2d")
        inputs = [flat, self.read(ins[1])] + [self.read(i) for i in ins[2:] if i >= 0]
        result = self.add("Gemm", inputs, self.name(out) + "_gemm", transB=1)
        self.activated(result, options.FusedActivationFunction(), out)

    def _pool(self, op: Any, ins: list[int], out: int, kind: str) -> None:
        options = self.options(op, "Pool2DOptions")
        kernel = (options.FilterHeight(), options.FilterWidth())
        result = self.add(
            kind, [self.read(ins[0])], self.name(out) + "_pool", kernel_shape=kernel,
            strides=(options.StrideH(), options.StrideW()), pads=self._pads(options, ins, out, kernel),
        )  # fmt: skip
        self.activated(result, options.FusedActivationFunction(), out)

    def max_pool_2d(self, op: Any, ins: list[int], out: int) -> None:
        self._pool(op, ins, out, "MaxPool")

    def average_pool_2d(self, op: Any, ins: list[int], out: int) -> None:
        self._pool(op, ins, out, "AveragePool")

    def _binary(self, op: Any, ins: list[int], out: int, kind: str) -> None:
        options = self.options(op, f"{kind}Options")
        result = self.add(kind, [self.read(i) for i in ins], self.name(out) + "_sum")
        self.activated(result, options.FusedActivationFunction(), out)

    def add_(self, op: Any, ins: list[int], out: int) -> None:
        self._binary(op, ins, out, "Add")

    def mul(self, op: Any, ins: list[int], out: int) -> None:
        self._binary(op, ins, out, "Mul")

    def _plain(self, kind: str, inputs: list[str], out: int, **attributes: Any) -> None:
        self.names[out] = self.add(kind, inputs, self.name(out), **attributes)

    def relu(self, op: Any, ins: list[int], out: int) -> None:
        self._plain("Relu", [self.read(ins[0])], out)

    def logistic(self, op: Any, ins: list[int], out: int) -> None:
        self._plain("Sigmoid", [self.read(ins[0])], out)

    def prelu(self, op: Any, ins: list[int], out: int) -> None:
        slope = self.constant(ins[1])
        assert slope is not None
        first = self.initializer(self.name(ins[1]), slope.reshape(slope.shape[-3:]).transpose(2, 0, 1))
        self._plain("PRelu", [self.read(ins[0]), first], out)

    def pad(self, op: Any, ins: list[int], out: int) -> None:
        pads = self.constant(ins[1])
        assert pads is not None
        order = pads[list(TO_FIRST)].T.reshape(-1).astype(np.int64)
        self._plain("Pad", [self.read(ins[0]), self.initializer(self.name(out) + "_pads", order)], out)

    def mean(self, op: Any, ins: list[int], out: int) -> None:
        axes = self.constant(ins[1])
        assert axes is not None and sorted(int(a) for a in np.ravel(axes)) == [1, 2]
        mean = self.add("GlobalAveragePool", [self.read(ins[0])], self.name(out))
        if self.rank(out) != 4:
            self.nodes[-1].output[0] = mean + "_mean"
            shape = self.initializer(mean + "_shape", np.array(self.shape(out), np.int64))
            self.add("Reshape", [mean + "_mean", shape], mean)
        self.names[out] = mean

    def reshape(self, op: Any, ins: list[int], out: int) -> None:
        source = self.read(ins[0])
        if self.rank(ins[0]) == 4:
            source = self.add("Transpose", [source], self.name(out) + "_last", perm=TO_LAST)
        shape = self.initializer(self.name(out) + "_shape", np.array(self.shape(out), np.int64))
        name = self.add("Reshape", [source, shape], self.name(out))
        if self.rank(out) == 4:
            self.nodes[-1].output[0] = name + "_given"
            self.add("Transpose", [name + "_given"], name, perm=TO_FIRST)
        self.names[out] = name

    def concatenation(self, op: Any, ins: list[int], out: int) -> None:
        axis = self.options(op, "ConcatenationOptions").Axis() % self.rank(out)
        axis = TO_FIRST.index(axis) if self.rank(out) == 4 else axis
        self._plain("Concat", [self.read(i) for i in ins], out, axis=axis)

    def resize_bilinear(self, op: Any, ins: list[int], out: int) -> None:
        options = self.options(op, "ResizeBilinearOptions")
        mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        mode = "align_corners" if options.AlignCorners() else mode
        _, height, width, channels = self.shape(out)
        sizes = self.initializer(self.name(out) + "_sizes", np.array([1, channels, height, width], np.int64))
        inputs = [self.read(ins[0]), "", "", sizes]
        self._plain("Resize", inputs, out, mode="linear", coordinate_transformation_mode=mode)
