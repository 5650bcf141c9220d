"""The strip height changes nothing: the same features in the same order, bit for bit, for any height."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.vector.generalize import Generalization
from geoseg.vector.polygonize import Tracing, trace_strips
from geoseg.vector.polygons import Polygons
from geoseg.vector.trace import pending_arcs
from tests.vector.rasters import NODATA, Classes, adversarial, any_raster, crowded_raster, real, smooth_noise
from tests.vector.test_exact import HALF_METRES

HEIGHTS = (1, 2, 3, 7)
GENERALIZED = [
    Generalization("visvalingam", 1.5),
    Generalization("visvalingam", 8.0),
    Generalization("visvalingam", 1.5, smooth=True),
    Generalization("douglas-peucker", 1.5),
    Generalization("douglas-peucker", 6.0, smooth=True),
]


@pytest.mark.parametrize("name", adversarial())
def test_hard_rasters_do_not_depend_on_the_strip_height(name: str) -> None:
    _check(adversarial()[name], HEIGHTS)


def test_real_maps_do_not_depend_on_the_strip_height(shared_data: Path) -> None:
    for crop in real(shared_data).values():
        _check(crop[:120, :120], (1, 16, 67))


@settings(max_examples=100, deadline=None)
@given(any_raster(), st.data())
def test_any_cuts_give_the_same(classes: Classes, data: st.DataObject) -> None:
    inner = st.lists(st.integers(1, max(1, len(classes) - 1)), unique=True, max_size=len(classes) - 1)
    cuts = sorted(data.draw(inner if len(classes) > 1 else st.just([])))
    _check_equal(_joined(_traced(np.split(classes, cuts), len(classes))), _joined(_traced([classes], len(classes))))


@settings(max_examples=60, deadline=None)
@given(crowded_raster(), st.integers(1, 9))
def test_any_noise_gives_the_same(classes: Classes, height: int) -> None:
    _check(classes, (height,))


OPTIONS: list[dict[str, Any]] = [{"nodes": True}, {"budget": 0}, {"budget": 4000}]


@pytest.mark.parametrize("first", range(len(OPTIONS)))
def test_neither_does_what_depends_on_options(first: int) -> None:
    """Options do not change that: each raster is cut into strips of two heights, with one set of options."""
    for number, classes in enumerate(adversarial().values()):
        if number % len(OPTIONS) != first:
            _check(classes, ((1, 5)[number // 3 % 2],), **OPTIONS[first])


@pytest.mark.parametrize("first", range(len(GENERALIZED)))
def test_neither_do_simpler_borders(first: int) -> None:
    """Generalization does not change that: each raster meets two of five ways; each way meets every height."""
    for number, classes in enumerate(adversarial().values()):
        if (number - first) % len(GENERALIZED) in {0, 2}:
            _check(classes, ((1, 5, 2)[number // 5 % 3],), generalization=GENERALIZED[first])


@settings(max_examples=80, deadline=None)
@given(crowded_raster(24), st.integers(1, 6), st.sampled_from(GENERALIZED))
def test_any_simpler_noise_is_the_same(classes: Classes, height: int, how: Generalization) -> None:
    _check(classes, (height,), generalization=how)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_neither_does_what_is_put_away(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_arcs, "LEAST_ARCS", 1)
    how = [None, GENERALIZED[2], GENERALIZED[3]][first]
    for classes in list(adversarial().values())[first::3]:
        _check(classes, (3,), generalization=how)
    for seed in range(4):
        _check(smooth_noise((40, 24), 2, seed), (1, 5), generalization=how)


def test_arcs_of_a_region_that_stays_open_are_put_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_arcs, "LEAST_ARCS", 1)
    sea = np.zeros((60, 9), np.uint8)
    sea[1::3, 1::3] = 1
    held = []
    put_away = pending_arcs.PendingArcs.put_away

    def spy(self: pending_arcs.PendingArcs, arcs: Any, *rest: Any) -> Any:
        held.append(len(arcs.starts))
        return put_away(self, arcs, *rest)

    monkeypatch.setattr(pending_arcs.PendingArcs, "put_away", spy)
    _joined(_traced(_cut(sea, 3), len(sea)))
    assert max(held[:-1]) < 20  # of 60 islets, each with an arc of its own
    assert held[-1] > 60


def test_what_is_on_the_disk_is_the_same() -> None:
    classes = adversarial()["double spiral"]
    _check_equal(
        _joined(_traced(_cut(classes, 2), len(classes), budget=0)), _joined(_traced(_cut(classes, 2), len(classes)))
    )


def test_what_is_finished_is_handed_on_and_nothing_waits_for_the_end() -> None:
    classes = smooth_noise((2000, 40), 6, 1.0, 11)
    read = 0

    def strips() -> Iterator[Classes]:
        nonlocal read
        for strip in _cut(classes, 20):
            read += 1
            yield strip

    waiting = []
    handed_on = 0
    for batch in _traced(strips(), len(classes)):
        handed_on += int(batch.area_px.sum())
        waiting.append(read * 20 * 40 - handed_on)
    assert handed_on == classes.size
    assert max(waiting) < 120 * 40


def _traced(strips: Iterable[Classes], height: int, **options: Any) -> Iterator[Polygons]:
    return trace_strips(strips, height, NODATA, HALF_METRES, Tracing(**options))


def _cut(classes: Classes, height: int) -> list[Classes]:
    return [classes[row : row + height] for row in range(0, len(classes), height)]


def _check(classes: Classes, heights: Iterable[int], **options: Any) -> None:
    whole = _joined(_traced([classes], len(classes), **options))
    assert whole.area_px.sum() == np.count_nonzero(classes != NODATA)
    for height in heights:
        _check_equal(_joined(_traced(_cut(classes, height), len(classes), **options)), whole)


def _joined(batches: Iterable[Polygons]) -> Polygons:
    found = list(batches)
    assert found, "not even an empty batch"
    return Polygons(
        np.concatenate([batch.codes for batch in found]),
        np.concatenate([batch.area_px for batch in found]),
        _offsets([batch.features for batch in found]),
        _offsets([batch.polygons for batch in found]),
        _offsets([batch.rings for batch in found]),
        np.concatenate([batch.xy for batch in found]),
    )


def _offsets(batches: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    counts = np.concatenate([np.diff(offsets) for offsets in batches])
    return np.append(0, np.cumsum(counts))


def _check_equal(made: Polygons, whole: Polygons) -> None:
    for field in ("codes", "area_px", "features", "polygons", "rings", "xy"):
        one, other = getattr(made, field), getattr(whole, field)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other), field
