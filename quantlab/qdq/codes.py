"""The codes of `quantlab lint`: what each stands for, what TensorRT does with it, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Code:
    """What a code stands for.

    Attributes:
        severity: `error` where TensorRT refuses the model or computes something else, else `warning`.
        meaning: What is wrong.
        tensorrt: What TensorRT does with it.
        remedy: What to do.
    """

    severity: str
    meaning: str
    tensorrt: str
    remedy: str


_REPAIR = "quantlab repair"
_SCALES = "quantlab repair mends zero and denormal scales; calibrate again for the others"
CODES: dict[str, Code] = {
    "Q01": Code(ERROR, "zero point is not 0", "refuses the model: its INT8 is symmetric", _REPAIR),
    "Q02": Code(ERROR, "8-bit unsigned codes", "refuses the model: it has no uint8 quantization", _REPAIR),
    "Q03": Code(ERROR, "an activation has one scale per channel", "refuses the model: only weights may", _REPAIR),
    "Q04": Code(ERROR, "an int32 bias is dequantized", "refuses the model: only 8-bit inputs are dequantized", _REPAIR),
    "Q05": Code(
        ERROR, "weight scales lie along the wrong axis", "refuses the model, or runs the layer in float", _REPAIR
    ),
    "Q06": Code(
        WARNING, "Q/DQ between a layer and its BatchNorm or activation", "cannot fuse the two: one more kernel", _REPAIR
    ),
    "Q07": Code(
        WARNING, "both inputs of a residual Add are quantized", "cannot fuse the Add into the convolution", _REPAIR
    ),
    "Q08": Code(
        WARNING, "an output of the model is quantized", "adds a kernel and loses precision for nothing", _REPAIR
    ),
    "Q09": Code(
        WARNING, "inputs of a Concat have different scales", "rescales them one by one before it can join them", _REPAIR
    ),
    "Q10": Code(
        ERROR, "Q/DQ in a shape computation", "refuses the model: shapes are not quantized", "exclude these nodes"
    ),
    "Q11": Code(
        WARNING, "a QuantizeLinear or DequantizeLinear without a counterpart", "ignores it, or keeps int8 data", _REPAIR
    ),
    "Q12": Code(
        WARNING, "a tensor is quantized twice in a row", "rounds twice; one more kernel if the scales differ", _REPAIR
    ),
    "Q13": Code(
        ERROR, "a scale is zero, negative, denormal, infinite or NaN", "refuses the model or computes NaN", _SCALES
    ),
    "Q14": Code(
        ERROR, "scales are FP16 below opset 19", "refuses the model: such opsets have float scales only", "use opset 19"
    ),
    "Q15": Code(
        ERROR, "the opset cannot hold what is used", "refuses the model", "convert the model to the opset named"
    ),
    "Q16": Code(
        WARNING, "only one operand of a layer is quantized", "runs the layer in float", "quantize both, or neither"
    ),
    "Q17": Code(
        ERROR, "a scale is computed, not constant", "refuses the model: dynamic quantization", "use static quantization"
    ),
    "Q18": Code(ERROR, "codes of another size than 8 bits", "refuses the model, or runs it in another type", _REPAIR),
    "Q19": Code(WARNING, "Q/DQ inside If, Loop or Scan", "may refuse it; nothing in there was looked at", "look there"),
    "Q20": Code(
        WARNING,
        "what a depthwise or grouped convolution makes is read in INT8 and in float",
        "runs it in FP16, as its INT8 kernels write INT8 only: its weights are dequantized in every inference",
        _REPAIR,
    ),
    "Q21": Code(
        WARNING,
        "no Q/DQ between a convolution and an activation that does not fuse with it",
        "runs the convolution in FP16 or by a slower kernel, behind a conversion of its input",
        _REPAIR,
    ),
    "Q22": Code(
        WARNING,
        "a depthwise or grouped convolution is quantized, but nothing reads its result in INT8",
        "runs it in FP16, as its INT8 kernels write INT8 only: its weights are dequantized in every inference",
        _REPAIR,
    ),
    "Q23": Code(
        ERROR,
        "a weight or bias has NaN or infinity",
        "computes NaN, or what its kernels happen to make of it",
        "export or train the model again",
    ),
    "Q24": Code(
        WARNING,
        "a layer in float has a Clip (ReLU6) behind it that is quantized",
        "computes something else (8.6.0; of others it is not known)",
        f"{_REPAIR}, which writes it as Relu and Min",
    ),
    "Q25": Code(
        WARNING,
        "a Reduce operator has its axes as an input, as from opset 18 on",
        "reduces over every axis, the batch included, and does not say so (8, in trtexec and whatever parses the file)",
        "export with opset 17, or build with quantlab build, which hands the axes over as TensorRT 8 reads them",
    ),
}
"""Every finding of `lint`, by its code."""
