"""One batch through the module before it is exported: does the loader fit, what comes out, what is a sample?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from quantlab.data import Batch
from quantlab.errors import DataError, GraphError, first_line
from quantlab.torch.feeds import Signature

HALF_OF_DIGITS = float(np.sqrt(np.finfo(np.float32).eps))
"""Two ways to compute the same in float32 differ by sums in another order; that is far less than half of its digits."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a batch showed.

    Attributes:
        batch: What was fed; at least two samples where the first dimension is the batch.
        outputs: Output name -> value.
    """

    batch: Batch
    outputs: Mapping[str, NDArray[Any]]


def tensors_of(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch as tensors that share nothing with it."""
    return {name: torch.from_numpy(np.array(x)) for name, x in batch.items()}


def call(module: torch.nn.Module, signature: Signature, batch: Batch) -> dict[str, torch.Tensor]:
    """Run a module on a batch.

    Args:
        module: On the CPU.
        signature: How it is called.
        batch: Input name -> array.

    Returns:
        Output name -> tensor.

    Raises:
        GraphError: It gives something else than tensors.
    """
    args, kwargs = signature.arguments(tensors_of(batch))
    with torch.no_grad():
        return named_outputs(module(*args, **kwargs))


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """Tensors out of what a module gave, named by their keys in a mapping, else by their places.

    Args:
        result: A tensor, or tuples, lists and mappings of them.

    Returns:
        Name -> tensor, in the order in which exporters write them.

    Raises:
        GraphError: There is something else in it.
    """
    leaves = [(path, value) for path, value in pytree.tree_flatten_with_path(result)[0] if value is not None]
    named: dict[str, torch.Tensor] = {}
    for path, value in leaves:
        name = "_".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
        name = "output" if not path else name if not name[0].isdigit() else f"output_{name}"
        if not isinstance(value, torch.Tensor):
            raise GraphError(
                f"output '{name}' of the module is a {type(value).__name__}, expected tensors",
                hint="wrap the module in one whose forward returns tensors only",
            )
        if value.dtype is torch.bfloat16 or value.is_complex() or value.is_sparse or value.is_quantized:
            raise GraphError(
                f"output '{name}' of the module is a tensor of {value.dtype}, {value.layout}, expected dense float32",
                hint="no autocast in forward: TensorRT chooses the precision when it builds; else convert it there",
            )
        if name in named:
            raise GraphError(f"two outputs of the module are called '{name}'", hint="rename a key that forward returns")
        named[name] = value
    if not named:
        raise GraphError("the module gives no tensor", hint="let forward return its outputs")
    return named


def try_batch(
    module: torch.nn.Module, signature: Signature, batch: Batch, dynamic: bool, rounds: bool = False
) -> Trial:
    """Run the first batch, and its first sample alone where the first dimension is to be the batch.

    Args:
        module: On the CPU, in evaluation mode.
        signature: How it is called.
        batch: The first batch.
        dynamic: Whether any number of samples is to be taken.
        rounds: Whether the module has quantizers: a sum in another order can then become another step.

    Returns:
        What came out.

    Raises:
        DataError: The loader's batches are not what the module takes.
        GraphError: The module gives something else than tensors.
    """
    if dynamic and len({x.shape[0] for x in batch.values()}) > 1:
        shapes = ", ".join(f"'{name}' {x.shape}" for name, x in batch.items())
        raise DataError(f"inputs have different numbers of samples: {shapes}", hint="dynamic_batch=False", batch=0)
    if dynamic and next(iter(batch.values())).shape[0] == 1:  # torch.export would take the 1 for a constant
        batch = {name: np.concatenate([x, x]) for name, x in batch.items()}
    with torch.random.fork_rng(devices=[]):
        outputs = _called(module, signature, batch)
        again = _called(module, signature, batch)
        one = _first_sample(module, signature, batch, outputs) if dynamic else {}
    for name, value in outputs.items():
        if name in batch:
            raise GraphError(
                f"'{name}' is an input and an output of the module: ONNX has one tensor of a name",
                hint="rename the argument of forward, or the key that it returns",
            )
        if not np.array_equal(value, again[name], equal_nan=True):
            raise GraphError(
                f"output '{name}' is another one every time: the module draws random numbers or keeps a state",
                hint="give states as inputs, and fix what is random",
            )
        if dynamic and not rounds and not close(one[name], value[:1]):
            raise DataError(
                f"output '{name}' of the first sample alone is not that of the batch: the first dimension of the "
                "loader's tensors does not count the samples, or samples depend on each other",
                hint="give a DataLoader, not its Dataset; dynamic_batch=False if the module is like this",
                batch=0,
            )
    return Trial(batch, outputs)


def close(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    """Find out whether two arrays are the same but for the rounding of float32.

    Args:
        found: One.
        wanted: The other, whose largest magnitude sets what rounding may do.

    Returns:
        True if their shapes are the same and no two values are further apart.
    """
    if found.shape != wanted.shape:
        return False
    if wanted.dtype.kind != "f" or not wanted.size:
        return bool(np.array_equal(found, wanted))
    finite = np.isfinite(wanted)
    largest = float(np.abs(wanted[finite]).max(initial=0.0))
    return bool(np.allclose(found, wanted, rtol=0, atol=HALF_OF_DIGITS * largest, equal_nan=True))


def _called(module: torch.nn.Module, signature: Signature, batch: Batch) -> dict[str, NDArray[Any]]:
    try:
        outputs = call(module, signature, batch)
    except GraphError:
        raise
    except Exception as error:  # a module may fail in any way
        raise DataError(
            f"the module fails on the loader's {_shapes(batch)}: {first_line(error)}",
            hint=_remedy(module, signature, batch),
            batch=0,
        ) from error
    return {name: value.detach().numpy() for name, value in outputs.items()}


def _first_sample(
    module: torch.nn.Module, signature: Signature, batch: Batch, outputs: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    try:
        one = call(module, signature, {name: x[:1] for name, x in batch.items()})
    except Exception as error:
        raise DataError(
            f"the module takes {_shapes(batch)}, but not its first sample alone: {first_line(error)}",
            hint="give a DataLoader, not its Dataset; dynamic_batch=False if the module takes one batch size only",
            batch=0,
        ) from error
    if fixed := [name for name in outputs if not one[name].ndim or one[name].shape[0] != 1]:
        raise DataError(
            f"output '{fixed[0]}' does not begin with the samples: it is {tuple(one[fixed[0]].shape)} for one sample",
            hint="dynamic_batch=False, or leave the output out",
            batch=0,
        )
    return {name: value.detach().numpy() for name, value in one.items()}


def _remedy(module: torch.nn.Module, signature: Signature, batch: Batch) -> str:
    """The layout that the module does take, if it is one of those that are mixed up."""
    others: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "the images are NHWC, the module takes NCHW: x.permute(0, 3, 1, 2)": lambda x: _moved(x, 4, (0, 3, 1, 2)),
        "the module takes NHWC: x.permute(0, 2, 3, 1)": lambda x: _moved(x, 4, (0, 2, 3, 1)),
        "the image is HWC without a batch, the module takes NCHW": lambda x: _moved(x[None], 4, (0, 3, 1, 2)),
        "there is no batch dimension: give a DataLoader, not its Dataset": lambda x: x[None],
        "give float32: x.float()": lambda x: x.astype(np.float32),
        "give int64: x.long()": lambda x: x.astype(np.int64),
    }
    for remedy, change in others.items():
        try:
            call(module, signature, {name: change(x) for name, x in batch.items()})
        except Exception:  # not this one
            continue
        return remedy
    return "run the module on a batch of the loader first"


def _moved(x: NDArray[Any], rank: int, axes: tuple[int, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(x.transpose(axes)) if x.ndim == rank else x


def _shapes(batch: Batch) -> str:
    return ", ".join(f"'{name}' {x.dtype} {x.shape}" for name, x in batch.items())
