"""The embedded sample: Fashion-MNIST images and a small MobileNet-like model. See calib_data/README.md.

It is kept as two archives of arrays; `unpack_sample` makes folders of images of them, as other data come.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.images import ImageBatches
from quantlab.data.numpy_files import read_npz, refused
from quantlab.data.presets import PRESETS
from quantlab.errors import ConfigError, MissingDependencyError
from quantlab.files import check_writable, is_file, is_folder, is_there, together

PRESET = "fashion-mnist"
PARTS = ("calibration", "test")
SUMS = "SHA256SUMS"
_REINSTALL = "reinstall quantlab from its wheel"


@dataclass(frozen=True, slots=True)
class SampleImages:
    """A part of the sample.

    Attributes:
        images: uint8 (N, 28, 28), the classes in turn.
        labels: int64 (N,).
        classes: The name of every class.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """The path of every image below a folder of the part: `<label>_<class>/<number>.png`."""
        seen = [0] * len(self.classes)
        files = []
        for label in self.labels:
            files.append(f"{label}_{self.classes[label]}/{seen[label]:04d}.png")
            seen[label] += 1
        return files


def sample_folder() -> Path:
    """The folder with `model.onnx` and the archives of images: in the installed package or the source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "calib_data", package.parent / "calib_data"):
        if (folder / "model.onnx").is_file():
            return folder
    raise MissingDependencyError("the embedded sample is not installed", hint=_REINSTALL)


def read_sample(part: str) -> SampleImages:
    """The images of a part of `PARTS`; MissingDependencyError if the sample is not installed."""
    path = sample_folder() / f"{part}.npz"
    with refused(f"the embedded sample {path} cannot be read", _REINSTALL), path.open("rb") as file:
        arrays = read_npz(file, texts=True)
        classes = tuple(str(name) for name in arrays["classes"])
        return SampleImages(arrays["images"], arrays["labels"].astype(np.int64), classes)


def sample_batches(part: str, batch_size: int = 64) -> ImageBatches:
    """The images of a part, with labels, through their preprocess.

    Args:
        part: One of `PARTS`.
        batch_size: Images per batch.

    Returns:
        The stream.

    Raises:
        MissingDependencyError: The sample is not installed.
    """
    found = read_sample(part)
    return ImageBatches(
        found.images, PRESETS[PRESET], input_name="image", batch_size=batch_size, labels=found.labels,
        class_names=dict(enumerate(found.classes)),
    )  # fmt: skip


def unpack_sample(folder: str | Path) -> Path:
    """Write the sample as others have their data: a model, and folders of images with a subfolder for every class.

    A folder that holds the sample already stays as it is.

    Args:
        folder: Where `model.onnx`, `calibration/` and `test/` go; made if needed.

    Returns:
        The folder.

    Raises:
        ConfigError: Something else is in the folder, or it cannot be written.
        MissingDependencyError: The sample is not installed.
    """
    target, source = Path(folder), sample_folder()
    if is_file(target / SUMS) and (target / SUMS).read_bytes() == (source / SUMS).read_bytes():
        return target  # the sums were written with the images, or nothing was
    if is_folder(target):
        check_writable(target / SUMS)  # which removes what a killed run has left
    if is_there(target) and (not is_folder(target) or any(map(_is_foreign, target.iterdir()))):
        raise ConfigError(f"{target} holds something else", hint="name a new folder for the sample")
    try:
        with together() as files:  # an empty folder stays itself: somebody may be in it
            for part in PARTS:
                _write_images(read_sample(part), files.new_folder(target / part))
            for name in ("model.onnx", "h200.json", "LICENSE", SUMS):
                with files.open(target / name) as file, (source / name).open("rb") as kept:
                    shutil.copyfileobj(kept, file)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}", hint="name another folder") from error
    return target


def _is_foreign(path: Path) -> bool:
    """Whether it is not of another run that is unpacking the sample there just now."""
    return not path.name.startswith(".quantlab-")


def _write_images(found: SampleImages, folder: Path) -> None:
    for label, name in enumerate(found.classes):
        (folder / f"{label}_{name}").mkdir(parents=True)
    for file, image in zip(found.files, found.images, strict=True):
        Image.fromarray(image).save(folder / file)
