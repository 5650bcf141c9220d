"""Validation against windows run and blended by hand, and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, jaccard_score, log_loss

from geoseg.errors import DivergedError, TrainingError
from geoseg.evaluation import ConfusionMatrix, Metrics
from geoseg.inference import DEFAULT_BLEND
from geoseg.inference.blend import axis_weights
from geoseg.legend import DEEPGLOBE
from geoseg.model import OutOfMemory, Weights
from geoseg.raster import Window, WindowGrid
from geoseg.training.loop import Learner
from geoseg.training.plan import TrainingPlan
from geoseg.training.run import _evaluated
from geoseg.training.validation import LiveEngine, Scores, sample_logits, score_scene
from tests.training.tiny import TINY, tiny_learner, tiny_plan, write_data

WILD = replace(TINY, augmentation="strong", ignore=("unknown", "forest_land"))


@pytest.fixture(scope="module")
def learner(data: Path) -> Learner:
    """Return a learner whose network is confident and no better than chance."""
    made = tiny_learner(data, WILD)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made.network.segmentation_head[0].weight.normal_(std=1.0)  # type: ignore[index]
    return made


def by_hand(plan: TrainingPlan, network: torch.nn.Module) -> NDArray[np.float64]:
    """Return the probabilities (class, row, col) of the validation scene: each window run alone, then blended."""
    scene = plan.valid[0]
    grid = WindowGrid(*scene.shape, plan.window_px, plan.overlap_px)
    rows = axis_weights(grid.row_starts, scene.shape[0], plan.window_px, DEFAULT_BLEND)
    cols = axis_weights(grid.col_starts, scene.shape[1], plan.window_px, DEFAULT_BLEND)
    mean, std = (np.array(each)[:, None, None] for each in (plan.normalization.mean, plan.normalization.std))
    total = np.zeros((len(plan.output_codes), *scene.shape))
    for row_weight, row in zip(rows, grid.row_starts, strict=True):
        for col_weight, col in zip(cols, grid.col_starts, strict=True):
            patch = scene.read(Window(row, col, plan.window_px, plan.window_px))
            seen = np.where(patch.valid, (patch.data - mean) / std, 0).astype(np.float32)
            with torch.no_grad():
                found = network(torch.from_numpy(seen)[None])[0].softmax(0).numpy()
            total[:, row : row + plan.window_px, col : col + plan.window_px] += found * np.outer(row_weight, col_weight)
    return total


def engine_of(learner: Learner) -> LiveEngine:
    return LiveEngine(learner.network.eval(), learner.plan.normalization, len(learner.plan.output_codes))


def test_a_scene_scores_what_its_whole_map_does(learner: Learner) -> None:
    plan = learner.plan
    scores = score_scene(plan, engine_of(learner), plan.valid[0])
    probabilities = by_hand(plan, learner.network)
    codes = plan.valid[0].codes(Window(0, 0, *plan.valid[0].shape))
    learnt = np.isin(codes, plan.output_codes)
    assert 0 < np.count_nonzero(~learnt) < codes.size  # forest is ignored
    truth, predicted = codes[learnt], np.array(plan.output_codes)[probabilities.argmax(0)][learnt]
    labels = list(plan.output_codes)
    wanted = confusion_matrix(truth, predicted, labels=labels)
    assert np.abs(scores.matrix.counts - wanted).sum() <= 4  # ties of float32
    assert scores.matrix.total_px == np.count_nonzero(learnt)
    of_learnt = probabilities[:, learnt].T
    of_learnt /= of_learnt.sum(1, keepdims=True)
    assert scores.loss == pytest.approx(log_loss(truth, of_learnt, labels=labels), rel=1e-4)
    confident = of_learnt.max(1)
    assert scores.calibration.pixels == len(truth)
    assert scores.calibration.error >= abs(confident.mean() - (truth == predicted).mean()) - 1e-3


def test_only_areas_count(learner: Learner) -> None:
    plan, areas = learner.plan, (Window(3, 10, 40, 50), Window(70, 5, 33, 111))
    scene = replace(plan.valid[0], areas=areas)
    seen: list[Window] = []

    def see(_scene: object, window: Window, reference: NDArray[Any], predicted: NDArray[Any]) -> None:
        assert reference.shape == predicted.shape == window.shape
        seen.append(window)

    scores = score_scene(plan, engine_of(learner), scene, see)
    probabilities = by_hand(plan, learner.network)
    inside = np.zeros(scene.shape, np.bool_)
    for area in areas:
        inside[area.rows, area.cols] = True
    codes = plan.valid[0].codes(Window(0, 0, *scene.shape))
    inside &= np.isin(codes, plan.output_codes)
    predicted = np.array(plan.output_codes)[probabilities.argmax(0)]
    wanted = confusion_matrix(codes[inside], predicted[inside], labels=list(plan.output_codes))
    assert np.abs(scores.matrix.counts - wanted).sum() <= 2
    assert sum(window.height * window.width for window in seen) == 40 * 50 + 33 * 111


def test_the_mean_is_of_the_whole_set(tmp_path: Path) -> None:
    """The mIoU of two scenes with different classes counts all pixels; it is not the mean over scenes."""
    data = write_data(tmp_path / "data", scenes=3)
    plan = tiny_plan(data)
    made = tiny_learner(data)
    scenes = (plan.valid[0], replace(plan.train[0], areas=(Window(0, 0, 16, 48),)))
    parts = [score_scene(plan, engine_of(made), scene) for scene in scenes]
    pooled = Scores.merge(*parts)
    engine, truth, predicted = engine_of(made), list[NDArray[Any]](), list[NDArray[Any]]()
    for scene in scenes:
        score_scene(
            plan,
            engine,
            scene,
            lambda _s, _w, codes, found: (truth.append(codes.ravel()), predicted.append(found.ravel())),
        )
    every, found = np.concatenate(truth), np.concatenate(predicted)
    labels = sorted(set(every.tolist()) - {255})
    wanted = jaccard_score(every, found, labels=labels, average="macro", zero_division=0)
    assert Metrics.of(pooled.matrix).miou == pytest.approx(wanted)
    means = [Metrics.of(part.matrix).miou for part in parts]
    assert abs(sum(means) / 2 - wanted) > 1e-3
    weight = [part.matrix.total_px for part in parts]
    assert pooled.loss == pytest.approx(np.average([part.loss for part in parts], weights=weight))


def test_validation_is_never_augmented(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("validation was augmented")

    engine = LiveEngine(learner.kept.eval(), learner.plan.normalization, len(learner.plan.output_codes))
    first = score_scene(learner.plan, engine, learner.plan.valid[0])
    monkeypatch.setattr("geoseg.training.loop.augment", refuse)
    monkeypatch.setattr(Learner, "seen_by_network", refuse)
    learner.validation_step(0, 0)
    again = learner._scores
    assert again is not None
    assert (again.matrix.counts == first.matrix.counts).all()


@pytest.mark.parametrize(("most_px", "step_px"), [(400_000, 1), (5_400, 2), (700, 5), (10, 8)])
def test_the_temperature_is_fitted_on_pixels_of_validation(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, most_px: int, step_px: int
) -> None:
    """A small set contributes all its pixels, a large one a pixel of each block of up to 8 x 8."""
    monkeypatch.setattr("geoseg.training.validation._SAMPLE_PX", most_px)
    plan = learner.plan
    logits, targets = sample_logits(plan, learner.network.eval())
    scene, thin = plan.valid[0], slice(step_px // 2, None, step_px)
    grid = WindowGrid(*scene.shape, plan.window_px, 0)
    codes = scene.codes(Window(0, 0, plan.window_px, plan.window_px))[thin, thin]
    wanted = np.isin(codes, plan.output_codes)
    patch = scene.read(Window(0, 0, plan.window_px, plan.window_px))
    mean, std = (np.array(each)[:, None, None] for each in (plan.normalization.mean, plan.normalization.std))
    with torch.no_grad():
        first = learner.network(torch.from_numpy(((patch.data - mean) / std).astype(np.float32))[None])[0]
    expected = first[:, thin, thin].flatten(1).T[torch.from_numpy(wanted.ravel())]
    torch.testing.assert_close(logits[: len(expected)], expected, rtol=1e-4, atol=1e-4)
    assert (np.array(plan.output_codes)[targets.numpy()][: len(expected)] == codes[wanted]).all()
    windows = [window for area in scene.areas for window in grid.windows_touching(area)]
    every = [np.isin(scene.codes(window)[thin, thin], plan.output_codes).sum() for window in windows]
    assert all(every)
    assert len(targets) == (sum(every) if step_px < 8 else every[0])  # windows are dropped at the largest step only


def test_the_temperature_is_fitted_on_what_a_map_shows(learner: Learner) -> None:
    """The gaps of a scene smaller than the window are filled, as in a map."""
    plan = replace(learner.plan, window_px=192)
    logits, _ = sample_logits(plan, learner.network.eval())
    patch, ones = plan.valid[0].read(Window(0, 0, 192, 192)), np.ones((1, 192), np.float32)
    engine = engine_of(learner)
    pixels = engine.upload(patch.data, patch.valid)
    mapped = engine.probabilities(pixels, [Window(0, 0, 192, 192)], Weights(ones, ones))[0]
    labeled = torch.from_numpy(np.isin(plan.valid[0].codes(Window(0, 0, 192, 192)), plan.output_codes))
    torch.testing.assert_close(logits.softmax(1), mapped[:, labeled].T)


def test_scores_without_a_pixel_have_no_loss(learner: Learner) -> None:
    nothing = Scores.empty(learner.plan.legend, learner.plan.output_codes)
    assert math.isnan(nothing.loss)
    assert nothing.matrix.total_px == 0


def test_a_class_that_the_reference_lacks_is_no_part_of_the_mean() -> None:
    """Otherwise a single pixel of it would cost the mean a whole share, and decide which epoch is best."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, 1000).astype(np.uint8)
    found = np.where(draw.random(1000) < 0.7, truth, 2).astype(np.uint8)
    clean = Metrics.of(ConfusionMatrix.from_arrays(truth, found, DEEPGLOBE)).miou_of_reference
    assert clean == pytest.approx(jaccard_score(truth, found, average="macro"))
    found[0] = 5
    invented = Metrics.of(ConfusionMatrix.from_arrays(truth, found, DEEPGLOBE)).miou_of_reference
    assert invented == pytest.approx(jaccard_score(truth, found, labels=[0, 1, 2], average="macro"))
    assert abs(invented - clean) < 0.01
    assert math.isnan(Metrics.of(ConfusionMatrix.of_legend(DEEPGLOBE)).miou_of_reference)


def test_a_class_that_only_the_network_sees_is_told_with_both_means(learner: Learner) -> None:
    """The note has the mean that chose the epoch and the mean that `evaluate` gives for the same pixels."""
    scene = replace(learner.plan.valid[0], areas=(Window(0, 0, 16, 32),))  # two squares of one class each
    found = _evaluated(replace(learner.plan, valid=(scene,)), learner.network.eval(), 1.0, "m")
    assert found is not None
    invented = [each.name for each in found.metrics.classes if each.map_px and not each.reference_px]
    assert invented
    (note,) = (note for note in found.notes if ", ".join(invented) in note and "no pixel in the reference" in note)
    chose = Metrics.of(score_scene(learner.plan, engine_of(learner), scene).matrix).miou_of_reference
    assert f"mIoU {chose:.4f} without" in note
    assert f", {found.metrics.miou_without_unknown:.4f} with" in note
    assert found.to_json()["notes"] == list(found.notes)


def test_unknown_is_no_part_of_the_mean() -> None:
    truth = np.repeat(np.array([0, 6], np.uint8), 50)
    assert DEEPGLOBE.by_code(6).name == "unknown"
    assert Metrics.of(ConfusionMatrix.from_arrays(truth, np.zeros_like(truth), DEEPGLOBE)).miou_of_reference == 0.5


@pytest.mark.parametrize("tile_px", [32, 57])
def test_large_areas_are_mapped_in_parts(learner: Learner, monkeypatch: pytest.MonkeyPatch, tile_px: int) -> None:
    plan = learner.plan
    scene = replace(plan.valid[0], areas=(Window(3, 10, 125, 118),))
    whole = score_scene(plan, engine_of(learner), scene)
    monkeypatch.setattr("geoseg.training.validation.TILE_PX", tile_px)
    seen: list[Window] = []
    parts = score_scene(plan, engine_of(learner), scene, lambda _s, window, _r, _p: seen.append(window))
    assert (parts.matrix.counts == whole.matrix.counts).all()
    assert parts.loss == pytest.approx(whole.loss)
    assert max(max(window.shape) for window in seen) <= tile_px
    assert sum(window.height * window.width for window in seen) == 125 * 118


def test_a_window_that_touches_two_areas_is_sampled_once(learner: Learner) -> None:
    scene = learner.plan.valid[0]
    halves = tuple(Window(row, 0, 32, scene.shape[1]) for row in range(0, scene.shape[0], 32))
    parted = replace(learner.plan, valid=(replace(scene, areas=halves),))
    logits, targets = sample_logits(parted, learner.network.eval())
    wanted, wanted_targets = sample_logits(learner.plan, learner.network.eval())
    assert torch.equal(targets, wanted_targets)
    torch.testing.assert_close(logits, wanted)


@pytest.mark.parametrize("fault", [OutOfMemory(), MemoryError(), RuntimeError("CUDA out of memory")])
def test_validation_that_does_not_fit_says_what_to_do(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def full(*_: object) -> None:
        raise fault

    monkeypatch.setattr("geoseg.training.loop.score_scene", full)
    with pytest.raises(
        TrainingError, match=r"validation windows of 64 px do not fit in the memory of cpu; .*smaller `window_px`"
    ):
        learner.validation_step(0, 0)


def test_a_network_that_gives_no_number_ends_the_training(learner: Learner) -> None:
    engine = engine_of(learner)
    engine._bias = torch.full_like(engine._bias, math.nan)
    with pytest.raises(DivergedError, match=r"NaN for pixels of .* around row 0, col 0 in .* undeclared nodata"):
        score_scene(learner.plan, engine, learner.plan.valid[0])
