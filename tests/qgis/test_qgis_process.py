"""A real QGIS without a desktop: qgis_process lists algorithms, runs them, fails and is canceled."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from rasterio.windows import Window

import geoseg
from tests.qgis.conftest import SCENE, cut_out

ALGORITHMS = {
    "geoseg:evaluate": "Accuracy of a map",
    "geoseg:info": "About a scene, map or model",
    "geoseg:predict": "Map land cover",
    "geoseg:preview": "Look at a map",
    "geoseg:sample": "Random points of a map",
    "geoseg:tabulate": "Areas by class, district or date",
    "geoseg:train": "Train a model",
    "geoseg:vectorize": "Polygons of a land-cover map",
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small scene; their paths contain spaces and umlauts."""
    made = tmp_path_factory.mktemp("a") / "Größe & Fläche, d'un été"
    made.mkdir()
    cut_out(made / "Szene 1.tif", SCENE, Window(1024, 768, 512, 512))
    return made


def values(printed: str) -> dict[str, str]:
    """Return the results that qgis_process printed."""
    rows = printed.partition("Results\n")[2].splitlines()
    return dict(row.split(":\t", 1) for row in rows if ":\t" in row)


def test_the_toolbox_lists_the_algorithms(qgis: Any) -> None:
    done = qgis.process("list")
    listed = [line.split("\t")[1:] for line in done.stdout.splitlines() if line.startswith("\tgeoseg:")]
    assert dict(listed) == ALGORITHMS
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not (shutil.which("lrelease") or shutil.which("lrelease-qt5")), reason="Qt's lrelease is missing")
def test_the_toolbox_speaks_the_users_language(qgis: Any) -> None:
    plugin = Path(qgis.environment["HOME"], ".local/share/QGIS/QGIS3/profiles/default/python/plugins/geoseg_qgis")
    program = Path(__file__).parents[2] / "tools" / "qgis_plugin.py"
    subprocess.run([sys.executable, str(program), "--out", qgis.environment["HOME"]], check=True, capture_output=True)
    with zipfile.ZipFile(Path(qgis.environment["HOME"], f"geoseg_qgis-{geoseg.__version__}.zip")) as whole:
        name = "geoseg_qgis/i18n/geoseg_de.qm"
        (plugin / "i18n" / "geoseg_de.qm").write_bytes(whole.read(name))
    listed = qgis.process("list", LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8").stdout
    assert "Landbedeckung kartieren" in listed
    assert "Map land cover" in qgis.process("list").stdout


def test_a_map_is_that_of_the_library(qgis: Any, folder: Path) -> None:
    scene, out, polygons = folder / "Szene 1.tif", folder / "Karte.tif", folder / "Flächen.gpkg"
    box = "400600,400700,4999450,4999500"  # QGIS's order: west, east, south, north
    done = qgis.process(
        "run", "geoseg:predict", f"--INPUT={scene}", f"--OUTPUT={out}", f"--POLYGONS={polygons}",
        f"--CONFIDENCE={folder / 'konf.tif'}", "--MIN_AREA=25", f"--EXTENT={box} [EPSG:32631]", LC_ALL="C",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = geoseg.predict(scene, folder / "expected.tif", bbox=(400600, 4999450, 400700, 4999500))
    with rasterio.open(out) as ours, rasterio.open(folder / "expected.tif") as theirs:
        assert ours.transform == theirs.transform
        assert np.array_equal(ours.read(), theirs.read()), expected
    found = values(done.stdout)
    assert found["OUTPUT"] == str(out)
    assert int(found["POLYGON_COUNT"]) > 0
    assert "Mapping" in done.stdout


def test_what_cannot_run_is_one_line(qgis: Any, folder: Path) -> None:
    """`test_pyqgis.py` covers the other messages and algorithms."""
    done = qgis.process(
        "run", "geoseg:predict", f"--INPUT={folder / 'Szene 1.tif'}", f"--OUTPUT={folder / 'failed.tif'}", "--SCALE=foo"
    )
    assert done.returncode == 1
    assert "“Values of black and white”" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "failed.tif").exists()


def runs_of(out: Path) -> list[psutil.Process]:
    """Return the geoseg processes that write a file."""
    return [
        each for each in psutil.process_iter(["cmdline"])
        if f"--out={out}" in (each.info["cmdline"] or []) and "predict" in each.info["cmdline"]
    ]  # fmt: skip


def test_no_run_outlives_a_qgis_that_is_killed(qgis: Any, tmp_path: Path) -> None:
    out = tmp_path / "landcover.tif"
    command = ["run", "geoseg:predict", f"--INPUT={SCENE}", f"--OUTPUT={out}", "--EXTRA=--tile 256"]
    path = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    with subprocess.Popen([str(path), *command], env=qgis.environment, stdout=-3, stderr=-3) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "landcover.tif.parts").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert runs_of(out), "the run has not begun"
        process.kill()
    deadline = time.monotonic() + 60
    while runs_of(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not runs_of(out)
    assert not out.exists()
