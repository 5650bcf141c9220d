"""Scenes at another resolution: means in any window, at the same location."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import array_bounds

from geoseg.errors import SceneError, UsageError
from geoseg.raster import Scene, Window, is_remote, scaled, shown

NORTH_UP = Affine(10, 0, 5e5, 0, -10, 4e6)


def noise(*shape: int, dtype: str = "uint8", high: int = 250) -> NDArray[Any]:
    return np.random.default_rng(0).integers(1, high, shape).astype(dtype)


def write(path: Path, data: NDArray[Any], **profile: Any) -> Path:
    """Write (band, row, col) as a georeferenced GeoTIFF, or as a PNG without georeference, by its suffix."""
    count, height, width = data.shape
    place = {"driver": "PNG"} if path.suffix == ".png" else {"crs": "EPSG:32618", "transform": NORTH_UP}
    shape = {"count": count, "height": height, "width": width, "dtype": data.dtype}
    with rasterio.open(path, "w", **{"driver": "GTiff", **place, **shape, **profile}) as dataset:
        dataset.write(data)
    return path


def shares(length: int, count: int) -> NDArray[np.float64]:
    """Return the fraction of each of `count` equal parts of an axis that lies in each pixel: (count, length)."""
    edges = np.linspace(0, length, count + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return overlap.clip(0) * count / length


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", ["scene.tif", "scene.png"])
@pytest.mark.parametrize("factor", [0.25, 0.37])
def test_pixels_are_means_in_any_window(tmp_path: Path, name: str, factor: float) -> None:
    data = noise(3, 240, 200)
    small = scaled(Scene.open(write(tmp_path / name, data)), factor)
    assert small.shape == (round(240 * factor), round(200 * factor))
    whole = small.read(Window(0, 0, *small.shape))
    sides = shares(240, small.shape[0]), shares(200, small.shape[1])
    expected = sides[0] @ data @ sides[1].T
    assert np.abs(whole.data - expected).max() <= 1
    assert whole.valid.all()
    window = Window(11, 7, 23, 30)
    assert np.array_equal(small.read(window).data, whole.data[:, window.rows, window.cols])


def test_place_bands_and_validity_stay(tmp_path: Path) -> None:
    data = noise(4, 120, 160, dtype="uint16", high=4000)
    data[:, :40, :80] = 0
    scene = Scene.open(write(tmp_path / "scene.tif", data, nodata=0), bands=(3, 1))
    small = scaled(scene, 0.5)
    assert small.geobox.crs == scene.geobox.crs
    assert small.geobox.gsd_m == pytest.approx(20.0)
    assert array_bounds(*small.shape, small.geobox.transform) == array_bounds(*scene.shape, scene.geobox.transform)
    patch = small.read(Window(0, 0, 60, 80))
    assert not patch.valid[:20, :40].any()
    assert patch.valid[20:].all()
    expected = data[[2, 0]].reshape(2, 60, 2, 80, 2).mean(axis=(2, 4))
    assert np.abs(patch.data.astype(float) - expected)[:, 20:].max() <= 0.5


def test_masks_stay_and_no_invalid_pixel_colours_its_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.tif", np.full((1, 64, 64), 200, np.uint8))
    valid = np.ones((64, 64), bool)
    valid[:16] = False
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(valid)
    small = scaled(Scene.open(path), 0.25)
    patch = small.read(Window(0, 0, 16, 16))
    assert np.array_equal(patch.valid, valid[::4, ::4])
    assert (patch.data[0][patch.valid] == 200).all()


def test_numbers_that_are_none_are_no_part_of_a_mean(tmp_path: Path) -> None:
    data = np.full((2, 16, 16), 5, np.float32)
    data[:, 1, 1] = data[:, 4:8, 4:8] = np.nan
    patch = scaled(Scene.open(write(tmp_path / "scene.tif", data)), 0.25).read(Window(0, 0, 4, 4))
    assert patch.valid.tolist() == [[(row, col) != (1, 1) for col in range(4)] for row in range(4)]
    assert (patch.data[:, patch.valid] == 5).all()


def test_growing_keeps_the_extent_and_one_is_the_scene_itself(tmp_path: Path) -> None:
    scene = Scene.open(write(tmp_path / "scene.tif", noise(1, 30, 40, dtype="float32")))
    large = scaled(scene, 2.0)
    assert large.shape == (60, 80)
    assert array_bounds(60, 80, large.geobox.transform) == array_bounds(30, 40, scene.geobox.transform)
    assert large.read(Window(0, 0, 60, 80)).data.mean() == pytest.approx(
        scene.read(Window(0, 0, 30, 40)).data.mean(), rel=0.02
    )
    assert scaled(scene, 1.0) is scene


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_factor_out_of_all_reason_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(UsageError, match=r"more than 0|cannot be enlarged"):
        scaled(Scene.open(write(tmp_path / "scene.tif", noise(1, 30, 40))), factor)


def test_ground_control_points_move_with_the_pixels(tmp_path: Path) -> None:
    corners = [(0, 0, 5e5, 4e6), (0, 40, 500_400, 4e6), (30, 0, 5e5, 3_999_700), (30, 40, 500_400, 3_999_700)]
    points = [GroundControlPoint(*corner, z=0.0) for corner in corners]
    path = tmp_path / "scene.tif"
    shape = {"count": 1, "height": 30, "width": 40, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:32618", **shape) as dataset:
        dataset.write(noise(1, 30, 40))
    scene = Scene.open(path)
    small = scaled(scene, 0.5)
    assert [(point.row, point.col) for point in small.geobox.gcps] == [(0, 0), (0, 20), (15, 0), (15, 20)]
    assert small.geobox.gcp_crs == scene.geobox.gcp_crs
    assert small.geobox.gsd_m == pytest.approx(20.0)


def test_it_needs_no_file_travels_and_sees_what_becomes_of_the_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a scene & more.tif"), noise(1, 64, 64))
    small = scaled(Scene.open("a scene & more.tif"), 0.5)
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    travelled = pickle.loads(pickle.dumps(small))  # noqa: S301 - our own
    whole = Window(0, 0, 32, 32)
    assert np.array_equal(travelled.read(whole).data, small.read(whole).data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a scene & more.tif", "elsewhere"]
    assert list(map(str, small.local_files())) == [shown(small.path)] == [str(tmp_path / "a scene & more.tif")]
    before = small.fingerprint()
    write(tmp_path / "new.tif", np.full((1, 64, 64), 7, np.uint8)).replace(tmp_path / "a scene & more.tif")
    assert (small.read(whole).data == 7).all()
    assert small.fingerprint() != before
    (tmp_path / "a scene & more.tif").unlink()
    with pytest.raises(SceneError, match=r"cannot read .*a scene & more\.tif"):
        small.read(whole)


def test_the_text_of_a_vrt_is_shown_as_what_it_reads_without_secrets() -> None:
    source = (
        '<VRTDataset><SourceDataset relativeToVRT="0">/vsicurl/https://me@h.org/a&amp;b.tif?token=1</SourceDataset>'
    )
    assert shown(source) == "/vsicurl/https://h.org/a&b.tif"
    assert is_remote(source)
    mosaic = "<VRTDataset>" + "".join(f"<SourceFilename>{name}.tif</SourceFilename>" for name in "abba")
    assert shown(mosaic) == "a.tif and 1 more"
    assert not is_remote(mosaic)
