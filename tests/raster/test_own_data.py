"""PROJ and GDAL data of other programs, set through the environment, next to the data of rasterio's wheel."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoseg.raster import own_data

RASTERIO = Path(next(iter(getattr(find_spec("rasterio"), "submodule_search_locations", []))))
pytestmark = pytest.mark.skipif(not (RASTERIO / "proj_data").is_dir(), reason="this rasterio is no wheel")

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
{first}
import geoseg
from geoseg.raster.scene import Scene
from geoseg.raster.environment import raster_environment
from rasterio.crs import CRS
from rasterio.env import get_gdal_config
from rasterio.warp import transform

def asked(_):
    with raster_environment():
        return CRS.from_epsg(32631).to_wkt()[:6], round(transform("EPSG:4326", "EPSG:32631", [3], [0])[0][0])

with ThreadPoolExecutor(4) as pool:
    print(asked(0), *set(pool.map(asked, range(8))))
with raster_environment():
    print(get_gdal_config("GDAL_DATA"))
"""
RIGHT = "('PROJCS', 500000)"


def database(folder: Path, minor: int, major: int = 1) -> Path:
    """Make a copy of the wheel's database that claims another layout version."""
    folder.mkdir()
    shutil.copy(RASTERIO / "proj_data" / "proj.db", folder / "proj.db")
    with closing(sqlite3.connect(folder / "proj.db")) as file, file:
        for name, value in (("MAJOR", major), ("MINOR", minor)):
            file.execute("UPDATE metadata SET value = ? WHERE key = ?", (value, f"DATABASE.LAYOUT.VERSION.{name}"))
    return folder


def run(first: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PROJ_LIB", "PROJ_DATA")}
    command = [sys.executable, "-P", "-c", PROGRAM.format(first=first)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment | variables)


@pytest.mark.parametrize(
    ("variable", "minor", "first"),
    [("PROJ_LIB", 0, ""), ("PROJ_DATA", None, "import rasterio\nwith rasterio.Env(): pass")],
)
def test_another_projs_database_is_left_alone_and_that_is_said_once(
    tmp_path: Path, variable: str, minor: int | None, first: str
) -> None:
    folder = tmp_path / "proj" if minor is None else database(tmp_path / "proj", minor)
    done = run(first, **{variable: str(folder)})
    assert done.stdout.splitlines()[0] == f"{RIGHT} {RIGHT}", done.stderr
    assert done.stderr.count(f"{variable}={folder} belongs to another PROJ than the one geoseg uses") == 1
    assert "ERROR" not in done.stderr


def test_a_newer_database_of_the_same_layout_is_the_users_choice_and_gdals_data_its_own(tmp_path: Path) -> None:
    done = run(PROJ_DATA=str(database(tmp_path / "proj", 99)), GDAL_DATA=str(tmp_path))
    assert done.stdout.splitlines() == [f"{RIGHT} {RIGHT}", str(RASTERIO / "gdal_data")], done.stderr
    assert not done.stderr


@pytest.mark.parametrize(("major", "minor", "readable"), [(1, 99, True), (1, 0, False), (2, 99, False), (0, 99, False)])
def test_a_database_is_read_by_the_proj_of_its_layout(tmp_path: Path, major: int, minor: int, readable: bool) -> None:  # noqa: FBT001
    own = RASTERIO / "proj_data"
    assert own_data._is_readable(database(tmp_path / "proj", minor, major), own) is readable
    assert own_data._is_readable(own, own)


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_a_folder_without_a_database_is_not_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "proj.db").write_bytes(content)
    assert not own_data._is_readable(tmp_path, RASTERIO / "proj_data")
    assert [file.name for file in tmp_path.iterdir()] == ([] if content is None else ["proj.db"])


def test_plugins_of_another_gdal_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "gdal_Foreign.so").write_bytes(b"no library")
    command = [sys.executable, "-P", "-m", "geoseg_cli", "info", str(tmp_path / "none.tif")]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"GDAL_DRIVER_PATH": str(tmp_path)}
    )
    assert done.stderr.count("\n") == 1
    assert "no such file" in done.stderr


def test_kilometres_in_a_geotiff_are_read_without_noise(tmp_path: Path) -> None:
    path = tmp_path / "km.tif"
    profile = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8"}
    crs, place = "+proj=utm +zone=33 +datum=WGS84 +units=km", Affine(1e-3, 0, 500, 0, -1e-3, 5000)
    with rasterio.open(path, "w", **profile, crs=crs, transform=place) as dataset:
        dataset.write(np.ones((1, 8, 8), np.uint8))
    for given in ({}, {"PROJ_DATA": ""}):
        env = {name: value for name, value in os.environ.items() if not name.startswith("PROJ_")} | given
        command = [sys.executable, "-P", "-m", "geoseg_cli", "info", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        assert not done.stderr
