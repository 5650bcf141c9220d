"""One confusion matrix for a whole set: added to, never averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.legend import Legend

OTHERS = "other classes"
"""What the classes that were not asked for are called together."""


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """How many pixels of each class of the reference are of each class in the map.

    Raises UsageError when codes, names and counts do not belong together.
    """

    codes: tuple[int, ...]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    """(reference, map)"""

    def __post_init__(self) -> None:
        classes = len(self.codes)
        if len(set(self.codes)) != classes or len(self.names) != classes:
            raise UsageError(f"a name for each of the codes, each once: got {self.codes} and {self.names}")
        if self.counts.shape != (classes, classes) or self.counts.dtype != np.int64 or (self.counts < 0).any():
            raise UsageError(
                f"counts are int64 from 0 up, {classes} x {classes} for {classes} classes; "
                f"got {self.counts.dtype} {self.counts.shape}"
            )

    def __eq__(self, other: object) -> bool:
        """Say whether classes and counts are the same."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        same = (self.codes, self.names) == (other.codes, other.names)
        return same and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.codes, self.names, self.counts.tobytes()))

    @classmethod
    def empty(cls, codes: Iterable[int], names: Iterable[str]) -> Self:
        """Return a matrix without a pixel."""
        codes = tuple(codes)
        return cls(codes, tuple(names), np.zeros((len(codes), len(codes)), np.int64))

    @classmethod
    def of_legend(cls, legend: Legend) -> Self:
        """Return a matrix without a pixel, for the classes of a legend."""
        return cls.empty(legend.codes, legend.names)

    @classmethod
    def from_arrays(
        cls, reference: NDArray[Any], predicted: NDArray[Any], legend: Legend, *, ignore: Iterable[int] = ()
    ) -> Self:
        """Count two arrays of codes, as `add` does."""
        return cls.of_legend(legend).add(reference, predicted, ignore=ignore)

    def add(self, reference: NDArray[Any], predicted: NDArray[Any], *, ignore: Iterable[int] = ()) -> Self:
        """Return the matrix with the pixels of two arrays of codes, of one shape, added.

        A pixel of which either code is in `ignore` does not count. UsageError for arrays of different shapes, or a code
        that is neither a class nor ignored.
        """
        if reference.shape != predicted.shape:
            raise UsageError(f"reference and map differ in shape: {reference.shape} and {predicted.shape}")
        left_out = np.fromiter(ignore, np.int64)
        rows, cols = (_places(codes.ravel(), self.codes, left_out) for codes in (reference, predicted))
        counted = (rows >= 0) & (cols >= 0)
        classes = len(self.codes)
        cells = np.bincount(rows[counted] * classes + cols[counted], minlength=classes * classes)
        return type(self)(self.codes, self.names, self.counts + cells.reshape(classes, classes))

    def merge(self, other: ConfusionMatrix) -> Self:
        """Return the sum of two matrices: folds, scenes, workers. UsageError unless they have the same classes."""
        if (self.codes, self.names) != (other.codes, other.names):
            raise UsageError(f"only matrices of the same classes can be merged, got {self.names} and {other.names}")
        return type(self)(self.codes, self.names, self.counts + other.counts)

    def without(self, codes: Iterable[int]) -> Self:
        """Return the matrix without some classes: pixels that are of one of them in reference or map are gone."""
        dropped = set(codes)
        keep = [place for place, code in enumerate(self.codes) if code not in dropped]
        return self._chosen(keep, self.counts[np.ix_(keep, keep)])

    def ignoring(self, codes: Iterable[int]) -> Self:
        """Return the matrix without the pixels that are of some classes in the reference; all classes stay.

        A pixel that only the map gives one of them stays an error of its class in the reference.
        """
        dropped = set(codes)
        counts = self.counts.copy()
        counts[[place for place, code in enumerate(self.codes) if code in dropped]] = 0
        return type(self)(self.codes, self.names, counts)

    def only(self, codes: Iterable[int]) -> Self:
        """Return the matrix of some classes, all others made one. No pixel is lost: what was an error stays one."""
        wanted = set(codes)
        keep = [place for place, code in enumerate(self.codes) if code in wanted]
        if len(keep) == len(self.codes):
            return self
        groups = np.full(len(self.codes), len(keep))
        groups[keep] = np.arange(len(keep))
        counts = np.zeros((len(keep) + 1,) * 2, np.int64)
        np.add.at(counts, (groups[:, None], groups[None, :]), self.counts)
        chosen = self._chosen(keep, counts[:-1, :-1])
        return type(self)((*chosen.codes, max(self.codes) + 1), (*chosen.names, OTHERS), counts)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield code and name of each class."""
        return iter(zip(self.codes, self.names, strict=True))

    @property
    def reference_px(self) -> NDArray[np.int64]:
        """Pixels of each class in the reference (class,)."""
        px: NDArray[np.int64] = self.counts.sum(axis=1)
        return px

    @property
    def map_px(self) -> NDArray[np.int64]:
        """Pixels of each class in the map (class,)."""
        px: NDArray[np.int64] = self.counts.sum(axis=0)
        return px

    @property
    def right_px(self) -> NDArray[np.int64]:
        """Pixels of each class in both (class,)."""
        return self.counts.diagonal()

    @property
    def total_px(self) -> int:
        """All pixels counted."""
        return int(self.counts.sum())

    def _chosen(self, places: Sequence[int], counts: NDArray[np.int64]) -> Self:
        return type(self)(tuple(self.codes[p] for p in places), tuple(self.names[p] for p in places), counts)


def _places(codes: NDArray[Any], classes: Sequence[int], ignore: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place (pixel,) of each code among the classes, -1 where it is ignored."""
    if codes.dtype.kind not in "iu":
        raise UsageError(f"codes are integers, got {codes.dtype}")
    found, inverse = _found(codes)
    places = np.full(len(found), -1, np.int64)
    for place, code in enumerate(classes):
        places[found == code] = place
    unknown = found[(places < 0) & ~np.isin(found, ignore)]
    if len(unknown):
        raise UsageError(f"code {unknown[0]} is no class of {list(classes)}; add it to the legend, or ignore it")
    places[np.isin(found, ignore)] = -1
    of_pixels: NDArray[np.int64] = places[inverse]
    return of_pixels


def _found(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the codes to look up, and for each pixel which of them it has; bytes need no sorting."""
    if codes.dtype == np.uint8:
        present = np.flatnonzero(np.bincount(codes, minlength=256))
        lookup = np.zeros(256, np.int64)
        lookup[present] = np.arange(len(present))
        return present, lookup[codes]
    found, inverse = np.unique(codes, return_inverse=True)
    return found, inverse
