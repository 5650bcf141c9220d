"""Scenes at another resolution: means, in any window, with the place kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import array_bounds

from geoseg.dataset.resample import Axis, resample_image
from geoseg.dataset.scaled import scaled
from geoseg.errors import UsageError
from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window

from .conftest import noise, write_raster


@pytest.mark.parametrize("name", ["scene.tif", "scene.png"])
@pytest.mark.parametrize("factor", [0.25, 0.37])
def test_pixels_are_means_in_any_window(tmp_path: Path, name: str, factor: float) -> None:
    scene = Scene.open(str(write_raster(tmp_path / name, noise(3, 240, 200))))
    small = scaled(scene, factor, tmp_path)
    assert small.shape == (round(240 * factor), round(200 * factor))
    whole = small.read(Window(0, 0, *small.shape))
    rows, cols = Axis(240, small.shape[0]), Axis(200, small.shape[1])
    expected = resample_image(scene.read(Window(0, 0, 240, 200)), rows, cols, 0, small.shape[0])
    assert np.abs(whole.data.astype(int) - expected.data).max() <= 1
    assert whole.valid.all()
    window = Window(11, 7, 23, 30)
    assert np.array_equal(small.read(window).data, whole.data[:, window.rows, window.cols])


def test_place_bands_and_validity_stay(tmp_path: Path) -> None:
    data = noise(4, 120, 160, dtype="uint16", high=4000)
    data[:, :40, :80] = 0
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", data, nodata=0)), bands=(3, 1))
    small = scaled(scene, 0.5, tmp_path)
    assert small.geobox.crs == scene.geobox.crs
    assert small.geobox.gsd_m == pytest.approx(20.0)
    assert array_bounds(*small.shape, small.geobox.transform) == array_bounds(*scene.shape, scene.geobox.transform)
    patch = small.read(Window(0, 0, 60, 80))
    assert not patch.valid[:20, :40].any()
    assert patch.valid[20:].all()
    expected = data[[2, 0]].reshape(2, 60, 2, 80, 2).mean(axis=(2, 4))
    assert np.abs(patch.data.astype(float) - expected)[:, 20:].max() <= 0.5


def test_masks_stay_and_no_invalid_pixel_colours_its_neighbours(tmp_path: Path) -> None:
    import rasterio  # noqa: PLC0415

    path = write_raster(tmp_path / "scene.tif", np.full((1, 64, 64), 200, np.uint8))
    valid = np.ones((64, 64), bool)
    valid[:16] = False
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(valid)
    small = scaled(Scene.open(str(path)), 0.25, tmp_path)
    patch = small.read(Window(0, 0, 16, 16))
    assert np.array_equal(patch.valid, valid[::4, ::4])
    assert (patch.data[0][patch.valid] == 200).all()


def test_growing_keeps_the_extent_and_one_is_the_scene_itself(tmp_path: Path) -> None:
    scene = Scene.open(str(write_raster(tmp_path / "scene.tif", noise(1, 30, 40, dtype="float32"))))
    large = scaled(scene, 2.0, tmp_path)
    assert large.shape == (60, 80)
    assert array_bounds(60, 80, large.geobox.transform) == array_bounds(30, 40, scene.geobox.transform)
    assert large.read(Window(0, 0, 60, 80)).data.mean() == pytest.approx(
        scene.read(Window(0, 0, 30, 40)).data.mean(), rel=0.02
    )
    assert scaled(scene, 1.0, tmp_path) is scene
    with pytest.raises(UsageError, match="more than 0"):
        scaled(scene, 0.0, tmp_path)
