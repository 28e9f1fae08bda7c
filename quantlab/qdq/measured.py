"""What TensorRT fuses and what pays, as data: read off engines of TensorRT 8.6.0 on an H200, batch 16 to 64.

`tests/bench/probe_fusions.py` and `tests/bench/bench_latency.py` measure these on another GPU or version, for which
nothing is claimed here. Every limit is a default: a user's --include puts a layer into INT8 all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

FIRST, DEPTHWISE, GROUPED, ORDINARY = "first", "depthwise", "grouped", "ordinary"
"""Kinds of convolutions, each with kernels of its own."""

FORMS: Mapping[str, str] = {
    "Mul Sigmoid": "Swish",
    "Swish": "Swish",
    "HardSigmoid Mul": "HardSwish",
    "Add Clip Div Mul": "HardSwish",
    "Add Clip Mul Mul": "HardSwish",
    "Mul Softplus Tanh": "Mish",
    "Add Div Erf Mul": "GELU",
    "Add Div Erf Mul Mul": "GELU",
    "Add Erf Mul Mul": "GELU",
    "Add Erf Mul Mul Mul": "GELU",
    "Gelu": "GELU",
}
"""The operators of an activation in alphabetical order -> its name, where that is not the operator's."""

BOUNDED = frozenset({"Sigmoid", "HardSigmoid", "Clip", "Tanh", "Relu", "Softmax"})
"""What makes the gate of squeeze-and-excitation: 8 bits resolve it, as they do not the factor of a normalization."""
KEEPS_BOUND = frozenset({"Mul", "Div", "Add", "Sub", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Cast"})
"""What may stand between that and the product, with constants."""

FIRST_CHANNELS = 4
"""A convolution of so many input channels over more than one pixel is the first of a network."""

ONLY_FUSED: Mapping[str, frozenset[str] | None] = {
    FIRST: frozenset({"Relu", "Clip", "Swish"}),
    DEPTHWISE: frozenset({"Relu", "Clip", "Swish"}),
    GROUPED: frozenset({"Relu", "Clip"}),
    ORDINARY: None,
}
"""Kind -> the only activations that its INT8 kernels take; None where what is not fused costs no more than itself.
HardSwish behind a depthwise 3x3 of 64 channels, 28x28, batch 32: 56 us without a pair before it, 26 us with one."""

INT8_OUTPUT_ONLY = frozenset({DEPTHWISE, GROUPED})
"""The kinds without an INT8 kernel that writes float: with a second reader in float the convolution runs in FP16 behind
conversions of its input and of its weights in every inference (82 to 110 us in place of 45 to 70)."""

FEW_CHANNELS, FEW_LAYERS = 16, 6
"""Layers in a row of so few channels, and how many of them: INT8 pads channels to 32. 3x3, 32x32, batch 64: 10.0 us in
FP16, 11.8 in INT8; ResNet-56 takes 0.280 ms with that stage in float, 0.300 in INT8."""

SHRINKS = 2
"""A convolution of a signal that reads a float one's result and divides its size by so much stays float. TensorRT does
not fuse the activation into the float convolution where a QuantizeLinear follows (22 us on 16x64x4000, against 26 us
of the convolution itself), so the conversion belongs where the signal is short."""

VECTOR = 32
"""Channels in a vector of the INT8 format: a part of a Concat that begins between two is copied (10 us)."""

MIN_OUTPUT_CHANNELS = 4
"""INT8 kernels work on groups of so many output channels."""

BATCH = 64
"""Samples that a dynamic batch is taken to have."""

ATTENTION_MACS = 2**32
"""Multiplications in the largest MatMul below which a network with attention is faster in FP16: an encoder takes 0.84
of its time with a width of 1024 and 8 x 512 tokens, 1.05 to 1.07 with a width of 768 and 8 x 128 tokens."""

RECURRENT_MACS = 2**36
"""Multiplications of all layers below which a network with LSTM, GRU or RNN is expected to be faster in FP16. In the
engine of a text recogniser with Q/DQ the LSTM, in FP16 as before, takes 80 to 100 us more, in two builds of each; its
convolutions, 1.5 * 10^10 multiplications, save 17. An estimate from that one network."""

ISOLATED_MACS = 2**33
"""Multiplications below which a layer between float ones is not expected to earn the conversion of its input (10 us).
An estimate, which `probe_fusions.py --isolated` can replace."""

NECK, RECURRENT, HARD = "neck", "recurrent", "hard"
MANY_DEPTHWISE = 8
"""Depthwise convolutions, all with HardSwish behind them, from which a network is taken for one of LCNet's kind."""
BEHIND: Mapping[str, str] = {
    NECK: "a detector with a Concat of enlarged maps took 0.97 to 1.08 of the time of the fastest of FP16, implicit "
    "INT8 and ModelOpt's placement, in five pairs of builds",
    HARD: "LCNet (HardSwish behind every depthwise convolution) took 1.14 of the time of implicit INT8, in one pair "
    "of builds, though both have the same layers in INT8",
    RECURRENT: "a text recogniser with LSTM took 1.09 to 1.16 of the time of implicit INT8, in FP16 as in Q/DQ",
}
"""Kind of network -> by how much the default placement was behind, in builds of `tests/bench/bench_latency.py`."""
