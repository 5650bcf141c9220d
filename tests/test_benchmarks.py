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
