"""Data as a user names them: what the data options of all commands mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantlab.data.arrays import ArrayBatches
from quantlab.data.class_map import read_class_map
from quantlab.data.hugging_face import is_processor, preprocess_of, processor_file
from quantlab.data.images import ImageBatches
from quantlab.data.preprocess import Preprocess
from quantlab.data.presets import PRESETS
from quantlab.data.script import ScriptBatches, split_script
from quantlab.data.source import DataOptions, open_data
from quantlab.errors import ConfigError
from quantlab.files import is_folder, read_text
from quantlab.nearest import nearest
from quantlab.strict_json import parse_json

BATCH_SIZE = 32
"""Where neither the user nor the model asks for another one."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Data, and how they are read.

    Attributes:
        source: A folder, an .npy, an .npz (`file.npz:key`), or `script.py:function`.
        preset: The name of a preprocess, or None.
        preprocess_file: A preprocess as a JSON file, or None.
        batch_size: Samples per batch; None for the model's, or BATCH_SIZE.
        limit: Use the first so many samples.
        labels: A file, see `read_labels`.
        skip_bad: Whether images that cannot be decoded are left out.
        classes: The class list of the model, see `read_class_map`, or None.
    """

    source: str
    preset: str | None = None
    preprocess_file: Path | None = None
    batch_size: int | None = None
    limit: int | None = None
    labels: str | None = None
    skip_bad: bool = False
    classes: Path | None = None

    def open(
        self, input_names: Sequence[str], fixed: int | None, axes: Mapping[str, int | None] | None = None
    ) -> ImageBatches | ArrayBatches | ScriptBatches:
        """Open the data.

        Args:
            input_names: Of the model.
            fixed: The batch size that the model was exported with, None if it takes any.
            axes: Inputs whose first dimension does not count the samples, see `BatchSize`.

        Returns:
            The batches.

        Raises:
            ConfigError: Two options, or an option and the model, do not go together.
            DataError: The data cannot be read.
        """
        asked = self.batch_size
        if asked is not None and asked < 1:
            raise ConfigError(f"--batch-size {asked} is less than 1", hint="leave it out for the model's own")
        if asked is not None and split_script(self.source):
            raise ConfigError("--batch-size with a script, which makes its batches itself", hint="leave it out")
        if fixed is not None and asked is not None and fixed != asked:
            raise ConfigError(f"--batch-size {asked} but the model has a fixed batch of {fixed}", hint="leave it out")
        size = next((size for size in (fixed, asked) if size is not None), BATCH_SIZE)
        classes = None if self.classes is None else read_class_map(self.classes)
        options = DataOptions(size, self.limit, self.labels, self.skip_bad, axes or {}, classes)
        return open_data(self.source, input_names, read_preprocess(self.preset, self.preprocess_file), options)


def read_preprocess(preset: str | None, file: Path | None) -> Preprocess | None:
    """Find the preprocess that a user named.

    Args:
        preset: The name of one of PRESETS, or None.
        file: A preprocess as a JSON file, that of a Hugging Face model, or its folder; or None.

    Returns:
        It, or None if none was named: arrays are then ready for the model.

    Raises:
        ConfigError: Both were named, there is no such preset, or the file holds no preprocess.
        DataError: The file cannot be read.
    """
    if preset is not None and file is not None:
        raise ConfigError("--preset and --preprocess were both given", hint="give one of them")
    if file is not None:
        file = processor_file(file) if is_folder(file) else file
        try:
            values = parse_json(read_text(file, "preprocess file"))
        except ValueError as error:
            raise ConfigError(f"preprocess file {file} is not JSON: {error}", hint="quantlab presets NAME") from error
        if not isinstance(values, dict):
            raise ConfigError(f"preprocess file {file} is not a JSON object", hint="quantlab presets NAME > file.json")
        return preprocess_of(values, file) if is_processor(values) else Preprocess.from_dict(values)
    if preset is None:
        return None
    if preset not in PRESETS:
        raise ConfigError(
            f"there is no preset '{preset}'", hint=f"{nearest(preset, PRESETS)}presets: {', '.join(PRESETS)}"
        )
    return PRESETS[preset]
