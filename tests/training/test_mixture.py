"""Training on several data sets with different legends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.dataset import Pair, open_dataset, split
from geoseg.dataset.mixture_file import read_mixture
from geoseg.evaluation.evaluate_model import evaluate_model
from geoseg.legend import NODATA
from geoseg.model import ModelBundle
from geoseg.synthetic import Landscape
from geoseg.training import TrainingProgress
from tests.training.mixed import RECIPE, write_mixture
from tests.training.tiny import learn, same


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


class StopHereError(Exception):
    pass


def test_a_mixture_is_learnt_from_reported_on_and_gone_on_with_bit_for_bit(mixture: Path, tmp_path: Path) -> None:
    said: list[str] = []
    whole = learn(mixture, tmp_path / "one.safetensors", RECIPE, report=tmp_path / "report", announce=said.append)
    bundle = ModelBundle.open(tmp_path / "one.safetensors")
    assert bundle.legend.names[0] == "urban_land"
    assert bundle.output_codes == (0, 1, 2, 3, 4, 5)
    assert bundle.gsd_m == 0.5
    assert any("of validation not counted: the labels allow several classes" in line for line in said)
    figures = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert figures["left_out"]["reference_of_several_classes"] > 0

    def stop(state: TrainingProgress) -> None:
        if state.batches_done >= 4:
            raise StopHereError

    with pytest.raises(StopHereError):
        learn(mixture, tmp_path / "two.safetensors", RECIPE, progress=stop)
    assert ModelBundle.open(tmp_path / "two.safetensors.training" / "best.safetensors").provenance["epoch"] == 1
    assert same(learn(mixture, tmp_path / "two.safetensors", RECIPE), whole)
    assert not (tmp_path / "two.safetensors.training" / "best.safetensors").exists()

    dataset = open_dataset(mixture)
    found = evaluate_model(bundle, dataset, "valid", cache=tmp_path / "cache")
    codes = np.concatenate([decoded(dataset.pair(area.pair_id)).ravel() for area in split(dataset).valid])
    sets = [code for code, _ in dataset.sets]
    assert found.metrics.pixels == np.isin(codes, range(6)).sum()
    assert found.left_out.several == np.isin(codes, sets).sum() > 0
    assert found.left_out.no_reference == (codes == NODATA).sum()
    assert any("leave several classes open" in note for note in found.notes)


def decoded(pair: Pair) -> NDArray[np.uint8]:
    return pair.decode(pair.whole).codes


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_colors_change_in_any_precision(mixture: Path, tmp_path: Path, precision: str) -> None:
    recipe = RECIPE.changed(precision=precision, augmentation="flips,color:1,gaussian-blur:1", epochs=1, batches=2)
    assert learn(mixture, tmp_path / "model.safetensors", recipe)


def test_landscapes_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    file = write_mixture(tmp_path, synthetic=True)
    dataset = open_dataset(file)
    made = [pair for pair in dataset.pairs if pair.id.startswith("synthetic/")]
    assert [pair.id for pair in made] == ["synthetic/0", "synthetic/1"]
    image, codes = Landscape(1, 96, 96, 0.5).render()
    np.testing.assert_array_equal(made[1].scene.read(made[1].whole).data, image)
    np.testing.assert_array_equal(decoded(made[1]), codes)
    assert made[1].gsd_m == pytest.approx(0.5, rel=1e-3)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.tif")}
    assert open_dataset(file).digest == dataset.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.tif")} == files


def test_the_mixture_of_the_docs_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    block = page.partition("```json\n")[2].partition("```")[0]
    (tmp_path / "mixture.json").write_text(block, encoding="utf-8")
    assert [member.name for member in read_mixture(str(tmp_path / "mixture.json"))[1]] == [
        "flair",
        "UCMerced",
        "synthetic",
    ]
