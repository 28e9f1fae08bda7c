"""A serialized pipeline, read: what it does, whether that is random, and the hash that names it.

`Pipeline.serialize()` is a protobuf message whose fields have kept their numbers from DALI 1.23 to 2.4. Bytes differ
from process to process (counters in names, seeds, where the file lies that defined it), so what is hashed is what
changes an output: the operators that it comes from, how they are connected, and their arguments.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.errors import DataError

_RANDOM = re.compile(r"random|noise__|coinflip|^uniform$|normaldistribution|jitter|batchpermutation", re.IGNORECASE)
"""Names of operators whose result depends on a seed."""
Node = tuple[str, str, str]
"""Name of the data, device, and of an input the argument that it is, else ''."""
_SHUFFLES = ("random_shuffle", "shuffle_after_epoch")
_PLACES = {"file_root", "file_list", "file_filter", "files", "filenames", "path", "paths", "index_path", "root", "uris"}
_PLACES |= {"annotations_file", "meta_files_path", "preprocessed_annotations", "image_ids", "labels"}
_PACE = {
    "seed",
    "preserve",
    "preserve_name",
    "bytes_per_sample_hint",
    "hybrid_huffman_threshold",
    "prefetch_queue_depth",
}
_PACE |= {"read_ahead", "lazy_init", "dont_use_mmap", "use_o_direct", "tensor_init_bytes", "initial_fill", "num_shards"}
_PACE |= {
    "shard_id",
    "stick_to_shard",
    "skip_cached_images",
    "cache_size",
    "cache_threshold",
    "cache_type",
    "cache_debug",
}
_PACE |= {"device_memory_padding", "host_memory_padding", "pad_last_batch", "preallocate_width_hint", "blocking"}
_PACE |= {"preallocate_height_hint", "cache_batch_copy", "repeat_last", "no_copy", "memory_stats", "use_fast_idct_hint"}
_PACE |= {"temp_buffer_hint", "minibatch_size", *_SHUFFLES}
"""Arguments that say where the data are or how fast they come, not what becomes of a sample."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a pipeline. inputs, outputs: (name, device, argument that it is, or '') of data nodes."""

    name: str
    instance: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    arguments: Mapping[str, Any]

    @property
    def is_source(self) -> bool:
        """Whether Python feeds it, so that a copy of the pipeline has no data."""
        return "ExternalSource" in self.name

    @property
    def is_random(self) -> bool:
        """Whether a seed decides what it gives."""
        return bool(_RANDOM.search(self.name)) or any(self.arguments.get(name) for name in _SHUFFLES)


@dataclass(frozen=True, slots=True)
class Graph:
    """The operators of a pipeline, in order, and its outputs."""

    operators: tuple[Operator, ...]
    outputs: tuple[Node, ...]

    def behind(self, outputs: Sequence[int]) -> tuple[Operator, ...]:
        """The operators that some of the outputs come from, in order."""
        wanted = {self.outputs[k][0] for k in outputs}
        found = []
        for operator in reversed(self.operators):
            if any(node[0] in wanted for node in operator.outputs):
                found.append(operator)
                wanted.update(node[0] for node in operator.inputs)
        return tuple(reversed(found))

    def hash(self, outputs: Mapping[str, int]) -> str:
        """Name what some of the outputs are made by, the same in every process; keys are the inputs that they feed."""
        made_by = {node[0]: (operator, k) for operator in self.operators for k, node in enumerate(operator.outputs)}
        known: dict[tuple[str, str], str] = {}

        def named(node: Node) -> str:
            """The hash of data, over all that it comes from."""
            if node[:2] not in known:
                operator, number = made_by[node[0]]
                # data come in order, arguments in any
                behind = [["", named((name, device, ""))] for name, device, argument in operator.inputs if not argument]
                behind += sorted([to, named((name, device, ""))] for name, device, to in operator.inputs if to)
                matters = {name: value for name, value in operator.arguments.items() if _matters(name)}
                known[node[:2]] = _sha256([operator.name, number, node[1], matters, behind])
            return known[node[:2]]

        return _sha256({name: named(self.outputs[k]) for name, k in outputs.items()})


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _matters(name: str) -> bool:
    return not name.startswith("_") and name not in _PLACES | _PACE


def read_graph(serialized: bytes) -> Graph:
    """Read what `Pipeline.serialize()` gives; DataError where it is no such message."""
    try:
        fields = list(_fields(serialized))
        operators = tuple(_operator(value) for number, value in fields if number == 5)
        return Graph(operators, tuple(_node(value) for number, value in fields if number == 7))
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise DataError(
            "the serialized pipeline cannot be read, this DALI writes it in another way",
            hint="use a DALI from 1.23 to 2.4",
        ) from error


def _operator(data: bytes) -> Operator:
    fields = list(_fields(data))
    named = {number: _text(value) for number, value in fields if number in (1, 5)}
    return Operator(
        named[1],
        named.get(5, ""),
        tuple(_node(value) for number, value in fields if number == 2),
        tuple(_node(value) for number, value in fields if number == 3),
        dict(_argument(value) for number, value in fields if number == 4),
    )


def _node(data: bytes) -> Node:
    named = {number: _text(value) for number, value in _fields(data) if number in (1, 2, 4)}
    return named[1], named[2], named.get(4, "")


def _argument(data: bytes) -> tuple[str, Any]:
    """(name, value) of an argument: a number, a text, or a list of them."""
    name, values, is_list = "", [], False
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 3:  # floats
            values += [v[0] for v in struct.iter_unpack("<f", value)]
        elif number in (4, 6):  # integers, truth values
            values.append(value)
        elif number == 5:
            values.append(_text(value))
        elif number == 7:
            values.append(_argument(value)[1])
        elif number == 8:
            is_list = bool(value)
    return name, values if is_list or len(values) != 1 else values[0]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of the fields of a message: integers, or bytes for all else."""
    if not isinstance(data, bytes):
        raise TypeError(data)
    at = 0
    while at < len(data):
        key, at = _integer(data, at)
        if key & 7 == 0:
            value, at = _integer(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 2:
            size, at = _integer(data, at)
        if size is None or at + size > len(data):
            raise ValueError(f"field {key >> 3} of kind {key & 7}")
        yield key >> 3, data[at : at + size]
        at += size


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A varint and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")
