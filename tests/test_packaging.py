from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import geoseg

HEAVY = ("torch", "segmentation_models_pytorch", "rasterio", "dask", "onnxruntime", "matplotlib", "numpy")
ROOT = Path(__file__).parents[1]


def modules_after(program: str) -> set[str]:
    """Return the top-level modules a new process has loaded after a program."""
    listing = f"{program}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "program",
    [
        "import geoseg",
        "import geoseg; dir(geoseg); geoseg.__version__; geoseg.errors; geoseg.Legend",
        "import geoseg_cli.main",
        """from click.testing import CliRunner
from geoseg_cli.main import geoseg
assert CliRunner().invoke(geoseg, ["predict", "--help"]).exit_code == 0""",
    ],
)
def test_quick_things_load_nothing_heavy(program: str) -> None:
    assert modules_after(program).isdisjoint(HEAVY)


def test_the_library_loads_no_torch() -> None:
    """Every public name but those that make and write weights."""
    program = "import geoseg\nfor name in set(geoseg.__all__) - {'save_bundle', 'train'}: getattr(geoseg, name)"
    assert modules_after(program).isdisjoint({"torch", "segmentation_models_pytorch", "timm", "lightning", "kornia"})


@pytest.mark.parametrize("name", geoseg.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(geoseg, name) is not None
    assert name in dir(geoseg)


def test_public_names_are_not_shadowed_by_modules() -> None:
    """`import geoseg.x` sets the attribute x: a verb so named would become a module."""
    modules = {path.stem for path in (ROOT / "geoseg").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules & set(geoseg.__all__) == {"errors"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = geoseg.nonsense


def test_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("geoseg") == geoseg.__version__


def test_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(line.count("==") == 1 and not set(line) & set("@/: ") for line in pins)
