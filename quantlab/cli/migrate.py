"""`quantlab migrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.as_json import float_nodes, json_option, print_json
from quantlab.cli.file_check import FileCommand
from quantlab.cli.file_types import MODEL, OUTPUT_SCALES, TABLE
from quantlab.cli.options import optional_batches, optional_data_options, print_warnings, refuse_idle
from quantlab.cli.say import echo

if TYPE_CHECKING:
    from quantlab.api.migration_job import WrittenMigration


@click.command("migrate", cls=FileCommand)
@click.argument("model", type=MODEL)
@click.option(
    "--table", "table_file", type=TABLE, help="A quantlab table, or a calibration cache of TensorRT or ONNX Runtime."
)
@click.option(
    "--calibrator",
    type=click.Choice(["EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration"]),
    help="First line of a written cache.  [default: that of the scales, else EntropyCalibration2]",
)
@click.option("--tensorrt", default="8.6.0", show_default=True, help="The version that will read a written cache.")
@optional_data_options
@click.option(
    "-o", "--output", type=OUTPUT_SCALES, required=True,
    help="NAME.onnx for Q/DQ, NAME.cache for a TensorRT cache (what was done is written beside it), NAME.json for a "
    "table, NAME.flatbuffers for ONNX Runtime's TensorRT provider.",
)  # fmt: skip
@json_option
def command(
    model: Path, table_file: Path | None, calibrator: str | None, tensorrt: str, output: Path, as_json: bool,
    **data: Any,
) -> None:  # fmt: skip
    """Turn a TensorRT calibration cache and its FP32 MODEL into a Q/DQ model, a table or the cache of another
    TensorRT; or a Q/DQ MODEL into a cache.

    With --data the outputs of the Q/DQ model are compared with those of MODEL.

    \b
    Example:
      quantlab migrate resnet.onnx --table calibration.cache -o resnet.qdq.onnx
      quantlab migrate resnet.onnx --table calibration.cache --tensorrt 10.16.1 -o newer.cache
    """
    from quantlab.api.migration_job import SUFFIXES, MigrationRequest, WrittenScales, migrate_to_file
    from quantlab.calibration import load_table
    from quantlab.calibration.cache_header import read_header
    from quantlab.calibration.made_from import preprocess_notices
    from quantlab.data import stream_facts
    from quantlab.onnx_model import load_model
    from quantlab.qdq.outputs import output_kind

    kind = output_kind(output, SUFFIXES)
    table = load_table(table_file) if table_file else None
    if kind.suffix != ".cache":
        refuse_idle(["tensorrt"], "only a TensorRT cache (.cache) says which version reads it")
        refuse_idle(["calibrator"], "only a TensorRT cache (.cache) names one")
    proto = load_model(model)
    batches = optional_batches(proto, data)
    if table is not None:
        print_warnings(table.warnings if read_header(table.provenance.algorithm) else ())
    if batches is not None and table is not None:
        print_warnings(preprocess_notices(table.provenance.preprocess, stream_facts(batches).preprocess))
    written = migrate_to_file(proto, output, MigrationRequest(kind, table, calibrator, tensorrt, batches))
    if isinstance(written, WrittenScales):
        print_warnings(written.warnings)
        if as_json:
            print_json({"output": output} | asdict(written))
        else:
            echo(f"{output}: {written.tensors} tensors" + (f", {written.header}" if written.header else ""))
        return
    print_warnings(written.migrated.warnings)
    if as_json:
        print_json(_facts(written, output))
    else:
        _print(written, output)


def _facts(written: WrittenMigration, output: Path) -> dict[str, Any]:
    result = written.migrated
    return {
        "output": output,
        "scales": result.parity,
        "largest_difference": result.largest_difference,
        "unused": result.unused,
        "float": float_nodes(result.placement),
        "outputs": written.errors,
        "samples": written.samples,
        "warnings": result.warnings,
    }


def _print(written: WrittenMigration, output: Path) -> None:
    result = written.migrated
    changed = [row for row in result.parity if row.relative]
    echo(
        f"{output}: {len(result.parity)} tensors, {len(result.parity) - len(changed)} with exactly the given scale, "
        f"largest difference {result.largest_difference:.2%}"
    )
    for row in sorted(changed, key=lambda r: -abs(r.relative)):
        echo(f"  shared scale: '{row.tensor}' {row.given:.6g} -> {row.used:.6g} ({row.relative:+.2%})")
    for row in (row for row in result.parity if row.entry != row.tensor and not row.relative):
        echo(f"  '{row.tensor}' is a view of '{row.entry}' and takes its scale, as in the implicit engine")
    missing = {f"{s.op}: {s.reason}" for s in result.placement.skipped if s.lacks}
    for line in sorted(missing):
        echo(f"  float: {line}")
    echo(f"  {len(result.unused)} entries of the table are taken by no Q/DQ")
    for name, error in written.errors.items():
        echo(f"  output '{name}' against FP32: SQNR {error.sqnr_db:.1f} dB on {written.samples} samples")
