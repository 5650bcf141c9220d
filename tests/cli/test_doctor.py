"""`geoseg doctor`: what it prints, and its exit code."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable

import pytest
from click.testing import Result

from geoseg import inspection
from geoseg.inspection.doctor import Diagnosis, Finding

Run = Callable[..., Result]


def test_a_fit_machine_is_code_0(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    room = importlib.import_module("geoseg.inspection.doctor")
    monkeypatch.setattr(room, "_broken_import", lambda _modules: None)  # tests/inspection/test_doctor_torch.py tries it
    done = run("doctor", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, told["usable"]) == (0, "", True)
    assert {"geoseg", "gdal", "proj", "torch", "gpu", "memory", "cache"} <= {row["name"] for row in told["findings"]}


@pytest.mark.parametrize(("state", "code"), [("fit", 0), ("unfit", 0), ("broken", 1)])
def test_only_what_is_broken_is_code_1(run: Run, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    found = Diagnosis((Finding("gdal", state, "3.10", "mend it"),))  # type: ignore[arg-type]
    monkeypatch.setattr(inspection, "doctor", lambda: found)
    done = run("doctor")
    assert done.exit_code == code
    assert "-> mend it" in done.stdout
    assert ("BROKEN" in done.stdout) == (state == "broken")
    assert json.loads(run("doctor", "--json").stdout)["usable"] == (code == 0)


def test_remedies_name_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Diagnosis((Finding("working folder", "unfit", "full", "write to another `out`"),))
    monkeypatch.setattr(inspection, "doctor", lambda: found)
    assert "-> write to another --out" in run("doctor").stdout
    assert json.loads(run("doctor", "--json").stdout)["findings"][0]["remedy"] == "write to another --out"
