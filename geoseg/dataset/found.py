"""What a layout is searched with, and what was found in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from geoseg.dataset.layers import Wanted
from geoseg.dataset.pair import Pair
from geoseg.legend import Legend
from geoseg.raster import raster_environment

_NAMES_SHOWN = 5
_THREADS = 4
PART_NAMES = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid"} | {
    "test": "test",
    "testing": "test",
}
"""What people call the parts of a data set."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller said of a data set."""

    legend: Legend | None
    bands: tuple[int | str, ...] | None
    gsd_m: float | None
    labels: Any
    """A path, or a GeoDataFrame; None where the layout says where they are."""
    column: str | None
    tolerance: float
    layer: Wanted = None


@dataclass(frozen=True, slots=True)
class Found:
    """The pairs of a layout."""

    pairs: tuple[Pair, ...]
    legend: Legend
    notes: tuple[str, ...]


def listed(names: Iterable[str]) -> str:
    """Return the first names and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Do something with every item on a few threads; the error of the first item that has one is raised."""

    def done(item: T) -> R:
        # Of 1600 files in one folder GDAL would list all whenever it opens one; so it asks for the few names it wants.
        with raster_environment(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            return work(item)

    if len(items) < _THREADS:
        return [done(item) for item in items]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="geoseg-dataset") as pool:
        return list(pool.map(done, items))
