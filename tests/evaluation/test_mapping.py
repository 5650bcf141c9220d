"""Class mappings: a mapped reference counts the same as one that uses the map's own names."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from numpy.typing import NDArray

import geoseg
from geoseg.dataset import open_dataset
from geoseg.errors import UsageError
from geoseg.evaluation import evaluate
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.model import ModelBundle
from tests.evaluation.rasters import UTM, patches, write, wrong
from tests.evaluation.test_evaluate_model import placed
from tests.networks import tiny_bundle

SHAPE = (90, 130)
THEIRS = ("roof", "road", "grass", "sea", "cloud", "sand")
MEANT: dict[str, Any] = {
    "roof": "urban_land",
    "road": "Urban land",
    "grass": ["rangeland", "agriculture_land"],
    "sea": "water",
    "cloud": None,
    "sand": {"not": ["urban_land", "agriculture_land", "rangeland", "forest_land", "water"]},
}
OURS = np.array([0, 0, 255, 4, 255, 5], np.uint8)
"""The DEEPGLOBE code of each of their classes; 255 for several or none."""
FIRST = 11
LEGEND = Legend(tuple(LandCover(FIRST + place, name, (place, 9, 9)) for place, name in enumerate(THEIRS)))


def both(tmp_path: Path, names: Legend | None) -> tuple[Path, Path, Path, NDArray[np.uint8]]:
    """Return a map, a reference in their classes, the same reference in ours, and its indexes into THEIRS."""
    truth = patches(1, *SHAPE, codes=tuple(range(len(THEIRS))))
    mapped = write(tmp_path / "map.tif", wrong(2, patches(3, *SHAPE, codes=(0, 1, 4, 5))), legend=DEEPGLOBE, **UTM)
    theirs = write(tmp_path / "theirs.tif", truth + np.uint8(FIRST), legend=names, **UTM)
    ours = write(tmp_path / "ours.tif", OURS[truth], legend=DEEPGLOBE, **UTM)
    return mapped, theirs, ours, truth


def said_by_code() -> dict[str, Any]:
    return {str(FIRST + place): MEANT[name] for place, name in enumerate(THEIRS)}


@pytest.mark.parametrize(
    "how", ["names of the file", "names given", "codes alone", "codes as reports name them", "a file", "by code"]
)
def test_a_reference_is_counted_by_what_its_classes_mean(tmp_path: Path, how: str) -> None:
    has_names = how in {"names of the file", "a file", "by code"}
    mapped, theirs, ours, truth = both(tmp_path, LEGEND if has_names else None)
    options: dict[str, Any] = {"mapping": said_by_code() if how in {"codes alone", "by code"} else MEANT}
    if how == "codes as reports name them":
        options["mapping"] = {f"class {code}": meant for code, meant in said_by_code().items()}
    if how == "names given":
        options["reference_legend"] = LEGEND
    if how == "a file":
        (tmp_path / "meant.json").write_text("\ufeff" + json.dumps(MEANT), encoding="utf-8")
        options["mapping"] = tmp_path / "meant.json"
    found, oracle = evaluate(mapped, theirs, areas=True, **options), evaluate(mapped, ours, areas=True)
    assert found.matrix.names == oracle.matrix.names
    np.testing.assert_array_equal(found.matrix.counts, oracle.matrix.counts)
    assert found.left_out.several == (truth == 2).sum()
    assert found.left_out.ignored == (truth == 4).sum()


def test_polygons_and_points_are_counted_by_what_their_classes_mean(tmp_path: Path) -> None:
    mapped, _, _, _ = both(tmp_path, None)
    rng = np.random.default_rng(5)
    rows, cols = rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60)
    x, y = UTM["transform"] @ (cols + 0.5, rows + 0.5)
    places = rng.integers(0, len(THEIRS), 60)
    points = geopandas.GeoDataFrame(
        {"theirs": [THEIRS[place] for place in places], "ours": OURS[places]},
        geometry=geopandas.points_from_xy(x, y),
        crs=UTM["crs"],
    )
    plain = points[points["ours"] != 255]
    found = evaluate(mapped, sample=points, column="theirs", mapping=MEANT, areas=True)
    oracle = evaluate(mapped, sample=plain, column="ours", areas=True)
    np.testing.assert_array_equal(found.matrix.counts, oracle.matrix.counts)
    assert found.areas is not None
    assert oracle.areas is not None
    np.testing.assert_equal(asdict(found.areas), asdict(oracle.areas))

    squares = points.set_geometry(points.buffer(15, cap_style="square")).iloc[:12]
    kept = squares.assign(there=OURS[places[:12]] != 255)
    found = evaluate(mapped, kept[kept["there"]], column="theirs", mapping=MEANT)
    oracle = evaluate(mapped, kept[kept["there"]], column="ours")
    np.testing.assert_array_equal(found.matrix.counts, oracle.matrix.counts)


def test_polygons_of_a_class_with_one_name_need_no_meaning(tmp_path: Path) -> None:
    mapped, _, ours, _ = both(tmp_path, None)
    theirs = geoseg.vectorize(ours)
    theirs["kind"] = theirs["name"].replace({"urban_land": "roof", "barren_land": "sand"})
    found = evaluate(mapped, theirs, column="kind", mapping={"roof": "urban_land", "sand": "barren_land"})
    oracle = evaluate(mapped, ours)
    assert found.metrics.overall_accuracy == oracle.metrics.overall_accuracy
    assert found.metrics.miou == pytest.approx(oracle.metrics.miou)


def test_names_are_not_taken_for_the_codes_of_a_reference_without_names(tmp_path: Path) -> None:
    mapped, theirs, _, _ = both(tmp_path, None)
    with pytest.raises(UsageError, match=r"`mapping` names classes \(roof, road, grass\), but the reference has only"):
        evaluate(mapped, theirs, mapping=MEANT)
    with pytest.raises(UsageError, match=r"`mapping` names classes \(roof\), but the reference has only"):
        evaluate(mapped, theirs, mapping={**said_by_code(), "roof": "water"})


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "must map each class"),
        ([1], "must map each class"),
        ({"roof": "urban"}, "no class 'urban'.*did you mean 'urban_land'"),
        ({"rof": "urban_land"}, "no class 'rof'.*did you mean 'roof'"),
        ({"roof": "urban_land"}, "nothing is given for road, grass"),
        ({**MEANT, "Roof": None}, "class 'Roof' is listed twice"),
        ({**MEANT, "grass": []}, "this leaves no class"),
        ({**MEANT, "grass": [1]}, "a name, a list of names"),
        (dict.fromkeys(THEIRS), "every class maps to null"),
        ('{"roof": null, "roof": null}', "'roof' occurs twice"),
        ('{"roof": null,}', "not valid JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, mapping: object, words: str) -> None:
    mapped, theirs, _, _ = both(tmp_path, LEGEND)
    given = mapping if isinstance(mapping, dict) else tmp_path / "m.json"
    if mapping is not None and not isinstance(mapping, dict):
        (tmp_path / "m.json").write_text(mapping if isinstance(mapping, str) else json.dumps(mapping))
    with pytest.raises(UsageError, match=words) as caught:
        evaluate(mapped, theirs, mapping=given)
    assert caught.value.parameter == "mapping"
    assert "\n" not in str(caught.value)


def test_codes_that_are_taken_for_the_other_s_are_said(tmp_path: Path) -> None:
    mapped, theirs, ours, _ = both(tmp_path, None)
    assert not [note for note in evaluate(mapped, ours).notes if "no class names" in note]
    notes = evaluate(mapped, theirs).notes
    assert [note for note in notes if "the reference has no class names: its codes count as the map's" in note]
    assert [note for note in notes if note.endswith(": 11, 12, 13, 14, 15, 16")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the table of a data set in their classes; ours.csv next to it lists the same scenes in ours."""
    pixels = np.random.default_rng(1).integers(1, 255, (3, 64, 64)).astype(np.uint8)
    lines = ["scene,labels"]
    for number in range(2):
        truth = patches(number, 64, 64, codes=tuple(range(len(THEIRS))))
        write(tmp_path / f"{number}_a.tif", pixels, nodata=None, photometric="RGB", **placed(number))
        write(tmp_path / f"{number}_b.tif", truth + np.uint8(FIRST), legend=LEGEND, **placed(number))
        write(tmp_path / f"{number}_c.tif", OURS[truth], legend=DEEPGLOBE, **placed(number))
        lines.append(f"{number}_a.tif,{number}_b.tif")
    (tmp_path / "theirs.csv").write_text("\n".join(lines))
    (tmp_path / "ours.csv").write_text("\n".join(lines).replace("_b.", "_c."))
    return tmp_path / "theirs.csv"


def test_a_model_is_judged_by_what_a_data_set_s_classes_mean(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped data set gives the same counts as one in the model's own classes, and as a mixture."""
    model = tiny_bundle(tmp_path, window_px=32, overlap_px=8, gsd_m=10.0)
    monkeypatch.setenv("GEOSEG_MODEL", str(model.weights_path))
    options: dict[str, Any] = {"split": "all", "cache": tmp_path / "cache", "device": "torch-cpu"}
    found = geoseg.evaluate(data, mapping=MEANT, **options)
    oracle = geoseg.evaluate(model, data.with_name("ours.csv"), **options)
    np.testing.assert_array_equal(found.matrix.counts, oracle.matrix.counts)
    assert found.matrix.names == oracle.matrix.names
    member = {"path": data.name, "share": 1, "classes": MEANT, "split": "all"}
    mixture = tmp_path / "mixture.json"
    mixture.write_text(json.dumps({"legend": "deepglobe", "datasets": [member]}))
    mixed = geoseg.evaluate(mixture, **options)
    np.testing.assert_array_equal(found.matrix.counts, mixed.matrix.counts)
    assert found.left_out == mixed.left_out
    with pytest.raises(UsageError, match="is a mixture, which maps the classes"):
        geoseg.evaluate(mixture, mapping=MEANT, **options)
    with pytest.raises(UsageError, match="no name in common; map the classes"):
        geoseg.evaluate(replace(model, legend=_strange(model)), data, **options)


def _strange(model: ModelBundle) -> Legend:
    return Legend(tuple(replace(each, name=f"kind {each.code}") for each in model.legend))


@pytest.mark.parametrize("name", ["a.onnx", "hf://nobody/nothing", "a.pth", "a.ckpt"])
def test_whatever_is_a_model_is_taken_for_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a model is evaluated on a data set"):
        geoseg.evaluate(name)


def test_a_part_without_a_scene_names_a_way_out(data: Path, tmp_path: Path) -> None:
    model = tiny_bundle(tmp_path, window_px=32, overlap_px=8, gsd_m=10.0)
    with pytest.raises(UsageError, match="use all scenes with `split='all'`"):
        geoseg.evaluate(model, open_dataset(data.with_name("ours.csv")), split="test", split_rule="all")
