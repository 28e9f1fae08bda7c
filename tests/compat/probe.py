"""Runs under the real bindings of one TensorRT version (see bindings.py) and prints what does not fit, as JSON.

python probe.py api | calibrators | sources | logger | features | without-calibrators
"""

from __future__ import annotations

import json
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

    import quantlab

    problems = []
    for use in uses(Path(quantlab.__file__).parent):
        owner = trt if not use.owner else getattr(trt, use.owner, None)
        if owner is None or (use.name not in MEMBERS and not hasattr(owner, use.name)):
            problems.append(f"{use.owner or 'tensorrt'}.{use.name}")
            continue
        signature = str(getattr(owner, use.name).__doc__ or "").split("\n\n")[0] if use.keywords else ""
        problems += [f"{use.owner}.{use.name}({k}=)" for k in use.keywords if use.owner and f"{k}:" not in signature]
    return sorted(set(problems))


def calibrators() -> list[str]:
    """Drive our calibrators over the real base classes as TensorRT would; an empty list if all is well."""
    from models import image_batches
    from quantlab.calibration import CalibrationTable
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
    table = TableCalibrator(CalibrationTable({"x": np.float32(127)}))
    check(b"\nx: 3f800000\n" in table.read_calibration_cache(), "table")
    digits = "".join(trt.__version__.split(".")[:1])
    check(table.read_calibration_cache().startswith(f"TRT-{digits}".encode()), "version")
    table.raise_problem()
    return problems


def logger() -> list[str]:
    """What TensorRT's logger hands on; an empty list if all is well."""
    from quantlab.engines.messages import Messages
    from quantlab.trt.logger import LOGGER

    problems = []
    messages = LOGGER.collect(Messages())
    for severity in (trt.ILogger.WARNING, trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.INFO):
        LOGGER.log(severity, f"said {severity}")
    LOGGER.release(messages)
    LOGGER.log(trt.ILogger.ERROR, "to nobody")
    if len(messages.errors) != 1 or [w.count for w in messages.warnings()] != [2]:
        problems.append(f"{messages.errors} {messages.warnings()}")
    return problems


def sources() -> list[str]:
    """Every source of INT8 ranges over the real bindings; an empty list if all is well."""
    from models import image_batches
    from quantlab.calibration import CalibrationTable
    from quantlab.engines.choose_int8 import CALIBRATORS as NAMES
    from quantlab.engines.int8 import ForeignCalibrator, Int8Source
    from quantlab.trt.calibrators import CALIBRATORS
    from quantlab.trt.runtime import TensorrtRuntime

    runtime = TensorrtRuntime()
    table = CalibrationTable({"x": np.float32(127)})
    found: list[Any] = [runtime.stream_calibrator(name, image_batches(1)) for name in NAMES]
    found += [runtime.table_calibrator(table), ForeignCalibrator(CALIBRATORS["legacy"]([]))]
    problems = [f"{type(source).__name__} is no source" for source in found if not isinstance(source, Int8Source)]
    names = [source.description for source in found]
    wanted = ["EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration", "LegacyCalibration 0.9999 1"]
    if names != [*wanted, "TableCalibrator", "LegacyCalibrator"]:
        problems.append(f"descriptions {names}")
    if tuple(CALIBRATORS) != NAMES:
        problems.append(f"names {tuple(CALIBRATORS)}")
    return problems


def features() -> dict[str, bool]:
    """What the bindings are found to offer."""
    from dataclasses import asdict

    from quantlab.trt.features import FEATURES

    return asdict(FEATURES)


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
        "sources": sources,
        "logger": logger,
        "features": features,
        "without-calibrators": without_calibrators,
    }
    print(json.dumps(questions[sys.argv[1]]()))
