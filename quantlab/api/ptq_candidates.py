"""Every way of post-training quantization that quantlab has, tried on one model; what was found is kept in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantlab.api.calibration import AUTO
from quantlab.calibration import CalibrationTable, Progress, load_table
from quantlab.data import stream_facts
from quantlab.data.parts import Samples
from quantlab.errors import DataError
from quantlab.files import is_file, make_folder, read_text, remove, together, write_text
from quantlab.observers import OBSERVERS
from quantlab.onnx_model import load_model, model_hash, save_model
from quantlab.qdq import Quantized, quantize_model
from quantlab.strict_json import json_text, parse_json
from quantlab.tune import calibrate_auto, correct_bias
from quantlab.tune.stage import Stages, no_stages
from quantlab.typed_json import typed
from quantlab.version import __version__

CORRECTED = "auto, biases corrected"
"""The candidate that has the scales of 'auto' and corrected biases."""
_KEY, _CORRECTED, _WARNINGS = "made-from.json", "auto-corrected.onnx", "auto-corrected.json"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Q/DQ models of one network.

    Attributes:
        tables: Algorithm -> scales.
        quantized: Candidate -> Q/DQ model: one per algorithm, and that with corrected biases.
        left_out: Why a candidate is missing.
        reused: Whether anything was found in the folder.
    """

    tables: Mapping[str, CalibrationTable]
    quantized: Mapping[str, Quantized]
    left_out: tuple[str, ...]
    reused: bool

    def table_of(self, candidate: str) -> CalibrationTable:
        """The scales of a candidate."""
        return self.tables[AUTO if candidate == CORRECTED else candidate]

    def warnings_of(self, candidate: str) -> tuple[str, ...]:
        """What a user of a candidate must know of its data, scales and weights; each fact once."""
        warnings = (*self.table_of(candidate).warnings, *self.quantized[candidate].warnings)
        return tuple(dict.fromkeys(map(str, warnings)))


@dataclass
class Workshop:
    """Makes candidates, and keeps in a folder what takes time.

    Attributes:
        proto: The FP32 model.
        calibration: What to calibrate with.
        folder: For tables and models.
        on_stage: Told of every stage.
        reused: Whether anything was found in the folder.
    """

    proto: onnx.ModelProto
    calibration: Samples
    folder: Path
    on_stage: Stages = no_stages
    reused: bool = field(default=False, init=False)

    def candidates(self) -> Candidates:
        """Make them, or find them.

        Returns:
            Those that could be made.

        Raises:
            DataError: The data do not fit the model.
            GraphError: The model cannot be calibrated, or nothing in it can be quantized.
        """
        self._begin()
        tables, left_out = dict(self._tables()), []
        quantized: dict[str, Quantized] = {}
        for name, table in tables.items():
            try:
                quantized[name] = quantize_model(self.proto, table)
            except DataError as error:  # scales that one algorithm found and FP32 cannot hold
                left_out.append(f"'{name}' was left out: {error.message}")
        if AUTO in quantized:
            known = self._known_correction(quantized[AUTO])
            try:
                quantized[CORRECTED] = known or self._corrected(quantized[AUTO])
            except DataError as error:  # no layer has a bias
                left_out.append(f"'{CORRECTED}' was left out: {error.message}")
        if not quantized:
            raise DataError("; ".join(left_out), hint="quantlab calibrate and quantlab quantize say more")
        return Candidates(tables, quantized, tuple(left_out), self.reused)

    def _begin(self) -> None:
        """Forget what an earlier run made from something else."""
        made_from = json_text(self._made_from())
        if is_file(self.folder / _KEY) and read_text(self.folder / _KEY, "record") == made_from:
            return
        make_folder(self.folder)
        with together():
            for name in (*(f"{name}.json" for name in (*OBSERVERS, AUTO)), _CORRECTED, _WARNINGS):
                remove(self.folder / name)
            write_text(self.folder / _KEY, made_from)

    def _made_from(self) -> dict[str, object]:
        digest = hashlib.sha256(b"".join(self.calibration.identities()))
        return {
            "model_hash": model_hash(self.proto),
            "samples_hash": digest.hexdigest(),
            "preprocess": stream_facts(self.calibration).preprocess,
            "batch_size": self.calibration.batch_size,
            "quantlab": __version__,
        }

    def _tables(self) -> Mapping[str, CalibrationTable]:
        known = {name: table for name in (*OBSERVERS, AUTO) if (table := self._known(name)) is not None}
        if AUTO in known and len(known) == len(OBSERVERS) + 1:
            return known
        found = calibrate_auto(self.proto, self.calibration, None, self._stage("calibrating"), self.on_stage)
        tables = {**found.tables, AUTO: found.table}
        with together():
            for name, table in tables.items():
                table.save(self.folder / f"{name}.json")
        return tables

    def _known(self, name: str) -> CalibrationTable | None:
        path = self.folder / f"{name}.json"
        if not is_file(path):
            return None
        table = load_table(path)
        table.check_model(self.proto)
        self.reused = True
        return table

    def _known_correction(self, auto: Quantized) -> Quantized | None:
        path, warnings = self.folder / _CORRECTED, self.folder / _WARNINGS
        if not is_file(path) or not is_file(warnings):
            return None
        self.reused = True
        return Quantized(load_model(path), auto.placement, _read_texts(warnings), auto.weight_errors)

    def _corrected(self, auto: Quantized) -> Quantized:
        corrected = correct_bias(self.proto, auto, self.calibration, self._stage("correcting biases"), self.on_stage)
        with together():
            save_model(corrected.model, self.folder / _CORRECTED)
            write_text(self.folder / _WARNINGS, json_text(list(corrected.warnings)))
        return corrected

    def _stage(self, label: str) -> Progress:
        return self.on_stage(label, self.calibration.count)


def _read_texts(path: Path) -> tuple[str, ...]:
    """The texts of a file that an earlier run left."""
    try:
        texts: tuple[str, ...] = typed(parse_json(read_text(path, "list of warnings")), tuple[str, ...])
    except ValueError as error:
        raise DataError(f"{path} is no list of texts: {error}", hint="delete it") from error
    return texts
