"""Much of everything: class folders, lines of a cache. Each attack has a limit of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from attack import Attack, Call


def within(seconds: float, call: Callable[[], object]) -> Callable[[], None]:
    """The call, which fails if this process computes longer for it: other processes do not count."""

    def timed() -> None:
        start = time.process_time()
        call()
        took = time.process_time() - start
        if took > seconds:
            raise AssertionError(f"took {took:.1f} s of processor time, allowed {seconds}")

    return timed


def FAMILY(folder: Path) -> Iterator[Attack]:
    """Large inputs of every kind."""
    from quantlab.calibration.trt_cache import TrtCache, cache_from_table, table_from_cache
    from quantlab.data.folder import image_files

    images = folder / "images"
    for number in range(2000):
        (images / f"c{number:04d}").mkdir(parents=True)
        for index in range(10):
            (images / f"c{number:04d}" / f"{index}.png").touch()
    cache = folder / "many.cache"
    lines = 500_000
    header = "TRT-8600-EntropyCalibration2\n"
    cache.write_text(header + "".join(f"t{k}: {np.float32(k + 1).view(np.uint32):x}\n" for k in range(lines)))

    def there_and_back() -> None:
        table = table_from_cache(TrtCache.load(cache))
        with TemporaryDirectory() as other:
            cache_from_table(table).save(Path(other) / "copy.cache")
        if len(table.amax) != lines:
            raise AssertionError("lines were lost")

    yield Call("20,000 images in 2,000 folders", within(2, lambda: image_files(images)), returns=True)
    yield Call("a cache of half a million lines", within(10, there_and_back), returns=True)
