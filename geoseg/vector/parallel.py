"""Kernels side by side: they leave Python's lock, so threads are enough."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.machine import available_cores, in_every_fork

MOST = 4
"""More threads wait for the same memory."""
_SHARE = 100_000
"""Vertices for which a thread pays."""


def run_parallel(*tasks: Callable[[], Any]) -> list[Any]:
    """Do several things at once; return what each returns. The last is done by this thread."""
    waiting = [_pool().submit(task) for task in tasks[:-1]]
    last = tasks[-1]()
    return [future.result() for future in waiting] + [last]


def shares(vertices: NDArray[Any]) -> list[slice]:
    """Cut entries into stretches of about as many vertices, one for each core where they are worth it."""
    ends = np.cumsum(vertices)
    total = int(ends[-1]) if len(ends) else 0
    count = max(1, min(MOST, available_cores(), total // _SHARE))
    cuts = np.searchsorted(ends, [total * share // count for share in range(1, count)], side="left").tolist()
    bounds = [0, *cuts, len(vertices)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, thread_name_prefix="geoseg-kernels")


in_every_fork(_pool.cache_clear)
