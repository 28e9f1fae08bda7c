"""Work ahead in threads, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from quantlab.threads import thread_count

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """`map(function, items)` in the same order, computed in threads before the results are asked for.

    An exception comes out at the place of the item that raised it. Leaving the loop early stops the work.

    Args:
        function: Called in several threads.
        items: What it is called with.
        ahead: How many results may be computed beforehand.

    Yields:
        The results.
    """
    pending: deque[Future[R]] = deque()
    source = iter(items)
    pool = ThreadPoolExecutor(max_workers=min(32, thread_count()), thread_name_prefix="quantlab-decode")
    try:
        pending.extend(pool.submit(function, item) for item in islice(source, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def counted(results: Iterable[R], on_result: Callable[[int], None] | None) -> list[R]:
    """All results, and a call for every one of them.

    Args:
        results: Computed as they are asked for.
        on_result: Called with the number of results so far; None for nobody.

    Returns:
        The results.
    """
    found = []
    for result in results:
        found.append(result)
        if on_result is not None:
            on_result(len(found))
    return found
