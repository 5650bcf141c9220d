"""The benchmarks that need neither a GPU nor an idle machine run at a small size."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.networks import tiny_bundle

ROOT = Path(__file__).parents[1]


def test_the_pipeline_is_measured_with_a_fake_device(tmp_path: Path) -> None:
    """The program checks the map itself; on a loaded machine only an idle device is a fault, not a low busy share."""
    figures = tmp_path / "pipeline.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pipeline.py"), "--quick", "--json", str(figures)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = {figure["what"]: figure["got"] for figure in json.loads(figures.read_text())["figures"]}
    assert 0.1 < found["busy while tiles run"] <= 1
    assert 0 < found["busy over the whole run"] <= found["busy while tiles run"]


def test_a_gpu_is_measured_as_the_cpu_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs to its end; without a GPU its figures mean nothing. It runs here, where torch is loaded already.

    The default model is a small one: on a CPU the shipped one takes three times as long.
    """
    bundle = tiny_bundle(tmp_path, seed=1, export=False)
    monkeypatch.setenv("GEOSEG_MODEL", str(bundle.weights_path))
    figures, program = tmp_path / "gpu.json", ROOT / "benchmarks" / "gpu.py"
    command = [str(program), "--quick", "--work", str(tmp_path), "--device", "torch-cpu", "--model", "demo"]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(figures)])
    monkeypatch.syspath_prepend(program.parent)
    for beside in ("models", "report", "scenes"):
        monkeypatch.delitem(sys.modules, beside, raising=False)
    with warnings.catch_warnings(), pytest.raises(SystemExit) as done:
        runpy.run_path(str(program), run_name="__main__")
    assert not done.value.code
    found = {figure["what"]: figure["got"] for figure in json.loads(figures.read_text())["figures"]}
    assert found["demo: labels that are float32's"] >= 0.999
    assert found["demo: predict, of the lesser of bare and read, median"] > 0
