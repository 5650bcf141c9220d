"""Polygons equal rasterio's and GDAL's: same regions and vertices, correct holes, class 0 kept, nodata left out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from numpy.typing import NDArray

from geoseg.vector.polygonize import trace
from tests.vector.oracle import Features, check_equal, check_orientation, to_features, true_features
from tests.vector.rasters import NODATA, Classes, adversarial, any_raster, crowded_raster, noise, real, smooth_noise

HALF_METRES = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
"""A transform under which every lattice point is an exact binary number."""
PLACES = {
    "north up": Affine(0.3, 0, 431_177.1, 0, -0.3, 5_012_345.7),
    "south up": Affine(10, 0, 300_000, 0, 10, 4_000_000),
    "mirrored": Affine(-0.6, 0, 500_000, 0, -0.6, 4_000_000),
    "turned half": Affine(-2, 0, 500_000, 0, 2, 4_000_000),
    "rotated": Affine.translation(7e5, 9e6) @ Affine.rotation(33) @ Affine.scale(5, -5),
    "rotated, south up": Affine.translation(7e5, 9e6) @ Affine.rotation(-71) @ Affine.scale(5, 5),
    "transposed": Affine(0, 2, 7e5, 2, 0, 9e6),
    "degrees": Affine(1 / 12_000, 0, -77.03, 0, -1 / 12_000, 38.9),
}


@pytest.mark.parametrize("name", adversarial())
def test_hard_rasters_equal_rasterios(name: str) -> None:
    _check(adversarial()[name])


def test_crops_of_real_maps_equal_rasterios(shared_data: Path) -> None:
    crops = real(shared_data)
    assert len(crops) > 5
    for crop in crops.values():
        _check(crop)


@settings(max_examples=200, deadline=None)
@given(any_raster())
def test_any_small_raster_equals_rasterios(classes: Classes) -> None:
    _check(classes)


@settings(max_examples=60, deadline=None)
@given(crowded_raster())
def test_any_noise_equals_rasterios(classes: Classes) -> None:
    _check(classes)


@pytest.mark.parametrize("place", PLACES)
def test_placed_and_wound_rightly_however_the_raster_lies(place: str) -> None:
    transform = PLACES[place]
    for classes in (noise((19, 23), 3, 9, 0.1), adversarial()["islands"], adversarial()["hole touches the outside"]):
        polygons = trace(classes, NODATA, transform)
        check_orientation(polygons)
        true = true_features(classes, NODATA, transform)
        made = to_features(polygons)
        check_equal(_rounded(made, transform), _rounded(true, transform))
        pixel_area = abs(transform.determinant)
        assert np.allclose(
            shapely.area(made.shapes), true.area_px * pixel_area, rtol=1e-3 if pixel_area < 1e-6 else 1e-9
        )


@pytest.mark.parametrize(
    ("codes", "background"),
    [([0, 1, 2], 0), ([0, 254, 255], 254), ([7, 3], 99)],
    ids=["background 0", "255 is a class", "no background"],
)
def test_any_byte_may_be_the_background(codes: list[int], background: int) -> None:
    classes = np.array(codes, np.uint8)[noise((12, 14), len(codes), 4)]
    _check(classes, background)
    assert set(trace(classes, background, HALF_METRES).codes) == set(codes) - {background}


@pytest.mark.parametrize("background", [-1, -2_147_483_648, 70_000])
def test_codes_beyond_a_byte_are_kept(background: int) -> None:
    codes = np.array([0, -7, 2_147_483_647, 70_000, 256, background], np.int32)
    classes = codes[noise((17, 13), len(codes), 5)]
    _check(classes, background)


def test_a_row_longer_than_sixteen_bits_is_traced() -> None:
    classes = np.repeat(noise((2, 1000), 2, 6), 70, axis=1)
    _check(classes)
    _check(classes.T.copy())


def test_equal_to_gdal_polygonize(tmp_path: Path) -> None:
    program = shutil.which("gdal_polygonize.py")
    if program is None:
        pytest.skip("gdal_polygonize.py is not installed (Debian: gdal-bin)")
    classes = smooth_noise((150, 170), 5, 1.0, 7, 0.15)
    raster, vector = tmp_path / "classes.tif", tmp_path / "polygons.fgb"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NODATA, "crs": "EPSG:32618"}
    height, width = classes.shape
    with rasterio.open(raster, "w", height=height, width=width, transform=HALF_METRES, **profile) as dataset:
        dataset.write(classes, 1)
    subprocess.run([program, raster, "-q", "-f", "FlatGeobuf", vector, "polygons", "code"], check=True)
    _, _, theirs, (codes,) = pyogrio.raw.read(vector)
    made = to_features(trace(classes, NODATA, HALF_METRES))
    assert _multiset(made.codes, made.shapes) == _multiset(codes, shapely.normalize(shapely.from_wkb(theirs)))


def _check(classes: NDArray[Any], background: int = NODATA) -> None:
    polygons = trace(classes, background, HALF_METRES)
    check_orientation(polygons)
    made = to_features(polygons)
    check_equal(made, true_features(classes, background, HALF_METRES))
    assert np.all(shapely.is_valid(made.shapes))
    assert np.array_equal(shapely.area(made.shapes) * 4, made.area_px)
    assert made.area_px.sum() == np.count_nonzero(classes != background)


def _rounded(features: Features, transform: Affine) -> Features:
    """Return the features moved back onto the pixel lattice, since programs round an inexact transform differently."""
    back = ~transform

    def to_lattice(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        cols_rows: NDArray[np.float64] = xy @ np.array([[back.a, back.d], [back.b, back.e]]) + (back.c, back.f)
        assert np.all(abs(cols_rows - np.rint(cols_rows)) < 1e-5)
        rounded: NDArray[np.float64] = np.rint(cols_rows)
        return rounded

    shapes = shapely.normalize(shapely.transform(features.shapes, to_lattice))
    return Features(features.codes, features.area_px, shapes)


def _multiset(codes: NDArray[Any], shapes: NDArray[Any]) -> list[tuple[int, str]]:
    return sorted(zip(codes.tolist(), shapely.to_wkb(shapes, hex=True).tolist(), strict=True))
