"""What calibrators say of themselves in a cache's first line, tables as calibrators, and Polygraphy's ways."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from engine_double import CALIBRATORS, HostConfig, HostEntropy2, HostLegacy, HostTable, parsed
from models import conv_net, image_batches
from quantlab.calibration import CalibrationTable, TrtCache
from quantlab.engines.legacy_calibrator import legacy_header
from quantlab.engines.options import BuildOptions, Profile
from quantlab.engines.stream_calibrator import CalibratorOptions
from quantlab.errors import ConfigError, DataError

FIXED = BuildOptions("int8", profiles=(Profile.fixed({"image": (6, 3, 8, 8)}),))
NETWORK = parsed(conv_net(), FIXED)


# --- first lines


@pytest.mark.parametrize(
    ("quantile", "cutoff", "header"),
    [  # the first lines of caches that TensorRT 8.6.0 wrote
        (0.9999, 1.0, "0 3ff0000000000000 3fefff2e48e8a71e"),
        (0.99, 1.0, "0 3ff0000000000000 3fefae147ae147ae"),
        (1.0, 1.0, "0 3ff0000000000000 3ff0000000000000"),
        (0.9999, 0.5, "0 3fe0000000000000 3fefff2e48e8a71e"),
        (0.9999, 0.9, "0 3feccccccccccccd 3fefff2e48e8a71e"),
        (0.9999, 0.0, "0 0 3fefff2e48e8a71e"),
    ],
)
def test_legacy_header_is_the_one_that_tensorrt_writes(quantile: float, cutoff: float, header: str) -> None:
    assert legacy_header(quantile, cutoff) == header
    legacy = HostLegacy([], quantile=quantile, regression_cutoff=cutoff)
    assert legacy.header == header
    assert (legacy.get_quantile(), legacy.get_regression_cutoff()) == (quantile, cutoff)
    assert TrtCache.from_bytes(f"{header}\nx: 3f800000\n".encode()).header == header
    _, bits, more = (int(word, 16) for word in header.split())
    assert struct.unpack(">dd", struct.pack(">QQ", bits, more)) == (cutoff, quantile)


def test_legacy_calibrator_describes_itself_with_its_numbers() -> None:
    assert HostLegacy([]).description == "LegacyCalibration 0.9999 1"
    assert HostLegacy([], quantile=0.99, regression_cutoff=0.5).algorithm == "LegacyCalibration 0.99 0.5"


@pytest.mark.parametrize(("name", "value"), [("quantile", 1.1), ("quantile", -0.1), ("regression_cutoff", 2.0)])
def test_legacy_calibrator_with_a_share_beyond_0_to_1_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name} {value} is not in \[0, 1\]"):
        HostLegacy([], **{name: value})


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("entropy2", "TRT-8600-EntropyCalibration2"),
        ("minmax", "TRT-8600-MinMaxCalibration"),
        ("entropy", "TRT-8600-EntropyCalibration"),
    ],
)
def test_header_is_version_and_calibrator(name: str, header: str) -> None:
    assert CALIBRATORS[name]([]).header == header


# --- tables


def test_table_calibrator_hands_its_scales_over_as_a_cache() -> None:
    calibrator, config = HostTable(CalibrationTable({"image": np.float32(127), "a": np.float32(0)})), HostConfig()
    calibrator.prepare(NETWORK, config)
    assert (config.int8_calibrator, config.calibration_profile) == (calibrator, FIXED.profiles[-1])
    assert calibrator.read_calibration_cache() == b"TRT-8600-EntropyCalibration2\nimage: 3f800000\na: 0\n"
    assert calibrator.get_batch_size() == 1
    calibrator.write_calibration_cache(b"ignored")
    calibrator.close()
    calibrator.raise_problem()
    assert (calibrator.error, calibrator.description) == (None, "TableCalibrator")


def test_table_calibrator_whose_scales_were_not_taken_raises() -> None:
    calibrator = HostTable(CalibrationTable({"image": np.float32(127)}))
    assert calibrator.get_batch(["image"]) is None
    with pytest.raises(DataError, match="TensorRT did not take the table's scales"):
        calibrator.raise_problem()


def test_calibrator_takes_polygraphys_cache_and_a_bare_function(tmp_path: Path) -> None:
    calibrator = HostEntropy2(lambda: iter(image_batches(2)), cache=tmp_path / "c.cache")
    assert calibrator.options.cache == tmp_path / "c.cache"
    assert [len(list(calibrator.batches)) for _ in range(2)] == [2, 2]
    assert HostEntropy2(image_batches(1), cache=str(tmp_path / "c.cache")).options.cache == tmp_path / "c.cache"
    legacy = HostLegacy(lambda: image_batches(2), cache=tmp_path / "c.cache", quantile=0.5)
    assert (legacy.options.cache, legacy.get_quantile()) == (tmp_path / "c.cache", 0.5)
    with pytest.raises(ConfigError, match=r"cache and options\.cache were both given"):
        HostEntropy2(image_batches(1), CalibratorOptions(cache=tmp_path / "d.cache"), cache=tmp_path / "c.cache")
