"""What a reader can follow up: samples by file and picture, classes by name, layers in rows that every point leads to.

Oracle: NumPy counts from scratch.
"""

from __future__ import annotations

import base64
import csv
import html
import html.parser
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import quantlab
from models import conv_net, image_batches, quantized, run
from quantlab.comparison import trace_error
from quantlab.data import ImageBatches, Preprocess, image_folder
from quantlab.data.shown import EDGE, show_samples
from quantlab.qdq import layers_of, layers_of_given
from quantlab.report import ComparisonRequest, Evidence, build_document, render_html, report_comparison, write_document
from quantlab.report.class_rows import change_matrix
from quantlab.report.write import render_samples

EVIL = "<img src=x onerror='pwned'>&amp;\"]=1|"
"""In names of files and classes; a file name takes all of it."""
PREPROCESS = Preprocess(scale=1 / 32, mean=(4.0,))
NAMES = ("=a|b", f"={EVIL}", "=`c`", "=[d](e)", "=</td><script>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of random colours, in a folder for each class that `conv_net` gives them, but for every ninth."""
    target = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(3)
    colour = random.integers(0, 256, (60, 1, 1, 3))
    pixels = np.clip(colour + random.integers(-60, 60, (60, 8, 8, 3)), 0, 255).astype(np.uint8)
    x = np.stack([PREPROCESS.apply(Image.fromarray(p)) for p in pixels])
    labels = run(conv_net(), {"image": x})[0].argmax(1)
    labels[::9] = (labels[::9] + 1) % 5
    for number in range(5):
        (target / str(number)).mkdir()
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(target / str(label) / f"{k:02d}{EVIL.replace('/', '')}.png")
    for number in range(5):
        if not any((target / str(number)).iterdir()):
            (target / str(number)).rmdir()
    return target


@pytest.fixture(scope="module")
def data(folder: Path) -> ImageBatches:
    stream = image_folder(folder, PREPROCESS, input_name="image", batch_size=16)
    stream.class_names = dict(enumerate(NAMES))
    return stream


@pytest.fixture(scope="module")
def document(data: ImageBatches) -> dict[str, Any]:
    found = quantized(conv_net(), image_batches())  # of noise: bad for the colours that it is compared on
    models = {"q": found.model, EVIL: found.model}
    result = quantlab.compare(conv_net(), models, data)
    few = list(data)[:1]
    run_ = quantlab.comparison.activation_ranges(conv_net(), models, few)
    evidence = Evidence(
        run_, "the first 16 samples", "q", layers_of(found.model, found.placement),
        {"q": trace_error(conv_net(), found.model, few)},
    )  # fmt: skip
    return build_document("t", result, evidence)


def given(data: ImageBatches, document: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, FP32's classes, the quantized model's), from the images."""
    model = quantized(conv_net(), image_batches()).model
    batches = list(data.labeled())
    labels = np.concatenate([labels for _, labels in batches])
    classes = (np.concatenate([run(m, b)[0].argmax(1) for b, _ in batches]) for m in (conv_net(), model))
    return labels, *classes


def test_counts_of_classes_are_those_of_numpy(data: ImageBatches, document: dict[str, Any]) -> None:
    labels, before, after = given(data, document)
    model = document["comparison"]["models"][1]
    expected = [
        {
            "class": int(c),
            "samples": int((labels == c).sum()),
            "right": int(((after == c) & (labels == c)).sum()),
            "lost": int(((before == c) & (after != c) & (labels == c)).sum()),
            "won": int(((before != c) & (after == c) & (labels == c)).sum()),
        }
        for c in np.unique(labels)
    ]
    assert model["labels"] == expected
    assert sum(c["lost"] for c in expected) == model["top1_difference"]["lost"]
    pairs = {(c["fp32_class"], c["quantized_class"]): (c["samples"], c["lost"], c["won"]) for c in model["changes"]}
    wanted = {(int(a), int(b)) for a, b in zip(before, after, strict=True) if a != b}
    assert pairs.keys() == wanted
    assert wanted
    for (a, b), counts in pairs.items():
        of = (before == a) & (after == b)
        assert counts == (of.sum(), (of & (labels == a)).sum(), (of & (labels == b)).sum())
    matrix = change_matrix(document, model)
    assert matrix is not None
    assert sum(map(sum, matrix.counts)) == (before != after).sum()


def test_worst_samples_have_their_files_and_pictures(
    folder: Path, data: ImageBatches, document: dict[str, Any]
) -> None:
    labels, before, after = given(data, document)
    comparison = document["comparison"]
    images = {path: np.asarray(Image.open(path), float) for path in folder.rglob("*.png")}
    for w in comparison["models"][1]["worst"]:
        path = folder / w["file"]  # below the folder, with its class folder
        assert path.parent.name == str(w["label"]) == str(labels[w["index"]])
        assert (w["fp32_class"], w["quantized_class"]) == (before[w["index"]], after[w["index"]])
        picture = comparison["pictures"][str(w["index"])]
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))), float)
        assert min(images, key=lambda other: np.abs(decoded - images[other]).mean()) == path  # JPEG is not exact
    assert str(folder) not in str(document)
    rows = list(csv.DictReader(io.StringIO(render_samples(document))))
    worst = [(m["name"], w["index"]) for m in comparison["models"] for w in m["worst"]]
    assert [(row["model"], int(row["sample"])) for row in rows] == worst
    assert all(row["label_name"] == f"'{NAMES[int(row['label'])]}" for row in rows)  # no formula


def test_pictures_are_small_and_of_pixels_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    paths = [tmp_path / "wide.png", tmp_path / "gone.png"]
    Image.new("RGBA", (5000, 7), (9, 9, 9, 90)).save(paths[0], exif=exif)
    stream = ImageBatches(paths, PREPROCESS, input_name="image")
    found = show_samples(stream, (0, 1, 7))
    assert [(k, s.file) for k, s in found.items()] == [(0, "wide.png"), (1, "gone.png")]
    picture = Image.open(io.BytesIO(found[0].picture))
    assert (picture.size, picture.mode, dict(picture.getexif())) == ((EDGE, 1), "RGB", {})
    assert b"where I live" not in found[0].picture
    assert found[1].picture == b""  # the file is not there, the numbers stand
    assert show_samples(image_batches(1), (0,)) == {}
    arrays = ImageBatches(np.zeros((2, 8, 8), np.uint8), PREPROCESS, input_name="image")
    assert [(s.file, bool(s.picture)) for s in show_samples(arrays, (1,)).values()] == [("", True)]


def test_layers_have_what_is_in_the_graph(data: ImageBatches, document: dict[str, Any]) -> None:
    layers = {row["node"]: row for row in document["layers"]["rows"]}
    model = quantized(conv_net(), image_batches()).model
    values = {t.name: np.frombuffer(t.raw_data, np.float32) for t in model.graph.initializer if t.data_type == 1}
    scales = {n.input[0]: values[n.input[1]][0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    reads = {read["tensor"]: read for row in layers.values() for read in row["reads"]}
    assert reads.keys() == scales.keys()
    for tensor, read in reads.items():
        assert read["scale"] == pytest.approx(scales[tensor], rel=1e-6)
        assert read["amax"] == pytest.approx(127 * scales[tensor], rel=1e-6)
    x = np.abs(next(iter(data))["image"])
    image = reads["image"]
    bin_width = next(t["range"] for t in document["calibration"]["tensors"] if t["name"] == "image") / 2048
    low, high = (float((x > image["amax"] + side * bin_width).mean()) for side in (1, 0))
    assert low <= image["saturated"] <= high
    assert 0 < image["saturated"] < 1
    by_op = {row["op"]: row for row in layers.values()}
    assert [by_op[op]["int8"] for op in ("Conv", "Relu", "Add", "Gemm")] == ["yes", "fused", "yes", "yes"]
    assert by_op["Gemm"]["weights"][0]["channels"] == 5
    trace = {t["name"]: t["sqnr_db"]["q"] for t in document["error_trace"]["tensors"]}
    assert {row["result"]: row["sqnr_db"] for row in layers.values() if row["sqnr_db"] is not None} == trace | {
        row["result"]: trace[row["result"]] for row in layers.values() if row["result"] in trace
    }


def test_given_models_say_what_runs_in_int8_too(tmp_path: Path) -> None:
    """Nobody knows the placement of a model from a file: its graph says what it reads, our rules what they would do."""
    model = quantized(conv_net(), image_batches(), selection=quantlab.qdq.Selection(exclude=("op:Gemm",))).model
    request = ComparisonRequest(conv_net(), {}, image_batches(1), models={"theirs": model})
    document = quantlab.report.load_document(report_comparison(request, tmp_path / "r").paths.json)
    rows = {row["op"]: row for row in document["layers"]["rows"]}
    assert document["layers"]["model"] == "theirs"
    assert (rows["Conv"]["int8"], rows["Conv"]["why"]) == ("yes", "Q/DQ before it")
    assert (rows["Gemm"]["int8"], rows["Gemm"]["why"]) == ("no", "no Q/DQ before it; quantlab would quantize it")
    assert document["calibration"]["histograms_of"] == "the first 6 samples of the compared data"
    assert [layer.int8 for layer in layers_of_given(conv_net(), conv_net()) if layer.op == "Conv"] == ["no", "no"]


class Links(html.parser.HTMLParser):
    """The links of a page, what they are called, and the ids that they may lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str, str]] = []
        self.sources: list[str] = []
        self.plot = self.title = ""
        self.tags: list[str] = []
        self.href: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in known:
            self.ids.add(known["id"])
        if "src" in known:
            self.sources.append(known["src"])
        if tag == "svg":
            self.plot = known["aria-label"]
        self.href = known.get("href", "") if tag == "a" else self.href
        self.title = tag

    def handle_data(self, data: str) -> None:
        if self.title == "title" and self.href is not None and self.plot:
            self.links.append((self.plot, self.href, data))

    def handle_endtag(self, tag: str) -> None:
        self.title = ""
        if tag == "a":
            self.href = None


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> str:
    return render_html(document)


def test_points_of_every_plot_lead_to_their_rows_and_say_their_names(document: dict[str, Any], page: str) -> None:
    seen = Links()
    seen.feed(page)
    kinds: dict[str, set[str]] = {}
    for plot, href, _ in seen.links:
        assert href.removeprefix("#") in seen.ids, (plot, href)
        kinds.setdefault(plot, set()).add(re.sub(r"[0-9]+$", "", href))
    assert kinds == {
        "Accuracy and SQNR of every quantized model": {"#model-"},
        "How the error grows along the network": {"#layer-"},
        "Error and scales of the channels of every weight": {"#layer-"},
        "Accuracy by class": {"#class-"},
        "Kept magnitude of every tensor by algorithm": {"#layer-"},
        "Activation histograms with the threshold of every algorithm": {"#layer-"},
    }
    titles = {plot: [title for p, _, title in seen.links if p == plot] for plot in kinds}
    tensors = [t["name"] for t in document["calibration"]["tensors"]]
    shown = titles["Kept magnitude of every tensor by algorithm"]
    assert len(shown) == len(tensors) * 2
    assert all(any(title.startswith(f"{name}: ") for title in shown) for name in tensors)


def test_names_of_files_and_classes_are_text_on_every_page(document: dict[str, Any], page: str, tmp_path: Path) -> None:
    seen = Links()
    seen.feed(page)
    assert seen.tags.count("script") == 1
    assert all(source.startswith("data:image/jpeg;base64,") for source in seen.sources)
    assert len(seen.sources) == len(document["comparison"]["pictures"])
    model = document["comparison"]["models"][1]
    for name in [w["file"] for w in model["worst"]] + [NAMES[c["class"]] for c in model["labels"]]:
        assert "<" not in name or name not in page
        assert html.escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page, name
    written = write_document(document, tmp_path)
    text = written.markdown.read_text()
    assert not any(mark in text for mark in ("<img", "<script", "](e)", "`c`"))
    for block in (b for b in text.split("\n\n") if b.startswith("|")):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.strip().splitlines()}) == 1, block


def test_metric_of_the_user_has_its_own_name_everywhere(data: ImageBatches) -> None:
    def closeness(outputs: Any, labels: Any) -> np.ndarray:
        return np.take_along_axis(outputs["logits"], labels[:, None], 1)[:, 0] + 10

    model = quantized(conv_net(), image_batches()).model
    result = quantlab.compare(conv_net(), {"q": model}, data, metric=closeness)
    document = build_document("t", result)
    assert document["comparison"]["metric_name"] == "closeness"
    assert document["judgement"]["measure"] == "metric"
    assert "of FP32's closeness" in document["judgement"]["text"]
    assert "closeness" in document["verdict"]
    assert "top-1" not in document["verdict"]
    shown = render_html(document)
    assert "FP32's accuracy" not in shown
    assert "closeness (dashed: FP32)" in shown


def test_of_many_classes_those_that_change_are_drawn(document: dict[str, Any]) -> None:
    from quantlab.report.class_rows import class_rows
    from quantlab.report.plots.classes import SHOWN, shown_classes

    best = {"labels": [], "changes": [{}], "classes": [
        {"class": k, "samples": 2, "agreed": 1 + (k % 7 > 0)} for k in range(2 * SHOWN)
    ]}  # fmt: skip
    rows = class_rows(document, best)
    assert [row.number for row in shown_classes(rows)] == list(range(0, 2 * SHOWN, 7))
    assert shown_classes(rows[:SHOWN]) == rows[:SHOWN]
