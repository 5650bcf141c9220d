from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

import geoseg
from geoseg.errors import GeosegWarning, SceneError, UnlikeTrainingWarning, UsageError
from geoseg.inference.compatibility import check_bands, check_scale, warn_if_unlike
from geoseg.model import ModelBundle
from geoseg.raster import BandStatistics, Scene
from tests.inference.conftest import write_scene
from tests.networks import tiny_bundle

TRAINING = BandStatistics(
    mean=(120.0, 100.0, 70.0), std=(40.0, 40.0, 40.0), low=(40.0, 30.0, 10.0), high=(220.0, 200.0, 180.0)
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), export=False, gsd_m=0.5, statistics=TRAINING)


def normal(means: tuple[float, ...], std: float, dtype: str = "uint8") -> NDArray[Any]:
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    pixels = rng.normal(np.asarray(means)[:, None, None], std, (len(means), 80, 80))
    return pixels.round().clip(1, limits.max).astype(dtype)


def scene(path: Path, pixels: NDArray[Any], gsd_m: float = 0.5, **profile: Any) -> Scene:
    transform = from_origin(500_000, 5_400_000, gsd_m, gsd_m)
    return Scene.open(write_scene(path, pixels, transform=transform, **profile))


def test_a_scene_like_the_training_imagery_is_silent(bundle: ModelBundle, tmp_path: Path) -> None:
    alike = scene(tmp_path / "a.tif", normal((110, 105, 75), 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikeTrainingWarning)
        warn_if_unlike(alike, bundle, None)


@pytest.mark.parametrize(
    ("means", "std", "said"),
    [
        ((30, 20, 12), 4, "the mean of red is 30.*, in training 120 ± 40"),
        ((120, 100, 70), 3, "the standard deviation of red is 3.*, in training 40"),
        ((70, 100, 120), 40, "its bands would fit better in reverse order"),
    ],
)
def test_brightness_contrast_and_band_order_are_warned_of(
    bundle: ModelBundle, tmp_path: Path, means: tuple[float, ...], std: float, said: str
) -> None:
    with pytest.warns(UnlikeTrainingWarning, match=said):
        warn_if_unlike(scene(tmp_path / "b.tif", normal(means, std)), bundle, None)


@pytest.mark.parametrize("gsd_m", [0.1, 3.0])
def test_another_pixel_size_is_warned_of(bundle: ModelBundle, tmp_path: Path, gsd_m: float) -> None:
    with pytest.warns(UnlikeTrainingWarning, match=rf"pixels of {gsd_m:g} m, the model was trained on 0\.5 m"):
        warn_if_unlike(scene(tmp_path / "c.tif", normal((120, 100, 70), 40), gsd_m), bundle, None)


@pytest.mark.parametrize("product", ["labels", "confidence", "probabilities"])
def test_a_map_among_the_scenes_is_called_a_map(bundle: ModelBundle, tmp_path: Path, product: str) -> None:
    """Verbs without a model take it, whatever its bands are called."""
    paths, names = [], ("water", "trees", "roofs")
    for order in (1, -1):
        path = write_scene(tmp_path / f"{order}.tif", normal((120, 100, 70), 40), photometric="minisblack")
        with rasterio.open(path, "r+") as file:
            file.update_tags(GEOSEG_PRODUCT=product)
            file.descriptions = names[::order]
        paths.append(path)
    for given in (paths[0], Scene.open(paths[0])):
        with pytest.raises(SceneError, match=rf"is a map that geoseg made \({product}\), not imagery; give its scene"):
            geoseg.plan(given, model=bundle)
    geoseg.plan(paths[0], model=bundle, bands=[1, 2, 3])
    assert geoseg.mosaic(paths).band_names == names
    landcover = write_scene(tmp_path / "map.tif", normal((3,), 1))
    geoseg.preview(landcover, paths[0], out=tmp_path / "page.html")


def test_the_map_keeps_what_was_warned_of(tmp_path: Path) -> None:
    taken = tiny_bundle(tmp_path, gsd_m=0.5, statistics=TRAINING)
    pixels = normal((120, 100, 70), 40)
    coarse, alike = scene(tmp_path / "c.tif", pixels, 3.0), scene(tmp_path / "a.tif", pixels)
    with pytest.warns(UnlikeTrainingWarning) as told:
        geoseg.predict(coarse, tmp_path / "coarse.tif", model=taken, network_resolution="scene")
    geoseg.predict(alike, tmp_path / "alike.tif", model=taken)
    with rasterio.open(tmp_path / "coarse.tif") as file:
        (kept,) = json.loads(file.tags()["GEOSEG_WARNINGS"])
        about = file.tags()["GEOSEG_MODEL_ABOUT"]
    assert kept == "The scene is mapped with pixels of 3 m, the model was trained on 0.5 m."
    assert kept.removeprefix("The scene ").rstrip(".") in str(told[0].message)
    assert "red, green, blue; trained on pixels of 0.5 m" in about
    with rasterio.open(tmp_path / "alike.tif") as file:
        assert json.loads(file.tags()["GEOSEG_WARNINGS"]) == []


def test_imagery_of_one_value_is_like_itself_and_unlike_any_other(tmp_path: Path) -> None:
    """The standard deviation of a band that was constant in training is 0, and must not be divided by."""
    flat = BandStatistics(mean=(9.0,) * 3, std=(0.0,) * 3, low=(9.0,) * 3, high=(9.0,) * 3)
    taken = tiny_bundle(tmp_path, export=False, gsd_m=0.5, statistics=flat)
    assert not warn_if_unlike(scene(tmp_path / "flat.tif", np.full((3, 80, 80), 9, np.uint8)), taken, None)
    with pytest.warns(UnlikeTrainingWarning, match="looks unlike the training imagery"):
        warn_if_unlike(scene(tmp_path / "other.tif", normal((9, 9, 9), 4)), taken, None)


def test_a_scale_is_applied_before_the_comparison(bundle: ModelBundle, tmp_path: Path) -> None:
    bright = scene(tmp_path / "d.tif", normal((1200, 1000, 700), 400, "uint16"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikeTrainingWarning)
        warn_if_unlike(bright, bundle, (0, 2550))
    with pytest.warns(UnlikeTrainingWarning, match="the mean of red"):
        warn_if_unlike(bright, bundle, (0, 60_000))


def test_nothing_valid_is_nothing_to_compare(bundle: ModelBundle, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnlikeTrainingWarning)
        with pytest.warns(GeosegWarning, match=r"no valid pixel was found in .*e\.tif.* nodata value \(0\)"):
            warn_if_unlike(scene(tmp_path / "e.tif", np.zeros((3, 20, 20), np.uint8)), bundle, None)


def test_another_type_needs_a_scale_and_the_message_proposes_one_that_works(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    deep = scene(tmp_path / "f.tif", normal((1200, 1000, 700), 400, "uint16"))
    with pytest.raises(SceneError, match=r"is uint16, the model was trained on uint8") as caught:
        check_scale(deep, bundle, None)
    low, high = map(float, str(caught.value).partition("for example `scale=(")[2].split(")")[0].split(","))
    check_scale(deep, bundle, (low, high))
    statistics = deep.statistics()
    assert statistics is not None
    assert low == pytest.approx(min(statistics.low), rel=1e-4)
    assert high == pytest.approx(max(statistics.high), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int32"])
def test_bytes_in_another_type_are_not_to_be_stretched(bundle: ModelBundle, tmp_path: Path, dtype: str) -> None:
    pixels = normal((120, 100, 70), 40)
    with pytest.raises(SceneError, match=r"here `scale=\(0, 255\)`: its values are bytes") as caught:
        check_scale(scene(tmp_path / "h.tif", pixels.astype(dtype)), bundle, None)
    assert caught.value.parameter == "scale"
    for other in (pixels + 0.5, pixels + 100.0, pixels - 200.0, pixels / 4 // 1):
        with pytest.raises(SceneError, match="2 and 98 % of its values"):
            check_scale(scene(tmp_path / "i.tif", other.astype("float32")), bundle, None)


def test_bytes_that_were_divided_are_not_to_be_stretched_either(bundle: ModelBundle, tmp_path: Path) -> None:
    pixels = normal((120, 100, 70), 40).astype("float32") / 255
    with pytest.raises(SceneError, match=r"here `scale=\(0, 1\)`: its values are bytes, divided by 255"):
        check_scale(scene(tmp_path / "h.tif", pixels), bundle, None)
    with pytest.raises(SceneError, match="2 and 98 % of its values"):
        check_scale(scene(tmp_path / "i.tif", pixels * np.float32(0.77)), bundle, None)


@pytest.mark.parametrize("scale", [(5.0, 5.0), (9.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_scale_that_is_none_is_refused(bundle: ModelBundle, tmp_path: Path, scale: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="two finite numbers \\(LOW, HIGH\\)"):
        check_scale(scene(tmp_path / "g.tif", normal((120, 100, 70), 40)), bundle, scale)


def test_too_few_bands_are_refused_with_the_way_out(bundle: ModelBundle, tmp_path: Path) -> None:
    path = write_scene(tmp_path / "h.tif", normal((120, 100), 40))
    with pytest.raises(SceneError, match="red, green, blue"):
        check_bands(Scene.open(path), bundle)
