"""What a loader gives, as the arguments of a module's `forward` and as batches of arrays by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import torch

from quantlab.data import Batch, Labels
from quantlab.data.batches import as_array
from quantlab.errors import ConfigError, DataError, in_batch

LABELS = ("labels", "label")
"""Keys of a loader's mapping that are the classes of the samples: not fed unless they are asked for."""
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of `forward` that a loader feeds.

    Attributes:
        names: In order; they are the names of the ONNX model's inputs too.
        by_name: Whether they are given by name, else by their place.
        labelled: Whether the loader gives labels behind them.
    """

    names: tuple[str, ...]
    by_name: bool
    labelled: bool

    def arguments(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
        """(args, kwargs) of a call."""
        if self.by_name:
            return (), {name: tensors[name] for name in self.names}
        return tuple(tensors[name] for name in self.names), {}


def signature_of(module: torch.nn.Module, element: Any, inputs: Sequence[str] | None) -> Signature:
    """Which arguments of a module an element of a loader feeds.

    Args:
        module: Its `forward` says what it takes.
        element: The first that the loader gives.
        inputs: The names of the arguments, where the user gave them.

    Returns:
        The arguments.

    Raises:
        ConfigError: It cannot be told which element feeds which argument.
        DataError: The element is of a kind that no module takes.
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    if inputs is not None and (not inputs or len(set(inputs)) < len(inputs)):
        raise ConfigError(f"inputs is {tuple(inputs)!r}", hint="name every input that is fed once")
    if isinstance(element, Mapping):
        return _by_name(parameters, element, inputs)
    parts = list(element) if isinstance(element, (tuple, list)) else [element]
    if not parts:
        raise DataError("it is empty", hint="give the inputs of the module", batch=0)
    places = [p.name for p in parameters if p.kind in _POSITIONAL]
    if inputs is not None:
        if len(parts) not in (len(inputs), len(inputs) + 1):
            raise ConfigError(
                f"the loader gives {len(parts)} elements, inputs names {len(inputs)}",
                hint="name every element but the labels",
            )
        return _of_names(parameters, places, tuple(inputs), len(parts) > len(inputs))
    if any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        if len(parts) > 1:
            raise ConfigError(
                f"forward takes *{_star(parameters)}: it cannot be told which of the {len(parts)} elements are fed",
                hint="inputs=('image',) names them; one element more is taken as the labels",
            )
        return Signature((places[0] if places else "input",), False, False)
    required = [p.name for p in parameters if p.kind in _POSITIONAL and p.default is Parameter.empty]
    named = places[len(parts) - 1 : len(parts)]
    is_open = len(parts) > max(1, len(required)) and _may_be_labels(parts)
    if (len(parts) == len(places) and named[0] not in LABELS and not is_open) or len(parts) == max(1, len(required)):
        return Signature(tuple(places[: len(parts)]), False, False)
    if len(parts) == len(required) + 1 == len(places) + 1:
        return Signature(tuple(places), False, True)
    if len(places) >= len(parts) > 1 and places[len(parts) - 1] in LABELS:  # as models of transformers have them
        return Signature(tuple(places[: len(parts) - 1]), False, True)
    raise ConfigError(
        f"the loader gives {len(parts)} elements, forward takes {_told(parameters)}: it cannot be told which "
        "feeds what",
        hint=f"inputs={tuple(places[: max(1, len(parts) - 1)])!r} names them; one element more is taken as the labels",
    )


def _may_be_labels(parts: list[Any]) -> bool:
    """Whether the last element is a whole number for every sample, as the classes of a data set are."""
    last, first = parts[-1], parts[0]
    is_classes = isinstance(last, torch.Tensor) and last.ndim == 1 and not last.is_floating_point()
    return is_classes and not (isinstance(first, torch.Tensor) and first.shape == last.shape)


def _of_names(parameters: list[Parameter], places: list[str], inputs: tuple[str, ...], labelled: bool) -> Signature:
    """As the user named them: by place where these are the first arguments, else by name."""
    free = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    if free or list(inputs) == places[: len(inputs)]:
        return Signature(inputs, False, labelled)
    _require_known(parameters, inputs)
    return Signature(inputs, True, labelled)


def _in_order(parameters: list[Parameter], names: tuple[str, ...]) -> tuple[str, ...]:
    """In the order of `forward`, in which exporters write them; others behind."""
    places = [p.name for p in parameters]
    return tuple(sorted(names, key=lambda name: places.index(name) if name in places else len(places)))


def _by_name(parameters: list[Parameter], element: Mapping[Any, Any], inputs: Sequence[str] | None) -> Signature:
    if inputs is not None:
        if missing := [name for name in inputs if name not in element]:
            raise ConfigError(
                f"inputs names {', '.join(missing)}, the loader gives {', '.join(map(str, element))}",
                hint="name the inputs as the loader does",
            )
        names = tuple(inputs)
    else:
        names = tuple(str(name) for name in element if name not in LABELS)
    _require_known(parameters, names)
    names = _in_order(parameters, names)
    return Signature(names, True, any(name in element and name not in names for name in LABELS))


def _require_known(parameters: list[Parameter], names: Sequence[str]) -> None:
    known = {p.name for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)}
    anything = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    unknown = [name for name in names if name not in known]
    if unknown and not anything:
        raise ConfigError(
            f"forward has no argument {', '.join(map(repr, unknown))}, it takes {_told(parameters)}",
            hint="inputs=(...) names those that are fed",
        )
    required = [
        p.name
        for p in parameters
        if p.kind in (*_POSITIONAL, Parameter.KEYWORD_ONLY) and p.default is Parameter.empty and p.name not in names
    ]
    if required and not anything:
        raise ConfigError(
            f"forward needs {', '.join(required)}, which the loader does not give", hint="give it in every batch"
        )


def _star(parameters: list[Parameter]) -> str:
    return next(p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL)


def _told(parameters: list[Parameter]) -> str:
    return f"({', '.join(str(p).split(':')[0].split('=')[0].strip() for p in parameters)})"


class ModuleBatches:
    """A loader as batches for the exported model: iterated anew for every pass.

    Args:
        loader: Gives tensors, tuples or mappings of them.
        signature: What of it is fed.
    """

    def __init__(self, loader: Iterable[Any], signature: Signature) -> None:
        self._loader = loader
        self.signature = signature
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with the labels of their samples, where the loader gives any."""
        number = -1
        for number, element in enumerate(self._loader):
            with in_batch(number):
                split = self.split(element)
                self._require_shapes(split[0])
            yield split
        if number < 0:  # it gave a batch before
            raise DataError(
                "the loader gave batches and now gives none: it can be read only once, and batches are missing",
                hint="let __iter__ (of an IterableDataset too) begin anew every time, or give a list of batches",
            )

    def split(self, element: Any) -> tuple[Batch, Labels | None]:
        """Take an element of the loader apart.

        Args:
            element: What it gives.

        Returns:
            The inputs by name, and the labels if there are any that are a class of every sample.

        Raises:
            DataError: It is not what the first element was, or has no batch dimension.
        """
        names = self.signature.names
        if isinstance(element, Mapping):
            if missing := [name for name in names if name not in element]:
                raise DataError(f"it has no {', '.join(missing)}", hint="give the same inputs in every batch")
            values = [element[name] for name in names]
            given = next((element[name] for name in LABELS if name in element and name not in names), None)
        else:
            parts = list(element) if isinstance(element, (tuple, list)) else [element]
            if len(parts) != len(names) + self.signature.labelled:
                raise DataError(
                    f"it has {len(parts)} elements, the first batch had {len(names) + self.signature.labelled}",
                    hint="give the same elements in every batch",
                )
            values, given = parts[: len(names)], parts[-1] if self.signature.labelled else None
        batch = {name: _array(value, name) for name, value in zip(names, values, strict=True)}
        samples = next(iter(batch.values())).shape[0]
        if not samples:
            raise DataError(f"input '{names[0]}' has no samples", hint="leave empty batches out")
        return batch, None if given is None else _labels(given, samples)

    def _require_shapes(self, batch: Batch) -> None:
        """All batches have the shape of the first one but for the number of samples: each is a sample of one set."""
        shapes = {name: x.shape for name, x in batch.items()}
        first = self._shapes = self._shapes or shapes
        for name, shape in shapes.items():
            if shape[1:] != first[name][1:]:
                raise DataError(
                    f"input '{name}' is {shape}, in the first batch it was {first[name]}",
                    hint="resize or pad the samples to one size",
                )


def _array(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_nested or value.is_quantized:
            raise DataError(f"input '{name}' is a {value.layout} tensor", hint="give dense float or integer tensors")
        if value.dtype is torch.bfloat16:
            raise DataError(f"input '{name}' is bfloat16", hint="give float32")
    array = as_array(value, f"input '{name}'")
    if array.dtype.kind not in "biuf":
        raise DataError(f"input '{name}' is {array.dtype}, expected numbers", hint="give tensors")
    if array.ndim == 0:
        raise DataError(
            f"input '{name}' is a number without a batch dimension",
            hint="give a DataLoader, not its Dataset; every tensor begins with the samples",
        )
    return array


def _labels(given: Any, samples: int) -> Labels | None:
    """The class of every sample; None for targets of another kind, such as boxes."""
    if isinstance(given, int) or (hasattr(given, "ndim") and given.ndim == 0):
        raise DataError(
            "its label is one number without a batch dimension: the loader gives samples",
            hint="wrap the data set: torch.utils.data.DataLoader(dataset, batch_size=32)",
        )
    if not isinstance(given, torch.Tensor) or given.ndim != 1 or given.is_floating_point():
        return None
    if len(given) != samples:
        raise DataError(
            f"it has {samples} samples and {len(given)} labels: the loader gives samples, or forgets the batch",
            hint="every tensor of a batch begins with the samples",
        )
    labels: Labels = given.detach().cpu().numpy().astype("int64")
    return labels
