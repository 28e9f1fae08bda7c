"""Writing a model repository: all of it, or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from quantlab.calibration import ep_table_bytes, load_table
from quantlab.data.class_map import read_class_map
from quantlab.errors import ConfigError, DataError
from quantlab.files import (
    check_output,
    is_file,
    is_folder,
    make_folder,
    open_output,
    read_together,
    together,
    write_bytes,
)
from quantlab.onnx_model import require_float
from quantlab.triton.commands import Load, analyzer_command, perf_command, server_command
from quantlab.triton.config import LABELS, TABLE, network_config
from quantlab.triton.network import Network, read_network
from quantlab.triton.options import TritonOptions, check_name
from quantlab.triton.preprocess import (
    chosen_preprocess,
    ensemble_config,
    images_of,
    label_lines,
    preprocess_config,
    preprocess_files,
    preprocessed,
    sample_image,
)
from quantlab.triton.tensors import ServedTensor, sample_shapes
from quantlab.triton.text import message_text
from quantlab.triton.validate import schema, validate


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a repository.

    Attributes:
        name: Its folder.
        config: The text of its config.pbtxt.
        texts: Path in its folder -> content of what is made for it.
        copies: Path in its folder -> the file that is copied there, the model before its weights.
        perf: The arguments of perf_analyzer; empty where the shapes of a request are not known.
    """

    name: str
    config: str
    texts: Mapping[str, bytes] = field(default_factory=dict)
    copies: Mapping[str, Path] = field(default_factory=dict)
    perf: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repository:
    """What was written.

    Attributes:
        folder: The repository.
        network: The model or engine, as Triton sees it.
        models: The network, and with an ensemble the preprocess and the ensemble.
        unvalidated: Why the configurations were not compared with Triton's schema; '' if they were.
        facts: What a reader should know.
        server: The command that serves it.
        analyzer: The arguments of model-analyzer.
    """

    folder: Path
    network: Network
    models: tuple[ServedModel, ...]
    unvalidated: str
    facts: tuple[str, ...]
    server: tuple[str, ...]
    analyzer: tuple[str, ...]


def write_repository(model: str | Path, folder: str | Path, options: TritonOptions | None = None) -> Repository:
    """Write a model repository, or add a model to one.

    Args:
        model: An ONNX file, or an engine with its record.
        folder: The repository; other models in it are left alone.
        options: How the model is served.

    Returns:
        What was written.

    Raises:
        BuildError: The engine has no record that says what goes in and out.
        ConfigError: An option does not fit the model, or a file cannot be written.
        DataError: The table or the class list does not fit the model.
        GraphError: The model has what Triton does not have.
    """
    model, folder, options = Path(model), Path(folder), options or TritonOptions()
    name = options.name if options.name is not None else model.stem
    check_name(name)
    network = read_network(model, options.batch)
    served = options.served_at.rstrip("/") or "/" if options.served_at else str(folder.absolute())
    models, facts = _models(name, network, options, f"{served.rstrip('/')}/{name}/{options.version}")
    message_class, unvalidated = schema()
    for one in models if message_class is not None else ():
        validate(one.config, message_class)
    facts = [*network.facts, *facts, *_other_versions(folder / name, network.file, options)]
    given = (options.table, options.classes, options.ensemble.file if options.ensemble is not None else None)
    inputs = [*network.files.values(), *(file for file in given if file is not None)]
    _write(folder, models, options.version, inputs)
    return Repository(
        folder,
        network,
        tuple(models),
        unvalidated,
        tuple(facts),
        tuple(server_command(served)),
        tuple(analyzer_command(folder, name)) if models[0].perf else (),
    )


def _models(name: str, network: Network, options: TritonOptions, place: str) -> tuple[list[ServedModel], list[str]]:
    samples = sample_shapes(network.inputs, network.opt, options.shapes)
    facts = []
    if samples is None:
        dynamic = next(tensor for tensor in network.inputs if -1 in tensor.dims)
        text = f"input {dynamic} has other dynamic dimensions than the batch"
        example = ",".join(f"{t.name}:{'x'.join(f'<{d}>' if d < 0 else str(d) for d in t.shape)}" for t in [dynamic])
        if options.warmup in ("zero", "random"):
            raise ConfigError(f"{text}: of which shape is a request?", hint=f"--shapes {example}")
        facts.append(f"{text}: there is no warm-up, and nothing to measure with (--shapes {example})")
    texts: dict[str, bytes] = {}
    labelled = None
    if options.classes is not None:
        labelled, texts[LABELS] = _labels(network, options.classes)
    if options.table is not None:
        texts[f"{options.version}/{TABLE}"] = _table(network, options.table)
    config = network_config(name, network, options, samples, labelled, place)
    load = Load.of(network, options.scheduling)
    perf = () if samples is None else tuple(perf_command(name, network.inputs, samples, load))
    copies = {f"{options.version}/{file}": source for file, source in network.files.items()}
    models = [ServedModel(name, message_text(config), texts, copies, perf)]
    if options.ensemble is not None:
        more, said_more = _ensemble(name, network, options, labelled, texts)
        models, facts = [*models, *more], [*facts, *said_more]
    return models, facts


def _ensemble(
    name: str, network: Network, options: TritonOptions, labelled: str | None, texts: Mapping[str, bytes]
) -> tuple[list[ServedModel], list[str]]:
    """The preprocess model and the ensemble, and where the preprocess differs from the calibration's."""
    assert options.ensemble is not None
    preprocess, facts = chosen_preprocess(options.ensemble, network.made_from)
    names = (name, f"{name}_preprocess", f"{name}_ensemble")
    images, made = images_of(preprocess, network), preprocessed(preprocess, network)
    written = {f"{options.version}/{file}": text.encode() for file, text in preprocess_files(preprocess).items()}
    config = preprocess_config(names[1], images, made, options, network.batch)
    labels = {file: text for file, text in texts.items() if file == LABELS}
    image = sample_image(preprocess, network)
    perf: tuple[str, ...] = ()
    if image is not None and -1 not in images.dims[:-3]:
        shape = {images.name: (*images.dims[:-3], *image)}
        perf = tuple(perf_command(names[2], [images], shape, Load.of(network, options.scheduling)))
    whole = message_text(ensemble_config(names, images, network, options, labelled))
    return [
        ServedModel(names[1], message_text(config), written),
        ServedModel(names[2], whole, labels, perf=perf),
    ], facts


def _labels(network: Network, classes: Path) -> tuple[str, bytes]:
    """The output that has the scores of the classes, and the label file."""
    known = read_class_map(classes)
    lines = label_lines(known.names, str(classes))
    fits = [tensor for tensor in network.outputs if _scores(tensor) == len(lines)]
    if not fits:
        raise DataError(
            f"class list {classes} has {len(lines)} classes, and no output has as many scores: "
            f"{', '.join(map(str, network.outputs))}",
            hint="give the class list of this model",
        )
    return fits[0].name, "".join(f"{line}\n" for line in lines).encode()


def _scores(tensor: ServedTensor) -> int:
    """How many classes an output has scores of; 0 if it has other things."""
    dims = tensor.dims if tensor.batched else tensor.shape[-1:]
    rest = tensor.dims[:-1] if tensor.batched else tensor.shape[1:-1]
    return dims[-1] if all(d == 1 for d in rest) else 0


def _table(network: Network, path: Path) -> bytes:
    if network.proto is None:
        raise ConfigError("a table is for ONNX models, this is an engine", hint="leave it out")
    require_float(network.proto, "a calibration table")
    table = load_table(path)
    table.check_model(network.proto)
    return ep_table_bytes(table)


def _other_versions(folder: Path, file: str, options: TritonOptions) -> list[str]:
    """Say which versions beside this one are served in its place or cannot be: all have one configuration."""
    entries = folder.iterdir() if is_folder(folder) else ()
    there = {int(path.name) for path in entries if path.is_dir() and path.name.isdecimal()} | {options.version}
    kind, _, which = options.scheduling.versions.partition(":")
    if kind == "specific":
        served = {int(number) for number in which.split(",")}
    else:
        served = set(sorted(there)[-int(which) :]) if kind == "latest" else there
    facts = []
    if options.version not in served:
        facts.append(
            f"{folder} has version {max(there)}: with {options.scheduling.versions} it is served, not {options.version}"
        )
    if gone := sorted(served - there):
        facts.append(f"{folder} has no version {gone[0]}, which {options.scheduling.versions} serves")
    others = sorted((served & there) - {options.version})
    if strange := [number for number in others if not is_file(folder / str(number) / file)]:
        facts.append(
            f"version {strange[0]} in {folder} is served too and has no {file}: the configuration is that of version "
            f"{options.version}, and Triton cannot load it"
        )
    return facts


def _write(folder: Path, models: list[ServedModel], version: int, inputs: list[Path]) -> None:
    with together():
        for one in models:
            top = folder / one.name
            make_folder(top / str(version))
            for name, content in {"config.pbtxt": one.config.encode(), **one.texts}.items():
                _prepare(top / name, inputs)
                write_bytes(top / name, content)
            if one.copies:
                model = next(iter(one.copies.values()))  # its weights come behind it
                read_together(model, partial(_copy, one.copies, top, inputs))


def _copy(copies: Mapping[str, Path], top: Path, inputs: list[Path]) -> None:
    """Copy files that belong together; big ones are not read at once."""
    for name, source in copies.items():
        _prepare(top / name, inputs)
        try:
            with source.open("rb") as read, open_output(top / name) as written:
                shutil.copyfileobj(read, written, 1 << 24)
        except FileNotFoundError as error:
            raise DataError(f"{source} is not there any more", hint="was it moved just now?") from error


def _prepare(path: Path, inputs: list[Path]) -> None:
    make_folder(path.parent)
    check_output(path, *inputs)
