"""The two models of an ensemble that do not compute: the preprocess, and what connects it with the network.

The server needs NumPy and Pillow, not quantlab: the files that hold the arithmetic are copied as they are, as a package
of another name. So what is served is what the model was calibrated with, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from quantlab.calibration.made_from import preprocess_notices
from quantlab.data import Preprocess
from quantlab.errors import ConfigError, DataError
from quantlab.triton.config import LABELS
from quantlab.triton.network import Network
from quantlab.triton.options import Ensemble, TritonOptions
from quantlab.triton.tensors import ServedTensor, served_tensor
from quantlab.triton.text import Word, entries

PACKAGE = "quantlab_preprocess"
"""The name that the copied files have as a package: a quantlab on the server may be of another version."""
COPIED = ("errors.py", "data/decode.py", "data/preprocess.py")
_AXES = {"nchw": (0, 1, 2), "nhwc": (2, 0, 1)}
"""Layout -> where channels, height and width stand in the array of an image."""


def chosen_preprocess(ensemble: Ensemble, made_from: Mapping[str, Any]) -> tuple[Preprocess, list[str]]:
    """Choose the preprocess of an ensemble.

    Args:
        ensemble: What the user wants.
        made_from: What the Q/DQ model was made from.

    Returns:
        What was given, else what was recorded; and where these differ.

    Raises:
        ConfigError: None was given, and none that can be served was recorded.
    """
    recorded = made_from.get("preprocess")
    known = recorded if isinstance(recorded, dict) else None
    if ensemble.preprocess is not None:
        given = ensemble.preprocess.to_dict()
        return ensemble.preprocess, [str(notice) for notice in preprocess_notices(known, given, "the model")]
    if known is None:
        raise ConfigError("the model does not say how its images are preprocessed", hint="--preset or --preprocess")
    if "resize" not in known:
        raise ConfigError(
            f"the model was calibrated with data of {', '.join(map(str, known)) or 'no preprocess'}, which cannot be "
            "served",
            hint="--preset or --preprocess",
        )
    try:
        return Preprocess.from_dict(known), []
    except ConfigError as error:
        raise ConfigError(f"the preprocess of the model: {error.text}", hint="--preset or --preprocess") from error


def images_of(preprocess: Preprocess, network: Network) -> ServedTensor:
    """The input of an ensemble: images that are decoded.

    Args:
        preprocess: What is done with them.
        network: What is then fed.

    Returns:
        The input; height, width and channels (1, 3 or 4) are the client's.

    Raises:
        ConfigError: The preprocess does not make what the network takes.
    """
    target = _target(preprocess, network)
    taken = {tensor.name for tensor in (*network.inputs, *network.outputs)}
    name = next(n for n in ("images", "decoded_images", "ensemble_images", "ensemble_input") if n not in taken)
    lead = target.shape[:-3]
    return ServedTensor(name, "TYPE_UINT8", (*lead, -1, -1, -1), target.batched)


def preprocessed(preprocess: Preprocess, network: Network) -> ServedTensor:
    """The output of the preprocess model, under the name of the network's input.

    Args:
        preprocess: What is done.
        network: What is fed.

    Returns:
        The output; -1 for a height or width that depends on the image.
    """
    target = _target(preprocess, network)
    return served_tensor(target.name, preprocess.dtype, (*target.shape[:-3], *_made_dims(preprocess)), target.batched)


def sample_image(preprocess: Preprocess, network: Network) -> tuple[int, int, int] | None:
    """Choose an image to measure with.

    Args:
        preprocess: What is done with it.
        network: What is then fed.

    Returns:
        Its height, width and channels; None if any size may be meant.
    """
    _, height, width = _AXES[preprocess.layout]
    dims = _target(preprocess, network).shape[-3:]
    of_network = (dims[height], dims[width])
    sizes = (preprocess.size, preprocess.crop) if preprocess.resize != "none" else (preprocess.crop, of_network)
    size = next((s for s in sizes if s is not None and -1 not in s), None)
    return None if size is None else (*size, 1 if preprocess.color == "gray" else 3)


def _made_dims(preprocess: Preprocess) -> tuple[int, ...]:
    exact = preprocess.size if preprocess.resize in ("exact", "letterbox") else None
    size = preprocess.crop or exact or (-1, -1)
    values = (1 if preprocess.color == "gray" else 3, *size)
    made = [0, 0, 0]
    for place, value in zip(_AXES[preprocess.layout], values, strict=True):
        made[place] = value
    return tuple(made)


def _target(preprocess: Preprocess, network: Network) -> ServedTensor:
    """The input that is fed, which has to be what the preprocess makes."""
    if len(network.inputs) != 1:
        names = ", ".join(tensor.name for tensor in network.inputs)
        raise ConfigError(
            f"an ensemble feeds one input with images, the network has {len(network.inputs)}: {names}",
            hint="leave out --ensemble",
        )
    (target,) = network.inputs
    dims = _made_dims(preprocess)
    made = served_tensor(target.name, preprocess.dtype, dims, False)
    fits = len(target.shape) in (3, 4) and not (target.batched and len(target.shape) == 3)
    fits = fits and made.kind == target.kind
    if not fits or any(-1 not in (a, b) and a != b for a, b in zip(dims, target.shape[-3:], strict=True)):
        kind = made.kind.removeprefix("TYPE_")
        raise ConfigError(
            f"the preprocess makes {kind} {list(dims)} ({preprocess.layout}) of an image, input {target} is another",
            hint="--preset or --preprocess with the layout, type, size and channels of the network",
        )
    return target


def preprocess_files(preprocess: Preprocess) -> dict[str, str]:
    """Name in the folder of the version -> text, for the preprocess model."""
    written = {"model.py": _source("triton/server_model.py")}
    written["preprocess.json"] = json.dumps(preprocess.to_dict(), indent=1) + "\n"
    for name in ("__init__.py", "data/__init__.py"):
        written[f"{PACKAGE}/{name}"] = '"""Parts of quantlab."""\n'
    return written | {f"{PACKAGE}/{name}": _source(name) for name in COPIED}


def _source(name: str) -> str:
    """A file of quantlab, whose imports of quantlab are of the copies."""
    text = files("quantlab").joinpath(name).read_text("utf-8")
    return re.sub(r"^from quantlab\.", f"from {PACKAGE}.", text, flags=re.MULTILINE)


def preprocess_config(name: str, images: ServedTensor, made: ServedTensor, options: TritonOptions, batch: int) -> Any:
    """The configuration of the preprocess model.

    Args:
        name: Of the model.
        images: What it takes.
        made: What it gives.
        options: How it is served.
        batch: The largest.

    Returns:
        The configuration.
    """
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": batch,
        "input": [images.to_config()],
        "output": [made.to_config()],
        "version_policy": options.scheduling.version_policy(),
        "instance_group": [{"count": options.scheduling.instances, "kind": Word("KIND_CPU")}],
    }


def ensemble_config(
    names: tuple[str, str, str], images: ServedTensor, network: Network, options: TritonOptions, labelled: str | None
) -> dict[str, Any]:
    """The configuration of the ensemble.

    Args:
        names: Of the network, the preprocess model and the ensemble.
        images: What it takes.
        network: What computes.
        options: How it is served.
        labelled: The output that has labels.

    Returns:
        The configuration.
    """
    (target,) = network.inputs
    between = f"{names[1]}_output"
    while between in {images.name, *(tensor.name for tensor in network.outputs)}:
        between += "_"
    outputs: list[dict[str, Any]] = []
    for tensor in network.outputs:
        config = {key: value for key, value in tensor.to_config().items() if key != "reshape"}
        outputs.append(config | ({"label_filename": LABELS} if tensor.name == labelled else {}))
    same = {tensor.name: tensor.name for tensor in network.outputs}
    steps = [
        (names[1], {images.name: images.name}, {target.name: between}),
        (names[0], {target.name: between}, same),
    ]
    return {
        "name": names[2],
        "platform": "ensemble",
        "max_batch_size": network.batch,
        "input": [images.to_config()],
        "output": outputs,
        "version_policy": options.scheduling.version_policy(),
        "ensemble_scheduling": {
            "step": [
                {"model_name": name, "model_version": -1, "input_map": entries(fed), "output_map": entries(given)}
                for name, fed, given in steps
            ]
        },
    }


def label_lines(names: Mapping[int, str], source: str) -> list[str]:
    """The lines of a label file.

    Args:
        names: Class -> its name.
        source: The class list, for the error text.

    Returns:
        A name per class, in order.

    Raises:
        DataError: A class is missing.
    """
    missing = next((number for number in range(len(names)) if number not in names), None)  # of different ones
    if missing is not None:
        raise DataError(f"class list {source} has no class {missing}", hint="list every class of the model")
    return [" ".join(names[number].split()) for number in range(len(names))]
