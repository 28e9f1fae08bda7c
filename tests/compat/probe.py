"""Runs under the real bindings of one TensorRT version (see bindings.py) and prints what does not fit, as JSON.

python probe.py api | calibrators | pure | audit-command | without-calibrators
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt_bindings as trt

sys.modules["tensorrt"] = trt
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

MEMBERS = {"__members__", "__init__", "__version__"}


def api() -> list[str]:
    """Every attribute, enum member and keyword that quantlab.trt uses and this TensorRT does not have."""
    from usage import uses

    import quantlab.trt

    problems = []
    for use in uses(Path(quantlab.trt.__file__).parent):
        owner = trt if not use.owner else getattr(trt, use.owner, None)
        if owner is None or (use.name not in MEMBERS and not hasattr(owner, use.name)):
            problems.append(f"{use.owner or 'tensorrt'}.{use.name}")
            continue
        signature = str(getattr(owner, use.name).__doc__ or "").split("\n\n")[0] if use.keywords else ""
        problems += [f"{use.owner}.{use.name}({k}=)" for k in use.keywords if use.owner and f"{k}:" not in signature]
    return sorted(set(problems))


def calibrators() -> list[str]:
    """Drive our calibrators over the real base classes as TensorRT would; an empty list if all is well."""
    import quantlab
    from models import image_batches
    from quantlab.errors import DataError
    from quantlab.memory import DeviceMemory, HostDriver
    from quantlab.trt.calibrators import CALIBRATORS, CalibratorOptions, TableCalibrator

    problems: list[str] = []

    def check(truth: Any, what: str) -> None:
        if not truth:
            problems.append(what)

    bases = ("IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator", "IInt8EntropyCalibrator", "IInt8LegacyCalibrator")
    for (name, kind), base in zip(CALIBRATORS.items(), bases, strict=True):
        driver = HostDriver()
        options = CalibratorOptions(open_memory=lambda driver=driver: DeviceMemory(driver))
        batches = image_batches(3, 4)
        calibrator = kind(batches, options)
        check(isinstance(calibrator, getattr(trt, base)), f"{name} is no {base}")
        check(calibrator.get_algorithm().name, f"{name} has no algorithm")
        check(calibrator.get_batch_size() == 4, f"{name}: batch size")
        for k in range(3):
            (address,) = calibrator.get_batch(["image"])
            x = driver.live[address].view(np.float32)[: batches[k]["image"].size]
            check(np.array_equal(x, batches[k]["image"].ravel()), f"{name}: batch {k} is not what was fed")
        check(calibrator.get_batch(["image"]) is None, f"{name}: no end")
        calibrator.write_calibration_cache(b"a cache")
        calibrator.raise_problem()
        check(calibrator.written == b"a cache" and not driver.live, f"{name}: not closed")
        broken = kind([batches[0], {"image": batches[1]["image"] * np.nan}], options)
        broken.get_batch(["image"])
        check(broken.get_batch(["image"]) is None, f"{name}: NaN was fed")
        try:
            broken.raise_problem()
            problems.append(f"{name}: NaN was swallowed")
        except DataError as error:
            check("batch 1" in str(error), f"{name}: no batch number")
    table = TableCalibrator(quantlab.CalibrationTable({"x": np.float32(127)}))
    check(b"\nx: 3f800000\n" in table.read_calibration_cache(), "table")
    digits = "".join(trt.__version__.split(".")[:1])
    check(table.read_calibration_cache().startswith(f"TRT-{digits}".encode()), "version")
    table.raise_problem()
    return problems


def pure() -> list[str]:
    """The parts of quantlab.trt that compute without a device; an empty list if all is well."""
    import tempfile

    import onnx

    from quantlab.calibration.trt_cache import version_digits
    from quantlab.errors import BuildError
    from quantlab.trt.audit import Audit, Fallback, _layer, _nodes_from_name, _precision_of_node, precision_of
    from quantlab.trt.engine import Engine, EngineRecord
    from quantlab.trt.messages import LOGGER, Messages, explain

    problems: list[str] = []

    def check(truth: Any, what: str) -> None:
        if not truth:
            problems.append(what)

    def refused(what: str, function: Any, *args: Any) -> None:
        try:
            function(*args)
            problems.append(f"{what}: accepted")
        except BuildError as error:
            check(what in str(error) and error.hint, f"{what}: {error}")

    check([version_digits(v) for v in ("8.6.0", "8.6.1.6", "10.16.1.11")] == ["8600", "8601", "101601"], "digits")
    record = EngineRecord(trt.__version__, "GPU", (9, 0), "hash", {"precision": "int8"}, "EntropyCalibration2", 1.5)
    engine = Engine(b"plan" * 100, record, (explain("Missing scale and zero-point for tensor x, expect fall back to"),))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.engine"
        engine.save(path)
        check(Engine.load(path) == engine, "engine changed by its file")
        path.write_bytes(engine.plan[:-1])
        refused("is truncated", Engine.load, path)
        path.write_bytes(b"x" + engine.plan[1:])
        refused("not the one its record describes", Engine.load, path)
        (Path(folder) / "e.engine.json").write_text("{}")
        refused("cannot be read", Engine.load, path)
        (Path(folder) / "e.engine.json").unlink()
        refused("has no record", Engine.load, path)
        refused("does not exist", Engine.load, Path(folder) / "none")
    engine.check_runs_here("GPU", (9, 0))
    refused("compute capability 9.0", engine.check_runs_here, "other", (8, 6))
    older = Engine(b"", EngineRecord("8.5.0", "GPU", (9, 0), ""))
    refused("built by TensorRT 8.5.0", older.check_runs_here, "GPU", (9, 0))
    check(engine.warnings[0].node == "x" and engine.warnings[0].remedy, "warning not explained")
    messages = LOGGER.collect(Messages())
    for severity in (trt.ILogger.WARNING, trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.INFO):
        LOGGER.log(severity, f"said {severity}")
    LOGGER.release(messages)
    LOGGER.log(trt.ILogger.ERROR, "to nobody")
    check(len(messages.errors) == 1 and [w.count for w in messages.warnings()] == [2], "messages")
    split = Messages()
    for line in (
        "TensorRT encountered issues when converting weights between types and that could affect accuracy.",
        "Check verbose logs for the list of affected weights.",
        "- 5 weights are affected by this issue: Detected subnormal FP16 values.",
    ):
        split.add(logging.WARNING, line)
    check([w.meaning[:7] for w in split.warnings()] == ["weights"], "one warning in several lines")
    int8 = {"Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}
    half = {"Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]}
    check([precision_of(r) for r in (int8, half, {})] == ["int8", "fp16", "other"], "precision")
    region = _layer({"Name": "{ForeignNode[a...z]}", "LayerType": "Myelin"} | half, {})
    conv = _layer({"Name": "c", "LayerType": "CaskConvolution"} | int8, {})
    inside, outside = (onnx.helper.make_node("MatMul", ["x", "y"], ["z"], name=name) for name in ("m", "c"))
    found = [_precision_of_node(inside, layers, True) for layers in ([conv], [conv, region])]
    found += [_precision_of_node(outside, [conv, region], True), _precision_of_node(inside, [region], False)]
    check(found == ["removed", "hidden", "int8", "float"], f"precision of nodes {found}")
    check(region.nodes == ("a", "z"), f"names of a region {region.nodes}")
    constant = "(Unnamed Layer* 61) [Constant]"
    check("[Constant]" in _nodes_from_name(constant)[0], "name of a constant")
    check(str(Fallback("m", "MatMul", "removed", "why")) == "MatMul 'm': why", "a removed node runs in nothing")
    check(Audit((region,), {"m": "hidden"}, ()).int8_share is None, "a hidden share is not a share")
    check(_nodes_from_name("/a/Conv + /b/Relu") == ["/a/Conv", "/b/Relu"], "names of fused layers")
    check(_nodes_from_name("PWN(/a/Relu)") == ["/a/Relu"], "names of pointwise layers")
    return problems


def audit_command() -> list[dict[str, Any]]:
    """Exit code, output and JSON of `quantlab audit --min-int8 0.9` for engines that show all, or not."""
    import tempfile
    from contextlib import nullcontext
    from unittest import mock

    import onnx
    from click.testing import CliRunner

    import quantlab.trt.audit
    from quantlab.cli.audit import command
    from quantlab.trt.audit import Audit, Fallback, LayerAudit

    conv = LayerAudit("c", "CaskConvolution", "int8", 0.2, ("a",))
    found = {
        "shown": Audit((conv,), {"a": "int8"}, ()),
        "half": Audit((conv,), {"a": "int8", "b": "fp16"}, (Fallback("b", "Conv", "fp16", "no scale"),)),
        "hidden": Audit((LayerAudit("m", "Myelin", "hidden", 0.1, ()),), {"a": "hidden"}, ()),
    }
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        model, written = Path(folder) / "m.onnx", Path(folder) / "a.json"
        text = '<ir_version: 8, opset_import: ["": 13]> m (float[1] x) => (float[1] y) { y = Relu (x) }'
        onnx.save(onnx.parser.parse_model(text), model)
        for audit in found.values():
            with (
                mock.patch("quantlab.trt.engine.Engine.load"),
                mock.patch("quantlab.trt.run.Runner", lambda engine: nullcontext()),
                mock.patch("quantlab.cli.audit.made_up_batch"),
                mock.patch.object(quantlab.trt.audit, "audit", return_value=audit),
            ):
                arguments = ["e.engine", str(model), "--min-int8", "0.9", "-o", str(written)]
                result = CliRunner().invoke(command, arguments)
            answers.append({"code": result.exit_code, "said": result.output, "json": json.loads(written.read_text())})
    return answers


def without_calibrators() -> list[str]:
    """What asking for a calibrator says where TensorRT has none; the rest of quantlab.trt must import."""
    import quantlab.trt.audit
    import quantlab.trt.bench
    import quantlab.trt.build
    from quantlab.errors import MissingDependencyError

    try:
        import quantlab.trt.calibrators  # noqa: F401
    except MissingDependencyError as error:
        return [str(error)]
    return ["calibrators imported"]


if __name__ == "__main__":
    questions = {
        "api": api,
        "calibrators": calibrators,
        "pure": pure,
        "audit-command": audit_command,
        "without-calibrators": without_calibrators,
    }
    print(json.dumps(questions[sys.argv[1]]()))
