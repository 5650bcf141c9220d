"""A page and a picture show exactly the valid pixels of a scene, whatever hides the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from geoseg.display import overview_source
from geoseg.display.overview_source import OverviewSource
from geoseg.display.placement import read_beside
from geoseg.raster import Scene
from tests.display.maps import write_map
from tests.raster.conftest import NORTH_UP, UTM
from tests.raster.test_validity import COARSE, KINDS, SHAPE, Kind, name_of, write

SOME = KINDS[::3] + KINDS[-9:]


@pytest.mark.parametrize("kind", SOME, ids=name_of)
def test_a_scene_beside_its_map_is_transparent_where_it_is_not_valid(tmp_path: Path, kind: Kind) -> None:
    path, expected = write(kind, tmp_path / "scene.tif")
    codes = np.zeros((SHAPE[0] // COARSE, SHAPE[1] // COARSE), np.uint8)
    landcover = write_map(tmp_path / "map.tif", codes, crs=UTM, transform=NORTH_UP @ Affine.scale(COARSE))
    scene, coarse = Scene.open(path, bands=kind.bands), expected[::COARSE, ::COARSE]
    patch = read_beside(scene, Scene.open(landcover), max(SHAPE) // COARSE)
    np.testing.assert_array_equal(patch.valid, coarse)
    with rasterio.open(path) as file:
        pixels = file.read(kind.used).astype(float)
    means = pixels.reshape(len(kind.used), coarse.shape[0], COARSE, coarse.shape[1], COARSE).mean(axis=(2, 4))
    assert np.abs(patch.data - means)[:, coarse].max(initial=0) <= 1


@pytest.mark.parametrize(
    ("kind", "resampling"),
    [(kind, (Resampling.average, Resampling.nearest)[number % 2]) for number, kind in enumerate(SOME)],
    ids=lambda value: name_of(value) if isinstance(value, Kind) else value.name,
)
def test_a_copy_of_a_huge_scene_hides_the_same(
    tmp_path: Path, kind: Kind, resampling: Resampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_source, "_COPY_PX", max(SHAPE) // COARSE)
    path, expected = write(kind, tmp_path / "scene.tif")
    scene = Scene.open(path, bands=kind.bands)
    with OverviewSource(scene, resampling) as source, source.at(COARSE) as (dataset, factor):
        assert factor == COARSE
        assert dataset.shape == (SHAPE[0] // COARSE, SHAPE[1] // COARSE)
        bands = list(range(1, len(kind.used) + 1))
        data = dataset.read(bands)
        if dataset.count > len(bands):
            valid = dataset.read(dataset.count) != 0
        else:
            valid = (data != dataset.nodata).any(axis=0) if dataset.nodata is not None else np.ones(dataset.shape, bool)
    np.testing.assert_array_equal(valid, expected[::COARSE, ::COARSE])
