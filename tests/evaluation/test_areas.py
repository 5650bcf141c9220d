"""Areas against the paper's worked example, random samples, and the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from geoseg.errors import UsageError
from geoseg.evaluation import ConfusionMatrix
from geoseg.evaluation.areas import Areas

NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
TABLE_8 = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, table 8: rows are the map, columns the reference."""
MAPPED_PX = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HA = 0.09
"""The area of a Landsat pixel."""


def sampled(counts: NDArray[np.int64], names: tuple[str, ...] | None = None) -> ConfusionMatrix:
    """Return the confusion matrix of counts whose rows are the map."""
    names = names or tuple(f"c{i}" for i in range(len(counts)))
    return ConfusionMatrix(tuple(range(len(counts))), names, np.ascontiguousarray(counts.T.astype(np.int64)))


def test_the_papers_worked_example() -> None:
    found = Areas.of(sampled(TABLE_8, NAMES), MAPPED_PX * HA, unit="ha")
    # section 5.2: areas in ha, 95 % margins, accuracies
    assert [round(each.area) for each in found.classes] == [21_158, 11_686, 285_770, 581_386]
    assert [round(each.margin) for each in found.classes] == [6_158, 3_756, 15_510, 16_282]
    assert [round(each.users, 2) for each in found.classes] == [0.88, 0.73, 0.93, 0.96]
    assert [round(1.96 * each.users_error, 2) for each in found.classes] == [0.07, 0.10, 0.04, 0.02]
    assert [round(each.producers, 2) for each in found.classes] == [0.75, 0.85, 0.93, 0.96]
    assert round(1.96 * found.classes[0].producers_error, 2) == 0.21
    assert round(found.overall, 2) == 0.95
    assert round(1.96 * found.overall_error, 2) == 0.02
    assert found.classes[0].low == pytest.approx(21_158 - 6_158, abs=1)


def by_hand(counts: NDArray[np.int64], mapped: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return the results of the paper's equations, written out number by number."""
    q, total = len(counts), sum(mapped)
    n = [sum(counts[i]) for i in range(q)]
    w = [mapped[i] / total for i in range(q)]
    p = [[w[i] * counts[i][j] / n[i] for j in range(q)] for i in range(q)]
    users = [p[i][i] / sum(p[i]) for i in range(q)]
    columns = [sum(p[i][j] for i in range(q)) for j in range(q)]
    producers = [p[j][j] / columns[j] for j in range(q)]
    area_errors, producers_errors = [], []
    for j in range(q):
        variance = sum(  # eq. 10
            (w[i] * p[i][j] - p[i][j] ** 2) / (n[i] - 1) for i in range(q)
        )
        area_errors.append(total * math.sqrt(variance))
        first = mapped[j] ** 2 * (1 - producers[j]) ** 2 * users[j] * (1 - users[j]) / (n[j] - 1)  # eq. 7
        rest = sum(
            mapped[i] ** 2 * counts[i][j] / n[i] * (1 - counts[i][j] / n[i]) / (n[i] - 1) for i in range(q) if i != j
        )
        producers_errors.append(math.sqrt((first + producers[j] ** 2 * rest) / (total * columns[j]) ** 2))
    return {
        "area": [total * share for share in columns],
        "standard_error": area_errors,
        "users": users,
        "users_error": [math.sqrt(users[i] * (1 - users[i]) / (n[i] - 1)) for i in range(q)],
        "producers": producers,
        "producers_error": producers_errors,
    }


@pytest.mark.parametrize("seed", range(8))
def test_the_papers_equations_number_by_number(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 7))
    counts = rng.integers(0, 40, (classes, classes)) + 60 * np.eye(classes, dtype=int)
    mapped = rng.random(classes) * 1e7 + 1
    found = Areas.of(sampled(counts), mapped)
    for name, wanted in by_hand(counts, mapped).items():
        np.testing.assert_allclose([getattr(each, name) for each in found.classes], wanted, rtol=1e-9)
    assert sum(each.area for each in found.classes) == pytest.approx(mapped.sum())


def test_the_errors_are_those_of_samples_drawn_again_and_again() -> None:
    """Over stratified samples of a known population, the stated errors match the scatter of the estimates."""
    rng = np.random.default_rng(5)
    shares = np.array([[0.85, 0.1, 0.05], [0.08, 0.9, 0.02], [0.02, 0.03, 0.95]])
    mapped = np.array([2e6, 1e6, 7e6])
    truth = mapped @ shares
    drawn, rounds = np.array([120, 90, 250]), 1500
    found = [
        Areas.of(sampled(np.array([rng.multinomial(n, share) for n, share in zip(drawn, shares, strict=True)])), mapped)
        for _ in range(rounds)
    ]
    for i in range(3):
        estimates = np.array([each.classes[i].area for each in found])
        assert estimates.mean() == pytest.approx(truth[i], rel=0.01)
        error = np.mean([each.classes[i].standard_error for each in found])
        assert error == pytest.approx(estimates.std(), rel=0.06)
        inside = np.mean([each.classes[i].low <= truth[i] <= each.classes[i].high for each in found])
        assert 0.92 <= inside <= 0.97
        for figure in ("users", "producers"):
            values = np.array([getattr(each.classes[i], figure) for each in found])
            said = np.mean([getattr(each.classes[i], f"{figure}_error") for each in found])
            assert said == pytest.approx(values.std(), rel=0.08)
    assert np.mean([each.overall_error for each in found]) == pytest.approx(
        np.std([each.overall for each in found]), rel=0.06
    )


def test_a_census_has_the_references_areas_and_no_doubt() -> None:
    counts = TABLE_8 * 1000
    found = Areas.of(sampled(counts), counts.sum(axis=1) * 2.0, population=counts.sum(axis=1))
    np.testing.assert_allclose([each.area for each in found.classes], counts.sum(axis=0) * 2.0)
    assert all(each.standard_error == 0 and each.producers_error == 0 for each in found.classes)
    assert found.overall_error == 0
    assert [note for note in found.notes if "covers the whole map: there is no sampling error" in note]


def test_half_a_census_leaves_less_to_chance_than_a_sample_of_few() -> None:
    mapped = TABLE_8.sum(axis=1) * 2.0
    alone, half = Areas.of(sampled(TABLE_8), mapped), Areas.of(sampled(TABLE_8), mapped, population=TABLE_8.sum(1) * 2)
    for few, many in zip(alone.classes, half.classes, strict=True):
        assert many.standard_error == pytest.approx(few.standard_error * math.sqrt(0.5))
        assert many.area == few.area
    assert not half.notes


def test_a_class_without_reference_is_left_out_and_said() -> None:
    counts = np.array([[9, 1, 0], [2, 8, 0], [0, 0, 0]])
    found = Areas.of(sampled(counts), np.array([60.0, 30.0, 10.0]))
    rest = Areas.of(sampled(counts[:2, :2]), np.array([60.0, 30.0]))
    assert found.total == 90
    assert [each.area for each in found.classes[:2]] == [each.area for each in rest.classes]
    assert found.notes == ("no reference for c2 (10.00% of the map): areas cover only the rest of the map",)
    assert math.isnan(found.classes[2].users)


def test_one_sample_alone_has_no_interval() -> None:
    found = Areas.of(sampled(np.array([[9, 1], [0, 1]])), np.array([60.0, 40.0]))
    assert math.isnan(found.classes[0].standard_error)
    assert math.isnan(found.classes[0].low)
    assert all(math.isnan(each.producers_error) for each in found.classes)
    assert "only one sample for c1" in found.notes[0]
    assert found.classes[1].area == pytest.approx(46)


def test_no_area_is_less_than_nothing() -> None:
    found = Areas.of(sampled(np.array([[5, 0], [1, 20]])), np.array([1.0, 1000.0]))
    assert found.classes[0].area - found.classes[0].margin < 0
    assert found.classes[0].low == 0


def test_nothing_to_estimate_from_is_refused() -> None:
    with pytest.raises(UsageError, match="areas cannot be estimated: no class of the map has a reference"):
        Areas.of(sampled(np.zeros((2, 2), int)), np.ones(2))


def test_areas_as_a_frame_and_in_a_notebook() -> None:
    counts = np.array([[60, 5], [4, 31]])
    found = Areas.of(sampled(counts, ("<wood>", "bog")), np.array([7e6, 3e6]))
    frame = found.to_frame()
    assert frame["area_m2"].tolist() == [each.area for each in found.classes]
    assert frame["high_m2"].tolist() == [each.high for each in found.classes]
    assert frame.set_index("name").loc["bog", "users"] == found.classes[1].users
    assert frame["area_m2"].sum() == pytest.approx(1e7)
    assert frame.dtypes[["code", "sample"]].tolist() == [np.int64, np.int64]
    assert repr(found) == f"Areas(2 classes, 1000 ha, overall accuracy {found.overall:.3f} ± {found.overall_error:.3f})"
    card = found._repr_html_()
    assert "&lt;wood&gt; (0)" in card
    assert "<wood>" not in card
    in_px = Areas.of(sampled(counts), np.array([70.0, 30.0]), unit="px")
    assert "area_px" in in_px.to_frame().columns
    assert repr(in_px).startswith("Areas(2 classes, 100 px,")
