"""The confusion matrix and its figures. Undefined figures are nan, never 0, and are left out of means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg.errors import UsageError
from geoseg.legend import Legend
from geoseg.typed import checked, refusal

_OTHERS = "other classes"
"""Name of the class that merges all classes not requested; a class of the user's may have this name too."""
UNKNOWN = "unknown"
"""Name of the class that DeepGlobe's published figures leave out of their mean."""


@dataclass(frozen=True, slots=True, eq=False)
@checked
class ConfusionMatrix:
    """Number of pixels for each pair of a class in the reference and a class in the map.

    Parameters
    ----------
    codes : tuple of int
        The code of each class.
    names : tuple of str
        The name of each class.
    counts : ndarray of int64, shape (class, class)
        Pixels by class in the reference (row) and in the map (column).

    Raises
    ------
    UsageError
        If codes, names and counts do not match.

    Examples
    --------
    >>> matrix = geoseg.ConfusionMatrix.from_arrays(reference, mapped, geoseg.DEEPGLOBE, ignore=[255])  # doctest: +SKIP
    >>> geoseg.Metrics.of(matrix).miou  # doctest: +SKIP

    """

    codes: tuple[int, ...]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    """(reference, map)"""
    others: int | None = None
    """The code of the class into which `only` merged all others; it is left out of means."""

    def __post_init__(self) -> None:
        classes = len(self.codes)
        if len(set(self.codes)) != classes or len(self.names) != classes:
            raise UsageError(f"each code needs one name and may occur once, got {self.codes} and {self.names}")
        if self.counts.shape != (classes, classes) or self.counts.dtype != np.int64 or (self.counts < 0).any():
            raise UsageError(
                f"counts must be int64 and not negative, {classes} x {classes} for {classes} classes; "
                f"got {self.counts.dtype} {self.counts.shape}"
            )

    def __eq__(self, other: object) -> bool:
        """Return whether classes and counts are the same."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        same = (self.codes, self.names, self.others) == (other.codes, other.names, other.others)
        return same and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.codes, self.names, self.others, self.counts.tobytes()))

    @classmethod
    @checked
    def empty(cls, codes: Iterable[int], names: Iterable[str]) -> Self:
        """Return a matrix without pixels."""
        codes = tuple(codes)
        return cls(codes, tuple(names), np.zeros((len(codes), len(codes)), np.int64))

    @classmethod
    @checked
    def of_legend(cls, legend: Legend) -> Self:
        """Return a matrix without pixels, for the classes of a legend."""
        return cls.empty(legend.codes, legend.names)

    @classmethod
    @checked
    def from_arrays(
        cls, reference: ArrayLike, predicted: ArrayLike, legend: Legend, *, ignore: Iterable[int] = ()
    ) -> Self:
        """Return the matrix of two arrays of codes.

        Parameters
        ----------
        reference, predicted : array of int, same shape
            Codes of classes.
        legend : Legend
            The classes.
        ignore : iterable of int
            Pixels with one of these codes in either array do not count.

        Raises
        ------
        UsageError
            If the shapes differ, or a code is neither a class nor ignored.

        """
        return cls.of_legend(legend).add(reference, predicted, ignore=ignore)

    @checked
    def add(self, reference: ArrayLike, predicted: ArrayLike, *, ignore: Iterable[int] = ()) -> Self:
        """Return the matrix with the pixels of two arrays of codes added.

        Parameters
        ----------
        reference, predicted : array of int, same shape
            Codes of classes.
        ignore : iterable of int
            Pixels with one of these codes in either array do not count.

        Raises
        ------
        UsageError
            If the shapes differ, or a code is neither a class nor ignored.

        """
        reference, predicted = _array("reference", reference), _array("predicted", predicted)
        if reference.shape != predicted.shape:
            raise UsageError(f"reference and map differ in shape: {reference.shape} and {predicted.shape}")
        left_out = np.fromiter(ignore, np.int64)
        rows, cols = (_places(codes.ravel(), self.codes, left_out) for codes in (reference, predicted))
        counted = (rows >= 0) & (cols >= 0)
        classes = len(self.codes)
        cells = np.bincount(rows[counted] * classes + cols[counted], minlength=classes * classes)
        return replace(self, counts=self.counts + cells.reshape(classes, classes))

    @checked
    def merge(self, other: ConfusionMatrix) -> Self:
        """Return the sum of two matrices, such as those of folds, scenes or workers.

        Raises
        ------
        UsageError
            If their classes differ.

        """
        if (self.codes, self.names, self.others) != (other.codes, other.names, other.others):
            raise UsageError(f"only matrices of the same classes can be merged, got {self.names} and {other.names}")
        return replace(self, counts=self.counts + other.counts)

    @checked
    def without(self, codes: Iterable[int]) -> Self:
        """Return the matrix without some classes, and without their pixels in reference or map."""
        dropped = set(codes)
        keep = [place for place, code in enumerate(self.codes) if code not in dropped]
        return self._chosen(keep, self.counts[np.ix_(keep, keep)])

    @checked
    def ignoring(self, codes: Iterable[int]) -> Self:
        """Return the matrix without the pixels of some classes in the reference; all classes stay.

        A pixel with such a class in the map alone remains an error of its reference class.
        """
        dropped = set(codes)
        counts = self.counts.copy()
        counts[[place for place, code in enumerate(self.codes) if code in dropped]] = 0
        return replace(self, counts=counts)

    @checked
    def only(self, codes: Iterable[int]) -> Self:
        """Return the matrix of some classes, with all others merged into one. Every pixel, and every error, is kept."""
        selected = set(codes)
        keep = [place for place, code in enumerate(self.codes) if code in selected]
        if len(keep) == len(self.codes):
            return self
        groups = np.full(len(self.codes), len(keep))
        groups[keep] = np.arange(len(keep))
        counts = np.zeros((len(keep) + 1,) * 2, np.int64)
        np.add.at(counts, (groups[:, None], groups[None, :]), self.counts)
        chosen = self._chosen(keep, counts[:-1, :-1])
        others, name = max(self.codes) + 1, _OTHERS if _OTHERS not in chosen.names else f"all {_OTHERS}"
        return type(self)((*chosen.codes, others), (*chosen.names, name), counts, others)

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
        """Pixels of each class that are right: in both reference and map (class,)."""
        return self.counts.diagonal()

    @property
    def total_px(self) -> int:
        """Number of pixels counted."""
        return int(self.counts.sum())

    def _chosen(self, places: Sequence[int], counts: NDArray[np.int64]) -> Self:
        codes, names = tuple(self.codes[place] for place in places), tuple(self.names[place] for place in places)
        return replace(self, codes=codes, names=names, counts=counts)


def _array(name: str, codes: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(codes)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths, arrays on a device
        raise refusal(name, "an array of codes", codes) from None


def _places(codes: NDArray[Any], classes: Sequence[int], ignore: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place (pixel,) of each code among the classes, -1 if it is ignored."""
    if codes.dtype.kind not in "iu":
        raise UsageError(f"codes must be integers, got {codes.dtype}")
    distinct, inverse = _distinct(codes)
    indices, is_ignored = np.full(len(distinct), -1, np.int64), np.isin(distinct, ignore)
    for index, code in enumerate(classes):
        indices[distinct == code] = index
    unknown = distinct[(indices < 0) & ~is_ignored]
    if len(unknown):
        raise UsageError(f"code {unknown[0]} is not in the classes {list(classes)}; add it to the legend, or ignore it")
    indices[is_ignored] = -1
    indices_of_pixels: NDArray[np.int64] = indices[inverse]
    return indices_of_pixels


def _distinct(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the distinct codes, and the index of each pixel's code among them; bytes need no sorting."""
    if codes.dtype == np.uint8:
        present = np.flatnonzero(np.bincount(codes, minlength=256))
        lookup = np.zeros(256, np.int64)
        lookup[present] = np.arange(len(present))
        return present, lookup[codes]
    distinct, inverse = np.unique(codes, return_inverse=True)
    return distinct, inverse


@dataclass(frozen=True, slots=True)
@checked
class ClassMetrics:
    """The figures of one class."""

    code: int
    name: str
    reference_px: int
    map_px: int
    iou: float
    """Pixels of the class in both, divided by those in either; nan if there are none."""
    precision: float
    """User's accuracy: the share of the class in the map that is right; nan if the map has none of it."""
    recall: float
    """Producer's accuracy: the share of the class in the reference that was found; nan if the reference has none."""
    f1: float
    """Harmonic mean of the two; nan only if neither has the class."""
    is_merged: bool = False
    """Whether this class merges all classes not requested; then it is left out of means."""

    @property
    def is_absent(self) -> bool:
        """Whether neither reference nor map has a pixel of it."""
        return not self.reference_px and not self.map_px

    @property
    def is_unknown(self) -> bool:
        """Whether it is the class called unknown."""
        return self.name.casefold() == UNKNOWN


@dataclass(frozen=True, slots=True)
@checked
class Metrics:
    """The figures of a confusion matrix: all except `pixels` are 0 to 1 (`kappa` -1 to 1), or nan if undefined.

    Examples
    --------
    >>> metrics = geoseg.evaluate("landcover.tif", "reference.tif").metrics  # doctest: +SKIP
    >>> {each.name: each.iou for each in metrics.classes}  # doctest: +SKIP

    """

    classes: tuple[ClassMetrics, ...]
    miou: float
    """Mean IoU over all classes that occur, `unknown` included."""
    miou_without_unknown: float
    """Mean IoU over all classes that occur except `unknown`: six in DeepGlobe's published protocol."""
    overall_accuracy: float
    kappa: float
    """Cohen's kappa (1960, 10.1177/001316446002000104): agreement beyond chance; nan if chance agreement is 1."""
    pixels: int

    @classmethod
    @checked
    def of(cls, matrix: ConfusionMatrix) -> Self:
        """Return all figures of a matrix. Those of a matrix without pixels are nan."""
        right, reference, mapped = (px.astype(float) for px in (matrix.right_px, matrix.reference_px, matrix.map_px))
        iou, f1 = shares(right, reference + mapped - right), shares(2 * right, reference + mapped)
        precision, recall = shares(right, mapped), shares(right, reference)
        merged = np.array([code == matrix.others for code in matrix.codes])
        columns = (matrix.reference_px, matrix.map_px, iou, precision, recall, f1, merged)
        classes = tuple(map(ClassMetrics, matrix.codes, matrix.names, *(column.tolist() for column in columns)))
        counted = [each for each in classes if not each.is_merged]
        total = float(matrix.total_px)
        observed = right.sum() / total if total else math.nan
        chance = float((reference / total) @ (mapped / total)) if total else math.nan
        return cls(
            classes,
            miou=_mean([each.iou for each in counted]),
            miou_without_unknown=_mean([each.iou for each in counted if not each.is_unknown]),
            overall_accuracy=float(observed),
            kappa=(observed - chance) / (1 - chance) if chance < 1 else math.nan,
            pixels=matrix.total_px,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that a reader of the means should know."""
        notes = [] if self.note_on_invented is None else [self.note_on_invented]
        if absent := [each.name for each in self.classes if each.is_absent and not each.is_merged]:
            verb = "has no pixel" if len(absent) == 1 else "have no pixel"
            notes.append(f"{', '.join(absent)} {verb} in reference and map: nan, and left out of the means")
        return tuple(notes)

    @property
    def miou_of_reference(self) -> float:
        """Mean IoU over the classes that the reference has, except `unknown`; nan if it has none.

        A class that is on the map alone has an IoU of 0, so a single stray pixel lowers the other means a lot. That is
        why training chooses its best epoch by this one.
        """
        known = [each for each in self.classes if not (each.is_unknown or each.is_merged)]
        return _mean([each.iou for each in known if each.reference_px])

    @property
    def note_on_invented(self) -> str | None:
        """One line on classes that are on the map alone, with the mean without them; None if there are none."""
        counted = [each for each in self.classes if not each.is_merged]
        invented = [each for each in counted if each.map_px and not each.reference_px]
        if not invented:
            return None
        have, they, them = ("has", "it is", "it") if len(invented) == 1 else ("have", "they are", "them")
        names = ", ".join(class_metrics.name for class_metrics in invented)
        line = f"{names} {have} no pixel in the reference: an IoU of 0 does not show how well {they} mapped"
        without = self.miou_of_reference
        if math.isnan(without) or all(class_metrics.is_unknown for class_metrics in invented):
            return line
        return f"{line}; mIoU {ratio_text(without)} without {them}, {ratio_text(self.miou_without_unknown)} with {them}"

    def to_json(self) -> dict[str, object]:
        """Return plain values; None stands for nan, which JSON lacks."""
        return {
            "miou_without_unknown": json_number(self.miou_without_unknown),
            "miou_all_classes": json_number(self.miou),
            "overall_accuracy": json_number(self.overall_accuracy),
            "kappa": json_number(self.kappa),
            "pixels": self.pixels,
            "classes": [
                {name: getattr(class_metrics, name) for name in ("code", "name", "reference_px", "map_px")}
                | {name: json_number(getattr(class_metrics, name)) for name in ("iou", "precision", "recall", "f1")}
                for class_metrics in self.classes
            ],
        }


def constant_map(matrix: ConfusionMatrix) -> tuple[str, float] | None:
    """Return the class of the best map that shows one class only, and its mIoU; unknown pixels never count.

    None if no pixel counts. A map shows skill only as far as it exceeds this mIoU.
    """
    pixels_by_class = {
        name: int(px) for name, px in zip(matrix.names, matrix.reference_px, strict=True) if name.casefold() != UNKNOWN
    }
    total, present = sum(pixels_by_class.values()), sum(px > 0 for px in pixels_by_class.values())
    if not total:
        return None
    name = max(pixels_by_class, key=lambda class_name: pixels_by_class[class_name])
    return name, pixels_by_class[name] / total / present


def classes_in_words(metrics: Metrics) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """Return the heading and the rows of a table of the classes for people."""
    heading = ("class", "IoU", "precision (user's)", "recall (producer's)", "F1", "reference", "map")
    return heading, [
        (
            f"{class_metrics.name} ({class_metrics.code})",
            *map(ratio_text, (class_metrics.iou, class_metrics.precision, class_metrics.recall, class_metrics.f1)),
            grouped(class_metrics.reference_px),
            grouped(class_metrics.map_px),
        )
        for class_metrics in metrics.classes
    ]


def ratio_text(value: float) -> str:
    """Return a number from 0 to 1 as a report shows it."""
    return "nan" if math.isnan(value) else f"{value:.4f}"


def grouped(value: float) -> str:
    """Return 1234567 as 1 234 567."""
    return "nan" if math.isnan(value) else f"{value:,.0f}".replace(",", " ")


def json_number(number: float) -> float | None:
    """Return a number that JSON can hold: None for nan."""
    return number if math.isfinite(number) else None


def shares(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return parts divided by their wholes; nan where there is no whole."""
    quotients: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotients


def _mean(numbers: Sequence[float]) -> float:
    defined = [number for number in numbers if not math.isnan(number)]
    return sum(defined) / len(defined) if defined else math.nan
