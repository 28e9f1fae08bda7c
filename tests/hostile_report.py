"""A report with everything that a page can show, and names that would run or break it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

import quantlab
from models import coloured, conv_net, image_batches, run
from quantlab.api import calibrate_all
from quantlab.comparison import Backend, trace_error
from quantlab.data import ArrayBatches
from quantlab.data.shown import ShownSample
from quantlab.observers import OBSERVERS
from quantlab.ort import Session
from quantlab.qdq import layers_of
from quantlab.report import Evidence, build_document

ATTACK = '</td></title><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'`{{7*7}}'
LONG = "module.backbone.features.17.conv.3.".replace(".", "_") * 4  # no place to break the line


def facts(latency: float, int8: float, calibration: float | None) -> dict[str, float]:
    """What a GPU would have measured."""
    found = {
        "build_s": 30.0 + latency,
        "batch_size": 16,
        "latency_mean_ms": latency * 1.02,
        "latency_p50_ms": latency,
        "latency_p90_ms": latency * 1.1,
        "latency_p99_ms": latency * 1.3,
        "latency_ratio": latency / 12.5,
        "latency_ratio_low": latency / 12.6,
        "latency_ratio_high": latency / 12.4,
        "samples_per_s": 16000 / latency,
        "energy_mj": 3 * latency,
        "memory_mib": 100 * latency,
        "int8_share": int8,
        "int8_time_share": 0.9 * int8,
    }
    found |= {f"round_{k}_ms": latency * (1 + 0.02 * k) for k in range(5)}
    return found if calibration is None else found | {"calibration_s": calibration}


def renamed() -> Any:
    """conv_net with a tensor's and a node's name that would break a page, and one too long for a line."""
    model = conv_net()
    names = {"r": ATTACK, "t": LONG, "a": "conv10", "c": "conv9"}
    for node in model.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
        node.name = f"{node.output[0]}/{node.op_type}"
    return model


def document() -> dict[str, Any]:
    """Everything that a page can show, and names that would run or break it if they were not escaped."""
    model = renamed()
    x = coloured(120)
    labels = run(model, {"image": x})[0].argmax(1).astype(np.int64)
    labels[::9] = (labels[::9] + 1) % 5
    data = ArrayBatches({"image": x}, batch_size=50, labels=labels)
    algorithms = {name: OBSERVERS[name] for name in ("minmax", "entropy", "mse")}
    calibration = calibrate_all(model, image_batches(2), algorithms)
    models = {name: quantlab.quantize(model, table) for name, table in calibration.tables.items()}

    def engine(runs: Any, twin: str | None, *measured: Any) -> Backend:
        session = Session(runs, optimize=False)
        rounded = lambda batch: {"logits": session.run(batch, ["logits"])["logits"] * np.float32(1.0001)}  # noqa: E731
        return Backend("", rounded, 123456, twin=twin, int8=measured[1] > 0, facts=facts(*measured))

    def broken(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {ATTACK: batch["image"]}

    everything: dict[str, Any] = {name: q.model for name, q in models.items()}
    everything |= {ATTACK: models["mse"].model, LONG: models["minmax"].model, "broken": broken}
    everything |= {
        "trt:fp32": engine(model, None, 12.5, 0.0, None),
        "trt:fp16": engine(model, None, 7.25, 0.0, None),
        "trt:qdq:mse": engine(models["mse"].model, "mse", 3.5, 1.0, 8.0),
        "trt:int8:entropy": engine(models["entropy"].model, "entropy", 4.25, 0.75, 9.0),
    }

    def margin(outputs: Mapping[str, np.ndarray], wanted: Any) -> np.ndarray:
        return np.take_along_axis(outputs["logits"], wanted[:, None], 1)[:, 0]

    result = quantlab.compare(model, everything, data, metric=margin)
    traces = {n: trace_error(model, q.model, image_batches(1)) for n, q in models.items()}
    traces |= {ATTACK: traces["mse"], LONG: traces["minmax"]}
    old = quantlab.compare(model, {ATTACK: models["minmax"].model, "mse": models["minmax"].model, "gone": model}, data)
    picture = io.BytesIO()
    Image.new("RGB", (9, 5), "red").save(picture, "JPEG")
    worst = {w.index for row in result.results for w in row.worst}
    result = dataclasses.replace(
        result,
        class_names={0: ATTACK, 1: LONG, 2: "=1"},
        shown={index: ShownSample(f"{index}/{ATTACK}", picture.getvalue()) for index in worst},
    )
    layers = layers_of(models["mse"].model, models["mse"].placement)
    baseline = build_document(f"Old {ATTACK}", old)
    evidence = Evidence(calibration, f"data {ATTACK}", "mse", layers, traces, baseline)
    return build_document(f"Title {ATTACK}", result, evidence, ["quantlab", ATTACK, LONG], [ATTACK, LONG * 2])
