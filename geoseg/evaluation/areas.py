"""Areas corrected for a map's errors, with their 95 % confidence intervals.

Olofsson et al. 2014, Good practices for estimating area and assessing accuracy of land change
(10.1016/j.rse.2014.02.015), eq. 1 to 11: the map's classes are strata, the reference is a sample of each, and its class
shares are weighted by the share of the map that each stratum covers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from geoseg import html
from geoseg.errors import UsageError, numbered
from geoseg.evaluation.metrics import ConfusionMatrix, grouped, json_number, ratio_text

if TYPE_CHECKING:
    import pandas as pd

_Z = 1.96
"""Half-width of a 95 % confidence interval in standard errors; the paper's value."""
_M2_OF_HA = 1e4
_COLUMNS = {
    "code": False, "name": False, "sample": False, "mapped": True, "area": True, "standard_error": True, "low": True,
    "high": True, "users": False, "users_error": False, "producers": False, "producers_error": False,
}  # fmt: skip
"""Columns of a table of areas, and whether each is in units of area."""
_JSON_NAMES = {
    "mapped": "mapped", "area": "area", "area_standard_error": "standard_error", "area_low_95": "low",
    "area_high_95": "high", "users_accuracy": "users", "users_accuracy_standard_error": "users_error",
    "producers_accuracy": "producers", "producers_accuracy_standard_error": "producers_error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClassArea:
    """The area of one class. Areas are in m2, or in pixels if the map is not georeferenced."""

    code: int
    name: str
    sample: int
    """Pixels or points of the reference where the map shows the class."""
    mapped: float
    """Area of the class in the map."""
    area: float
    """Corrected for the map's errors (eq. 2, 9)."""
    standard_error: float
    """Standard error of the area (eq. 10, 11); nan if it cannot be estimated."""
    users: float
    """User's accuracy, by area (eq. 2)."""
    users_error: float
    """Its standard error (eq. 6)."""
    producers: float
    """Producer's accuracy, by area (eq. 3)."""
    producers_error: float
    """Its standard error (eq. 7)."""

    @property
    def margin(self) -> float:
        """Half the width of the area's 95 % confidence interval."""
        return _Z * self.standard_error

    @property
    def low(self) -> float:
        """Lower bound of the interval, at least 0."""
        return math.nan if math.isnan(self.margin) else max(0.0, self.area - self.margin)

    @property
    def high(self) -> float:
        """Upper bound of the interval."""
        return self.area + self.margin


@dataclass(frozen=True, slots=True)
class Areas:
    """The areas of all classes, and the map's accuracy by area."""

    classes: tuple[ClassArea, ...]
    unit: str
    """m2 or px."""
    total: float
    """Total area of the map's classes that have a reference."""
    overall: float
    """Overall accuracy, by area (eq. 1)."""
    overall_error: float
    """Its standard error (eq. 5)."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        sample: ConfusionMatrix,
        mapped: NDArray[np.float64],
        *,
        unit: str = "m2",
        weights: NDArray[np.float64] | None = None,
        population: NDArray[np.int64] | None = None,
    ) -> Self:
        """Estimate areas from a sample of the reference and the mapped area of each class (class,).

        `weights` (reference, map) replace the sample's counts if its pixels differ in area. `population` (class,) is
        the number of map pixels, if the sample was drawn from them without replacement: the larger the sampled share,
        the smaller the sampling error (Cochran 1977, Sampling Techniques, eq. 5.14), down to 0 for a census. A map
        class without reference cannot be corrected and is left out, with a note. UsageError if no class has any.
        """
        counts = sample.counts.T.astype(float)
        drawn = counts.sum(axis=1)
        strata = (drawn > 0) & (mapped > 0)
        if not strata.any():
            raise UsageError(
                "areas cannot be estimated: no class of the map has a reference; give one that covers more of the map"
            )
        total = float(mapped[strata].sum())
        weight = np.where(strata, mapped, 0) / total
        shares = _row_shares(counts if weights is None else weights.T)
        unsampled = (
            np.ones(len(drawn)) if population is None else 1 - drawn / np.maximum(np.maximum(population, drawn), 1)
        )
        figures = _Estimate(weight, shares, _variance(shares, drawn, unsampled, strata))
        classes = tuple(
            ClassArea(code, name, int(drawn[i]), float(mapped[i]), *figures.of_class(i, total))
            for i, (code, name) in enumerate(sample)
        )
        notes = tuple(_notes(sample, mapped, drawn, unsampled))
        return cls(classes, unit, total, float(weight @ shares.diagonal()), figures.overall_error(), notes)

    def only(self, codes: Iterable[int]) -> Self:
        """Return the areas of some classes; the figures of the whole map stay."""
        selected = set(codes)
        return replace(self, classes=tuple(class_area for class_area in self.classes if class_area.code in selected))

    def __repr__(self) -> str:
        total = f"{self.total / _M2_OF_HA:.6g} ha" if self.unit == "m2" else f"{self.total:.6g} {self.unit}"
        overall = f"{self.overall:.3f} ± {self.overall_error:.3f}"
        return f"Areas({numbered(len(self.classes), 'class')}, {total}, overall accuracy {overall})"

    def _repr_html_(self) -> str:
        heading, rows = areas_in_words(self)
        overall = f"overall accuracy by area {ratio_text(self.overall)} ± {ratio_text(self.overall_error)}"
        return f"<div>{html.columns(heading, rows)}<p>{overall}</p></div>"

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Return the heading, with units, and a row for each class, as in areas.csv."""
        heading = [f"{name}_{self.unit}" if in_units else name for name, in_units in _COLUMNS.items()]
        return heading, [[getattr(class_area, name) for name in _COLUMNS] for class_area in self.classes]

    def to_frame(self) -> pd.DataFrame:
        """Return `table` as a DataFrame; figures that cannot be estimated are nan."""
        import pandas as pd  # noqa: PLC0415 - takes half a second, and few need it

        heading, rows = self.table()
        return pd.DataFrame(rows, columns=heading)

    def to_json(self) -> dict[str, object]:
        """Return plain values; None stands for nan."""
        return {
            "method": "Olofsson et al. 2014, 10.1016/j.rse.2014.02.015",
            "unit": self.unit,
            "total": self.total,
            "overall_accuracy": json_number(self.overall),
            "overall_accuracy_standard_error": json_number(self.overall_error),
            "classes": [
                {"code": class_area.code, "name": class_area.name, "sample": class_area.sample}
                | {name: json_number(getattr(class_area, field)) for name, field in _JSON_NAMES.items()}
                for class_area in self.classes
            ],
        }


@dataclass(frozen=True, slots=True)
class _Estimate:
    weight: NDArray[np.float64]
    """(stratum,) share of the map."""
    shares: NDArray[np.float64]
    """(stratum, reference) shares of each stratum's sample; rows without a sample are 0."""
    variance: NDArray[np.float64]
    """(stratum, reference) variance of those shares."""

    def of_class(self, i: int, total: float) -> tuple[float, ...]:
        """Return area and error, user's accuracy and error, producer's accuracy and error."""
        share = float(self.weight @ self.shares[:, i])
        error = math.sqrt(float(self.weight**2 @ self.variance[:, i]))
        sampled = bool(self.shares[i].any()) and self.weight[i] > 0
        users, users_error = (self.shares[i, i], math.sqrt(self.variance[i, i])) if sampled else (math.nan, math.nan)
        if not share:
            return 0.0, error * total, float(users), users_error, math.nan, math.nan
        producers = float(self.weight[i] * self.shares[i, i]) / share
        terms = self.weight**2 * self.variance[:, i]
        own, others = terms[i], terms.sum() - terms[i]
        variance = (1 - producers) ** 2 * own + producers**2 * others
        producers_error = math.sqrt(np.maximum(0.0, variance)) / share  # unlike max, keeps nan
        return share * total, error * total, float(users), users_error, producers, producers_error

    def overall_error(self) -> float:
        return math.sqrt(float(self.weight**2 @ self.variance.diagonal()))


def _row_shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return counts as shares of their rows, 0 in empty ones."""
    sums = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    return shares


def _variance(
    shares: NDArray[np.float64], drawn: NDArray[np.float64], unsampled: NDArray[np.float64], strata: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the variance of each share; nan in a stratum with a sample of one, unless that is the whole stratum."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = unsampled[:, None] * shares * (1 - shares) / (drawn - 1)[:, None]
    variance[~strata | (unsampled == 0)] = 0
    return variance


def _notes(
    sample: ConfusionMatrix, mapped: NDArray[np.float64], drawn: NDArray[np.float64], unsampled: NDArray[np.float64]
) -> Iterator[str]:
    on_map = [row for row in zip(sample.names, mapped, drawn, unsampled, strict=True) if row[1]]
    unreferenced = [f"{name} ({area / mapped.sum():.2%} of the map)" for name, area, count, _ in on_map if not count]
    if unreferenced:
        yield f"no reference for {', '.join(unreferenced)}: areas cover only the rest of the map"
    if sampled_once := [name for name, _, count, share in on_map if count == 1 and share]:
        yield f"only one sample for {', '.join(sampled_once)}: no interval can be estimated"
    if not unreferenced and not unsampled[drawn > 0].any():
        yield "the reference covers the whole map: there is no sampling error, and ± does not include its own errors"


def areas_in_words(areas: Areas) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heading and the rows of a table of areas for people."""
    unit, size = ("ha", _M2_OF_HA) if areas.unit == "m2" else (areas.unit, 1.0)
    heading = ("class", f"mapped, {unit}", f"area, {unit}", "95 % interval", "user's", "producer's", "sample")
    return heading, [
        (
            f"{class_area.name} ({class_area.code})",
            area_text(class_area.mapped / size),
            area_text(class_area.area / size),
            f"{area_text(class_area.low / size)} to {area_text(class_area.high / size)}",
            f"{ratio_text(class_area.users)} ± {ratio_text(class_area.users_error)}",
            f"{ratio_text(class_area.producers)} ± {ratio_text(class_area.producers_error)}",
            grouped(class_area.sample),
        )
        for class_area in areas.classes
    ]


def area_text(area: float) -> str:
    """Return an area as text: with two decimals if it is small, with two digits if it is smaller."""
    if abs(area) >= 1000:
        return grouped(area)
    return f"{area:.2g}" if 0.0001 <= area < 0.01 else f"{area:.2f}"
