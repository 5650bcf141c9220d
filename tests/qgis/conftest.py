"""The plugin: its logic without QGIS, and a real QGIS without a desktop where one is installed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from tests.qgis import warm

ROOT = Path(__file__).parents[2]
SCENE, TRUTH = ROOT / "sample_data" / "scene.tif", ROOT / "sample_data" / "truth.tif"
sys.path.insert(0, str(ROOT / "qgis"))  # as QGIS does with its folder of plugins

Program = Callable[..., str]


def _make_program(path: Path, body: str, options: str = "") -> str:
    path.write_text(f"#!{sys.executable} {options}\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return a function that writes a Python program and returns its path."""
    if os.name == "nt":
        pytest.skip("Windows starts no script by its first line")
    return lambda body, name="geoseg": _make_program(tmp_path / name, body)


def cut_out(path: Path, whole: Path, window: Window) -> Path:
    """Write a window of a raster, with its colors and tags."""
    with rasterio.open(whole) as source:
        size = {"width": window.width, "height": window.height, "transform": source.window_transform(window)}
        with rasterio.open(path, "w", **(source.profile | size)) as part:
            part.write(source.read(window=window))
            part.colorinterp = source.colorinterp
            part.update_tags(**source.tags())
            if source.colorinterp[0] == ColorInterp.palette:
                part.write_colormap(1, source.colormap(1))
    return path


@dataclass(frozen=True)
class Qgis:
    """QGIS without a desktop."""

    environment: dict[str, str]
    geoseg: str

    def process(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run qgis_process."""
        return subprocess.run(
            [str(_QGIS_PROCESS), *map(str, arguments)],
            env=self.environment | environment, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    def python(self, program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program in QGIS's Python."""
        return subprocess.run(
            [str(_QGIS_PYTHON), str(program), *map(str, arguments)],
            env=self.environment, capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip


_QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which(
    "qgis_process"
)  # Debian's wrapper of the same name fails
_QGIS_PYTHON = Path("/usr/bin/python3")
_PROGRAM = """
if "doctor" in sys.argv:  # it would try torch, for seconds
    import importlib
    importlib.import_module("geoseg.inspection.doctor")._broken_import = lambda _modules: None
from geoseg_cli.main import geoseg
geoseg()
"""


@pytest.fixture(scope="session")
def qgis(tmp_path_factory: pytest.TempPathFactory) -> Qgis:
    """Return a QGIS whose profile has the plugin; skip if no QGIS is installed."""
    if _QGIS_PROCESS is None:
        pytest.skip(
            "no QGIS here: qgis_process is not on the PATH (Debian: apt install qgis python3-qgis qgis-providers)"
        )
    home = tmp_path_factory.mktemp("home")
    plugins = home / ".local/share/QGIS/QGIS3/profiles/default/python/plugins"
    plugins.mkdir(parents=True)
    shutil.copytree(ROOT / "qgis" / "geoseg_qgis", plugins / "geoseg_qgis")
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700)
    from_here = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'cli')!r}]"
    geoseg = _make_program(home / "geoseg", f"{from_here}\n{_PROGRAM}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {
        "PATH": f"{_QGIS_PYTHON.parent}{os.pathsep}{os.environ['PATH']}",  # its Python looks there for its own modules
        "HOME": str(home),
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(runtime),
        "GEOSEG_EXECUTABLE": geoseg,
        "GEOSEG_CACHE": os.environ.get("GEOSEG_CACHE", str(Path.home() / ".cache" / "geoseg")),
        "PROJ_LIB": "/usr/share/proj",  # of another PROJ, as QGIS's installers set it
    }
    made = Qgis(environment, geoseg)
    enabled = made.process("plugins", "enable", "geoseg_qgis")
    assert enabled.returncode == 0, enabled.stderr
    return made


@pytest.fixture(scope="session")
def warm_qgis(qgis: Qgis) -> Iterator[Qgis]:
    """Return a QGIS whose geoseg has its libraries loaded already, for tests that do not depend on its start."""
    if not hasattr(os, "pidfd_open"):
        yield qgis
        return
    with tempfile.TemporaryDirectory(prefix="qgis-") as folder:
        place = Path(folder)
        paths = [str(ROOT), str(ROOT / "cli")]
        command = [sys.executable, "-P", warm.__file__, str(place / "line"), *paths]
        client = _make_program(place / "geoseg", warm.CLIENT.format(address=str(place / "line")), "-IS")
        environment = qgis.environment | {"PYTHONUTF8": "1"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield replace(qgis, environment=qgis.environment | {"GEOSEG_EXECUTABLE": client}, geoseg=client)
            finally:
                server.kill()
