"""A working machine, and broken ones: the finding and its remedy."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pyogrio
import pytest
import rasterio

from geoseg.errors import UsageError
from geoseg.inspection import doctor
from geoseg.inspection.doctor import Finding
from geoseg.model import cuda_devices

room = importlib.import_module("geoseg.inspection.doctor")
Break = Callable[..., None]
PROGRAM = """
import importlib, json
room = importlib.import_module("geoseg.inspection.doctor")
room._broken_import = lambda _modules: None
print(json.dumps(room.doctor().to_json()))
"""
"""Prints the diagnosis as JSON, without trying torch."""


def found(name: str) -> list[Finding]:
    return [finding for finding in doctor().findings if finding.name == name]


@pytest.fixture(autouse=True)
def _torch_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip importing torch, which takes seconds; test_doctor_torch.py covers it."""
    monkeypatch.setattr(room, "_broken_import", lambda _modules: None)


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Return a function that makes importing a module fail."""
    load = importlib.import_module

    def make(broken: str, error: Exception) -> None:
        def import_module(name: str, package: str | None = None) -> ModuleType:
            if name == broken:
                raise error
            return load(name, package)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return make


def test_this_machine_can_run_geoseg() -> None:
    diagnosis = doctor()
    assert diagnosis.usable
    assert all(finding.remedy for finding in diagnosis.findings if finding.state != "fit")
    assert json.loads(json.dumps(diagnosis.to_json()))["usable"] is True
    assert str(diagnosis) == diagnosis.describe()
    assert all(finding.text in diagnosis.describe() for finding in diagnosis.findings)


def test_versions_are_those_that_run() -> None:
    texts = {finding.name: finding.text for finding in doctor().findings}
    assert texts["torch"] == importlib.metadata.version("torch")
    assert rasterio.__gdal_version__ in texts["gdal"]
    assert pyogrio.__gdal_version_string__ in texts["gdal"]


@pytest.mark.skipif(bool(cuda_devices()), reason="a GPU is tried with torch")
def test_without_a_gpu_no_torch_is_loaded() -> None:
    program = f"{PROGRAM}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["rasterio", "pyogrio"])
def test_a_gdal_that_cannot_be_loaded_is_broken(unloadable: Break, name: str) -> None:
    unloadable(name, ImportError("libgdal.so.36:\ncannot open shared object file"))
    (finding,) = found("gdal")
    assert finding.state == "broken"
    assert finding.text == "cannot be loaded: libgdal.so.36: cannot open shared object file"
    assert "pip install" in finding.remedy
    assert not doctor().usable


def test_a_runtime_that_cannot_be_loaded_is_broken(unloadable: Break) -> None:
    unloadable("onnxruntime", OSError("DLL load failed"))
    (finding,) = found("onnxruntime")
    assert (finding.state, finding.remedy) == ("broken", "pip install --force-reinstall onnxruntime")


def test_a_compiler_that_is_turned_off_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    (finding,) = found("numba")
    assert (finding.state, finding.text) == ("broken", "NUMBA_DISABLE_JIT turns off its compiler")


def test_a_surprise_is_a_finding_and_the_others_are_told(unloadable: Break) -> None:
    unloadable("psutil", ZeroDivisionError())
    (finding,) = found("machine")
    assert (finding.state, finding.text) == ("broken", "ZeroDivisionError")
    assert found("cache")


def test_a_broken_psutil_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "psutil.py").write_text("raise ImportError('no such symbol')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, env=environment)
    findings = {finding["name"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert findings["machine"]["text"] == "no such symbol"
    assert findings["gdal"]["state"] == "fit"


@pytest.mark.parametrize(
    ("verb", "kept", "told"), [("_raster_drivers", {"GTiff", "VRT"}, "COG"), ("_vector_drivers", {"GeoJSON"}, "GPKG")]
)
def test_a_driver_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, verb: str, kept: set[str], told: str
) -> None:
    monkeypatch.setattr(room, verb, lambda: kept)
    (finding,) = found("gdal")
    assert finding.state == "broken"
    assert told in finding.text
    assert not any(name in finding.text for name in kept)


@pytest.mark.parametrize("has_database", [True, False])
def test_another_programs_proj_is_told_and_not_used(tmp_path: Path, *, has_database: bool) -> None:
    if has_database:
        with closing(sqlite3.connect(tmp_path / "proj.db")) as database, database:
            database.execute("CREATE TABLE metadata (key TEXT, value TEXT)")
            for part, number in (("MAJOR", 1), ("MINOR", 0)):
                database.execute("INSERT INTO metadata VALUES (?, ?)", (f"DATABASE.LAYOUT.VERSION.{part}", str(number)))
    environment = os.environ | {"PROJ_DATA": str(tmp_path), "PROJ_LIB": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], check=True, capture_output=True, text=True, env=environment
    )
    told = json.loads(done.stdout.splitlines()[-1])
    rows = [row for row in told["findings"] if row["name"] == "proj"]
    assert [row["state"] for row in rows] == ["fit"]
    assert told["usable"] is True
    assert f"PROJ_DATA={tmp_path} belongs to another PROJ than the one geoseg uses" in rows[0]["text"]
    assert done.stderr.count("belongs to another PROJ") == 1


def test_a_gpu_that_torch_cannot_use_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_wanted: str) -> str:
        raise UsageError("torch 2.9 cannot use it")

    monkeypatch.setattr(room, "cuda_devices", lambda: 1)
    monkeypatch.setattr(room, "_gpu_names", lambda count: ["NVIDIA H200"] * count)
    monkeypatch.setattr(room, "choose_device", refuse)
    (finding,) = found("gpu")
    assert (finding.state, finding.text) == ("unfit", "NVIDIA H200, not used: torch 2.9 cannot use it")
    assert room.device_text() == "1 GPU (NVIDIA H200)"
    monkeypatch.setattr(room, "choose_device", lambda wanted: wanted)
    (finding,) = found("gpu")
    assert (finding.state, finding.text) == ("fit", "NVIDIA H200 (cuda:0)")


def test_hidden_gpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "cuda_devices", lambda: 0)
    monkeypatch.setattr(room, "has_mps", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (finding,) = found("gpu")
    assert (finding.state, "CUDA_VISIBLE_DEVICES=-1" in finding.text) == ("fit", True)


def test_the_cache_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "network.onnx").write_bytes(bytes(2_500_000))
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path))
    (finding,) = found("cache")
    assert finding.text.startswith(f"{tmp_path}: ")
    assert finding.text.endswith("holds 2.5 MB")


def test_a_full_disk_and_a_cache_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(room, "_SCARCE_BYTES", 1 << 80)
    (cache,), (working,) = found("cache"), found("working folder")
    assert (cache.state, cache.text) == ("unfit", f"{tmp_path / 'file'} cannot be written")
    assert "GEOSEG_CACHE" in cache.remedy
    assert (working.state, "`out`" in working.remedy) == ("unfit", True)


def test_a_missing_extra_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2", 'geoseg-no-such-thing>=1; extra == "wings"', "numpy>=2.0; extra == 'plain'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: lines)
    (wings,), (plain,) = found("[wings]"), found("[plain]")
    assert (wings.state, wings.text) == ("unfit", "geoseg-no-such-thing not installed")
    assert "pip install 'geoseg[wings]'" in wings.remedy
    assert (plain.state, plain.text) == ("fit", f"numpy {importlib.metadata.version('numpy')}")


def test_the_model_that_is_taken_where_none_is_given_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(finding.state, "demo" in finding.text) for finding in found("model")] == [("fit", True)]
    monkeypatch.setenv("GEOSEG_MODEL", str(tmp_path / "none.safetensors"))
    (finding,) = found("model")
    assert finding.state == "unfit"
    assert str(tmp_path / "none.safetensors") in finding.text
    assert "GEOSEG_MODEL" in finding.remedy
    assert doctor().usable
