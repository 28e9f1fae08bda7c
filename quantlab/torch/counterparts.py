"""What an ONNX operator may have been in PyTorch: the names of ATen operators."""

from __future__ import annotations

from collections.abc import Mapping

_PRODUCTS = "linear addmm mm matmul bmm baddbmm"
COUNTERPARTS: Mapping[str, frozenset[str]] = {
    op: frozenset(names.split())
    for op, names in {
        "Conv": "conv1d conv2d conv3d convolution",
        "ConvTranspose": "conv_transpose1d conv_transpose2d conv_transpose3d convolution",
        "Gemm": _PRODUCTS,
        "MatMul": _PRODUCTS,
        "Add": "add",
        "Mul": "mul",
        "MaxPool": "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool2d",
        "AveragePool": "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d",
        "GlobalAveragePool": "adaptive_avg_pool1d adaptive_avg_pool2d avg_pool2d mean",
        "Concat": "cat concat stack",
        "Reshape": "view reshape flatten unflatten _unsafe_view",
        "Flatten": "view reshape flatten",
        "Squeeze": "squeeze view reshape flatten select",
        "Unsqueeze": "unsqueeze view reshape",
        "Transpose": "permute transpose t",
        "Slice": "slice narrow select",
        "Split": "split split_with_sizes chunk unbind tensor_split",
        "Pad": "pad constant_pad_nd",
        "Resize": "upsample_nearest1d upsample_nearest2d upsample_nearest3d",
        "Expand": "expand repeat",
        "Tile": "repeat tile",
        "DepthToSpace": "pixel_shuffle",
        "SpaceToDepth": "pixel_unshuffle",
        "Identity": "clone contiguous dropout",
    }.items()
}
"""ONNX operator -> the ATen operators that it may have been."""
WEIGHT_AT: Mapping[str, int] = {"addmm": 2, "baddbmm": 2}
"""The argument that is the weight, where it is not the second."""
