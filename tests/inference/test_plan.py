"""Uses of a plan: run, estimate, print, or read as a lazy array with other libraries."""

from __future__ import annotations

import builtins
import json
import logging
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import dask
import numpy as np
import odc.geo.xr  # noqa: F401 - registers .odc
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

import geoseg
from geoseg.errors import GeosegWarning, OutputError, UsageError
from geoseg.inference import OutputOptions, PlanOptions, PredictOptions, ScoringOptions
from geoseg.inference import estimate as estimate_module
from geoseg.inference import scoring as scoring_module
from geoseg.legend import NODATA
from geoseg.machine import size_text
from geoseg.model import EngineChoice, ModelBundle
from geoseg.progress import announcer
from geoseg.raster import Scene
from tests.inference.conftest import MakeScene, random_pixels, write_scene
from tests.inference.position_engine import TorchPositionEngine
from tests.networks import tiny_bundle

HEIGHT, WIDTH = 190, 150


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(HEIGHT, WIDTH, seed=3)


@pytest.fixture(scope="module")
def plan(scene: Scene, bundle: ModelBundle) -> geoseg.Plan:
    return geoseg.plan(scene, model=bundle, device="onnx", tile=64)


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        pixels: NDArray[Any] = dataset.read()
        return pixels


def test_predict_is_plan_and_run(scene: Scene, bundle: ModelBundle, plan: geoseg.Plan, tmp_path: Path) -> None:
    """The files are equal byte for byte, also from a plan that was pickled."""
    names = ("map.tif", "c.tif", "p.tif", "map.gpkg")
    folders = [tmp_path / name for name in ("predict", "run", "sent")]
    for folder in folders:
        folder.mkdir()
    wanted = [
        {"confidence": folder / "c.tif", "probabilities": folder / "p.tif", "polygons": folder / "map.gpkg"}
        for folder in folders
    ]
    geoseg.predict(scene, folders[0] / "map.tif", model=bundle, device="onnx", tile=64, **wanted[0])
    assert plan.run(folders[1] / "map.tif", **wanted[1]) == folders[1] / "map.tif"
    pickle.loads(pickle.dumps(plan)).run(folders[2] / "map.tif", **wanted[2])  # noqa: S301 - our own
    for name in names[:3]:
        first, *others = ((folder / name).read_bytes() for folder in folders)
        assert others == [first, first], name
    assert all((folder / names[3]).is_file() for folder in folders)
    alone = plan.run(tmp_path / "alone.tif")
    np.testing.assert_array_equal(read(alone), read(folders[0] / "map.tif"))
    with pytest.raises(OutputError, match="exists"):
        plan.run(alone)


def test_a_plan_prints_its_estimate(plan: geoseg.Plan) -> None:
    told, figures = str(plan).splitlines(), plan.estimate()
    assert [line.split()[0] for line in told] == [
        "scene", "bands", "model", "engine", "windows", "batch", "tiles", "memory", "disk", "time",
    ]  # fmt: skip
    assert told[:-1] == str(figures).splitlines()[:-1]
    assert f"bands {told[1].removeprefix('bands').strip()}" == figures.bands  # the word once
    assert repr(plan).startswith("<geoseg.Plan of ")
    assert f"{WIDTH} x {HEIGHT} px, {plan.tile_count} tiles" in repr(plan)


def test_options_are_spelled_once_and_every_one_is_taken(scene: Scene, bundle: ModelBundle) -> None:
    """The verbs accept every option in the typed structures that editors complete, and none belongs to two verbs."""
    kinds = (ScoringOptions, PlanOptions, OutputOptions, PredictOptions)
    hints = [
        set(get_type_hints(kind, localns={"Aoi": Any, "CrsLike": Any, "Sequence": Sequence})) for kind in kinds
    ]  # areas are loaded only if one is given
    assert hints[0] < hints[1]
    assert not hints[1] & hints[2]
    assert hints[3] == hints[1] | hints[2]
    given: dict[str, Any] = {
        "model": bundle, "bands": np.array([1, 2, 3]), "bbox": np.array([5e5, 5_399_950, 500_050, 5.4e6]),
        "bbox_crs": "EPSG:32631", "resolution": np.float32(0.5), "network_resolution": "scene", "tile": np.int64(64),
        "workers": np.uint8(1), "window": np.float64(64), "overlap": np.int16(8), "blend": "mean", "tta": np.int32(2),
        "scale": [np.float32(0), 255], "data_gsd_m": np.float32(0.5), "batch_size": np.int8(2), "device": "onnx",
    }  # fmt: skip
    assert hints[1] - set(given) == {"aoi", "aoi_crs", "zoom"}  # tests of areas and of map servers give them
    assert set(given) < hints[1]
    made = geoseg.plan(scene, **given)
    assert (made.tta, made.workers, made.mapping.batch_size, made.grid.window_px, made.grid.overlap_px) == (
        2, 1, 2, 64, 8,
    )  # fmt: skip
    assert made.scene.shape == (100, 100)
    for verb in (geoseg.plan, geoseg.labels, lambda *a, **k: geoseg.predict(*a, "map.tif", **k), made.run):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'overlp|'overwite"):
            verb(scene, **({"overwite": True} if verb == made.run else {"overlp": 3}))


@pytest.mark.parametrize(
    ("options", "parameter"),
    [({"batch_size": 0}, "batch_size"), ({"workers": 0}, "workers"), ({"tile": -1}, "tile"), ({"window": 0}, "window")],
)
def test_what_cannot_be_names_itself(
    scene: Scene, bundle: ModelBundle, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(UsageError, match=f"`{parameter}` must be at least 1") as caught:
        geoseg.plan(scene, model=bundle, device="onnx", **options)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("side", ["tile_height_px", "tile_width_px", "workers"])
def test_a_plan_holds_no_side_that_cannot_be(scene: Scene, bundle: ModelBundle, side: str) -> None:
    made = geoseg.plan(scene, model=bundle, device="onnx")
    for value in (0, -1):
        with pytest.raises(UsageError, match=f"`{side}` must be at least 1, got {value}"):
            replace(made, **{side: value})
    for index in (made.tile_count, -made.tile_count - 1):
        with pytest.raises(UsageError, match=f"`index` must be 0 to {made.tile_count - 1}, got {index}"):
            made.tile(index)


def test_tiles_far_smaller_than_windows_are_mapped_but_said(scene: Scene, bundle: ModelBundle) -> None:
    lines: list[str] = []
    with dask.config.set(scheduler="threads"):
        small = geoseg.plan(scene, model=bundle, device="onnx", tile=8, announce=lines.append)
        times = small.windows_run / len(small.grid)
        assert times > 8
        said = f"with tiles of 8 px each window of 64 px is scored {times:.0f} times; a larger `tile`"
        assert said in " ".join(lines)
        lines.clear()
        geoseg.plan(scene, model=bundle, device="onnx", tile=64, announce=lines.append)
    alone = geoseg.plan(scene, model=bundle, device="onnx", tile=8, announce=lines.append)
    assert alone.windows_run == len(alone.grid)
    assert not any("tiles of" in line for line in lines)


def test_what_is_seen_too_coarsely_for_the_memory_is_named(scene: Scene, bundle: ModelBundle) -> None:
    with pytest.raises(UsageError, match=r"of memory, .* or a finer `network_resolution`: one of its pixels is "):
        geoseg.plan(scene, model=bundle, device="onnx", network_resolution=50_000)


def test_an_empty_path_is_no_scene(bundle: ModelBundle, tmp_path: Path) -> None:
    for scenes in ("", ["  "]):
        with pytest.raises(UsageError, match="is empty; give a path"):
            geoseg.predict_many(scenes, tmp_path, model=bundle)
    with pytest.raises(UsageError, match="`out` is empty"):
        geoseg.predict("scene.tif", "", model=bundle)


def test_a_run_compares_its_scene_at_the_end_with_the_beginning(
    plan: geoseg.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, taken = Scene.fingerprint, list[str]()

    def counted(scene: Scene) -> str:
        taken.append(take(scene))
        return taken[-1]

    monkeypatch.setattr(Scene, "fingerprint", counted)
    plan.run(tmp_path / "map.tif")
    assert len(taken) == 2  # each looks at all files of a mosaic


def test_as_many_workers_as_the_memory_allows(
    scene: Scene, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(free: int, **options: Any) -> geoseg.Plan:
        monkeypatch.setattr(scoring_module, "available_memory_bytes", lambda: free)
        monkeypatch.setattr(scoring_module, "available_cores", lambda: 4)
        return geoseg.plan(scene, model=bundle, device="onnx", tile=64, **options)

    four = made(1 << 40)
    assert (four.workers, four.engine.threads) == (4, 1)
    three = made(four.memory_bytes - 1)
    assert three.workers == 3
    assert three.fingerprint() == four.fingerprint()
    one = made(1 << 40, workers=1)
    assert (one.workers, one.engine.threads) == (1, 4)
    assert made(one.memory_bytes).workers == 1
    for free, options in ((one.memory_bytes - 1, {}), (four.memory_bytes - 1, {"workers": 4})):
        with pytest.raises(UsageError, match=r"needs about .*B of memory, .* free; choose a smaller `window` \(now 64"):
            made(free, **options)


def test_the_memory_of_a_plan_includes_the_network(plan: geoseg.Plan) -> None:
    def with_weights(device: str, size: int) -> geoseg.Plan:
        engine = replace(plan.engine, device=device, bundle=replace(plan.bundle, weights_bytes=size))
        return replace(plan, scoring=replace(plan.scoring, engine=engine))

    for device in ("onnx", "torch-cpu"):
        small, large = (with_weights(device, size).memory_bytes for size in (10**6, 10**9))
        assert large - small >= 2 * (10**9 - 10**6)
    assert with_weights("torch-cpu", 0).memory_bytes > with_weights("onnx", 0).memory_bytes + (500 << 20)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_memory_of_windows_that_are_averaged_is_enough_and_not_far_too_much(
    make_scene: MakeScene, bundle: ModelBundle, tmp_path: Path, workers: int
) -> None:
    """Of what numpy allocates: that of the network and of the libraries is not traced."""
    plan = geoseg.plan(
        make_scene(1700, 1700), model=bundle, device="onnx", network_resolution=4.0, tile=512, workers=workers
    )
    assert (plan.grid.window_px, plan.is_swept) == (512, True)
    plan.run(tmp_path / "first.tif")  # compiles
    tracemalloc.start()
    try:
        plan.run(tmp_path / "map.tif")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = plan.memory_bytes - plan.scoring.base_bytes - workers * plan.engine.memory_bytes(1)
    assert 0.95 * taken < planned < 1.5 * taken


def test_the_memory_of_a_run_in_torch_is_planned(tmp_path: Path) -> None:
    """In a process of its own: torch and what builds its networks take more than anything else."""
    if not Path("/proc/self/status").exists():
        pytest.skip("Linux tells the peak memory of a process alone")
    write_scene(tmp_path / "scene.tif", np.full((3, 512, 512), 90, np.uint8))
    program = """
import sys, geoseg
from pathlib import Path
plan = geoseg.plan(sys.argv[1], device="torch-cpu", network_resolution="scene")
plan.run(sys.argv[2])
taken = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
print(taken / plan.memory_bytes)
"""
    paths = [str(tmp_path / name) for name in ("scene.tif", "map.tif")]
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert 0.5 < float(run.stdout) < 1.1


def test_bands_are_narrower_before_the_workers_are_fewer(
    make_scene: MakeScene, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_scene(130, 4000, tiled=True, blockxsize=64, blockysize=64)

    def made(free: int) -> geoseg.Plan:
        for module in (scoring_module, estimate_module):
            monkeypatch.setattr(module, "available_memory_bytes", lambda: free)
        return geoseg.plan(scene, model=bundle, device="onnx", tile=64, workers=2)

    wide = made(1 << 40)
    cols, most = wide.capacity().cols, wide.memory_bytes - (2 << 20)  # both depend on free memory
    assert wide.windows_run == len(wide.grid)
    narrow = made(most)
    assert narrow.workers == 2
    assert narrow.memory_bytes <= most
    assert 1 <= narrow.capacity().cols < cols
    assert narrow.fingerprint() == wide.fingerprint()
    assert narrow.windows_run > len(narrow.grid)


def test_the_memory_of_as_many_workers_as_are_asked_for_is_looked_at_once(plan: geoseg.Plan) -> None:
    looked_at: list[int] = []

    def bytes_of(count: int) -> int:
        looked_at.append(count)
        return count << 40

    with pytest.raises(UsageError, match=r"needs about .* of memory"):
        plan.scoring.share_out(10**9, bytes_of, 10**9)
    assert set(looked_at) == {10**9}
    assert plan.scoring.share_out(0, lambda _count: 0)[1] == 1  # no work needs no memory


@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32631", Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6)),
        ("EPSG:4326", Affine(1e-5, 0, 12.25, 0, -2e-5, 45.5)),
        ("EPSG:2193", Affine(2, 0, 1.6e6, 0, 2, 5.4e6)),  # south up
        ("EPSG:2263", Affine(1.5, 0, 9.8e5, 0, -1.5, 2e5)),  # US feet
        ("EPSG:32631", Affine(0.4, 0.3, 5e5, 0.3, -0.4, 5.4e6)),
    ],
    ids=["utm", "degrees", "south up", "feet", "rotated"],
)
def test_the_lazy_map_has_the_place_that_gdal_rioxarray_and_odc_geo_read(
    bundle: ModelBundle, tmp_path: Path, crs: str, transform: Affine
) -> None:
    path = write_scene(tmp_path / "scene.tif", random_pixels(HEIGHT, WIDTH, 3, 0.2), crs=crs, transform=transform)
    made = geoseg.plan(path, model=bundle, device="onnx", tile=64)
    lazy = made.to_xarray()
    assert (lazy.dims, lazy.shape, lazy.dtype, lazy.chunks) == (
        ("y", "x"), (HEIGHT, WIDTH), np.uint8, made.to_dask().chunks,
    )  # fmt: skip
    out = made.run(tmp_path / "map.tif")
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(lazy.values, dataset.read(1))
        assert lazy.rio.crs == dataset.crs
        assert lazy.rio.transform().almost_equals(dataset.transform, 1e-9)
        assert lazy.rio.nodata == dataset.nodata == NODATA
        assert lazy.odc.crs == dataset.crs.to_wkt()
        assert lazy.odc.transform.almost_equals(dataset.transform, 1e-6)
        if not transform.b:
            xs, ys = dataset.xy(0, 0), dataset.xy(HEIGHT - 1, WIDTH - 1)
            assert (lazy.x[0].item(), lazy.y[0].item()) == pytest.approx(xs, abs=1e-9)
            assert (lazy.x[-1].item(), lazy.y[-1].item()) == pytest.approx(ys, abs=1e-9)
            np.testing.assert_array_equal(
                lazy.isel(y=slice(60, 90), x=slice(10, 70)).values, dataset.read(1)[60:90, 10:70]
            )
    lazy.rio.to_raster(tmp_path / "again.tif")
    with rasterio.open(tmp_path / "again.tif") as again:
        np.testing.assert_array_equal(again.read(1), lazy.values)
        assert (again.crs, again.nodata) == (lazy.rio.crs, NODATA)
        assert again.transform.almost_equals(transform, 1e-9)


def test_the_lazy_map_speaks_of_its_classes_as_cf_does(plan: geoseg.Plan) -> None:
    lazy, legend = plan.to_xarray(), plan.bundle.legend
    assert tuple(lazy.attrs["flag_values"]) == legend.codes
    assert lazy.attrs["flag_meanings"].split() == list(legend.names)
    assert lazy.attrs["flag_colors"].split()[0] == "#{:02x}{:02x}{:02x}".format(*legend.by_code(0).color)
    assert geoseg.Legend.from_json(json.loads(lazy.attrs["legend"])) == legend
    assert lazy.x.attrs["standard_name"] == "projection_x_coordinate"
    assert lazy.spatial_ref.attrs["grid_mapping_name"] == "transverse_mercator"


def test_without_a_place_there_are_no_coordinates(bundle: ModelBundle, tmp_path: Path) -> None:
    pixels = random_pixels(70, 80, seed=1, invalid=0)
    nowhere = write_scene(tmp_path / "nowhere.tif", pixels, crs=None, transform=Affine.identity())
    points = [GroundControlPoint(*at, 5e5 + at[1], 5.4e6 - at[0]) for at in ((0, 0), (0, 80), (70, 0))]
    tied = tmp_path / "tied.tif"
    with rasterio.open(
        tied, "w", driver="GTiff", gcps=points, crs="EPSG:32631", count=3, height=70, width=80, dtype="uint8"
    ) as file:
        file.write(pixels)
    for path in (nowhere, tied):
        lazy = geoseg.plan(path, model=bundle, device="onnx").to_xarray()
        assert set(lazy.coords) == {"spatial_ref"}
        assert lazy.rio.crs is None


def test_without_xarray_it_says_what_to_install(plan: geoseg.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "xarray":
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r'pip install "geoseg\[xarray\]"'):
        plan.to_xarray()


def test_lines_for_people_go_to_the_logger_once(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    with caplog.at_level(logging.INFO, "geoseg"):
        geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="onnx", announce=heard.append)
    logged = [record.getMessage() for record in caplog.records if record.name == "geoseg"]
    assert logged == heard
    assert any(line.startswith("scoring with") for line in logged)
    heard.clear()
    with caplog.at_level(logging.INFO, "geoseg"):
        caplog.clear()
        announcer(announcer(heard.append))("of a verb that another verb calls")
    assert [record.getMessage() for record in caplog.records] == heard == ["of a verb that another verb calls"]


def on_gpu(plan: geoseg.Plan, total_bytes: int, **smaller: Any) -> geoseg.Plan:
    """Return the plan as if for a GPU; its engine still runs on this machine."""
    engine = replace(plan.engine, device="cuda:0", precision="fp16", hardware="CUDA: a card", total_bytes=total_bytes)
    return replace(plan, scoring=replace(plan.scoring, engine=engine, **smaller))


def test_a_gpus_memory_is_planned_and_told(plan: geoseg.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineChoice, "free_bytes", lambda self: self.total_bytes // 2)
    own = plan.open_engine()
    monkeypatch.setattr(geoseg.Plan, "open_engine", lambda _: own)
    large = on_gpu(plan, 8 << 30, batch_size=16)
    figures = large.estimate()
    assert figures.device_bytes == large.device_bytes < figures.device_total_bytes == 8 << 30
    planned, total, free = (size_text(size) for size in (large.device_bytes, 8 << 30, 4 << 30))
    assert f"gpu      about {planned} of its {total}, {free} free" in str(figures)
    one, eight, sixteen = (on_gpu(plan, 8 << 30, batch_size=size).device_bytes for size in (1, 8, 16))
    assert sixteen - eight >= eight - one > 7 * 64**2 * 4 * len(plan.bundle.output_codes)
    assert on_gpu(plan, 8 << 30, batch_size=16, tta=8).device_bytes > large.device_bytes
    assert plan.device_bytes == 0
    assert "gpu  " not in str(plan)


def test_a_gpus_batch_follows_its_whole_memory(plan: geoseg.Plan) -> None:
    sizes = [scoring_module._gpu_batch(on_gpu(plan, total).engine) for total in (0, 1 << 30, 5 << 30, 140 << 30)]
    assert sizes[0] == scoring_module._UNKNOWN_GPU_BATCH
    assert sizes[1] == 1
    assert sizes[1] < sizes[2] <= sizes[3] == scoring_module.GPU_BATCH


def test_a_dry_run_scores_the_batch_that_the_run_will(plan: geoseg.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchPositionEngine(fits=5)
    monkeypatch.setattr(geoseg.Plan, "open_engine", lambda _: engine)
    with pytest.warns(GeosegWarning, match="continuing with 4"):
        replace(plan, mapping=replace(plan.mapping, batch_size=8)).estimate()
    assert engine.batches == [4, 4, 4]
