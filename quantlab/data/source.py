"""From what a user types (a folder, an .npy, an .npz:key, a script.py:function) to batches for a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab.data.arrays import ArrayBatches, read_all_arrays
from quantlab.data.class_map import ClassMap
from quantlab.data.folder import ImageFiles, image_files
from quantlab.data.images import ImageBatches
from quantlab.data.labels import Samples, pick_array, read_labels
from quantlab.data.listed import is_list, is_pattern, list_files, pattern_base, pattern_files
from quantlab.data.preprocess import Preprocess
from quantlab.data.script import ScriptBatches, script_batches, split_script
from quantlab.errors import ConfigError, DataError, Notice
from quantlab.files import is_file, is_folder, is_there


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How to read a source.

    Attributes:
        batch_size: Samples per batch.
        limit: Use the first so many samples; None for all.
        labels: A file, see `read_labels`; `file.npz:key` picks one array.
        skip_bad: Leave out images that cannot be decoded.
        axes: Inputs whose first dimension does not count the samples, see `BatchSize`.
        classes: Which class a name is, or None.
    """

    batch_size: int = 32
    limit: int | None = None
    labels: str | None = None
    skip_bad: bool = False
    axes: Mapping[str, int | None] = field(default_factory=dict)
    classes: ClassMap | None = None


def open_data(
    source: str | Path, input_names: Sequence[str], preprocess: Preprocess | None, options: DataOptions | None = None
) -> ImageBatches | ArrayBatches | ScriptBatches:
    """Open a source of batches.

    With a preprocess the source holds images; without one it holds arrays ready for the model, and an .npz with
    several arrays feeds the inputs of the same names.

    Args:
        source: A folder of images, a pattern of them, a list of them (.txt), an .npy, an .npz (`file.npz:key` picks one
            array), or a script (see `script_batches`; `script.py:function` picks a function).
        input_names: The inputs of the model.
        preprocess: From an image to an array for the model.
        options: How to read it.

    Returns:
        A re-iterable stream.

    Raises:
        ConfigError: Source, preprocess and options do not go together.
        DataError: The source or the labels cannot be read.
    """
    options = options or DataOptions()
    if options.batch_size < 1 or (options.limit is not None and options.limit < 1):
        raise ConfigError(f"batch size {options.batch_size}, limit {options.limit}", hint="both must be at least 1")
    path, key = split_key(str(source))
    classes = options.classes if options.labels is None else None
    if is_folder(path):
        return _open_images(path, image_files(path, classes), input_names, preprocess, options)
    if is_pattern(str(source)):
        found = pattern_files(str(source), classes)
        return _open_images(pattern_base(str(source)), found, input_names, preprocess, options)
    if is_list(str(source)) and is_file(path):
        return _open_images(path.parent, list_files(path), input_names, preprocess, options)
    if (script := split_script(str(source))) is not None:
        return _open_script(*script, input_names, preprocess, options)
    if path.suffix.lower() not in (".npy", ".npz"):
        what = "is no folder, .npy or .npz" if is_there(path) else "does not exist"
        hint = "give a folder of images, a pattern ('images/*.jpg'), a list (.txt), an .npy, an .npz or a script.py"
        raise DataError(f"data {path} {what}", hint=hint)
    arrays = read_all_arrays(path)
    if preprocess is not None:
        images = pick_array(path, arrays, key)
        return ImageBatches(
            images[: options.limit], preprocess, input_name=_only(input_names), batch_size=options.batch_size,
            labels=_labels(options, len(images), None), skip_bad=options.skip_bad, class_names=_names(options),
        )  # fmt: skip
    if options.skip_bad:
        raise ConfigError(f"{path} holds arrays, which are not decoded: none can be bad", hint="leave out --skip-bad")
    if not key and set(input_names) <= set(arrays):
        chosen = {name: arrays[name] for name in input_names}
    else:
        chosen = {_only(input_names): pick_array(path, arrays, key)}
    axes = {name: options.axes.get(name, 0) for name in chosen}
    lengths = [array.shape[axis] if array.ndim else 0 for n, array in chosen.items() if (axis := axes[n]) is not None]
    labels = _labels(options, lengths[0] if lengths else 0, None)
    # arrays of different lengths stay so, to be refused: cut to a limit they would look alike
    if len(set(lengths)) == 1 and options.limit is not None:
        rows = slice(options.limit)
        chosen = {n: x if (axis := axes[n]) is None else x[(slice(None),) * axis + (rows,)] for n, x in chosen.items()}
    return ArrayBatches(chosen, batch_size=options.batch_size, labels=labels, axes=axes, class_names=_names(options))


def _names(options: DataOptions) -> Mapping[int, str]:
    return {} if options.classes is None else options.classes.names


def split_key(source: str) -> tuple[Path, str]:
    """`file.npz:key` -> (file.npz, key); anything else -> (path, '')."""
    match = re.fullmatch(r"(.*\.npz):(.+)", source)
    return (Path(match[1]), match[2]) if match else (Path(source), "")


def _open_script(
    path: Path, function: str, input_names: Sequence[str], preprocess: Preprocess | None, options: DataOptions
) -> ScriptBatches:
    if preprocess is not None:
        raise ConfigError(
            f"{path} makes the arrays itself, a preprocess was given too", hint="leave out the preprocess"
        )
    if options.skip_bad:
        raise ConfigError(f"{path} makes the arrays itself: no image is decoded", hint="leave out --skip-bad")
    if options.labels is not None:
        raise ConfigError(f"labels of the batches of {path} cannot be given", hint="save them as an .npz with labels")
    if options.classes is not None:
        raise ConfigError(f"the batches of {path} have no classes to name", hint="leave out the class list")
    return script_batches(path, function, input_names, options.limit)


def _open_images(
    folder: Path,
    found: ImageFiles,
    input_names: Sequence[str],
    preprocess: Preprocess | None,
    options: DataOptions,
) -> ImageBatches:
    if preprocess is None:
        raise ConfigError(f"images in {folder} need a preprocess", hint="choose one: quantlab presets")
    labels, notices = None if found.labels is None else found.labels[: options.limit], found.notices
    if options.labels is not None:
        given = _labels(options, len(found.files), [_below(file, folder) for file in found.files])
        notices = () if given is None or labels is None else _differences(given, labels)
        labels = given
    return ImageBatches(
        found.files[: options.limit], preprocess, input_name=_only(input_names), batch_size=options.batch_size,
        labels=labels, skip_bad=options.skip_bad,
        class_names=_names(options) or (found.class_names if options.labels is None else {}),
    ).below(folder).noting(notices)  # fmt: skip


def _below(file: Path, folder: Path) -> str:
    """What a file is called in a list of labels: a list of images may name some outside of its folder."""
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.as_posix()


def _differences(given: NDArray[np.int64], folders: NDArray[np.int64]) -> tuple[Notice, ...]:
    """That a labels file does not say what the class folders say."""
    count = int((given != folders).sum())
    text = f"--labels gives {count} of {len(given)} images another label than their class folder would"
    return (Notice(text, "labels"),) if count else ()


def _labels(options: DataOptions, count: int, names: list[str] | None) -> NDArray[np.int64] | None:
    if options.labels is None:
        return None
    path, key = split_key(options.labels)
    if not is_file(path):
        raise DataError(
            f"labels file {path} does not exist or is no ordinary file", hint="give a CSV, text, .npy or .npz:key file"
        )
    used = count if options.limit is None else min(count, options.limit)
    return read_labels(path, key, Samples(count, used, names, options.classes))


def _only(input_names: Sequence[str]) -> str:
    if len(input_names) != 1:
        raise ConfigError(
            f"the model has {len(input_names)} inputs ({', '.join(input_names)}), this source feeds one",
            hint="give an .npz with one array per input, named as the inputs",
        )
    return input_names[0]
