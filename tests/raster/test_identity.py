from __future__ import annotations

import os
from pathlib import Path

import pytest
import rasterio
import rasterio.shutil

from geoseg.raster.scene import Scene
from geoseg.raster.windows import Window
from tests.raster.conftest import MakeRaster, noise


@pytest.fixture
def nested(make_raster: MakeRaster) -> tuple[Path, Path, Path]:
    """A VRT of a VRT of a file."""
    source = make_raster(noise(3, 20, 20), "source.tif")
    inner, outer = source.with_name("inner.vrt"), source.with_name("outer.vrt")
    rasterio.shutil.copy(source, inner, driver="VRT")
    outer.write_text(inner.read_text().replace("source.tif", "inner.vrt"))
    return source, inner, outer


def test_every_file_behind_nested_vrts_is_known(nested: tuple[Path, Path, Path]) -> None:
    assert set(Scene.open(nested[2]).local_files()) == {path.resolve() for path in nested}


def test_sidecars_are_files_of_the_scene(shared_data: Path) -> None:
    scene = Scene.open(shared_data / "geotiff_zoo" / "rio-tiler" / "colorado_twins" / "colorado_extmask.tif")
    assert [path.name for path in scene.local_files()] == ["colorado_extmask.tif", "colorado_extmask.tif.msk"]


def test_the_fingerprint_stays_while_nothing_changes(nested: tuple[Path, Path, Path]) -> None:
    before = Scene.open(nested[2]).fingerprint()
    Scene.open(nested[2]).read(Window(0, 0, 20, 20))
    assert Scene.open(nested[2]).fingerprint() == before


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_fingerprint_changes_with_any_file(nested: tuple[Path, Path, Path], which: int) -> None:
    before = Scene.open(nested[2]).fingerprint()
    status = nested[which].stat()
    os.utime(nested[which], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert Scene.open(nested[2]).fingerprint() != before


def test_the_fingerprint_changes_with_a_mask_beside_the_file_and_with_the_bands(make_raster: MakeRaster) -> None:
    path = make_raster(noise(3, 20, 20))
    seen = {Scene.open(path).fingerprint(), Scene.open(path, bands=[2, 1, 3]).fingerprint()}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(noise(20, 20) > 100)
    assert path.with_name("scene.tif.msk").exists()
    seen.add(Scene.open(path).fingerprint())
    assert len(seen) == 3
