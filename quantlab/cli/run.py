"""`quantlab run`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import numpy as np

from quantlab import files
from quantlab.cli.options import PATH, data_options, open_source
from quantlab.cli.progress import progress


@click.command("run")
@click.argument("engine", type=PATH)
@data_options
@click.option("--labels", help="As in quantlab compare; prints top-1 of the first output.")
@click.option("-o", "--output", type=PATH, required=True, help="An .npz with every output of all samples.")
def command(engine: Path, labels: str | None, output: Path, **data: Any) -> None:
    """Run an ENGINE on data and write its outputs.

    \b
    Example:
      quantlab run resnet.engine --data val/ --preset imagenet -o outputs.npz
    """
    files.check_writable(output)
    from quantlab.trt.engine import Engine
    from quantlab.trt.run import Runner

    results: dict[str, list[Any]] = {}
    hits = labeled = 0
    with Runner(Engine.load(engine)) as runner:
        fixed = runner.fixed_batch()
        batches = open_source([s.name for s in runner.inputs], fixed, data, labels)
        with progress("running", batches.count) as on_batch:
            done = 0
            for batch, own in batches.labeled():
                size = len(next(iter(batch.values())))
                filled = {n: _filled(x, fixed) for n, x in batch.items()}
                outputs = {n: y[:size] for n, y in runner(filled).items()}
                for name, value in outputs.items():
                    results.setdefault(name, []).append(value)
                if own is not None:
                    hits += int((next(iter(outputs.values())).argmax(1) == own).sum())
                    labeled += size
                done += size
                on_batch(done)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.concatenate(values) for name, values in results.items()}
    np.savez(buffer, **arrays)
    files.write_bytes(output, buffer.getvalue())
    click.echo(f"{output}: {done} samples" + (f", top-1 {hits / labeled:.4f}" if labeled else ""))


def _filled(x: Any, fixed: int | None) -> Any:
    """A short last batch filled with copies of its last sample; their outputs are cut off."""
    return x if fixed is None or len(x) == fixed else np.concatenate([x, np.repeat(x[-1:], fixed - len(x), axis=0)])
