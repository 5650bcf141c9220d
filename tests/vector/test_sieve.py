"""The minimum mapping unit, against a literal implementation: one region at a time, everything recomputed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.vector.sieve import find_neighbors, sieve
from tests.vector.rasters import NODATA, Classes, adversarial, any_raster, checkerboard, crowded_raster, noise, real

HEIGHTS = (1, 2, 3, 7)


def regions(classes: NDArray[Any], background: int, connectivity: int) -> NDArray[np.int64]:
    """Return (row, col) the number of each pixel's region, from 0 in the order of first pixels; -1 for background."""
    found = np.zeros(classes.shape, np.int64)
    for code in np.unique(classes[classes != background]):
        labels, _ = ndimage.label(classes == code, ndimage.generate_binary_structure(2, 1 + (connectivity == 8)))
        found[labels > 0] = labels[labels > 0] + found.max()
    names, first, numbers = np.unique(found, return_index=True, return_inverse=True)
    first[names == 0] = -1
    order: NDArray[np.int64] = np.argsort(np.argsort(first)) - (names[0] == 0)
    return order[numbers.reshape(classes.shape)]


def borders(numbers: NDArray[np.int64], side_weights: tuple[int, int]) -> dict[int, Counter[int]]:
    """Return the length of border that each region shares with each of its neighbors."""
    shared: dict[int, Counter[int]] = {}
    sides = zip(
        (numbers[:-1], numbers[:, :-1]),
        (numbers[1:], numbers[:, 1:]),
        side_weights,
        strict=True,
    )
    for here, there, length in sides:
        for one, other in zip(here.ravel().tolist(), there.ravel().tolist(), strict=True):
            if one != other and min(one, other) >= 0:
                shared.setdefault(one, Counter())[other] += length
                shared.setdefault(other, Counter())[one] += length
    return shared


def truly_sieved(
    classes: NDArray[Any],
    background: int,
    threshold: int,
    row_weights: NDArray[np.int64] | None = None,
    side_weights: tuple[int, int] = (1, 1),
    connectivity: int = 4,
) -> NDArray[Any]:
    sieved = classes.copy()
    pixel_weights = np.ones(len(classes), np.int64) if row_weights is None else row_weights
    each = np.repeat(pixel_weights, classes.shape[1])
    while True:
        numbers = regions(sieved, background, connectivity)
        weights = np.bincount(numbers.ravel() + 1, each)[1:]
        shared = borders(numbers, side_weights)
        light = [(weights[region], region) for region in shared if weights[region] < threshold]
        if not light:
            return sieved
        _, region = min(light)
        longest, lowest = max((length, -other) for other, length in shared[region].items())
        assert longest > 0
        sieved[numbers == region] = sieved[numbers == -lowest][0]


def quickly_sieved(
    classes: NDArray[Any], background: int, threshold: int, height: int | None = None, **options: Any
) -> NDArray[Any]:
    height = height or len(classes)

    def strips() -> Iterator[NDArray[Any]]:
        return (classes[row : row + height] for row in range(0, len(classes), height))

    made = list(sieve(strips, background, classes.shape[1], threshold, **options)())
    assert [strip.shape for strip in made] == [strip.shape for strip in strips()]
    return np.concatenate(made)


def check_heights(classes: NDArray[Any], threshold: int, expected: NDArray[Any], **options: Any) -> None:
    for height in (*HEIGHTS, len(classes)):
        made = quickly_sieved(classes, NODATA, threshold, height, **options)
        assert made.dtype == classes.dtype
        np.testing.assert_array_equal(made, expected, f"strips of {height} rows")


@settings(max_examples=80, deadline=None)
@given(any_raster(), st.integers(1, 30), st.sampled_from((4, 8)))
def test_small_rasters_are_sieved_by_the_rule(classes: Classes, threshold: int, connectivity: int) -> None:
    expected = truly_sieved(classes, NODATA, threshold, connectivity=connectivity)
    check_heights(classes, threshold, expected, connectivity=connectivity)


@settings(max_examples=60, deadline=None)
@given(crowded_raster(20), st.integers(1, 30), st.data())
def test_weights_of_rows_and_sides_count(classes: Classes, threshold: int, data: st.DataObject) -> None:
    options: dict[str, Any] = {
        "row_weights": np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(classes), max_size=len(classes)))),
        "side_weights": data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "connectivity": data.draw(st.sampled_from((4, 8))),
    }
    check_heights(classes, 4 * threshold, truly_sieved(classes, NODATA, 4 * threshold, **options), **options)


@pytest.mark.parametrize("name", adversarial())
def test_hard_rasters_are_sieved_by_the_rule(name: str) -> None:
    classes = adversarial()[name][:20, :20]
    turn = list(adversarial()).index(name) % 2
    for threshold, connectivity in ((2, 4), (9, 8)) if turn else ((2, 8), (9, 4)):
        expected = truly_sieved(classes, NODATA, threshold, connectivity=connectivity)
        check_heights(classes, threshold, expected, connectivity=connectivity)


@settings(max_examples=50, deadline=None)
@given(crowded_raster(60), st.integers(1, 200), st.sampled_from((4, 8)))
def test_what_is_left_is_heavy_or_alone(classes: Classes, threshold: int, connectivity: int) -> None:
    made = quickly_sieved(classes, NODATA, threshold, 16, connectivity=connectivity)
    np.testing.assert_array_equal(made == NODATA, classes == NODATA)
    assert set(np.unique(made)) <= set(np.unique(classes))
    numbers = regions(made, NODATA, connectivity)
    weights = np.bincount(numbers[numbers >= 0], minlength=1)
    assert not [region for region in borders(numbers, (1, 1)) if weights[region] < threshold]


def test_real_maps_do_not_depend_on_the_strip_height_and_are_sieved_once_for_all(shared_data: Path) -> None:
    for name, crop in real(shared_data).items():
        for threshold in (25, 400):
            expected = quickly_sieved(crop, NODATA, threshold)
            np.testing.assert_array_equal(quickly_sieved(crop, NODATA, threshold, 7), expected, name)
            np.testing.assert_array_equal(quickly_sieved(expected, NODATA, threshold, 64), expected, name)


def test_real_maps_are_sieved_by_the_rule(shared_data: Path) -> None:
    changed = set()
    for name, crop in real(shared_data).items():
        if crop.max(initial=0, where=crop != NODATA) < 7:  # land cover, not a photograph
            expected = truly_sieved(crop[50:150, 50:150], NODATA, 150)
            np.testing.assert_array_equal(quickly_sieved(crop[50:150, 50:150], NODATA, 150, 16), expected, name)
            changed |= {name.split("/")[0]} if (expected != crop[50:150, 50:150]).any() else set()
    assert changed >= {"deepglobe"}


def test_equal_weights_go_by_the_first_pixel() -> None:
    row = np.array([[1, 1, 2, 3, 4, 4]], np.uint8)  # 2 goes first, to 1, on a tie with 3; then 3, to 1 too
    assert quickly_sieved(row, NODATA, 2).tolist() == [[1, 1, 1, 1, 4, 4]]


def test_borders_are_added_up_when_regions_are_joined_on_the_way() -> None:
    classes = np.array([[1, 2, 1], [1, NODATA, 1], [1, 4, 1], [3, 3, 3]], np.uint8)
    joined = [
        [1, 1, 1],
        [1, NODATA, 1],
        [1, 1, 1],
        [3, 3, 3],
    ]  # the 2 makes one of both 1s: with 4 they share 4, 3 has 3
    assert quickly_sieved(classes, NODATA, 2, side_weights=(3, 2)).tolist() == joined
    classes[0, 1] = NODATA
    assert quickly_sieved(classes, NODATA, 2, side_weights=(3, 2))[2].tolist() == [1, 3, 1]


def test_a_checkerboard_becomes_one_region() -> None:
    for classes in (checkerboard((12, 13), 1), checkerboard((12, 13), 2)):
        made = quickly_sieved(classes, NODATA, 5)
        assert len(np.unique(regions(made, NODATA, 4))) == 1
    board = checkerboard((12, 13), 1)
    np.testing.assert_array_equal(quickly_sieved(board, NODATA, 5, connectivity=8), board)  # two heavy regions already


def test_an_island_in_nodata_stays() -> None:
    classes = np.full((5, 5), NODATA, np.uint8)
    classes[2, 2] = 0
    np.testing.assert_array_equal(quickly_sieved(classes, NODATA, 100, 2), classes)


def test_codes_may_be_wide_and_the_background_negative() -> None:
    classes = noise((24, 18), 5, seed=3, nodata=0.1).astype(np.int32)
    wide = np.where(classes == NODATA, -1, classes * 100_000)
    made = quickly_sieved(wide, -1, 12, 7)
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made, truly_sieved(wide, -1, 12))


def test_a_threshold_of_one_pixel_and_nothing_at_all_change_nothing() -> None:
    classes = noise((30, 30), 4, seed=1)
    np.testing.assert_array_equal(quickly_sieved(classes, NODATA, 1, 7), classes)
    assert list(sieve(lambda: iter(()), NODATA, 5, 10)()) == []


def test_heavy_regions_cost_no_borders() -> None:
    rows, cols = np.indices((400, 300))
    blocks = ((rows // 20 + cols // 20) % 3).astype(np.uint8)
    blocks[10::20, 10::20] = 3
    found = find_neighbors(iter(np.split(blocks, 8)), NODATA, 300, 25, None, (1, 1), 4)
    assert (found.weights < 25).sum() == 20 * 15
    assert len(found.others) == len(found.lengths) == 20 * 15  # each single pixel lies in one block
    assert found.lengths.tolist() == [4] * (20 * 15)
