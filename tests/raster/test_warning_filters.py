"""The user's warning filters stay: geoseg hides NotGeoreferencedWarning only for rasters that it opens itself."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geoseg.legend import LandCover, Legend
from geoseg.raster import Scene, Window, raster_environment
from geoseg.raster.landcover import PartFormat, labels
from geoseg.raster.landcover.tile_file import read_level
from tests.parts import write_part

IMPORTS = """
import warnings
import rasterio, dask, numba, numpy, pyproj, shapely, geopandas, pyogrio, onnxruntime
before = list(warnings.filters)
import geoseg
from geoseg import dataset, display, evaluation, inference, inspection, legend, model, raster, synthetic, vector
for room in (dataset, display, evaluation, inference, inspection, legend, raster, synthetic, vector, geoseg):
    for name in set(room.__all__) - {"save_bundle", "train"}:  # they load torch, for seconds
        getattr(room, name)
new = [entry for entry in warnings.filters if entry not in before]
ours = [entry for entry in new if "eoref" in str(entry) or "geoseg" in str(entry)]
assert not ours, ours
"""


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    path = tmp_path / "nowhere.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="PNG", width=20, height=10, count=3, dtype="uint8") as file:
            file.write(np.ones((3, 10, 20), np.uint8))
    return path


def test_importing_every_room_changes_no_filter() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_no_module_speaks_to_warnings_as_it_is_imported() -> None:
    """Reads the sources, so modules that load torch are covered too."""
    for path in (Path(__file__).parents[2] / "geoseg").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "warnings." in text:
            spoken = [node for node in ast.parse(text).body if isinstance(node, ast.Expr)]
            assert not [node for node in spoken if "warnings." in ast.unparse(node.value)[:20]], path


def test_our_opens_are_silent_and_the_users_are_not(nowhere: Path) -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        scene = Scene.open(nowhere)
        scene.read(Window(0, 0, 10, 20))
        scene.fingerprint()
        with pytest.raises(NotGeoreferencedWarning):
            rasterio.open(nowhere)
    assert list(warnings.filters) == before


def test_a_part_needs_no_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tile files are written without rasterio's warning, even where no filter hides it, as during an interruption."""
    monkeypatch.setattr("geoseg.raster.environment._without_a_place", contextlib.nullcontext)
    product = labels(Legend([LandCover(1, "water", (0, 0, 255))]))
    form = PartFormat(1, final_levels=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = write_part(tmp_path, product, 0, np.ones((600, 300), np.uint8), form)
        assert read_level(part, 1, Window(0, 0, 300, 150)).all()


def test_threads_that_change_filters_meanwhile_leave_nothing_behind(nowhere: Path) -> None:
    """Two threads enter and leave in an order that `catch_warnings` in both would not survive."""
    before, inside, left = list(warnings.filters), threading.Event(), threading.Event()

    def work() -> None:
        with raster_environment():
            inside.set()
            left.wait(60)

    worker = threading.Thread(target=work)
    worker.start()
    assert inside.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        left.set()
        worker.join()
        with pytest.raises(NotGeoreferencedWarning):
            rasterio.open(nowhere)
    assert list(warnings.filters) == before
