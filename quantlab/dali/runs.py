"""Pipelines that run: one of its own for every pass, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.dali.serialized import Graph, read_graph
from quantlab.errors import ConfigError, DataError, DeviceError, Notice, QuantlabError, first_line

_ALONE = "run the pipeline on its own: pipeline.build(); pipeline.run()"
_FUNCTION = "pass the function that makes the pipeline, or lambda: my_pipeline(batch_size=32, num_threads=2)"


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a pipeline before it runs. hash: '' where DALI cannot serialize it."""

    hash: str
    notices: tuple[Notice, ...] = ()


class PipelineMaker:
    """Gives a pipeline for every pass.

    Args:
        given: A pipeline, or a function that makes one.
        kind: DALI's class of them.

    Raises:
        ConfigError: It is neither.
    """

    def __init__(self, given: Any, kind: type) -> None:
        self._kind: Any = kind
        self._function: Callable[[], Any] | None = None
        self._last: Any = None
        self._serialized = b""
        if isinstance(given, kind):
            self._pipeline: Any = given
        elif callable(given):
            self._function = given
            self._pipeline = self._call()
        else:
            hint = "pass the pipeline that the iterator was made of" if hasattr(given, "_pipes") else _FUNCTION
            raise ConfigError(f"pipeline is a {type(given).__name__}, expected a pipeline of DALI", hint=hint)
        if type(self._pipeline).__name__ == "_PipelineDebug":
            raise ConfigError(
                "the pipeline is in debug mode, which says neither what it does nor where it ends",
                hint="make it without debug=True",
            )

    def describe(self, inputs: Mapping[str, int], count: int) -> Described:
        """Read what the pipeline does.

        Args:
            inputs: Input of the model -> the number of the output that feeds it.
            count: How many outputs there must be.

        Returns:
            Its hash and what a reader of its numbers must know.

        Raises:
            ConfigError: It has another number of outputs, its result is random without a seed, or it is a pipeline
                that cannot be copied.
        """
        graph, why = self._read()
        if graph is None:
            if self._function is None:
                raise ConfigError(f"the pipeline cannot be copied for another pass: {why}", hint=_FUNCTION)
            text = f"the preprocess is not recorded, DALI cannot serialize the pipeline: {why}"
            return Described("", (Notice(text, "other_origin"),))
        if len(graph.outputs) != count:
            raise ConfigError(
                f"the pipeline has {len(graph.outputs)} outputs, {count} are named",
                hint="one name per output, None for one that is not used",
            )
        operators = graph.behind(list(inputs.values()))
        fed = [operator.instance or operator.name for operator in graph.operators if operator.is_source]
        if fed and self._function is None:
            raise ConfigError(f"Python feeds the pipeline ({', '.join(fed)}), a copy of it has no data", hint=_FUNCTION)
        random = [o.instance or o.name for o in operators if o.is_random and o.arguments.get("seed", -1) in _NO_SEED]
        if random and (self._pipeline.seed is None or self._pipeline.seed < 0):
            raise ConfigError(
                f"the pipeline is random ({', '.join(random)}) and has no seed, so that every pass has other data",
                hint="leave out what is random, which changes what is measured, or give the pipeline a seed: seed=0",
            )
        chance = [operator.name for operator in operators if operator.is_random]
        notices = [Notice(f"the pipeline is random ({', '.join(chance)}), by its seed", "other_origin")]
        return Described(graph.hash(inputs), tuple(notices if chance else ()))

    def _read(self) -> tuple[Graph | None, str]:
        """The operators of the pipeline; or None, and why DALI cannot serialize it."""
        try:
            self._serialized = bytes(self._pipeline.serialize())
        except Exception as error:  # of DALI, or of Python functions in the pipeline
            if needs_gpu(error):
                raise _no_gpu(error) from error
            return None, reason(error)
        return read_graph(self._serialized), ""

    def make(self) -> Any:
        """A pipeline that has not run yet, built; DataError where DALI cannot."""
        if self._function is not None:
            pipeline, self._pipeline = self._pipeline, None  # the one that was described is the first that runs
            pipeline = pipeline if pipeline is not None else self._call()
        else:
            pipeline = None
        try:
            pipeline = self._copy() if pipeline is None else pipeline
            pipeline.build()
        except Exception as error:
            if needs_gpu(error):
                raise _no_gpu(error) from error
            raise DataError(f"the pipeline cannot be built: {reason(error)}", hint=_ALONE) from error
        return pipeline

    def _copy(self) -> Any:
        given = self._pipeline
        known = {
            "batch_size": given.max_batch_size,
            "num_threads": given.num_threads,
            "device_id": given.device_id,
            "seed": given.seed,
            "prefetch_queue_depth": given.prefetch_queue_depth,
        }
        known = {name: value for name, value in known.items() if value is not None}  # device_id of one for the CPU
        return self._kind.deserialize(self._serialized, **known)

    def _call(self) -> Any:
        assert self._function is not None
        try:
            made = self._function()
        except QuantlabError:
            raise
        except Exception as error:
            raise DataError(f"the function that makes the pipeline failed: {reason(error)}", hint=_FUNCTION) from error
        if not isinstance(made, self._kind):
            raise ConfigError(
                f"the function that makes the pipeline returned a {type(made).__name__}, expected a pipeline of DALI",
                hint="is it decorated with @pipeline_def?",
            )
        if made is self._last:
            raise ConfigError("the function returned the same pipeline again", hint="make it inside the function")
        self._last = made
        return made


_NO_SEED = (-1, 2**64 - 1, None)
"""How DALI writes a seed that was not given."""


def next_outputs(pipeline: Any) -> Sequence[Any] | None:
    """Run a pipeline once.

    Args:
        pipeline: Built.

    Returns:
        Its outputs; None where its source has ended.

    Raises:
        DataError: It failed.
    """
    try:
        outputs: Sequence[Any] = pipeline.run()
    except StopIteration:
        return None
    except Exception as error:
        raise DataError(f"the pipeline failed: {reason(error)}", hint=_ALONE) from error
    return outputs


def reason(error: BaseException) -> str:
    """What an exception of DALI says: its first lines tell where, the line after them what."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = [
        k + 1 for k, line in enumerate(lines) if line.endswith("encountered:") or line.startswith("Critical error")
    ]
    return lines[after[-1]] if after and after[-1] < len(lines) else first_line(error)


def needs_gpu(error: BaseException) -> bool:
    """Whether DALI says that there is no GPU, or no driver of one."""
    return any(name in str(error) for name in ("libcuda", "cuInitChecked", "CUDA is not available", "no CUDA-capable"))


def _no_gpu(error: BaseException) -> DeviceError:
    return DeviceError(
        f"the pipeline is made for a GPU, and there is none: {reason(error)}",
        hint="run it where there is one, or make it for the CPU: device_id=None",
    )
