"""Kernels side by side: they leave Python's lock, so threads are enough."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 4
"""More share one memory than it feeds."""


def abreast(*tasks: Callable[[], Any]) -> list[Any]:
    """Do several things at once; return what each returns. The last is done by this thread."""
    waiting = [_pool().submit(task) for task in tasks[:-1]]
    last = tasks[-1]()
    return [future.result() for future in waiting] + [last]


def shares(weights: NDArray[Any], least: int) -> list[slice]:
    """Cut entries into stretches of about equal weight, one for each core, but none much lighter than `least`."""
    ends = np.cumsum(weights)
    total = int(ends[-1]) if len(ends) else 0
    count = max(1, min(MOST, os.cpu_count() or 1, total // least))
    cuts = np.searchsorted(ends, [total * share // count for share in range(1, count)], side="left").tolist()
    bounds = [0, *cuts, len(weights)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, thread_name_prefix="geoseg-kernels")
