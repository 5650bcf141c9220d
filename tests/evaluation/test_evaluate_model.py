"""Evaluating a model counts what predict would map, each labeled pixel once, and warns of flaws."""

from __future__ import annotations

import json
import re
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, jaccard_score

import geoseg
from geoseg.dataset import Area, Dataset, Pair, open_dataset, prepare, split
from geoseg.errors import GeosegWarning, ModelError, SceneError, UsageError
from geoseg.evaluation import Calibration, WorstCrops, to_provenance
from geoseg.evaluation.evaluate_model import evaluate_model
from geoseg.evaluation.matching import Matching, SharedCodes
from geoseg.evaluation.provenance import TrainingData, choose_areas
from geoseg.inference import check_not_normalized
from geoseg.legend import DEEPGLOBE, LandCover, Legend, Nomenclature
from geoseg.model import DEMO, VALUE_RANGES, ModelBundle, Normalization
from geoseg.raster import BandStatistics, Window, band_statistics
from geoseg.training import Recipe
from tests.evaluation.rasters import patches, write
from tests.networks import tiny_bundle

SHAPES = {"a": (150, 170), "b": (96, 203), "c": (64, 70), "d": (200, 64)}
CODES = (0, 1, 2, 3, 4, 5, 6)
WINDOW = 64


def placed(number: int, size_m: float = 10) -> dict[str, Any]:
    return {"crs": "EPSG:32631", "transform": Affine(size_m, 0, 400_000 + 5000 * number, 0, -size_m, 5_000_000)}


def imagery(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    bands = [patches(seed * 3 + band, *shape, codes=tuple(range(20, 240)), side=11) for band in range(3)]
    noise = np.random.default_rng(seed).integers(-15, 16, (3, *shape))
    return np.clip(np.stack(bands).astype(int) + noise, 1, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four pairs: one scene has pixels without imagery, all have some without label."""
    root = tmp_path_factory.mktemp("pairs")
    for part in ("images", "labels"):
        (root / part).mkdir()
    for number, (name, shape) in enumerate(SHAPES.items()):
        pixels = imagery(number, shape)
        if name == "a":
            pixels[:, :30, :40] = 0
        truth = patches(50 + number, *shape, codes=CODES, side=9)
        truth[:, -5:] = 255
        write(root / "images" / f"{name}.tif", pixels, nodata=0, photometric="RGB", **placed(number))
        write(root / "labels" / f"{name}.tif", truth, legend=DEEPGLOBE, **placed(number))
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return open_dataset(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=WINDOW, overlap_px=16, gsd_m=10.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


Pixels = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def predicted(dataset: Dataset, model: ModelBundle, folder: Path) -> dict[str, Pixels]:
    """Return reference, map and confidence of each whole scene, made by `predict`."""
    found = {}
    for pair in dataset.pairs:
        out, sure = folder / f"{pair.id}.tif", folder / f"{pair.id}-sure.tif"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GeosegWarning)
            geoseg.predict(pair.scene.path, out, model=model, confidence=sure, device="cpu", overwrite=True)
        arrays = []
        for path in (pair.labels.path, out, sure):
            with rasterio.open(path) as file:
                arrays.append(file.read(1))
        found[pair.id] = (arrays[0], arrays[1], arrays[2])
    return found


@pytest.fixture(scope="module")
def maps(data: Dataset, model: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pixels]:
    return predicted(data, model, tmp_path_factory.mktemp("maps"))


def counted(maps: dict[str, Pixels], ids: str = "abcd") -> Pixels:
    """Return reference, map and confidence (pixel,) of the pixels that have both label and map."""
    flat = [np.concatenate([maps[name][part].ravel() for name in ids]) for part in range(3)]
    there = (flat[0] != 255) & (flat[1] != 255)
    return flat[0][there], flat[1][there], flat[2][there]


def test_all_scenes_are_counted_as_predict_maps_them(
    data: Dataset, model: ModelBundle, cache: Path, maps: dict[str, Pixels]
) -> None:
    found = evaluate_model(model, data, "all", device="cpu", cache=cache)
    truth, mapped, sure = counted(maps)
    assert np.array_equal(found.matrix.counts, confusion_matrix(truth, mapped, labels=CODES))
    assert found.metrics.miou == pytest.approx(jaccard_score(truth, mapped, labels=CODES, average="macro"))
    wanted = Calibration.of_stored(sure, truth == mapped, "sure")
    assert found.calibration is not None
    assert np.array_equal(found.calibration.count_px, wanted.count_px)
    assert np.array_equal(found.calibration.right_px, wanted.right_px)
    labels = np.concatenate([maps[name][0].ravel() for name in "abcd"])
    assert found.left_out.total == labels.size - truth.size


def test_two_protocols(data: Dataset, model: ModelBundle, cache: Path, maps: dict[str, Pixels]) -> None:
    found = evaluate_model(model, data, "all", device="cpu", cache=cache)
    truth, mapped, _ = counted(maps)
    known = truth != 6
    published = jaccard_score(truth[known], mapped[known], labels=CODES[:6], average="macro")
    assert found.published.miou_without_unknown == pytest.approx(published)
    assert found.published.pixels == known.sum()
    told = json.loads(json.dumps(found.to_json()))
    assert told["published_protocol"]["miou"] == pytest.approx(published)
    assert told["miou_all_classes"] == pytest.approx(jaccard_score(truth, mapped, labels=CODES, average="macro"))
    assert set(told["published_protocol"]["iou"]) == set(DEEPGLOBE.names[:6])
    constants = [
        jaccard_score(truth[known], np.full(known.sum(), code), labels=CODES[:6], average="macro", zero_division=0)
        for code in CODES[:6]
    ]
    name = DEEPGLOBE.names[int(np.argmax(constants))]
    said = f"a map of {name} everywhere would have an mIoU of {max(constants):.4f} by the published protocol"
    assert said in found.notes


def test_tiles_change_nothing(data: Dataset, model: ModelBundle, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_model(model, data, "all", device="cpu", cache=cache)
    monkeypatch.setattr("geoseg.evaluation.evaluate_model._TILE_PX", 37)
    pieces: list[int] = []
    cut = evaluate_model(
        model, data, "all", device="cpu", cache=cache, progress=lambda seen: pieces.append(seen.pieces_done)
    )
    assert cut.matrix == whole.matrix
    assert cut.to_json() == whole.to_json()
    assert pieces == list(range(1, len(pieces) + 1))
    assert len(pieces) > 40


def test_only_the_areas_count(data: Dataset, model: ModelBundle, cache: Path, maps: dict[str, Pixels]) -> None:
    windows = [Window(10, 20, 50, 61), Window(100, 3, 40, 90)]
    areas = [*(Area("a", window) for window in windows), Area("c")]
    found = evaluate_model(model, data, areas, device="cpu", cache=cache)
    part = {str(place): tuple(each[w.rows, w.cols] for each in maps["a"]) for place, w in enumerate(windows)}
    truth, mapped, _ = counted({**part, "c": maps["c"]}, "01c")  # type: ignore[dict-item]
    assert np.array_equal(found.matrix.counts, confusion_matrix(truth, mapped, labels=CODES))


@pytest.mark.parametrize("gsd_m", [23.0, 6.0])
def test_the_network_sees_its_own_resolution_and_the_labels_are_counted_at_theirs(
    data: Dataset, model: ModelBundle, cache: Path, tmp_path: Path, gsd_m: float
) -> None:
    other = replace(model, gsd_m=gsd_m)
    found = evaluate_model(other, data, [Area("b"), Area("d")], device="cpu", cache=cache)
    assert f"mapped at the model's pixel size, {gsd_m:.3g} m; counted at that of the labels, 10 m" in found.notes
    truths, maps = [], []
    for scene in prepare(data, [Area("b"), Area("d")], cache, gsd_m=gsd_m):
        patch = scene.read(Window(0, 0, *scene.shape))
        path = write(tmp_path / f"{scene.id}.tif", patch.data, nodata=None, photometric="RGB", **placed(0, gsd_m))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GeosegWarning)
            geoseg.predict(path, tmp_path / f"{scene.id}-map.tif", model=other, device="cpu")
        with rasterio.open(tmp_path / f"{scene.id}-map.tif") as file:
            coarse = file.read(1)
        height, width = SHAPES[scene.id]
        rows = np.floor((np.arange(height) + 0.5) / height * coarse.shape[0]).astype(int)
        cols = np.floor((np.arange(width) + 0.5) / width * coarse.shape[1]).astype(int)
        maps.append(coarse[np.ix_(rows, cols)].ravel())
        with rasterio.open(data.pair(scene.id).labels.path) as file:
            truths.append(file.read(1).ravel())
    truth, mapped = np.concatenate(truths), np.concatenate(maps)
    there = (truth != 255) & (mapped != 255)
    assert np.array_equal(found.matrix.counts, confusion_matrix(truth[there], mapped[there], labels=CODES))


def test_bands_are_found_by_name(data: Dataset, model: ModelBundle, cache: Path, maps: dict[str, Pixels]) -> None:
    turned = replace(model, bands=("blue", "green", "red"))
    backwards = open_dataset(data.root, bands=[3, 2, 1])
    assert backwards.bands == turned.bands
    same = evaluate_model(model, backwards, "all", device="cpu", cache=cache)
    truth, mapped, _ = counted(maps)
    assert np.array_equal(same.matrix.counts, confusion_matrix(truth, mapped, labels=CODES))
    with pytest.raises(SceneError, match="lacks nir and has red, green, blue"):
        evaluate_model(replace(model, bands=("nir", "green", "red")), data, "all", cache=cache)


def test_classes_are_matched_by_name(data: Dataset, cache: Path, maps: dict[str, Pixels], model: ModelBundle) -> None:
    legend = Legend(
        tuple(LandCover(60 - each.code, each.name.replace("_", " "), each.color) for each in DEEPGLOBE)[::-1]
    )
    codes = tuple(60 - code for code in CODES)
    other = replace(model, legend=legend, output_codes=codes)
    found = evaluate_model(other, data, "all", device="cpu", cache=cache)
    truth, mapped, _ = counted(maps)
    order = [54 + place for place in range(7)]
    assert found.matrix.codes == tuple(order)
    wanted = confusion_matrix(60 - truth.astype(int), 60 - mapped.astype(int), labels=order)
    assert np.array_equal(found.matrix.counts, wanted)
    known = tuple(replace(each, name="unclear") if each.name == "unknown" else each for each in DEEPGLOBE)
    found = evaluate_model(
        replace(model, legend=Legend(known)), replace(data, legend=Legend(known)), "all", cache=cache
    )
    assert not [note for note in found.notes if "published protocol" in note]  # that leaves out `unknown`
    strange = Legend(tuple(LandCover(code, f"kind {code}", (code, 0, 0)) for code in CODES))
    with pytest.raises(UsageError, match="no name in common; map the classes"):
        evaluate_model(replace(model, legend=strange), data, "all", cache=cache)
    numbers = Legend(tuple(LandCover(code, f"class {code}", (code, 0, 0)) for code in CODES))
    with pytest.raises(UsageError, match="no name in common; name its classes with `legend`, map the"):
        evaluate_model(model, replace(data, legend=numbers), "all", cache=cache)


def test_a_class_without_a_channel_is_counted_and_said(data: Dataset, cache: Path, tmp_path: Path) -> None:
    six = tiny_bundle(tmp_path, window_px=WINDOW, overlap_px=16, gsd_m=10.0, output_codes=CODES[:6])
    found = evaluate_model(six, data, "all", device="cpu", cache=cache)
    assert any("cannot map unknown" in note for note in found.notes)
    assert found.metrics.classes[6].iou == 0
    assert found.matrix.reference_px[6] > 0
    assert found.calibration is not None
    assert found.calibration.pixels == found.published.pixels  # no confidence for classes that the model lacks


def test_data_that_are_normalized_already(folder: Path, model: ModelBundle, cache: Path, tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    with rasterio.open(folder / "images" / "b.tif") as file:
        pixels = file.read()
    with rasterio.open(folder / "labels" / "b.tif") as file:
        write(tmp_path / "labels" / "b.tif", file.read(1), legend=DEEPGLOBE, **placed(1))
    write(tmp_path / "images" / "b.tif", pixels // 128, nodata=None, photometric="RGB", **placed(1))
    with pytest.raises(SceneError, match="already looks divided by 255"):
        evaluate_model(model, open_dataset(tmp_path), "all", cache=cache)
    unit = (pixels / 255).astype(np.float32)
    write(tmp_path / "images" / "b.tif", unit, nodata=None, photometric="RGB", **placed(1))
    with pytest.raises(SceneError, match=r"is float32.*scale=\(0, 1\)"):
        evaluate_model(model, open_dataset(tmp_path), "all", cache=cache)
    plain = replace(model, dtype="float32", normalization=Normalization((0.5,) * 3, (0.2,) * 3, (0.0, 1.0)))
    write(tmp_path / "images" / "b.tif", (unit - 0.5) / 0.2, nodata=None, photometric="RGB", **placed(1))
    with pytest.raises(SceneError, match="already looks normalized"):
        evaluate_model(plain, open_dataset(tmp_path), "all", cache=cache)


def measured(pixels: NDArray[Any]) -> BandStatistics:
    found = band_statistics(pixels.reshape(pixels.shape[0], -1))
    assert found is not None
    return found


def learnt_from(model: ModelBundle, pixels: NDArray[Any], dtype: str = "float32") -> ModelBundle:
    """Return the model with the statistics that training on these pixels would have given it."""
    statistics = measured(pixels)
    how = Normalization(statistics.mean, statistics.std, VALUE_RANGES[dtype])
    return replace(model, dtype=dtype, normalization=how, statistics=statistics)


def drawn(mean: float, std: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(mean, std, (3, 4000)).astype(np.float32)


REFLECTANCE, DECIBEL, HEIGHT = (0.05, 0.04), (-11.0, 5.0), (1.2, 3.0)


@pytest.mark.parametrize("kind", [REFLECTANCE, DECIBEL, HEIGHT, (60.0, 40.0)])
def test_what_training_takes_evaluation_takes(model: ModelBundle, kind: tuple[float, float]) -> None:
    known = learnt_from(model, drawn(*kind))
    assert min(measured(drawn(*kind)).low) < 0
    for mean, std in ((kind[0], kind[1]), (kind[0] - kind[1] / 8, kind[1] * 1.3), (kind[0], kind[1] / 2)):
        check_not_normalized(measured(drawn(mean, std, seed=1)), known, "data")
    if kind != HEIGHT:  # a model that states only its normalization
        check_not_normalized(measured(drawn(*kind, seed=1)), replace(known, statistics=None), "data")


@pytest.mark.parametrize("kind", [REFLECTANCE, DECIBEL, (0.4, 0.2), (60.0, 40.0)])
def test_what_was_normalized_before_is_refused(model: ModelBundle, kind: tuple[float, float]) -> None:
    known = learnt_from(model, drawn(*kind))
    for card in (known, replace(known, statistics=None)):
        for mean in (0.0, 0.2, -0.4):
            with pytest.raises(SceneError, match="already looks normalized"):
                check_not_normalized(measured(drawn(mean, 1.0)), card, "data")
    if kind[0] in (REFLECTANCE[0], 0.4):
        for mean in (0.9, -0.9, DECIBEL[0]):  # bright, dark, another unit
            with pytest.raises(SceneError, match="already looks normalized"):
                check_not_normalized(measured(drawn(mean, 1.0)), known, "data")


def test_values_of_0_and_1_suit_a_model_of_values_of_0_and_1(model: ModelBundle) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (3, 4000)).astype(np.uint16)
    check_not_normalized(measured(bits), learnt_from(model, bits, "uint16"), "data")
    with pytest.raises(SceneError, match="already looks divided by 65535"):
        check_not_normalized(measured(bits), learnt_from(model, bits * np.uint16(900), "uint16"), "data")


def test_float_imagery_is_examined_as_it_was_learnt(
    folder: Path, model: ModelBundle, cache: Path, tmp_path: Path
) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    (tmp_path / "labels" / "b.tif").write_bytes((folder / "labels" / "b.tif").read_bytes())
    decibel = np.random.default_rng(3).normal(*DECIBEL, (3, *SHAPES["b"])).astype(np.float32)
    write(tmp_path / "images" / "b.tif", decibel, nodata=None, photometric="RGB", **placed(1))
    found = evaluate_model(learnt_from(model, decibel), open_dataset(tmp_path), "all", device="torch-cpu", cache=cache)
    assert found.matrix.total_px > 0


def test_a_scale_brings_other_units_to_the_models(
    folder: Path, data: Dataset, model: ModelBundle, cache: Path, tmp_path: Path
) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    with rasterio.open(folder / "images" / "b.tif") as file:
        write(
            tmp_path / "images" / "b.tif", file.read().astype(np.uint16) * 10, nodata=0, photometric="RGB", **placed(1)
        )
    with rasterio.open(folder / "labels" / "b.tif") as file:
        write(tmp_path / "labels" / "b.tif", file.read(1), legend=DEEPGLOBE, **placed(1))
    wide = evaluate_model(model, open_dataset(tmp_path), "all", device="cpu", cache=cache, scale=(0, 2550))
    plain = evaluate_model(model, data, [Area("b")], device="cpu", cache=cache)
    assert np.abs(wide.matrix.counts - plain.matrix.counts).sum() <= 0.001 * plain.matrix.total_px


def test_the_models_own_mean_for_other_values(data: Dataset, model: ModelBundle, cache: Path) -> None:
    imagenet = replace(model, normalization=Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with pytest.warns(GeosegWarning, match="must be 255 times as large"):
        evaluate_model(imagenet, data, [Area("c")], device="torch-cpu", cache=cache)


def remembering(model: ModelBundle, dataset: Dataset, rule: str) -> ModelBundle:
    made = split(dataset, rule)
    return replace(model, provenance_text=json.dumps({"data": to_provenance(dataset, made)}))


def test_a_model_that_has_seen_the_scenes(data: Dataset, model: ModelBundle, cache: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("id,part\na,train\nb,train\nc,valid\nd,test\n")
    known = remembering(model, data, str(ids))
    found = evaluate_model(known, data, device="cpu", cache=cache)  # scenes it has not seen, without an option
    assert found.reference.endswith("test (1 scene)")
    alone = evaluate_model(model, data, [Area("d")], device="cpu", cache=cache)
    assert found.matrix == alone.matrix
    with pytest.warns(GeosegWarning, match=r"was trained on 2 of these 4 scenes \(a, b\)") as caught:
        geoseg.evaluate(known, data, split="all", device="cpu", cache=cache)
    assert caught[0].filename == __file__
    with pytest.warns(GeosegWarning, match=r"were chosen on 1 of these 2 scenes \(c\)"):
        evaluate_model(known, data, [Area("c"), Area("d")], device="cpu", cache=cache)
    asked = evaluate_model(known, data, "train", device="cpu", cache=cache)  # no warning: all scenes were requested
    assert any("was trained on 2 of these 2" in note for note in asked.notes)


def test_blocks_of_one_scene_are_told_apart(data: Dataset, model: ModelBundle) -> None:
    known = {"train": [["a", 0, 0, 50, 170]], "valid": [], "test": [["a", 60, 0, 50, 170]]}
    origin = TrainingData.of(replace(model, provenance_text=json.dumps({"data": {"split": known}})))
    assert origin.seen(data, [Area("a", Window(60, 0, 50, 170))], "train") == []
    assert origin.seen(data, [Area("a", Window(49, 0, 50, 170))], "train") == ["a"]
    assert origin.seen(data, [Area("a")], "train") == ["a"]
    areas, how = choose_areas(origin, data, "test")
    assert areas == (Area("a", Window(60, 0, 50, 170)),)
    assert "as the training split it" in how


def test_scenes_of_one_name_in_two_data_sets_are_not_one(
    data: Dataset, model: ModelBundle, tmp_path: Path, folder: Path
) -> None:
    origin = TrainingData.of(remembering(model, data, "all"))
    assert origin.seen(data, [Area("b")], "train") == ["b"]
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "b.tif").write_bytes((folder / part / "d.tif").read_bytes())
    assert origin.seen(open_dataset(tmp_path), [Area("b")], "train") == []


@pytest.mark.parametrize("how", [{"bands": [2]}, {"tolerance": 0.5}, {"legend": DEEPGLOBE}])
def test_scenes_are_the_same_however_they_are_opened(
    data: Dataset, model: ModelBundle, folder: Path, how: dict[str, Any]
) -> None:
    origin = TrainingData.of(remembering(model, data, "all"))
    assert origin.digests
    other = open_dataset(folder, **how)
    assert origin.seen(other, [Area("b")], "train") == ["b"]
    assert origin.fits(other, "train")


def test_labels_and_sidecars_make_no_other_scene(
    data: Dataset, model: ModelBundle, tmp_path: Path, folder: Path
) -> None:
    origin = TrainingData.of(remembering(model, data, "all"))
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    (tmp_path / "images" / "b.tif").write_bytes((folder / "images" / "b.tif").read_bytes())
    (tmp_path / "images" / "b.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    write(tmp_path / "labels" / "b.tif", np.zeros(SHAPES["b"], np.uint8), legend=DEEPGLOBE, **placed(1))
    assert origin.seen(open_dataset(tmp_path), [Area("b")], "train") == ["b"]


def test_the_split_of_the_training_is_that_of_the_evaluation(data: Dataset, model: ModelBundle) -> None:
    seed = next(
        seed for seed in range(99) if split(data, "random:0.5", seed=seed).test != split(data, "random:0.5").test
    )
    made = split(data, "random:0.5", seed=seed)
    origin = TrainingData.of(replace(model, provenance_text=json.dumps({"data": to_provenance(data, made)})))
    assert choose_areas(origin, data, "test", "random:0.5")[0] == made.test
    assert choose_areas(TrainingData({}, {}), data, "test", "random:0.5")[0] == split(data, "random:0.5").test


def test_training_and_evaluation_have_one_seed(data: Dataset) -> None:
    assert split(data, "random:0.5", seed=Recipe().seed) == split(data, "random:0.5")


def test_of_very_many_scenes_the_split_is_made_again(
    data: Dataset, model: ModelBundle, cache: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = split(data, "random:0.5", seed=3)
    full = to_provenance(data, made)
    sizes = len(json.dumps(full)), len(json.dumps({**full, "images": {}}))
    monkeypatch.setattr("geoseg.evaluation.provenance._MOST_TEXT", sizes[1])
    named = to_provenance(data, made)
    assert "images" not in named  # the digests go first
    assert named["split"] == full["split"]
    monkeypatch.setattr("geoseg.evaluation.provenance._MOST_TEXT", 10)
    least = replace(model, provenance_text=json.dumps({"data": to_provenance(data, made)}))
    assert not any(TrainingData.of(least).parts.values())
    assert TrainingData.of(least).on(data).parts == {part: made.part(part) for part in ("train", "valid", "test")}
    with pytest.warns(GeosegWarning, match="was trained on 2 of these 4 scenes"):
        evaluate_model(least, data, "all", device="torch-cpu", cache=cache)
    assert choose_areas(TrainingData.of(least).on(data), data, "test")[0] == made.test

    for part in ("images", "labels"):  # with one scene less, the split cannot be drawn again
        (tmp_path / part).mkdir()
        for name in "acd":
            (tmp_path / part / f"{name}.tif").write_bytes((folder / part / f"{name}.tif").read_bytes())
    with pytest.warns(GeosegWarning, match="does not list the scenes it was trained on"):
        evaluate_model(least, open_dataset(tmp_path), "all", device="torch-cpu", cache=cache)


def test_a_split_by_a_file_is_known_again_when_the_file_is_given(
    data: Dataset, model: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.evaluation.provenance._MOST_TEXT", 10)
    ids = tmp_path / "ids.csv"
    ids.write_text("id,part\na,train\nb,train\nc,valid\nd,test\n")
    origin = TrainingData.of(remembering(model, data, str(ids)))
    assert origin.on(data).is_lost  # a bundle cannot name files to open
    assert origin.on(data, str(ids)).seen(data, [Area("a"), Area("d")], "train") == ["a"]


@pytest.mark.parametrize(
    "provenance",
    [{}, {"data": 3}, {"data": {"split": []}}, {"data": {"split": {"train": [3, ["a", 1], None, ["a", 0, 0, -1, 4]]}}}],
)
def test_what_a_foreign_model_says_of_its_data(data: Dataset, model: ModelBundle, provenance: dict[str, Any]) -> None:
    origin = TrainingData.of(replace(model, provenance_text=json.dumps(provenance)))
    assert origin.seen(data, [Area("a")], "train") == []
    assert not origin.fits(data, "train")
    assert not origin.is_lost


@pytest.mark.parametrize("share", [-1, 0, float("inf"), "half", True, None])
def test_a_foreign_share_that_cannot_be_right_is_none(data: Dataset, model: ModelBundle, share: object) -> None:
    made = {"name": "random:0.5", "seed": "x", "valid_share": share, "train": ["a"]}
    origin = TrainingData.of(replace(model, provenance_text=json.dumps({"data": {"split": made}})))
    assert choose_areas(origin, data, "test", "random:0.5")[0] == split(data, "random:0.5").test


def test_parts(data: Dataset) -> None:
    nothing = TrainingData({}, {})
    every, how = choose_areas(nothing, data, "all")
    assert ([area.pair_id for area in every], how) == (list("abcd"), "all scenes")
    drawn, how = choose_areas(nothing, data, "test", "random:0.5")
    assert drawn == split(data, "random:0.5").test
    assert how == "test by the rule random:0.5"
    held_out, how = choose_areas(nothing, data, "test")  # no split was requested, and the model lacks these scenes
    assert held_out == split(data).test
    assert how.startswith("test by the rule blocks:0.2; ")
    assert how.endswith(": `split='all'`")
    assert "`split='all'`" not in choose_areas(nothing, data, "train")[1]
    with pytest.raises(UsageError, match="train, valid, test or all, got 'tset'"):
        choose_areas(nothing, data, "tset")
    with pytest.raises(UsageError, match="`split_rule='published'`: "):
        choose_areas(nothing, data, "test", "published")
    with pytest.raises(UsageError, match="in the part test of the split all"):
        choose_areas(nothing, data, "test", "all")


def test_classes_that_the_labels_lack_are_said(data: Dataset, model: ModelBundle, cache: Path) -> None:
    small = [Area("b", Window(0, 0, 9, 9))]  # one patch, so one class
    found = evaluate_model(model, data, small, device="cpu", cache=cache)
    there = np.flatnonzero(found.matrix.reference_px)
    invented = np.flatnonzero((found.matrix.reference_px == 0) & (found.matrix.map_px > 0))
    assert len(there) == 1
    names = ", ".join(found.matrix.names[place] for place in invented)
    (note,) = (note for note in found.notes if note.startswith(f"{names} ha") and "no pixel in the reference" in note)
    means = re.findall(r"\d\.\d{4}", note)
    ious = [
        found.metrics.classes[place].iou for place in (*there, *invented) if not found.metrics.classes[place].is_unknown
    ]
    assert means == [f"{ious[0]:.4f}", f"{np.mean(ious):.4f}"]


def test_the_verb_takes_values_too(data: Dataset, model: ModelBundle, cache: Path) -> None:
    found = geoseg.evaluate(model, data, split="all", device="cpu", cache=cache, ignore="unknown,water")
    wanted = evaluate_model(model, data, "all", device="cpu", cache=cache).matrix.without([4, 6])
    assert found.matrix == wanted
    with pytest.raises(TypeError, match="unexpected keyword argument 'spilt'"):
        geoseg.evaluate(model, data, spilt="all")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (
            {"split": "nonsense"},
            "`split` is train, valid, test or all, got 'nonsense'; `split_rule` says how the data set is split",
        ),
        ({"split": "Test"}, "got 'Test' \\(did you mean test\\?\\)"),
        ({"split": None}, "got None"),
        (
            {"split_rule": "randon:0.7"},
            "`split_rule='randon:0.7'` is neither a rule nor a file \\(did you mean random:0.7\\?\\)",
        ),
        ({"split_rule": "random:1.5"}, "`split_rule='random:1.5'`: the share must be between 0 and 1"),
        ({"split_rule": "nowhere.txt"}, "`split_rule='nowhere.txt'` is neither a rule nor a file; give published"),
        ({"tta": 3}, "`tta` must be 1, 2, 4 or 8, got 3"),
        ({"device": "gpu"}, "`device` must be one of .*got 'gpu'"),
        ({"device": "cuda:99"}, "device cuda:99 is not available"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"window": 63}, "`window` must be a multiple of 8"),
        ({"overlap": 64}, "`overlap` must be at least 0 and less than the window 64, got 64"),
        ({"overlap": -1}, "`overlap` must be at least 0"),
        ({"blend": "soft"}, "`blend` must be one of"),
        ({"scale": (3000, 0)}, "`scale` must be two finite numbers"),
        ({"tolerance": 2}, "`tolerance` must be a share"),
        ({"gsd_m": -1}, "`gsd_m` must be 0.001 to 100000 meters"),
        ({"gsd_m": 1e9}, "`gsd_m` must be 0.001 to 100000 meters"),
    ],
)
def test_what_cannot_be_right_is_refused_before_the_data_set_is_looked_for(
    model: ModelBundle, tmp_path: Path, knobs: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        geoseg.evaluate(model, tmp_path / "nowhere", **knobs)
    with pytest.raises(SceneError, match="no such file or folder"):
        geoseg.evaluate(model, tmp_path / "nowhere")


def test_symmetries_are_averaged(data: Dataset, model: ModelBundle, cache: Path) -> None:
    plain, mean = (evaluate_model(model, data, [Area("d")], device="cpu", cache=cache, tta=count) for count in (1, 8))
    assert mean.matrix.total_px == plain.matrix.total_px
    assert mean.matrix != plain.matrix


def test_what_predict_refuses_for_memory_is_refused_here_too(
    data: Dataset, model: ModelBundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geoseg.inference.scoring.available_memory_bytes", lambda: 200 << 20)
    scene = data.pair("a").scene
    refusal = r"needs about .* of memory, but only .* is free; choose a smaller `window` \(now 64\)"
    with pytest.raises(UsageError, match=refusal):
        geoseg.plan(scene, model=model, device="cpu", batch_size=500)
    with pytest.raises(UsageError, match=refusal):
        evaluate_model(model, data, "all", device="cpu", cache=cache, batch_size=500)


def test_a_run_that_is_stopped_ends_soon(data: Dataset, model: ModelBundle, cache: Path) -> None:
    def stop(_seen: object) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())  # threads of other tests may end later
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(model, data, "all", device="cpu", cache=cache, progress=stop)
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("geoseg-prefetch")]


def test_the_worst_crops_are_those_of_predicts_maps(
    data: Dataset, model: ModelBundle, cache: Path, maps: dict[str, Pixels]
) -> None:
    turned = replace(  # other codes than the reference's
        model,
        legend=Legend(tuple(LandCover(60 - each.code, each.name, each.color) for each in DEEPGLOBE)[::-1]),
        output_codes=tuple(60 - code for code in CODES),
    )
    found = evaluate_model(turned, data, "all", device="cpu", cache=cache, worst=True, ignore="water").worst
    wanted = WorstCrops(DEEPGLOBE)
    for pair in data.pairs:
        truth, mapped, _ = (part.copy() for part in maps[pair.id])
        truth[(mapped == 255) | (mapped == 4) | (truth == 4)] = 255
        seen = prepare(data, [Area(pair.id)], cache)[0]
        wanted.see(seen, Window(0, 0, *truth.shape), truth, mapped)
    assert found is not None
    assert found.legend == DEEPGLOBE
    assert sum(len(crops) for _, crops in wanted) > 10
    for code in CODES:
        assert [(crop.scene, crop.window, crop.wrong_px, crop.mostly) for crop in found.of(code)] == [
            (crop.scene, crop.window, crop.wrong_px, crop.mostly) for crop in wanted.of(code)
        ]
        for ours, theirs in zip(found.of(code), wanted.of(code), strict=True):
            assert np.array_equal(ours.image, theirs.image)
            assert np.array_equal(ours.predicted, theirs.predicted)
    assert evaluate_model(model, data, [Area("c")], device="cpu", cache=cache).worst is None


def test_a_class_that_only_the_map_has_gets_a_code_of_its_own() -> None:
    ours = Legend((LandCover(0, "Water", (0, 0, 9)), LandCover(1, "snow", (9, 9, 9)), LandCover(2, "town", (9, 0, 0))))
    theirs = Legend((LandCover(1, "town", (1, 0, 0)), LandCover(7, "water", (0, 0, 1)), LandCover(8, "bog", (1, 1, 0))))
    names = Nomenclature.from_legend(ours), Nomenclature.from_legend(theirs)
    shared = SharedCodes.between(theirs, ours, Matching.of(*names, "bog"))
    assert [(each.code, each.name) for each in shared.legend] == [(0, "snow"), (1, "town"), (7, "water"), (8, "bog")]
    truth, labels = (np.array([codes], np.uint8) for codes in ((7, 1, 8, 255, 7), (0, 1, 2, 2, 255)))
    assert [codes.tolist() for codes in shared.of(truth, labels)] == [[[7, 1, 255, 255, 255]], [[7, 0, 1, 1, 255]]]


def test_the_report_of_an_examination_shows_the_worst_crops(
    data: Dataset, model: ModelBundle, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs: dict[str, Any] = {"split": "all", "device": "cpu", "cache": cache}
    found = geoseg.evaluate(model, data, tmp_path / "report", **knobs)
    assert found.worst is not None
    sheets = {f"worst/{DEEPGLOBE.by_code(code).name}.png" for code, _ in found.worst}
    assert len(sheets) > 3
    page = (tmp_path / "report" / "report.md").read_text()
    linked = {part.split(")")[0] for part in page.split("](")[1:]}
    assert linked == {"confusion.png", "calibration.png", *sheets}
    assert all((tmp_path / "report" / name).stat().st_size > 1000 for name in linked)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    geoseg.evaluate(model, data, tmp_path / "plain", **knobs)
    page = (tmp_path / "plain" / "report.md").read_text()
    assert "](" not in page
    assert "pictures are missing: confusion.png needs matplotlib" in page.split("## Notes")[1]
    assert not (tmp_path / "plain" / "worst").exists()


def test_a_data_set_alone_is_one_for_the_default_model(
    folder: Path, model: ModelBundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_MODEL", str(model.weights_path))
    alone = geoseg.evaluate(folder, cache=cache, split="all", device="torch-cpu")
    told = geoseg.evaluate(model, folder, cache=cache, split="all", device="torch-cpu")
    assert np.array_equal(alone.matrix.counts, told.matrix.counts)
    assert alone.matrix.total_px


def test_demo_is_a_model_unless_something_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ModelBundle.open("demo").hash == ModelBundle.open(DEMO).hash
    with pytest.raises(UsageError, match="a model is evaluated on a data set"):
        geoseg.evaluate("demo")
    (tmp_path / "demo").mkdir()
    with pytest.raises(ModelError, match="demo is a folder"):
        ModelBundle.open("demo")


def test_the_imagery_of_a_scene_is_hashed_once_however_many_areas_lie_in_it(
    data: Dataset, model: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = TrainingData.of(remembering(model, data, "all"))
    digest, hashed = Pair.image_digest, []
    monkeypatch.setattr(Pair, "image_digest", lambda pair: (hashed.append(pair.id), digest(pair))[1])
    areas = [Area("a", Window(row, 0, 5, 170)) for row in range(0, 90, 5)]
    assert origin.seen(data, areas, "train") == ["a"]
    assert hashed == ["a"]
