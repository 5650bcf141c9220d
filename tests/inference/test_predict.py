"""The verb from end to end, with a small real network on ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from rio_cogeo.cogeo import cog_validate

import geoseg
from geoseg import atomic as durable
from geoseg.errors import LockedError, OutputError, ResumeError, SceneError, UsageError
from geoseg.inference import map_tile
from geoseg.inference.execution import execute
from geoseg.inference.execution.journal import Journal, open_journal, parts_folder
from geoseg.legend import NODATA
from geoseg.model import ModelBundle
from geoseg.progress import Progress
from geoseg.raster import Scene, Window
from geoseg.raster.landcover import Product, place
from tests.inference.conftest import MakeScene, random_pixels, write_scene
from tests.networks import tiny_bundle

HEIGHT, WIDTH = 350, 265


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(HEIGHT, WIDTH, seed=11)


@pytest.fixture(scope="module")
def whole(scene: Scene, bundle: ModelBundle) -> NDArray[np.uint8]:
    """Return the labels of the scene as one tile."""
    made = geoseg.plan(scene, model=bundle, tile=1024, device="onnx")
    assert made.tile_count == 1
    return map_tile(made.mapping, made.engine.open(), Window(0, 0, HEIGHT, WIDTH))["labels"]


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        pixels: NDArray[Any] = dataset.read()
        return pixels


class Interrupt:
    """A progress callback that raises KeyboardInterrupt once a number of tiles are finished."""

    def __init__(self, tiles: int) -> None:
        self.tiles = tiles
        self.seen: list[Progress] = []

    def __call__(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.pieces_done >= self.tiles:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "knobs",
    [
        {"tile": 64, "workers": 1},
        {"tile": 64, "workers": 3, "batch_size": 5},
        {"tile": 151, "workers": 2, "batch_size": 2},
        {"batch_size": 7},
    ],
    ids=str,
)
def test_labels_do_not_depend_on_tile_workers_or_batch(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path, knobs: dict[str, Any]
) -> None:
    out = geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="onnx", **knobs)
    np.testing.assert_array_equal(read(out)[0], whole)


def test_the_map_is_a_valid_cog_on_the_scenes_grid_with_names_colours_and_provenance(
    make_scene: MakeScene, bundle: ModelBundle, tmp_path: Path
) -> None:
    scene = make_scene(530, 520, seed=11)  # of more than one block: there are overviews
    out = geoseg.predict(scene, tmp_path / "map.tif", model=bundle, confidence=tmp_path / "c.tif", device="onnx")
    with rasterio.open(out) as made:
        assert made.overviews(1)
    valid, problems, notes = cog_validate(out, strict=True)
    assert valid, (problems, notes)
    with rasterio.open(out) as made, rasterio.open(scene.path) as source:
        assert (made.shape, made.transform, made.crs) == (source.shape, source.transform, source.crs)
        assert made.nodata == NODATA
        assert made.dtypes == ("uint8",)
        for land_cover in bundle.legend:
            assert made.colormap(1)[land_cover.code][:3] == land_cover.color
        tags = made.tags()
        np.testing.assert_array_equal(made.dataset_mask() != 0, source.dataset_mask() != 0)
    assert tags["GEOSEG_MODEL_SHA256"] == bundle.hash
    assert tags["GEOSEG_VERSION"] == geoseg.__version__
    assert "<Category>water</Category>" in out.with_name("map.tif.aux.xml").read_text()
    assert 'label="forest_land"' in out.with_name("map.qml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "c.qml",
        "c.tif",
        "map.qml",
        "map.tif",
        "map.tif.aux.xml",
    ]


def test_confidence_and_probabilities_agree_with_the_labels(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    paths: dict[str, Any] = {"confidence": tmp_path / "c.tif", "probabilities": tmp_path / "p.tif"}
    labels = read(geoseg.predict(scene, tmp_path / "map.tif", model=bundle, tile=128, device="onnx", **paths))[0]
    percents, confidence = read(paths["probabilities"]), read(paths["confidence"])[0]
    valid = labels != NODATA
    codes = np.asarray(bundle.output_codes)
    np.testing.assert_array_equal(percents.max(axis=0)[valid], confidence[valid])
    winner = np.searchsorted(codes, labels[valid])
    np.testing.assert_array_equal(np.take_along_axis(percents[:, valid], winner[None], axis=0)[0], confidence[valid])
    assert (percents[:, ~valid] == NODATA).all()
    with rasterio.open(paths["probabilities"]) as dataset:
        assert dataset.descriptions == bundle.legend.names


@pytest.mark.parametrize("stopped_after", [1, 4, 29])
def test_an_interrupted_run_goes_on_and_makes_the_same_map(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path, stopped_after: int
) -> None:
    out = tmp_path / "map.tif"
    knobs: dict[str, Any] = {"model": bundle, "tile": 64, "workers": 2, "device": "onnx"}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, progress=Interrupt(stopped_after), **knobs)
    assert not out.exists()
    seen: list[Progress] = []
    said: list[str] = []
    geoseg.predict(scene, out, progress=seen.append, announce=said.append, **knobs)
    assert seen[0].pieces_done >= stopped_after
    last = [state for state in seen if state.stage == "map"][-1]
    assert last.pieces_done == last.pieces_total == 30
    assert last.pixels_done == last.pixels_total == HEIGHT * WIDTH
    assert any(f"{seen[0].pieces_done} of 30 tiles are done" in line for line in said)
    np.testing.assert_array_equal(read(out)[0], whole)
    assert not parts_folder(out).exists()


def test_a_run_with_other_knobs_refuses_to_go_on_and_starts_over_when_told(
    scene: Scene, bundle: ModelBundle, tmp_path: Path
) -> None:
    out = tmp_path / "map.tif"
    knobs: dict[str, Any] = {"model": bundle, "tile": 64, "device": "onnx"}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, progress=Interrupt(2), **knobs)
    with pytest.raises(ResumeError, match="different settings: blend"):
        geoseg.predict(scene, out, blend="crop", **knobs)
    seen: list[Progress] = []
    geoseg.predict(scene, out, blend="crop", overwrite=True, progress=seen.append, **knobs)
    assert seen[0].pieces_done == 0
    assert out.exists()


def test_an_existing_map_is_kept_until_the_new_one_is_whole(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    knobs: dict[str, Any] = {"model": bundle, "tile": 64, "device": "onnx"}
    out.write_bytes(b"an old map")
    with pytest.raises(OutputError, match=r"map\.tif exists; add `overwrite=True`"):
        geoseg.predict(scene, out, **knobs)
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, overwrite=True, progress=Interrupt(3), **knobs)
    assert out.read_bytes() == b"an old map"
    geoseg.predict(scene, out, overwrite=True, **knobs)
    assert read(out).shape == (1, HEIGHT, WIDTH)


def test_an_output_locked_by_another_run_is_refused(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    with (
        open_journal(out, "theirs", {}, start_over=False),
        pytest.raises(LockedError, match="another run is writing"),
    ):
        geoseg.predict(scene, out, model=bundle, device="onnx", overwrite=True)


@pytest.mark.parametrize(
    ("moment", "old"),
    [
        ("before confidence", True),
        ("confidence", False),
        ("confidence", True),
        ("before labels", False),
        ("labels", True),
        ("cleared", False),
        ("cleared", True),
    ],
)
def test_a_run_interrupted_while_it_places_its_products_goes_on(
    scene: Scene,
    bundle: ModelBundle,
    whole: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    old: bool,
    moment: str,
) -> None:
    """Some products are already in place; repeating the command must neither refuse nor lose them."""
    out, other = tmp_path / "map.tif", tmp_path / "c.tif"
    if old:
        for path in (out, other):
            write_scene(path, np.full((1, 8, 8), 77, np.uint8))

    def run() -> Path:
        return geoseg.predict(scene, out, confidence=other, model=bundle, tile=128, device="onnx", overwrite=old)

    def interrupted(built: Path, product: Product, target: Path) -> None:
        if moment == f"before {product.name}":
            raise KeyboardInterrupt
        place(built, product, target)
        if moment == product.name:
            raise KeyboardInterrupt

    def interrupted_clearing(journal: Journal) -> None:
        shutil.rmtree(journal.parts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "cleared":
            patch.setattr(execute, "clear_parts", interrupted_clearing)
        else:
            patch.setattr(execute, "place", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    np.testing.assert_array_equal(read(run())[0], whole)
    assert read(other).shape == (1, HEIGHT, WIDTH)
    assert not parts_folder(out).exists()


@pytest.mark.parametrize("lost", [["labels"], ["confidence"], ["probabilities"], ["labels", "probabilities"]], ids=str)
def test_a_tile_that_lost_a_part_of_any_product_is_made_again(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path, lost: list[str]
) -> None:
    out, others = tmp_path / "map.tif", {name: tmp_path / f"{name}.tif" for name in ("confidence", "probabilities")}
    knobs: dict[str, Any] = {"model": bundle, "tile": 128, "workers": 1, "device": "onnx", **others}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, progress=Interrupt(4), **knobs)
    whole_tiles = len((parts_folder(out) / "journal.jsonl").read_text().splitlines()) - 1
    for number, name in enumerate(lost):
        part = sorted(parts_folder(out).glob(f"*/{name}_*.zip"))[number]
        part.unlink()
    seen: list[Progress] = []
    geoseg.predict(scene, out, progress=seen.append, **knobs)
    assert seen[0].pieces_done == whole_tiles - len(lost) > 0
    np.testing.assert_array_equal(read(out)[0], whole)
    assert read(others["probabilities"]).shape == (len(bundle.output_codes), HEIGHT, WIDTH)


def test_a_tile_is_recorded_after_all_of_its_parts_are_on_the_disk(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is synced, then its folder, and only then does the journal record the tile."""
    monkeypatch.setattr(durable, "_FULL_SYNC", None)
    events: list[tuple[str, int]] = []
    fsync, add, tiles = os.fsync, Journal.add, []

    def recorded_sync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("sync", os.fstat(descriptor).st_ino))

    def recorded_add(journal: Journal, tile: int) -> None:
        parts = sorted(journal.parts.glob(f"*_{tile:07d}.zip"))
        for part in parts:
            assert ("sync", part.stat().st_ino) in events
            if os.name != "nt":
                after = events[events.index(("sync", part.stat().st_ino)) :]
                assert ("sync", journal.parts.stat().st_ino) in after
        tiles.append(len(parts))
        add(journal, tile)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Journal, "add", recorded_add)
    knobs: dict[str, Any] = {"model": bundle, "tile": 128, "workers": 2, "device": "onnx"}
    geoseg.predict(scene, tmp_path / "map.tif", confidence=tmp_path / "c.tif", **knobs)
    assert tiles == [2] * 9


@pytest.mark.parametrize("runs", [2, 4])
def test_predictions_in_several_threads_keep_to_their_own_journals(
    make_scene: MakeScene, bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    scenes = [make_scene(130 + 64 * number, 200, seed=number) for number in range(runs)]
    knobs: dict[str, Any] = {"model": bundle, "tile": 64, "workers": 2, "device": "onnx"}
    plans = [geoseg.plan(scene, **knobs) for scene in scenes]
    recorded: dict[Path, list[int]] = defaultdict(list)
    begun, add = threading.Barrier(runs), Journal.add

    def recorded_add(journal: Journal, tile: int) -> None:
        if journal.folder not in recorded:
            recorded[journal.folder] = []
            begun.wait(120)  # every run has a tile behind it and tiles before it
        recorded[journal.folder].append(tile)
        assert (journal.parts / f"labels_{tile:07d}.zip").is_file()
        add(journal, tile)

    monkeypatch.setattr(Journal, "add", recorded_add)
    outs = [tmp_path / f"{number}.tif" for number in range(runs)]
    with ThreadPoolExecutor(runs) as pool:
        waiting = [pool.submit(geoseg.predict, scene, out, **knobs) for scene, out in zip(scenes, outs, strict=True)]
        for done in waiting:
            done.result(300)
    for scene, out, made in zip(scenes, outs, plans, strict=True):
        assert sorted(recorded[parts_folder(out)]) == list(range(made.tile_count))
        np.testing.assert_array_equal(read(out)[0], geoseg.labels(scene, **knobs).compute(scheduler="synchronous"))


def test_a_run_goes_on_with_the_tile_it_began_with_when_the_workers_change(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = tmp_path / "map.tif"
    tiles = [geoseg.plan(scene, model=bundle, device="onnx", workers=workers).tile_count for workers in (1, 4)]
    assert tiles[0] != tiles[1]
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, model=bundle, device="onnx", workers=4, progress=Interrupt(1))
    seen: list[Progress] = []
    geoseg.predict(scene, out, model=bundle, device="onnx", workers=1, progress=seen.append)
    assert seen[0].pieces_done >= 1
    assert seen[0].pieces_total == tiles[1]
    np.testing.assert_array_equal(read(out)[0], whole)


def test_a_scene_whose_bands_nobody_chose_gets_the_models(scene: Scene, bundle: ModelBundle) -> None:
    reversed_bands = geoseg.plan(Scene.open(scene.path), model=bundle, bands=[3, 2, 1])
    assert reversed_bands.scene.band_indexes == (3, 2, 1)
    chosen = Scene.open(scene.path, bands=[2, 2, 1])
    assert geoseg.plan(chosen, model=bundle).scene.band_indexes == (2, 2, 1)
    assert geoseg.plan(Scene.open(scene.path), model=bundle).scene.band_indexes == (1, 2, 3)


def test_all_nodata_gives_a_valid_all_nodata_map(bundle: ModelBundle, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "empty.tif", np.zeros((3, 600, 90), np.uint8))
    out = geoseg.predict(path, tmp_path / "map.tif", model=bundle, device="onnx")
    assert (read(out) == NODATA).all()
    assert cog_validate(out, strict=True)[0]


def test_products_need_paths_of_their_own_that_no_input_holds(
    scene: Scene, bundle: ModelBundle, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="its own path"):
        geoseg.predict(scene, tmp_path / "a.tif", confidence=tmp_path / "x" / ".." / "a.tif", model=bundle)
    before = Path(scene.path).read_bytes()
    with pytest.raises(UsageError, match="is read by this run"):
        geoseg.predict(scene, scene.path, model=bundle, overwrite=True)
    with pytest.raises(UsageError, match="must be a GeoTIFF"):
        geoseg.predict(scene, tmp_path / "a.tif", confidence=bundle.weights_path, model=bundle, overwrite=True)
    assert Path(scene.path).read_bytes() == before


def test_a_stretched_scene_gets_the_map_of_the_stretched_values(bundle: ModelBundle, tmp_path: Path) -> None:
    """`--scale` gives the map of a scene converted beforehand, if that conversion needs no rounding."""
    pixels = random_pixels(150, 130, seed=3, invalid=0.1)
    stored = np.where(pixels > 0, pixels.astype(np.uint16) * 40 + 1000, 0).astype(np.uint16)
    stored[:, 40:60, 40:60] = 40_000  # beyond the range: clipped to white
    scaled = write_scene(tmp_path / "uint16.tif", stored)
    pixels[:, 40:60, 40:60] = 255
    plain = write_scene(tmp_path / "uint8.tif", pixels)
    with pytest.raises(SceneError, match=r"is uint16, the model was trained on uint8; .*scale=\(\d+, \d+\)` "):
        geoseg.plan(scaled, model=bundle)
    one = geoseg.predict(plain, tmp_path / "a.tif", model=bundle, device="onnx", probabilities=tmp_path / "ap.tif")
    other = geoseg.predict(
        scaled,
        tmp_path / "b.tif",
        model=bundle,
        device="onnx",
        scale=(1000, 1000 + 255 * 40),
        probabilities=tmp_path / "bp.tif",
    )
    agreement = (read(one) == read(other)).mean()
    assert agreement > 0.999
    assert np.abs(read(tmp_path / "ap.tif").astype(int) - read(tmp_path / "bp.tif")).max() <= 1


def test_the_lazy_array_is_the_map(scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8]) -> None:
    lazy = geoseg.labels(scene, model=bundle, tile=100, device="onnx")
    assert lazy.chunks == ((100, 100, 100, 50), (100, 100, 65))
    assert lazy.dtype == np.uint8
    np.testing.assert_array_equal(lazy[95:230, 50:].compute(), whole[95:230, 50:])


def test_torch_on_the_cpu_agrees_with_onnx_runtime(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="torch-cpu", tile=128, workers=2)
    got = read(out)[0]
    np.testing.assert_array_equal(got == NODATA, whole == NODATA)
    assert (got == whole).mean() > 0.999


def test_a_dry_run_counts_and_writes_nothing(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    made = geoseg.plan(scene, model=bundle, tile=128, workers=2, device="onnx")
    figures, windows = made.estimate(), len(made.grid)
    assert (figures.tiles, figures.windows) == (9, windows)
    with dask.config.set(scheduler="threads"):  # tile by tile
        touching = (made.grid.windows_touching(made.tile(index)) for index in range(made.tile_count))
        assert made.windows_run == sum(map(len, touching)) > windows
    assert figures.seconds > 0
    assert figures.memory_bytes == made.memory_bytes > made.workers * 4 * 7 * 64 * 128
    assert f"{windows} of 64 px" in str(figures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_the_fingerprint_changes_with_what_changes_a_label_alone(scene: Scene, bundle: ModelBundle) -> None:
    def fingerprint(**knobs: Any) -> str:
        return geoseg.plan(scene, model=bundle, device="onnx", **({"tile": 256} | knobs)).fingerprint()

    base = fingerprint()
    assert fingerprint() == base
    assert fingerprint(workers=1, batch_size=3) == base
    changed: list[dict[str, Any]] = [
        {"window": 128},
        {"overlap": 3},
        {"blend": "mean"},
        {"tile": 128},
        {"scale": (0.0, 255.0)},
        {"confidence": True},
        {"tta": 2},
        {"resolution": 1.0},
    ]
    others = [fingerprint(**knobs) for knobs in changed] + [
        geoseg.plan(scene.path, model=bundle, device="onnx", tile=256, bands=[3, 2, 1]).fingerprint()
    ]
    assert len({base, *others}) == len(others) + 1


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_the_configured_dask_scheduler_makes_the_same_map(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path, scheduler: str
) -> None:
    with dask.config.set(scheduler=scheduler):
        out = geoseg.predict(scene, tmp_path / "map.tif", model=bundle, tile=128, device="onnx")
    np.testing.assert_array_equal(read(out)[0], whole)


def test_a_current_dask_client_makes_the_same_map_in_other_processes(
    scene: Scene, bundle: ModelBundle, whole: NDArray[np.uint8], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    seen: list[Progress] = []
    with cluster, distributed.Client(cluster):
        out = geoseg.predict(scene, tmp_path / "map.tif", model=bundle, tile=128, device="onnx", progress=seen.append)
        knobs: dict[str, Any] = {"model": bundle, "device": "onnx", "resolution": 1.0, "tta": 2}
        coarse = geoseg.predict(scene, tmp_path / "coarse.tif", tile=128, **knobs)
    np.testing.assert_array_equal(read(out)[0], whole)
    assert [state for state in seen if state.stage == "map"][-1].pieces_done == 9
    np.testing.assert_array_equal(read(coarse)[0], geoseg.labels(scene, **knobs).compute(scheduler="synchronous"))


BOX = (500_010.0, 5_399_900.0, 500_060.5, 5_399_975.0)
"""Columns 20 to 121 and rows 50 to 200, at 0.5 m."""
INSIDE = (slice(50, 200), slice(20, 121))


def test_a_box_is_mapped_as_the_same_pixels_cut_out(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"model": bundle, "device": "onnx"}
    cut = write_scene(tmp_path / "cut.tif", read(Path(scene.path))[:, *INSIDE])
    expected = geoseg.labels(cut, **knobs).compute()
    for source in (scene, scene.path, Scene.open(scene.path, bands=[1, 2, 3])):
        np.testing.assert_array_equal(geoseg.labels(source, bbox=BOX, **knobs).compute(), expected)
    out = geoseg.predict(scene, tmp_path / "map.tif", bbox=BOX, **knobs)
    np.testing.assert_array_equal(read(out)[0], expected)
    with rasterio.open(out) as made, rasterio.open(scene.path) as whole:
        assert made.transform == whole.transform @ rasterio.Affine.translation(20, 50)
        assert made.crs == whole.crs


def test_a_box_in_another_crs_is_brought_to_the_scenes(scene: Scene, bundle: ModelBundle) -> None:
    degrees = transform_bounds("EPSG:32631", "EPSG:4326", *BOX)
    made = geoseg.plan(scene, model=bundle, bbox=degrees, bbox_crs="EPSG:4326", device="onnx")
    assert made.scene.geobox == geoseg.crop(scene, degrees, "EPSG:4326").geobox
    left, top = made.scene.geobox.transform @ (0, 0)
    right, bottom = made.scene.geobox.transform @ made.scene.shape[::-1]
    for edge, wanted in zip((left, bottom, right, top), BOX, strict=True):
        assert edge == pytest.approx(wanted, abs=1)


def test_a_box_that_cannot_be_is_refused_and_its_scene_not_replaced(
    scene: Scene, bundle: ModelBundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="`bbox_crs` applies to a box"):
        geoseg.predict(scene, tmp_path / "map.tif", model=bundle, bbox_crs="EPSG:4326")
    with pytest.raises(UsageError, match="lies outside"):
        geoseg.predict(scene, tmp_path / "map.tif", model=bundle, bbox=(0, 0, 1, 1))
    assert not list(tmp_path.iterdir())
    own = Path(shutil.copy(scene.path, tmp_path / "own.tif"))
    before = own.read_bytes()
    with pytest.raises(UsageError, match="is read by this run"):
        geoseg.predict(own, own, model=bundle, bbox=BOX, overwrite=True)
    assert own.read_bytes() == before


@pytest.mark.parametrize(
    ("transform", "fault"),
    [(Affine(0, 0, 3e5, 0, 0, 5e6), "pixels have no area"), (Affine(1e-12, 0, 3e5, 0, -1e-12, 5e6), "too small")],
)
def test_a_scene_that_can_have_no_polygons_is_refused_before_it_is_mapped(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, transform: Affine, fault: str
) -> None:
    placed = replace(scene, geobox=replace(scene.geobox, transform=transform))
    with pytest.raises(SceneError, match=fault):
        geoseg.predict(placed, tmp_path / "map.tif", polygons=tmp_path / "map.gpkg", model=bundle)
    assert not list(tmp_path.glob("map*"))


@pytest.mark.parametrize("name", ["map.tif", "sure.tif", "map.tif.msk"])
def test_a_file_that_appears_during_the_run_is_not_replaced(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, name: str
) -> None:
    out, theirs = tmp_path / "map.tif", tmp_path / name
    options: dict[str, Any] = {"model": bundle, "tile": 64, "confidence": tmp_path / "sure.tif"}

    def write_theirs(_: Progress) -> None:
        theirs.write_bytes(b"theirs")

    with pytest.raises(OutputError, match=rf"{theirs.name} (exists|was not made by geoseg)"):
        geoseg.predict(scene, out, progress=write_theirs, **options)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]
    assert theirs.read_bytes() == b"theirs"
    theirs.unlink()
    counts: list[int] = []
    geoseg.predict(scene, out, progress=lambda state: counts.append(state.pieces_done), **options)
    assert counts[0] > 0


def test_without_a_compiler_a_run_with_polygons_does_not_begin(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    scene = write_scene(tmp_path / "scene.tif", random_pixels(128, 128, 0, 0))
    with pytest.raises(UsageError, match=r"^NUMBA_DISABLE_JIT turns off the compiler"):
        geoseg.predict(scene, tmp_path / "map.tif", polygons=tmp_path / "map.gpkg", model=bundle)
    assert not (tmp_path / "map.tif").exists()


def test_a_run_killed_before_its_polygons_says_how_to_write_them(
    scene: Scene, bundle: ModelBundle, tmp_path: Path
) -> None:
    out = tmp_path / "map.tif"
    options: dict[str, Any] = {"model": bundle, "confidence": tmp_path / "sure.tif"}
    geoseg.predict(scene, out, **options)
    with pytest.raises(OutputError, match=r"sure\.tif exists; .* or make only its polygons with geoseg vectorize, or"):
        geoseg.predict(scene, out, polygons=tmp_path / "map.gpkg", **options)


@pytest.mark.parametrize("options", [{}, {"shard": "1/1"}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("end", [KeyboardInterrupt(), OutputError("the disk is full")], ids=repr)
def test_a_run_that_ends_at_its_polygons_resumes_there(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    end: BaseException, options: dict[str, Any],
) -> None:  # fmt: skip
    def ends(*_arguments: object, **_options: object) -> None:
        raise end

    out, polygons = tmp_path / "map.tif", tmp_path / "map.geojson"
    run = partial(geoseg.predict, scene, out, polygons=polygons, model=bundle, device="onnx", **options)
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.vector.vectorize", ends)
        with pytest.raises(type(end)):
            run()
    made, seen = out.stat().st_mtime_ns, list[Progress]()
    run(progress=seen.append)
    assert (out.stat().st_mtime_ns, seen[-1].stage) == (made, "polygons")
    assert not any(state.pixels_now for state in seen if state.stage != "polygons")
    wanted = geoseg.vectorize(out, tmp_path / "wanted.geojson")
    assert isinstance(wanted, Path)
    assert json.loads(polygons.read_text())["features"] == json.loads(wanted.read_text())["features"]
    assert not parts_folder(out).exists()


@pytest.mark.parametrize("name", ["map.tif", "sure.tif"])
def test_what_others_write_in_the_place_of_a_map_without_polygons_is_theirs(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And if it may be replaced, or the map is to be stored otherwise, the map is made again."""

    def ends(*_arguments: object, **_options: object) -> None:
        raise OutputError("the disk is full")

    out, polygons = tmp_path / "map.tif", tmp_path / "map.geojson"
    options: dict[str, Any] = {"confidence": tmp_path / "sure.tif", "polygons": polygons, "device": "onnx"}
    run = partial(geoseg.predict, scene, out, model=bundle, tile=64, **options)
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.vector.vectorize", ends)
        with pytest.raises(OutputError):
            run()
        mine = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"theirs")
        with pytest.raises(OutputError, match=rf"{name} exists; add `overwrite=True` to replace it"):
            run()
        assert (tmp_path / name).read_bytes() == b"theirs"
        with pytest.raises(OutputError, match="the disk is full"):
            run(overwrite=True)
    assert (tmp_path / name).read_bytes() == mine
    run(overwrite=True, creation_options={"COMPRESS": "LZW"})
    with rasterio.open(tmp_path / name) as dataset:
        assert dataset.profile["compress"] == "lzw"
    assert polygons.exists()
    assert not parts_folder(out).exists()


def test_polygons_follow_the_map_as_vectorize_makes_them(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"min_area": "25px", "simplify": np.float32(1.5), "smooth": True}
    out, polygons = tmp_path / "new" / "map.tif", tmp_path / "other" / "map.geojson"
    seen: list[Progress] = []
    rest: dict[str, Any] = {"model": bundle, "device": "onnx", "confidence": tmp_path / "c.tif", "mkdir": True}
    assert geoseg.predict(scene, out, polygons=polygons, progress=seen.append, **knobs, **rest) == out
    wanted = geoseg.vectorize(out, tmp_path / "wanted.geojson", confidence=tmp_path / "c.tif", **knobs)
    assert isinstance(wanted, Path)
    features = [json.loads(path.read_text())["features"] for path in (polygons, wanted)]
    assert features[0] == features[1]
    assert list(dict.fromkeys(state.stage for state in seen)) == ["map", "assemble", "polygons"]
    for stage in ("map", "assemble", "polygons"):
        last = [state for state in seen if state.stage == stage][-1]
        assert (last.pieces_done, last.pixels_done) == (last.pieces_total, last.pixels_total)
    with pytest.raises(UsageError, match="`simplify` applies to polygons"):
        geoseg.predict(scene, tmp_path / "again.tif", model=bundle, simplify=1)
