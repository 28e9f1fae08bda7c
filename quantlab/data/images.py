"""Batches from image files or arrays of pixels, decoded in threads ahead of use, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.batches import Batch, Labels, require_batch_size
from quantlab.data.decode import from_array, open_image
from quantlab.data.prefetch import map_ahead
from quantlab.data.preprocess import Preprocess
from quantlab.errors import DataError, QuantlabError, expect_type

_SIDECARS = frozenset({".csv", ".txt", ".json", ".md", ".xml", ".yaml", ".yml", ".npy", ".npz"})


class ImageBatches:
    """Images through a `Preprocess` into batches for one model input.

    Args:
        images: Paths, or uint8 arrays (H, W), (H, W, C).
        preprocess: From an image to an array for the model.
        input_name: The input of the model that the images feed.
        batch_size: Images per batch.
        labels: The class of every image, (N,).
        skip_bad: Decode every image once beforehand, and leave out those that cannot be, with their labels.

    Attributes:
        preprocess: As given.
        input_name: As given.
        batch_size: As given.
        labels: Of the images that are left.
        skipped: One line per image that was left out.

    Raises:
        DataError: There are no images, none can be decoded, or there are not as many labels.
    """

    def __init__(
        self,
        images: Sequence[Path] | NDArray[Any],
        preprocess: Preprocess,
        *,
        input_name: str,
        batch_size: int = 32,
        labels: NDArray[np.int64] | None = None,
        skip_bad: bool = False,
    ) -> None:
        expect_type(preprocess, Preprocess, "the preprocess", "quantlab.PRESETS['imagenet']")
        require_batch_size(batch_size)
        if len(images) == 0:
            raise DataError("there are no images", hint="give a folder or array that holds some")
        if labels is not None and labels.shape != (len(images),):
            raise DataError(
                f"there are {labels.size} labels for {len(images)} images", hint="one label per image, in order"
            )
        self.preprocess, self.input_name, self.batch_size = preprocess, input_name, batch_size
        self.skipped: tuple[str, ...] = ()
        self._images, self.labels = images, labels
        if skip_bad:
            self._leave_out_bad()

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self._images)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self.labeled())

    def labeled(self) -> Iterator[tuple[Batch, Labels | None]]:
        """Batches with their labels, if there are any."""
        rows: list[NDArray[Any]] = []
        start = 0
        for number, row in enumerate(map_ahead(self._load, range(self.count), 2 * self.batch_size)):
            if rows and row.shape != rows[0].shape:
                raise DataError(
                    f"image {self._name(number)} is {row.shape} after preprocessing, the one before {rows[0].shape}",
                    hint="images of different sizes need a resize or crop in the preprocess",
                )
            rows.append(row)
            if len(rows) == self.batch_size or number == self.count - 1:
                labels = None if self.labels is None else self.labels[start : start + len(rows)]
                yield {self.input_name: np.stack(rows)}, labels
                start, rows = start + len(rows), []

    def _load(self, index: int) -> NDArray[Any]:
        image = self._images[index]
        source = open_image(image) if isinstance(image, Path) else image  # its errors name the file
        try:
            return self.preprocess.apply(from_array(source) if isinstance(source, np.ndarray) else source)
        except QuantlabError as error:
            raise type(error)(f"image {self._name(index)}: {error.text}", hint=error.hint) from error

    def _name(self, index: int) -> str:
        image = self._images[index]
        return str(image) if isinstance(image, Path) else f"number {index}"

    def _leave_out_bad(self) -> None:
        def problem(index: int) -> str | None:
            try:
                self._load(index)
            except DataError as error:
                return error.message
            return None

        problems = list(map_ahead(problem, range(self.count), 64))
        self.skipped = tuple(p for p in problems if p)
        good = [i for i, p in enumerate(problems) if p is None]
        if not good:
            raise DataError(
                f"none of {self.count} images can be read; first: {self.skipped[0]}", hint="check the folder"
            )
        self._images = [self._images[i] for i in good]
        self.labels = None if self.labels is None else self.labels[good]


def image_files(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    """Image files below `folder`, and labels where all of them lie in class subfolders (two or more).

    A class folder that begins with a number has that label, if all do; otherwise labels are the positions in sorted
    order. Files are taken from the classes in turn, so that the first N are as mixed as the whole. Hidden files and
    text files are passed over; anything else counts as an image, to be decoded or reported.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist", hint="give a folder of images")
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() not in _SIDECARS)
    files = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if not files:
        raise DataError(f"no images in {folder}", hint="put .png, .jpg or other image files there")
    if any(p.parent == folder for p in files):
        return files, None
    classes = sorted({p.relative_to(folder).parts[0] for p in files})
    if len(classes) == 1:
        return files, None  # one folder is a folder, not a class
    label_of = _class_labels(classes)
    columns = [[p for p in files if p.relative_to(folder).parts[0] == name] for name in classes]
    mixed = [p for row in zip_longest(*columns) for p in row if p is not None]
    return mixed, np.array([label_of[p.relative_to(folder).parts[0]] for p in mixed], np.int64)


def _class_labels(classes: list[str]) -> dict[str, int]:
    numbers = [re.match(r"\d+", name) for name in classes]
    labels = [int(n.group()) for n in numbers if n]
    if len(set(labels)) == len(classes):
        return dict(zip(classes, labels, strict=True))
    return {name: index for index, name in enumerate(classes)}


def image_folder(
    folder: str | Path,
    preprocess: Preprocess,
    *,
    input_name: str,
    batch_size: int = 32,
    limit: int | None = None,
    skip_bad: bool = False,
) -> ImageBatches:
    """Batches of the images below a folder; class subfolders give the labels.

    Args:
        folder: Where the images are, in subfolders or not.
        preprocess: From an image to an array for the model.
        input_name: The input of the model that the images feed.
        batch_size: Images per batch.
        limit: Use the first so many images; class folders are taken in turn.
        skip_bad: Leave out images that cannot be decoded.

    Returns:
        The stream, with labels where there are class folders.

    Raises:
        DataError: There are no images, or none can be decoded.
    """
    files, labels = image_files(Path(folder))
    return ImageBatches(
        files[:limit], preprocess, input_name=input_name, batch_size=batch_size,
        labels=None if labels is None else labels[:limit], skip_bad=skip_bad,
    )  # fmt: skip
