"""Batches from image files or arrays of pixels, decoded in threads ahead of use, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.batches import Batch, Labels, require_batch_size
from quantlab.data.decode import frames, from_array, open_image
from quantlab.data.folder import image_files
from quantlab.data.mapped_files import MappedFiles
from quantlab.data.prefetch import counted, map_ahead
from quantlab.data.preprocess import Preprocess
from quantlab.errors import DataError, Notice, QuantlabError, expect_type
from quantlab.files import read_bytes


class ImageBatches:
    """Images through a `Preprocess` into batches for one model input.

    Args:
        images: Paths, or uint8 arrays (H, W), (H, W, C).
        preprocess: From an image to an array for the model.
        input_name: The input of the model that the images feed.
        batch_size: Images per batch.
        labels: The class of every image, (N,).
        skip_bad: Decode every image once beforehand, and leave out those that cannot be, with their labels.
        class_names: Class -> its name, where known.

    Attributes:
        preprocess: As given.
        input_name: As given.
        batch_size: As given.
        labels: Of the images that are left.
        class_names: As given.
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
        class_names: Mapping[int, str] | None = None,
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
        self.class_names: Mapping[int, str] = class_names or {}
        self._folder: Path | None = None
        self.skipped: tuple[str, ...] = ()
        self._notices: tuple[Notice, ...] = ()
        self._several = set[int]()
        self._identities: list[bytes] | None = None
        self._images: Sequence[Path | NDArray[Any]] | NDArray[Any] = images
        self.labels = labels
        self._mapped = MappedFiles([images] if isinstance(images, np.ndarray) else [])
        if skip_bad:
            self._leave_out_bad()

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self._images)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What a reader of numbers must know of the images; of several frames once they have been decoded."""
        if not self._several:
            return self._notices
        first = self._name(min(self._several))
        text = f"{len(self._several)} images have several frames, of which the first is used (such as {first})"
        return (*self._notices, Notice(text, "frames"))

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
                self._mapped.check()
                labels = None if self.labels is None else self.labels[start : start + len(rows)]
                yield {self.input_name: np.stack(rows)}, labels
                start, rows = start + len(rows), []

    def image(self, index: int) -> Image.Image:
        """An image as it was decoded, before the preprocess; DataError if it cannot be."""
        self._mapped.check()
        image = self._images[index]
        return open_image(image) if isinstance(image, Path) else from_array(image)

    def file_name(self, index: int) -> str:
        """The file of an image, below the folder of the data; '' for one that was given as an array."""
        image = self._images[index]
        if not isinstance(image, Path):
            return ""
        inside = self._folder is not None and image.is_relative_to(self._folder)
        return image.relative_to(self._folder).as_posix() if inside and self._folder else image.name

    def _load(self, index: int) -> NDArray[Any]:
        self._mapped.check()
        image = self._images[index]
        source = open_image(image) if isinstance(image, Path) else image  # its errors name the file
        if not isinstance(source, np.ndarray) and frames(source) > 1:
            self._several.add(index)
        try:
            return self.preprocess.apply(from_array(source) if isinstance(source, np.ndarray) else source)
        except QuantlabError as error:
            raise type(error)(f"image {self._name(index)}: {error.text}", hint=error.hint) from error

    def _name(self, index: int) -> str:
        image = self._images[index]
        return str(image) if isinstance(image, Path) else f"number {index}"

    def identities(self, on_sample: Callable[[int], None] | None = None) -> list[bytes]:
        """What tells equal images from others: the hash of each file, or of each array, as it is.

        Args:
            on_sample: Called with the number of images so far; not at all where they are known already.

        Returns:
            One per image. Later calls, and those of subsets, give the same without a look at the images.
        """
        if self._identities is None:
            self._identities = counted(map_ahead(self._identity, range(self.count), 64), on_sample)
        return list(self._identities)

    def _identity(self, index: int) -> bytes:
        image = self._images[index]
        content = read_bytes(image, "image") if isinstance(image, Path) else np.ascontiguousarray(image).tobytes()
        return hashlib.sha256(content).digest()

    def subset(self, indices: NDArray[np.intp]) -> ImageBatches:
        """The same stream of some of the images.

        Args:
            indices: Which, in order.

        Returns:
            A stream of its own.
        """
        part = copy(self)
        part._images = [self._images[i] for i in indices]  # views, where they are an array
        part.labels = None if self.labels is None else self.labels[indices]
        part._several = set()
        part._identities = None if self._identities is None else [self._identities[i] for i in indices]
        return part

    def prepared_by(self, preprocess: Preprocess) -> ImageBatches:
        """The same images through another preprocess."""
        other = copy(self)
        other.preprocess = preprocess
        return other

    def noting(self, notices: Sequence[Notice]) -> ImageBatches:
        """The same stream with more that a reader of numbers from it must know."""
        other = copy(self)
        other._notices = (*self._notices, *notices)
        return other

    def below(self, folder: Path) -> ImageBatches:
        """The same stream, whose images are called by their names below a folder."""
        other = copy(self)
        other._folder = folder
        return other

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
        self._several.clear()  # the numbers are others now
        self._images = [self._images[i] for i in good]
        self.labels = None if self.labels is None else self.labels[good]


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
    found = image_files(Path(folder))
    return ImageBatches(
        found.files[:limit], preprocess, input_name=input_name, batch_size=batch_size,
        labels=None if found.labels is None else found.labels[:limit], skip_bad=skip_bad,
        class_names=found.class_names,
    ).below(Path(folder)).noting(found.notices)  # fmt: skip
