"""The shipped model's training data, as written by the committed program, excludes its test sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from geoseg.dataset import open_dataset
from geoseg.dataset.mixture_file import read_mixture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def real(shared_data: Path) -> Path:
    folder = shared_data / "real"
    if not (folder / "flair").is_dir():
        pytest.skip("no folder real/flair in the shared data")
    return folder


def test_no_exam_is_learnt_from(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "land_data", raising=False)
    import land_data  # noqa: PLC0415 - a program beside the package

    mixture = land_data.write_mixture(real, tmp_path, {"scenes": 1, "size_px": 64}, {"flair": 0.5})
    exams = land_data.write_exams(real, tmp_path)
    _, said = read_mixture(str(mixture))
    assert {one.name: one.share for one in said} == {**land_data.SHARES, "flair": 0.5}
    text = "".join(
        path.read_text(encoding="utf-8") for path in [mixture, *(Path(m.path) for m in said if _table(m.path))]
    )
    for kept_out in ("exam_yinx", "deepglobe/", land_data.EXAM_ZONE, f"tile_{land_data.EXAM_TILE}", "_old_sat"):
        assert kept_out not in text
    assert land_data.EXAM_ZONE in (tmp_path / "flair_1.csv").read_text(encoding="utf-8")
    assert f"tile_{land_data.EXAM_TILE}" in exams["dubai"].read_text(encoding="utf-8")
    assert json.loads(mixture.read_text(encoding="utf-8"))["legend"] == "deepglobe"
    for path in exams.values():
        dataset = open_dataset(path)  # all their classes are mapped
        assert dataset.legend.names[0] == "urban_land"


def _table(path: str | None) -> bool:
    return path is not None and path.endswith(".csv")
