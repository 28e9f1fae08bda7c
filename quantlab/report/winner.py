"""Which Q/DQ model of a comparison is written, and what is needed for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from quantlab.api.winner import scales_for_cache, write_winner
from quantlab.calibration import CalibrationTable
from quantlab.comparison import Comparison, ModelResult
from quantlab.comparison.named_backends import BackendSet, parse_backend
from quantlab.data import Batches
from quantlab.errors import QuantlabError
from quantlab.qdq import Quantized
from quantlab.qdq.outputs import Scales
from quantlab.tune.stage import Stages


@dataclass(frozen=True, slots=True)
class Winner:
    """A Q/DQ model that is written, if there is one.

    Attributes:
        name: Of the backend; '' for none.
        notices: What a reader must know: that another won, that there is no cache.
        quantized: The model.
        table: Its scales.
        scales: Of every tensor, for the cache.
    """

    name: str
    notices: tuple[str, ...] = ()
    quantized: Quantized | None = None
    table: CalibrationTable | None = None
    scales: Scales | None = None

    def write(self, folder: Path) -> dict[str, Path]:
        """Write it; nothing where there is none.

        Args:
            folder: Made if needed.

        Returns:
            What it is -> its file.
        """
        if self.quantized is None or self.table is None:
            return {}
        return write_winner(folder, self.quantized, self.table, self.scales)


def find_winner(
    proto: onnx.ModelProto,
    opened: BackendSet,
    result: Comparison,
    shown: ModelResult | None,
    calibration: Batches,
    on_stage: Stages,
) -> Winner:
    """Choose what is written: what the verdict names, where that is a Q/DQ model that was made here.

    Args:
        proto: The FP32 model.
        opened: What was compared.
        result: The comparison.
        shown: What the verdict names.
        calibration: The calibration data, for the cache.
        on_stage: Told of the pass over them.

    Returns:
        The winner, with everything that is needed to write it.
    """
    if result.partial:
        return Winner("", ("no winner was written: what a part of the data says chooses nothing",))
    made = [row.name for row in result.quantized if opened.quantized_by(row.name) is not None]
    if not made:
        return Winner("", ("no winner was written: no Q/DQ model that was made here is sound",))
    won = shown.name if shown is not None else ""
    name = won if won in made else made[0]
    notices: list[str] = []
    if name != won:
        notices.append(f"'{won}' won, which is no Q/DQ model made here: '{name}' was written, the best of these")
    algorithm = parse_backend(name).algorithm
    scales: Scales | None = None
    try:
        scales = scales_for_cache(proto, opened.tables, algorithm, calibration, on_stage)
        notices += map(str, scales.notices())
    except QuantlabError as error:  # the Q/DQ model stands without it
        notices.append(f"no calibration cache was written: {error.message}")
    return Winner(name, tuple(notices), opened.quantized_by(name), opened.tables[algorithm], scales)
