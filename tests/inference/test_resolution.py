"""A scene mapped at another pixel size, compared with the scene resampled to a file beforehand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import array_bounds

import geoseg
from geoseg.errors import ModelError, ResumeError, SceneError, UnlikeTrainingWarning, UsageError
from geoseg.inference.execution.journal import parts_folder
from geoseg.model import ModelBundle
from geoseg.progress import Progress
from geoseg.raster import Scene, Window
from tests.inference.conftest import MakeScene, random_pixels, write_scene
from tests.networks import tiny_bundle

HEIGHT, WIDTH = 730, 530
PROFILE = "count", "dtype", "height", "width", "crs", "transform", "nodata"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64, gsd_m=1.3)


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(HEIGHT, WIDTH, seed=4, tiled=True, blockxsize=128, blockysize=128)


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        pixels: NDArray[Any] = dataset.read()
        return pixels


def resampled(scene: Scene, path: Path) -> Path:
    """Write a scene to a file as the plan sees it."""
    with rasterio.open(scene.path) as seen:
        profile = {name: seen.profile[name] for name in PROFILE}
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            file.write(seen.read())
    return path


class Stop:
    """A progress callback that raises KeyboardInterrupt once a tile is finished."""

    def __call__(self, progress: Progress) -> None:
        if progress.pieces_done:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
@pytest.mark.parametrize("resolution", ["model", 2, 0.42])
def test_the_map_is_that_of_the_scene_resampled_beforehand(
    scene: Scene, bundle: ModelBundle, tmp_path: Path, resolution: Any
) -> None:
    knobs: dict[str, Any] = {"model": bundle, "device": "onnx", "tile": 128}
    wanted_m = bundle.gsd_m if resolution == "model" else resolution
    made = geoseg.plan(scene, resolution=resolution, **knobs)
    assert made.scene.geobox.gsd_m == pytest.approx(wanted_m, rel=5e-3)
    beforehand = resampled(made.scene, tmp_path / "seen.tif")
    one = geoseg.predict(scene, tmp_path / "a.tif", resolution=resolution, probabilities=tmp_path / "p.tif", **knobs)
    other = geoseg.predict(beforehand, tmp_path / "b.tif", probabilities=tmp_path / "q.tif", **knobs)
    np.testing.assert_array_equal(read(one), read(other))
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), read(tmp_path / "q.tif"))
    assert len(np.unique(read(one))) > 2
    with rasterio.open(one) as written, rasterio.open(scene.path) as source:
        assert written.shape == made.scene.shape != source.shape
        assert written.crs == source.crs
        assert written.bounds == pytest.approx(source.bounds)
        assert written.tags()["GEOSEG_SCENE_PATH"] == Path(scene.path).name
        assert written.tags()["GEOSEG_SCENE_FINGERPRINT"] == scene.fingerprint()
        assert float(written.tags()["GEOSEG_RESOLUTION"]) == made.scene.geobox.gsd_m


def test_strips_and_other_bands_are_resampled_alike(bundle: ModelBundle, tmp_path: Path) -> None:
    pixels = random_pixels(300, 260, seed=2, invalid=0.2)
    striped = write_scene(tmp_path / "striped.tif", pixels, blockysize=1)
    turned = write_scene(tmp_path / "turned.tif", pixels[::-1])
    maps = [
        geoseg.labels(striped, model=bundle, resolution="model", device="onnx", tile=200).compute(),
        geoseg.labels(turned, model=bundle, resolution="model", device="onnx", bands=[3, 2, 1]).compute(),
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    fingerprints = {
        geoseg.plan(turned, model=bundle, resolution="model", device="onnx", tile=128, bands=bands).fingerprint()
        for bands in ([1, 2, 3], [3, 2, 1])
    }
    assert len(fingerprints) == 2


def test_an_interrupted_run_goes_on_at_its_resolution_alone(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    knobs: dict[str, Any] = {"model": bundle, "device": "onnx", "tile": 64, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, resolution="model", progress=Stop(), **knobs)
    with pytest.raises(ResumeError, match=r"with different settings: resolution \(1\.299 before, 1\.698 now\);"):
        geoseg.predict(scene, out, resolution=1.7, **knobs)
    said: list[str] = []
    seen: list[Progress] = []
    geoseg.predict(scene, out, resolution="model", announce=said.append, progress=seen.append, **knobs)
    assert 0 < seen[0].pieces_done < seen[0].pieces_total
    assert any("mapping at 1.3 m per pixel, resampled from 0.5 m" in line for line in said)
    assert not parts_folder(out).exists()
    np.testing.assert_array_equal(
        read(out)[0], geoseg.labels(scene, model=bundle, device="onnx", resolution="model").compute()
    )


@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
def test_a_pixel_size_as_good_as_the_scenes_leaves_it_as_it_is(scene: Scene, bundle: ModelBundle) -> None:
    own, same = (geoseg.plan(scene, model=bundle, device="onnx", resolution=how) for how in ("scene", 0.5004))
    assert same.scene is same.source
    assert own.fingerprint() == same.fingerprint()


def test_the_warning_of_another_pixel_size_names_the_way_out(make_scene: MakeScene, bundle: ModelBundle) -> None:
    scene = make_scene(100, 100, seed=1)
    with pytest.warns(UnlikeTrainingWarning, match=r"pixels of 0\.5 m, .* on 1\.3 m; .*resolution='model'") as caught:
        geoseg.plan(scene, model=bundle, device="onnx", network_resolution="scene")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikeTrainingWarning)
        geoseg.plan(scene, model=bundle, device="onnx", resolution="model")
        geoseg.plan(scene, model=bundle, device="onnx")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "options", [{}, {"resolution": "model"}, {"resolution": 0.8}, {"network_resolution": 1.0}, {"tile": 64}]
)
def test_a_stated_pixel_size_counts_as_one_that_the_place_tells(
    options: dict[str, Any], bundle: ModelBundle, tmp_path: Path
) -> None:
    pixels = random_pixels(150, 130, seed=5, invalid=0)
    placed = write_scene(tmp_path / "placed.tif", pixels)
    nowhere = write_scene(tmp_path / "nowhere.tif", pixels, crs=None, transform=Affine.identity())
    told = geoseg.labels(placed, model=bundle, device="onnx", **options).compute()
    stated = geoseg.labels(nowhere, model=bundle, device="onnx", data_gsd_m=0.5, **options).compute()
    np.testing.assert_array_equal(stated, told)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_pixel_size_is_stated_where_none_is_told_and_a_size_it_is(bundle: ModelBundle, tmp_path: Path) -> None:
    pixels = random_pixels(80, 80, seed=1, invalid=0)
    placed = write_scene(tmp_path / "placed.tif", pixels)
    geoseg.plan(placed, model=bundle, data_gsd_m=0.5)
    with pytest.raises(UsageError, match=r"placed\.tif has pixels of 0\.5 m, but `data_gsd_m` is 2 m; leave it out"):
        geoseg.plan(placed, model=bundle, data_gsd_m=2)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="meters per pixel, more than 0"):
            geoseg.plan(placed, model=bundle, data_gsd_m=wrong)
    nowhere = write_scene(tmp_path / "nowhere.tif", pixels, crs=None, transform=Affine.identity())
    factors = [geoseg.plan(nowhere, model=bundle, data_gsd_m=stated).network_factor for stated in (None, 0.5, 1.3)]
    assert factors == [1, pytest.approx(2.6, rel=0.01), 1]
    lines: list[str] = []
    geoseg.predict(nowhere, tmp_path / "map.tif", model=bundle, announce=lines.append)
    assert "the scene does not state its pixel size; 1.3 m is assumed, unless `data_gsd_m` states another" in lines


def test_an_unknown_pixel_size_is_one_clear_error(bundle: ModelBundle, tmp_path: Path) -> None:
    pixels = random_pixels(80, 80, seed=1, invalid=0)
    nowhere = write_scene(tmp_path / "nowhere.tif", pixels, crs=None)
    with pytest.raises(SceneError, match=r"pixel size of .*nowhere\.tif is unknown, .* 1\.3 m; .*resolution"):
        geoseg.plan(nowhere, model=bundle, resolution="model")
    somewhere = write_scene(tmp_path / "somewhere.tif", pixels)
    silent = tiny_bundle(tmp_path, export=False)
    with pytest.raises(ModelError, match=r"does not state the pixel size .* `resolution=0\.5`"):
        geoseg.plan(somewhere, model=silent, resolution="model")
    for wrong in ("finest", 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="scene, model, or meters per pixel"):
            geoseg.plan(somewhere, model=bundle, resolution=wrong)  # type: ignore[arg-type] # one is no resolution


def test_no_product_replaces_the_scene_that_is_resampled(scene: Scene, bundle: ModelBundle, tmp_path: Path) -> None:
    before = Path(scene.path).read_bytes()
    for paths in ((scene.path, None), (tmp_path / "map.tif", scene.path)):
        with pytest.raises(UsageError, match="is read by this run"):
            geoseg.predict(
                scene, paths[0], confidence=paths[1], model=bundle, resolution="model", device="onnx", overwrite=True
            )
    assert Path(scene.path).read_bytes() == before


def test_ground_control_points_go_with_the_map(bundle: ModelBundle, tmp_path: Path) -> None:
    corners = [(0, 0, 5e5, 5.4e6), (0, 130, 500_065, 5.4e6), (260, 0, 5e5, 5_399_870), (260, 130, 500_065, 5_399_870)]
    path, pixels = tmp_path / "scene.tif", random_pixels(260, 130, seed=1, invalid=0)
    shape = {"count": 3, "height": 260, "width": 130, "dtype": "uint8"}
    points = [GroundControlPoint(*corner, z=0.0) for corner in corners]
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:32631", **shape) as file:
        file.write(pixels)
    out = geoseg.predict(path, tmp_path / "map.tif", model=bundle, resolution="model", device="onnx")
    with rasterio.open(out) as written:
        assert written.shape == (100, 50)
        points, crs = written.gcps
        assert crs.to_epsg() == 32631
        assert [(point.row, point.col) for point in points] == [(0, 0), (0, 50), (100, 0), (100, 50)]


def test_points_that_cannot_place_the_scene_are_said_and_go_with_the_map(bundle: ModelBundle, tmp_path: Path) -> None:
    path, points = tmp_path / "scene.tif", [GroundControlPoint(t, t, 5e5 + t / 2, 5.4e6 - t / 2) for t in (0, 50, 100)]
    shape = {"count": 3, "height": 120, "width": 130, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:32631", **shape) as file:
        file.write(random_pixels(120, 130, seed=1, invalid=0))
    words = "3 ground control points cannot place it: their pixels all lie on one line; give it 3 or more"
    with pytest.raises(SceneError, match=f"the pixel size of .*scene.tif is unknown.*its {words}"):
        geoseg.predict(path, tmp_path / "map.tif", model=bundle, resolution="model", device="onnx")
    told: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        geoseg.predict(path, tmp_path / "map.tif", model=bundle, device="onnx", announce=told.append)
    assert any(f"the map will not be georeferenced, as the scene is not: its {words}" in line for line in told)
    assert not [one for one in warned if " m, the model was trained on" in str(one.message)]
    with rasterio.open(tmp_path / "map.tif") as written:
        assert [(point.row, point.col) for point in written.gcps[0]] == [(0, 0), (50, 50), (100, 100)]


def test_a_dry_run_speaks_of_the_maps_grid(scene: Scene, bundle: ModelBundle) -> None:
    figures = geoseg.plan(scene, model=bundle, device="onnx", resolution="model").estimate()
    assert (figures.height_px, figures.width_px) == (281, 204)
    assert figures.scene == scene.path
    assert "204 x 281 px, 1.3 m pixels, resampled from 0.5 m" in str(figures)


def test_what_is_resampled_has_the_scenes_extent(scene: Scene, bundle: ModelBundle) -> None:
    made = geoseg.plan(scene, model=bundle, device="onnx", resolution="model")
    box = made.scene.geobox
    bounds = array_bounds(*scene.shape, scene.geobox.transform)
    assert array_bounds(*box.shape, box.transform) == pytest.approx(bounds)
    valid = made.scene.valid(Window(0, 0, *box.shape))
    assert not valid[: int(HEIGHT * 0.2 / 2.6) - 1, : int(WIDTH * 0.7 / 2.6) - 1].any()
    assert valid.any()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        *(("EPSG:4326", Affine(4.5e-6, 0, 12, 0, -4.5e-6, lat)) for lat in (45, 65, 70)),
        ("EPSG:32631", Affine(0.5, 0, 4e5, 0, -0.8, 5e6)),
    ],
)
@pytest.mark.parametrize(("resolution", "wanted_m"), [(0.7, 0.7), ("model", 1.3)])
def test_pixels_asked_for_are_square_on_the_ground(
    bundle: ModelBundle, tmp_path: Path, crs: str, transform: Affine, resolution: Any, wanted_m: float
) -> None:
    pixels = random_pixels(300, 400, seed=1, invalid=0)
    path = write_scene(tmp_path / "scene.tif", pixels, crs=crs, transform=transform)
    with pytest.warns(UnlikeTrainingWarning, match=r"not square on the ground: 0\.[58]\d* m high, 0\.\d+ m wide"):
        geoseg.plan(path, model=bundle, device="onnx")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not square")
        seen = geoseg.plan(path, model=bundle, device="onnx", resolution=resolution).scene
    assert seen.geobox.pixel_m == pytest.approx((wanted_m, wanted_m), rel=0.01)
    assert array_bounds(*seen.shape, seen.geobox.transform) == pytest.approx(array_bounds(300, 400, transform))
