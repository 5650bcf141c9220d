"""Every figure against scikit-learn's, on many matrices; undefined figures are nan and are left out of means."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from geoseg.errors import UsageError
from geoseg.evaluation import ConfusionMatrix, Evaluation, Metrics
from geoseg.evaluation.metrics import _OTHERS
from geoseg.legend import DEEPGLOBE, LandCover, Legend

LEGEND = Legend(tuple(LandCover(code, f"c{code}", (code, 0, 0)) for code in (0, 3, 7, 200)))


def labels(seed: int, codes: list[int], count: int = 400) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(codes, count, p=rng.dirichlet(np.ones(len(codes)))).astype(np.uint8)
    guess = np.where(rng.random(count) < rng.random(), truth, rng.choice(codes, count)).astype(np.uint8)
    return truth, guess


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.sampled_from(LEGEND.codes), min_size=1, unique=True))
def test_all_figures_are_scikit_learns(seed: int, codes: list[int]) -> None:
    truth, guess = labels(seed, codes)
    matrix = ConfusionMatrix.from_arrays(truth, guess, LEGEND)
    found = Metrics.of(matrix)
    every = list(LEGEND.codes)
    np.testing.assert_array_equal(matrix.counts, sk.confusion_matrix(truth, guess, labels=every))
    options = {"labels": every, "average": None, "zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall = sk.precision_score(truth, guess, **options), sk.recall_score(truth, guess, **options)
        f1 = sk.f1_score(truth, guess, **options)
        iou = sk.jaccard_score(truth, guess, labels=every, average=None, zero_division=0)
        kappa = sk.cohen_kappa_score(truth, guess, labels=every)
    there = np.isin(every, [truth, guess])
    iou = np.where(there, iou, np.nan)
    for name, wanted in (("precision", precision), ("recall", recall), ("f1", f1), ("iou", iou)):
        np.testing.assert_allclose([getattr(each, name) for each in found.classes], wanted, rtol=1e-12)
    assert found.miou == pytest.approx(np.nanmean(iou), rel=1e-12)
    assert found.overall_accuracy == pytest.approx(sk.accuracy_score(truth, guess), rel=1e-12)
    assert found.kappa == pytest.approx(kappa, rel=1e-9, abs=1e-12, nan_ok=True)
    assert found.pixels == len(truth)
    assert bool(found.notes) == (not np.isin(every, truth).all())  # of classes that the map alone has, too


def test_unknown_is_left_out_of_one_mean_and_not_of_the_other() -> None:
    truth, guess = labels(1, list(DEEPGLOBE.codes), 5000)
    found = Metrics.of(ConfusionMatrix.from_arrays(truth, guess, DEEPGLOBE))
    iou = sk.jaccard_score(truth, guess, average=None, labels=list(DEEPGLOBE.codes))
    assert found.miou_without_unknown == pytest.approx(iou[:6].mean())
    assert found.miou == pytest.approx(iou.mean())
    assert found.miou != pytest.approx(found.miou_without_unknown)


def test_a_class_that_only_the_map_has_counts_in_every_mean_as_scikit_learn_counts_it() -> None:
    truth, guess = labels(2, [0, 1, 2, 6], 3000)
    guess[:40] = 5  # in no pixel of the reference; 3 and 4 are in neither
    found = Evaluation.of("a", "b", ConfusionMatrix.from_arrays(truth, guess, DEEPGLOBE))
    known = truth != 6
    assert found.metrics.classes[5].iou == 0
    assert found.metrics.miou == pytest.approx(sk.jaccard_score(truth, guess, average="macro"))
    assert found.metrics.miou_without_unknown == pytest.approx(
        sk.jaccard_score(truth, guess, labels=[0, 1, 2, 5], average="macro")
    )
    assert found.published.miou_without_unknown == pytest.approx(
        sk.jaccard_score(truth[known], guess[known], labels=[0, 1, 2, 5], average="macro")
    )


def test_a_class_without_a_pixel_is_nan_and_in_no_mean() -> None:
    truth = np.array([0, 0, 1, 1], np.uint8)
    found = Metrics.of(ConfusionMatrix.from_arrays(truth, truth, DEEPGLOBE))
    assert (found.miou, found.miou_without_unknown, found.overall_accuracy) == (1, 1, 1)
    assert all(math.isnan(each.iou) and math.isnan(each.f1) for each in found.classes[2:])
    assert "rangeland, forest_land, water, barren_land, unknown have no pixel" in found.notes[0]
    assert found.to_json()["classes"][2]["iou"] is None  # type: ignore[index]


def test_one_mistaken_class_is_0_and_not_nan() -> None:
    found = Metrics.of(ConfusionMatrix.from_arrays(np.zeros(3, np.uint8), np.ones(3, np.uint8), DEEPGLOBE))
    first, second = found.classes[:2]
    assert (first.iou, first.recall, second.iou, second.precision) == (0, 0, 0, 0)
    assert math.isnan(first.precision)
    assert math.isnan(second.recall)
    assert (first.f1, second.f1) == (0, 0)


def test_no_pixel_at_all_is_nan() -> None:
    found = Metrics.of(ConfusionMatrix.of_legend(DEEPGLOBE))
    assert all(map(math.isnan, (found.miou, found.miou_without_unknown, found.overall_accuracy, found.kappa)))


def test_matrices_of_parts_add_up_to_the_matrix_of_the_whole() -> None:
    truth, guess = labels(2, list(LEGEND.codes))
    whole = ConfusionMatrix.from_arrays(truth, guess, LEGEND)
    parts = [ConfusionMatrix.from_arrays(truth[i::3], guess[i::3], LEGEND) for i in range(3)]
    assert parts[0].merge(parts[1]).merge(parts[2]) == whole
    grown = ConfusionMatrix.of_legend(LEGEND)
    for i in range(3):
        grown = grown.add(truth[i::3], guess[i::3])
    assert grown == whole
    assert hash(grown) == hash(whole)
    with pytest.raises(UsageError, match="same classes"):
        whole.merge(ConfusionMatrix.of_legend(DEEPGLOBE))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_ignored_codes_of_either_never_count(dtype: type) -> None:
    truth, guess = labels(3, list(LEGEND.codes))
    truth, guess = truth.astype(dtype), guess.astype(dtype)
    truth[::5], guess[::7] = 99, 98
    counted = (truth != 99) & (guess != 98) & (truth != 3) & (guess != 3)
    found = ConfusionMatrix.from_arrays(truth, guess, LEGEND, ignore=(98, 99, 3))
    wanted = sk.confusion_matrix(truth[counted], guess[counted], labels=list(LEGEND.codes))
    np.testing.assert_array_equal(found.counts, wanted)


def test_lists_are_arrays() -> None:
    reference, predicted = [[0, 3], [3, 7]], [[0, 3], [0, 7]]
    found = ConfusionMatrix.from_arrays(reference, predicted, LEGEND)
    assert found == ConfusionMatrix.from_arrays(np.array(reference), np.array(predicted), LEGEND)


def test_a_code_that_is_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match=r"code 5 is not in the classes \[0, 3, 7, 200\]"):
        ConfusionMatrix.from_arrays(np.array([5]), np.array([0]), LEGEND)
    with pytest.raises(UsageError, match="differ in shape"):
        ConfusionMatrix.from_arrays(np.zeros(2, int), np.zeros(3, int), LEGEND)
    with pytest.raises(UsageError, match="codes must be integers"):
        ConfusionMatrix.from_arrays(np.zeros(2), np.zeros(2), LEGEND)


def test_classes_not_asked_for_become_one_and_no_error_is_lost() -> None:
    truth, guess = labels(4, list(LEGEND.codes))
    matrix = ConfusionMatrix.from_arrays(truth, guess, LEGEND)
    chosen = matrix.only({3, 7})
    assert chosen.names == ("c3", "c7", _OTHERS)
    assert chosen.total_px == matrix.total_px
    ours, theirs = Metrics.of(matrix), Metrics.of(chosen)
    assert theirs.classes[0].iou == ours.classes[1].iou
    assert theirs.miou == pytest.approx((ours.classes[1].iou + ours.classes[2].iou) / 2)
    assert matrix.only(LEGEND.codes) == matrix


def test_a_class_that_is_called_as_the_rest_is_counts_in_the_means() -> None:
    named = Legend(tuple(LandCover(code, name, (code, 0, 0)) for code, name in enumerate(["water", _OTHERS, "wood"])))
    truth, guess = labels(8, [0, 1, 2])
    matrix = ConfusionMatrix.from_arrays(truth, guess, named)
    ious = sk.jaccard_score(truth, guess, labels=[0, 1, 2], average=None)
    assert Metrics.of(matrix).miou == pytest.approx(ious.mean())
    chosen = matrix.only({0, 1})
    assert len(set(chosen.names)) == 3
    assert Metrics.of(chosen).miou == pytest.approx(ious[:2].mean())
    doubled = Metrics.of(chosen.merge(chosen).ignoring([0]))
    assert doubled.miou == pytest.approx(doubled.classes[1].iou / 2)  # class 0: on the map alone, IoU 0


def test_without_some_classes_their_pixels_are_gone() -> None:
    truth, guess = labels(5, list(LEGEND.codes))
    kept = (truth != 7) & (guess != 7)
    wanted = sk.confusion_matrix(truth[kept], guess[kept], labels=[0, 3, 200])
    found = ConfusionMatrix.from_arrays(truth, guess, LEGEND).without([7])
    np.testing.assert_array_equal(found.counts, wanted)
    assert found.names == ("c0", "c3", "c200")


def test_counts_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="counts must be int64"):
        ConfusionMatrix((0, 1), ("a", "b"), np.zeros((2, 3), np.int64))
    with pytest.raises(UsageError, match="may occur once"):
        ConfusionMatrix((0, 0), ("a", "b"), np.zeros((2, 2), np.int64))
