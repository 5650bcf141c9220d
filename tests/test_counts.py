"""Counts of pairs of codes, against numpy pixel by pixel: any codes, types, sizes, masks and memory layouts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.counts import MOST_CODES, NONE, PairCounts, StoredCodes, codes_in, count_bytes, count_pairs
from geoseg.errors import SceneError

Pixels = NDArray[Any]
NAMES = ("reference", "map")
POOLS: dict[str, tuple[int, ...]] = {
    "one": (7,),
    "few": (0, 1, 2, 5),
    "four bits less one, and nodata": (*range(15), 255),
    "one code too many": (0, 3, 14, 15),
    "two codes that look alike in four bits": (0, 16, 239, 240, 254, 255),
    "all bytes": tuple(range(256)),
}


def by_hand(
    reference: StoredCodes, mapped: StoredCodes, row_areas: Pixels
) -> tuple[Counter[tuple[int, int]], dict[Any, float]]:
    """Return the pixels and the area of each pair, counted pixel by pixel."""
    named = []
    for each in (reference, mapped):
        valid = np.ones(each.data.shape, bool) if each.valid is None else each.valid
        left_out = ~valid if each.nodata is None else ~valid | (each.data == each.nodata)
        named.append(np.where(left_out, NONE, each.data.astype(np.int64)).tolist())
    pixels: Counter[tuple[int, int]] = Counter()
    areas: dict[Any, float] = {}
    for theirs, ours, area in zip(*named, row_areas.tolist(), strict=True):
        for pair in zip(theirs, ours, strict=True):
            pixels[pair] += 1
            areas[pair] = areas.get(pair, 0.0) + area
    return pixels, areas


def check(reference: StoredCodes, mapped: StoredCodes, row_areas: Pixels) -> None:
    pixels, areas = by_hand(reference, mapped, row_areas)
    found = count_pairs(reference, mapped, row_areas, NAMES)
    assert found.pixels == pixels
    assert found.areas == pytest.approx(areas, rel=1e-12)
    assert count_pairs(reference, mapped, None, NAMES) == PairCounts(pixels, {})


def laid_out(pixels: Pixels, how: str) -> Pixels:
    """Return the same pixels in another memory layout."""
    height, width = pixels.shape
    if how == "columns first":
        return np.asfortranarray(pixels)
    if how == "part of another":
        whole = np.full((height + 2, width + 3), 1, pixels.dtype)
        whole[1:-1, 1:-2] = pixels
        return whole[1:-1, 1:-2]
    if how == "backwards":
        return np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1]
    if how == "off the words":
        return np.append(np.zeros(3, pixels.dtype), pixels.ravel())[3:].reshape(height, width)
    return pixels


def drawn(seed: int, height: int, width: int, pool: tuple[int, ...], parcel_px: int) -> Pixels:
    """Return random square parcels of codes; parcels of one pixel are noise."""
    codes = np.random.default_rng(seed).choice(pool, (height // parcel_px + 1, width // parcel_px + 1))
    return np.kron(codes, np.ones((parcel_px, parcel_px), np.int64))[:height, :width]


@st.composite
def rasters(draw: st.DrawFn, height: int, width: int) -> StoredCodes:
    pool = POOLS[draw(st.sampled_from(sorted(POOLS)))]
    seed = draw(st.integers(0, 2**32 - 1))
    pixels = drawn(seed, height, width, pool, draw(st.sampled_from([1, 2, 9, 33])))
    dtype = draw(st.sampled_from(["uint8", "uint8", "uint8", "int16", "int32"]))
    if dtype != "uint8" and draw(st.booleans()):
        pixels = pixels * 100 - 300
    layout = draw(st.sampled_from(["as it is", "columns first", "part of another", "backwards", "off the words"]))
    share = draw(st.sampled_from([None, 0.0, 0.5, 0.9, 1.0]))
    valid = None if share is None else np.random.default_rng(seed + 1).random((height, width)) < share
    nodata = draw(st.sampled_from([None, 0, 14, 255]))
    codes = laid_out(pixels.astype(dtype), layout)
    return StoredCodes(codes, None if valid is None else laid_out(valid, layout), nodata)


@settings(max_examples=120, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_each_pixel_counts_once_for_its_pair(data: st.DataObject, height: int, width: int) -> None:
    row_areas = np.random.default_rng(height).uniform(0.5, 2, height)
    check(data.draw(rasters(height, width)), data.draw(rasters(height, width)), row_areas)


@pytest.mark.parametrize("pixels", [*range(1, 10), 15, 16, 17])
def test_windows_of_a_few_pixels(pixels: int) -> None:
    codes = np.arange(pixels, dtype=np.uint8)[None]
    for shaped in (codes, codes.T):
        check(StoredCodes(shaped, None, 3), StoredCodes(shaped[::-1, ::-1], None, None), np.linspace(1, 2, len(shaped)))


@pytest.mark.parametrize("whose", [(True, False), (False, True), (True, True)])
def test_one_pixel_that_is_masked_is_not_valid(whose: tuple[bool, bool]) -> None:
    codes = np.full((1, 1), 5, np.uint8)
    reference, mapped = (StoredCodes(codes, np.zeros((1, 1), bool) if masked else None, None) for masked in whose)
    found = count_pairs(reference, mapped, np.ones(1), NAMES)
    assert found.pixels == {tuple(NONE if masked else 5 for masked in whose): 1}
    assert found.areas == {tuple(NONE if masked else 5 for masked in whose): 1.0}


@pytest.mark.parametrize("parcel_px", [1, 23])
@pytest.mark.parametrize("strangers", [0, 1, 4000])
def test_a_code_that_comes_late_among_many_pixels(strangers: int, parcel_px: int) -> None:
    height, width = 611, 997
    rows, cols = (drawn(seed, height, width, (*range(7), 255), parcel_px).astype(np.uint8) for seed in (1, 2))
    places = np.random.default_rng(3).choice(np.arange(rows.size // 3, rows.size), strangers, replace=False)
    cols.flat[places] = np.random.default_rng(4).integers(15, 255, strangers)
    counts = np.bincount(rows.ravel().astype(np.int64) * 256 + cols.ravel(), minlength=2**16)
    wanted = {divmod(int(cell), 256): int(counts[cell]) for cell in np.flatnonzero(counts)}
    assert count_pairs(StoredCodes(rows, None, None), StoredCodes(cols, None, None), None, NAMES).pixels == wanted
    found = count_pairs(StoredCodes(rows, None, 255), StoredCodes(cols, None, 255), np.ones(height), NAMES)
    named = {tuple(NONE if code == 255 else code for code in pair): pixels for pair, pixels in wanted.items()}
    assert found.pixels == named
    assert found.areas == named
    assert sum(found.pixels.values()) == height * width


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32"])
@pytest.mark.parametrize("share", [None, 0.5, 0.0])
@pytest.mark.parametrize("spread", [1, 997])
def test_codes_are_those_of_the_valid_pixels(dtype: str, share: float | None, spread: int) -> None:
    low = 0 if dtype.startswith("u") else -20
    spread = 1 if np.dtype(dtype).itemsize == 1 else spread
    data = (np.random.default_rng(1).integers(low, 60, (31, 17)) * spread).clip(low * spread).astype(dtype)
    valid = None if share is None else np.random.default_rng(2).random(data.shape) < share
    held = data if valid is None else data[valid]
    assert codes_in(data, valid).tolist() == sorted({int(code) for code in held.ravel()})
    if dtype == "uint8":
        wanted = [int(np.count_nonzero(held == code)) for code in range(256)]
        assert count_bytes(held).tolist() == wanted


@pytest.mark.parametrize("step", [1, 100_000])
def test_a_raster_of_too_many_codes_is_none_of_classes(step: int) -> None:
    data = np.arange(MOST_CODES + 1, dtype=np.int32)[None] * step
    few = StoredCodes(np.zeros_like(data), None, None)
    with pytest.raises(SceneError, match="elevation has more than 1024 codes"):
        count_pairs(few, StoredCodes(data, None, None), None, ("reference", "elevation"))
    fewer = StoredCodes(data[:, 1:], None, None)
    assert len(count_pairs(None, fewer, None, NAMES).pixels) == MOST_CODES
