"""How many samples one pass over a pipeline has: readers begin again at their end and never say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab.errors import ConfigError


def samples_of_reader(meta: Mapping[str, Mapping[str, Any]], reader: str | None) -> int | None:
    """The samples that the readers of a pipeline have for it.

    Args:
        meta: `Pipeline.reader_meta()`.
        reader: The one that counts; None where there is one or all have as many.

    Returns:
        Without those that a reader repeats to fill the last batch or shard; 0 where it does not say, None without a
        reader.

    Raises:
        ConfigError: There is no such reader, or several that have not the same number of samples.
    """
    sizes = {name: _of_shard(facts) for name, facts in meta.items()}
    if reader is not None:
        if reader not in sizes:
            raise ConfigError(
                f"the pipeline has no reader '{reader}'", hint=f"its readers: {', '.join(sizes) or 'none'}"
            )
        return sizes[reader]
    known = set(sizes.values())
    if len(known) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ConfigError(
            f"the readers of the pipeline have different numbers of samples: {found}",
            hint="name the one that counts: reader=NAME",
        )
    return known.pop() if known else None


def _of_shard(facts: Mapping[str, Any]) -> int:
    """A shard's own samples, without those that DALI repeats; 0 where a reader does not say."""
    size, shards, shard = int(facts["epoch_size"]), int(facts["number_of_shards"]), int(facts["shard_id"])
    if size < 1 or shards < 1:
        return 0
    return size * (shard + 1) // shards - size * shard // shards
