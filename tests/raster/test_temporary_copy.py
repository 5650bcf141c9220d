"""A temporary copy is complete, or an error blames the disk for temporary files, not the scene."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from geoseg.display.overview_source import OverviewSource
from geoseg.errors import OutputError, SceneError
from geoseg.raster import Scene, temporary_copy
from tests.raster.conftest import NORTH_UP, UTM
from tests.raster.test_durable import small_disk  # noqa: F401 - a fixture


def noise(path: Path, height: int, width: int, **profile: object) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (3, height, width), dtype=np.uint8)
    shape = {"count": 3, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", "GTiff", crs=UTM, transform=NORTH_UP, tiled=True, **shape, **profile) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_copy_that_lacks_anything_is_none(tmp_path: Path, interleave: str) -> None:
    """A whole copy is accepted; one that lacks its last byte or a block is not."""
    folder = tmp_path / "geoseg-1"
    folder.mkdir()
    path = noise(folder / "copy.tif", 700, 300, interleave=interleave)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
    with temporary_copy(path, "scene.tif"):
        pass
    cut = folder / "cut.tif"
    cut.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.raises(
            OutputError, match=rf"^the disk for temporary files is full: .* scene.tif does not fit in {tmp_path};"
        ),
        temporary_copy(cut, "scene.tif"),
    ):
        pass
    with rasterio.open(
        folder / "holes.tif", "w", "GTiff", width=600, height=40, count=3, dtype="uint8", tiled=True,
        interleave=interleave, sparse_ok=True, transform=NORTH_UP,
    ) as file:  # fmt: skip
        file.write(np.ones((40, 100), np.uint8), 1, window=((0, 40), (0, 100)))
    with pytest.raises(OutputError, match="temporary files"), temporary_copy(folder / "holes.tif", "scene.tif"):
        pass


def test_other_errors_are_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="cut short"), temporary_copy(tmp_path / "copy.tif", "scene.tif"):
        raise SceneError("the scene is cut short")


def test_an_overview_on_a_full_disk_does_not_blame_the_scene(
    tmp_path: Path,
    small_disk: Path,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene.open(noise(tmp_path / "scene.tif", 200, 17000))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(OutputError, match="temporary files is full"), OverviewSource(scene, Resampling.average):
        pass
    assert not list(small_disk.iterdir())


def test_an_array_on_a_full_disk_is_no_scene(
    tmp_path: Path,
    small_disk: Path,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    array = rioxarray.open_rasterio(noise(tmp_path / "scene.tif", 700, 900)).load()
    monkeypatch.setattr("geoseg.raster.sources.arrays._folder", lambda _: small_disk / "geoseg-arrays")
    (small_disk / "geoseg-arrays").mkdir()
    with pytest.raises(OutputError, match=r"a copy of the DataArray does not fit .*disk;"):
        Scene.open(array)
