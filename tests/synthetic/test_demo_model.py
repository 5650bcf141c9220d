from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg.legend import DEEPGLOBE
from geoseg.model.bundle import ModelBundle
from geoseg.model.engines import Weights, choose_engine
from geoseg.model.exported import find_export
from geoseg.raster.windows import Window
from geoseg.synthetic import Landscape

CARD = Path(__file__).parents[2] / "geoseg" / "model" / "demo.md"
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
        assert f"**{demo.metrics[exam]['mean_iou']:.3f}** of" in card
    assert "Never on DeepGlobe" in card
    assert "What it is not for" in card
    assert demo.provenance["never_trained_on"] == ["DeepGlobe 2018"]
