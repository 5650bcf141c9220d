"""Simplified or smoothed polygons stay a coverage: no gaps or overlaps, none lost, all valid, same outline."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.vector.generalize import Generalization
from geoseg.vector.polygonize import Tracing, trace
from tests.vector.oracle import Features, check_orientation, to_features, true_features
from tests.vector.rasters import NODATA, Classes, adversarial, any_raster, crowded_raster, real, smooth_noise
from tests.vector.test_exact import HALF_METRES

Method = Literal["visvalingam", "douglas-peucker"]
METHODS: tuple[Method, ...] = ("visvalingam", "douglas-peucker")
TOLERANCES_PX = (0.5, 0.71, 1.0, 1.5, 3.0, 10.0)
PX_M = 0.5


@pytest.mark.parametrize("name", adversarial())
def test_hard_rasters_stay_a_coverage(name: str) -> None:
    """Each raster gets one tolerance per method; across rasters every method meets every tolerance."""
    tolerances = itertools.cycle(TOLERANCES_PX[::2])
    for _ in range(list(adversarial()).index(name)):
        next(tolerances)
    for (method, smooth), tolerance_px in zip(itertools.product(METHODS, (False, True)), tolerances, strict=False):
        _check(adversarial()[name], tolerance_px, method, smooth=smooth)


@pytest.mark.parametrize("method", METHODS)
def test_real_maps_stay_a_coverage(shared_data: Path, method: Method) -> None:
    for crop in real(shared_data).values():
        _check(crop[:80, :80], 1.5, method, smooth=False)
        _check(crop[:80, :80], 4.0, method, smooth=True)


@settings(max_examples=150, deadline=None)
@given(any_raster(), st.sampled_from(TOLERANCES_PX), st.sampled_from(METHODS), st.booleans())
@example(np.array([[0, 1], [1, 0]], np.uint8), 10.0, "visvalingam", False)
def test_any_raster_stays_a_coverage(classes: Classes, tolerance_px: float, method: Method, smooth: bool) -> None:  # noqa: FBT001
    _check(classes, tolerance_px, method, smooth=smooth)


@settings(max_examples=60, deadline=None)
@given(crowded_raster(), st.floats(0.1, 20), st.sampled_from(METHODS), st.booleans())
def test_any_noise_stays_a_coverage(classes: Classes, tolerance_px: float, method: Method, smooth: bool) -> None:  # noqa: FBT001
    _check(classes, tolerance_px, method, smooth=smooth)


def test_without_simplification_nodes_make_a_coverage() -> None:
    for classes in adversarial().values():
        made = to_features(trace(classes, NODATA, HALF_METRES, Tracing(nodes=True)))
        true = true_features(classes, NODATA, HALF_METRES)
        assert shapely.coverage_is_valid(made.shapes)
        assert np.all(shapely.equals(made.shapes, true.shapes))


@pytest.mark.parametrize("method", METHODS)
def test_next_to_no_tolerance_moves_nothing(method: Method) -> None:
    for classes in adversarial().values():
        made = _generalized(classes, 1e-6, method)
        true = true_features(classes, NODATA, HALF_METRES)
        assert np.all(shapely.equals(made.shapes, true.shapes))


def test_douglas_peucker_keeps_within_its_tolerance() -> None:
    for seed, tolerance_px in enumerate((0.8, 1.5, 4.0)):
        classes = smooth_noise((90, 80), 4, 2.0, seed, 0.1)
        true = true_features(classes, NODATA, HALF_METRES)
        made = _generalized(classes, tolerance_px, "douglas-peucker")
        assert _hausdorff_px(true, made).max() <= tolerance_px + 1e-9


@pytest.mark.parametrize("scale_px", [1.5, 4.0])
def test_visvalingam_is_as_good_as_shapelys(scale_px: float) -> None:
    classes = smooth_noise((200, 200), 5, scale_px, 21)
    true = true_features(classes, NODATA, HALF_METRES)
    made = _generalized(classes, 1.5, "visvalingam")
    kept_nodes = _generalized(classes, 1e-6, "visvalingam")
    theirs = shapely.coverage_simplify(kept_nodes.shapes, 1.5 * PX_M, simplify_boundary=False)
    assert _vertices(made.shapes) < 1.05 * _vertices(theirs)
    their_distances = _hausdorff_px(true, Features(true.codes, true.area_px, theirs))
    assert _hausdorff_px(true, made).mean() < 1.05 * their_distances.mean()
    assert _hausdorff_px(true, made).max() < 2 * their_distances.max()


@pytest.mark.parametrize("method", METHODS)
def test_more_tolerance_leaves_fewer_vertices(method: Method) -> None:
    classes = smooth_noise((120, 120), 4, 5.0, 31)
    left = [_vertices(_generalized(classes, tolerance, method).shapes) for tolerance in (1e-6, 0.8, 1.5, 3.0, 8.0)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0] / 4


def test_smoothing_takes_the_corners_off() -> None:
    classes = np.zeros((40, 50), np.uint8)
    classes[5:12, 4:20] = 1
    rows, cols = np.indices(classes.shape)
    classes[(rows - 25) ** 2 + (cols - 33) ** 2 < 150] = 2
    sharpest = [_sharpest_turns(_generalized(classes, 1.5, "visvalingam", smooth=smooth)) for smooth in (False, True)]
    assert max(sharpest[0]) > 85
    assert len(sharpest[1]) == 2
    assert max(sharpest[1]) < 45


def _generalized(classes: Classes, tolerance_px: float, method: Method, *, smooth: bool = False) -> Features:
    how = Generalization(method, tolerance_px, smooth=smooth)
    polygons = trace(classes, NODATA, HALF_METRES, Tracing(generalization=how))
    check_orientation(polygons)
    return to_features(polygons)


def _check(classes: Classes, tolerance_px: float, method: Method, *, smooth: bool) -> None:
    true = true_features(classes, NODATA, HALF_METRES)
    made = _generalized(classes, tolerance_px, method, smooth=smooth)
    assert made.codes.tolist() == true.codes.tolist()
    assert made.area_px.tolist() == true.area_px.tolist()
    invalid = ~shapely.is_valid(made.shapes)
    assert not invalid.any(), shapely.is_valid_reason(made.shapes[invalid])
    assert np.all(shapely.area(made.shapes) > 0)
    assert shapely.coverage_is_valid(made.shapes)
    if NODATA not in classes:
        _check_outline(classes, made.shapes)
    if not smooth:
        assert _vertices(made.shapes) <= _vertices(_generalized(classes, 1e-6, method).shapes)


def _check_outline(classes: Classes, shapes: NDArray[Any]) -> None:
    """Assert that the polygons fill exactly the raster's box: area, bounds and union."""
    rows, cols = classes.shape
    x, y = HALF_METRES.c, HALF_METRES.f
    box = shapely.box(x, y - rows * PX_M, x + cols * PX_M, y)
    assert np.isclose(shapely.area(shapes).sum(), box.area, rtol=1e-9)
    assert shapely.equals(shapely.coverage_union_all(shapes), box)


def _hausdorff_px(true: Features, made: Features) -> NDArray[np.float64]:
    one, other = shapely.boundary(true.shapes), shapely.boundary(made.shapes)
    return np.asarray(shapely.hausdorff_distance(one, other, densify=0.1)) / PX_M


def _vertices(shapes: NDArray[Any]) -> int:
    return int(shapely.get_num_coordinates(shapes).sum())


def _sharpest_turns(features: Features) -> list[float]:
    """Return the largest turn in degrees of each polygon whose class is not 0."""
    sharpest = []
    for shape in features.shapes[features.codes > 0]:
        steps = np.diff(shapely.get_coordinates(shape.exterior), axis=0)
        angles = np.arctan2(steps[:, 1], steps[:, 0])
        turns = np.angle(np.exp(1j * np.diff(angles, append=angles[:1])))
        sharpest.append(float(np.degrees(abs(turns).max())))
    return sharpest
