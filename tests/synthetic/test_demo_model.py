from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from geoseg.evaluation.calibration import Calibration
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.evaluation import Evaluation
from geoseg.legend import DEEPGLOBE
from geoseg.model.bundle import ModelBundle
from geoseg.model.engines import Weights, choose_engine
from geoseg.model.exported import find_export
from geoseg.raster.windows import Window
from geoseg.synthetic import Landscape

ROOT = Path(__file__).parents[2]
CARD = ROOT / "geoseg" / "model" / "demo.md"
UNSEEN = range(2_000_000, 2_000_012)


@pytest.fixture(scope="module")
def demo() -> ModelBundle:
    return ModelBundle.open()


def test_it_is_small_and_knows_six_classes(demo: ModelBundle) -> None:
    assert demo.weights_path.stat().st_size < 8_000_000
    assert demo.output_codes == (0, 1, 2, 3, 4, 5)
    assert demo.legend == DEEPGLOBE
    assert (demo.bands, demo.dtype, demo.gsd_m) == (("red", "green", "blue"), "uint8", 0.5)
    assert (demo.window_px, demo.overlap_px) == (512, 128)


def test_the_shipped_export_is_this_bundles(demo: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a stale demo.onnx would quietly cost every user an export; make it again:
    # python -m geoseg.model.export geoseg/model/demo.safetensors 512 geoseg/model/demo.onnx
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path))
    assert find_export(demo, 512) == demo.weights_path.with_suffix(".onnx")


def test_it_maps_places_it_never_saw(demo: ModelBundle) -> None:
    engine = choose_engine(demo, "onnx", threads=2).open()
    whole = Window(0, 0, 512, 512)
    right = known = 0
    for seed in UNSEEN:
        image, codes = Landscape(seed, 512, 512).render()
        footprint = engine.upload(image, np.ones((512, 512), np.bool_))
        predicted = engine.probabilities(footprint, [whole], Weights.ones(1, 512))[0].argmax(axis=0)
        right += int((predicted == codes)[codes < 6].sum())
        known += int((codes < 6).sum())
    assert right / known > 0.75


def test_the_card_says_what_was_measured(demo: ModelBundle) -> None:
    card = CARD.read_text(encoding="utf-8")
    for exam in ("synthetic", "chesapeake", "deepglobe"):
        scores = demo.metrics[exam]
        assert f"**{scores['mean_iou']:.3f}** of {scores['classes_in_mean']} classes" in card
        for name, iou in scores["iou"].items():
            (row,) = (line for line in card.splitlines() if line.startswith(f"| {name} |"))
            assert ("does not occur" if iou is None else f"{iou:.3f}") in row
        for figure in ("mean_iou", "accuracy"):  # what no skill at all would get stands beside it
            if "constant" in scores:
                assert f"| {scores['constant'][figure]:.3f} |" in card
    assert "Never on DeepGlobe" in card
    assert "What it is not for" in card
    assert demo.provenance["never_trained_on"] == ["DeepGlobe 2018"]


def test_the_cards_pictures_are_there_and_small(demo: ModelBundle) -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", CARD.read_text(encoding="utf-8"))
    assert "validation" not in demo.metrics or len(pictures) == 2  # earlier models had none
    for picture in pictures:
        assert (CARD.parent / picture).stat().st_size < 300_000


def test_the_bundle_names_no_folder_of_the_machine_it_was_made_on(demo: ModelBundle) -> None:
    text = json.dumps([demo.provenance, demo.metrics])
    assert not re.search(r'"/|[A-Z]:\\\\|/(tmp|home|root|work)/', text)


def test_the_card_says_what_the_training_began_with(demo: ModelBundle) -> None:
    recipe = demo.provenance["recipe"]
    assert recipe["init"] == "first_demo.safetensors"
    assert len(demo.provenance["init_weights_hash"]) == 64
    card = " ".join(CARD.read_text(encoding="utf-8").split())
    assert "began with the weights of the first demo model" in card
    assert f"{recipe['start_share']:.0%} of what it began with" in card


@pytest.fixture(scope="module")
def exam() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("demo_exam", ROOT / "tools" / "demo_exam.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_an_exams_figures_are_scikit_learns(exam: ModuleType) -> None:
    draw = np.random.default_rng(7)
    truth, mapped = draw.choice(5, 4000, p=(0.5, 0.2, 0.1, 0.15, 0.05)), draw.integers(0, 6, 4000)
    mapped[:2000] = truth[:2000]
    found = exam.figures_of(Evaluation.of("m", "r", ConfusionMatrix.from_arrays(truth, mapped, DEEPGLOBE)))
    wanted = jaccard_score(truth, mapped, labels=range(5), average=None)
    np.testing.assert_allclose([found["iou"][name] for name in DEEPGLOBE.names[:5]], wanted, atol=1e-4)
    # the map shows barren land, the labels have none: it is no class of this exam, its pixels stay errors of others
    assert found["iou"]["barren_land"] is None
    assert found["classes_in_mean"] == 5
    assert found["mean_iou"] == pytest.approx(wanted.mean(), abs=1e-4)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, mapped), abs=1e-4)


def test_who_is_always_sure_is_off_by_what_is_wrong(exam: ModuleType) -> None:
    right = np.arange(1000) < 640
    found = exam.confidence_of(Calibration.from_arrays(np.full(1000, 0.9), right))
    assert found == {"mean_confidence": 0.9, "calibration_error": pytest.approx(0.9 - 0.64)}


def test_no_map_of_one_class_beats_the_one_it_is_compared_with(exam: ModuleType) -> None:
    truth = np.random.default_rng(8).choice(4, 3000, p=(0.1, 0.2, 0.6, 0.1))

    def scored(code: int) -> tuple[float, float]:
        constant = np.full_like(truth, code)
        return jaccard_score(truth, constant, labels=range(4), average="macro"), accuracy_score(truth, constant)

    matrix = ConfusionMatrix.from_arrays(truth, np.zeros_like(truth), DEEPGLOBE)
    found = exam.constant_of(matrix)
    mean_iou, accuracy = max(scored(code) for code in range(4))
    assert found == {"class": "rangeland", "mean_iou": round(mean_iou, 4), "accuracy": round(accuracy, 4)}
