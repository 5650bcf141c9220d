"""The benchmarks that need neither a GPU nor a quiet machine run, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_pipeline_is_measured_with_a_fake_device(tmp_path: Path) -> None:
    """It checks the map itself; busy shares of a loaded machine say little, but a device that is idle is a fault."""
    figures = tmp_path / "pipeline.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "pipeline.py"), "--quick", "--json", str(figures)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = {figure["what"]: figure["got"] for figure in json.loads(figures.read_text())["figures"]}
    assert 0.1 < found["busy while tiles run"] <= 1
    assert 0 < found["busy over the whole run"] <= found["busy while tiles run"]


def test_a_gpu_is_measured_as_the_cpu_is(tmp_path: Path) -> None:
    """Without a GPU its figures say nothing; what a person runs on one must run."""
    figures = tmp_path / "gpu.json"
    program = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--quick", "--work", str(tmp_path)]
    command = [*program, "--device", "torch-cpu", "--model", "demo", "--json", str(figures)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = {figure["what"]: figure["got"] for figure in json.loads(figures.read_text())["figures"]}
    assert found["demo: labels that are float32's"] >= 0.999
    assert found["demo: predict, of the lesser of bare and read, median"] > 0
