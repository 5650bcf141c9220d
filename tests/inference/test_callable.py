"""A plain function as a model: any tiles give the map of the whole scene, and its output is checked."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

import geoseg
from geoseg.errors import GeosegWarning, ModelError, ResumeError, UsageError
from geoseg.legend import LandCover, Legend
from geoseg.model import ModelBundle
from geoseg.progress import Progress
from geoseg.raster import Scene, Window
from tests.inference.conftest import MakeScene
from tests.inference.position_engine import CLASSES, window_probabilities
from tests.inference.whole_scene import whole_map
from tests.model.mirrored import mirrored

LEGEND = Legend(tuple(LandCover(code, f"class {code}", (code, 2 * code, 50)) for code in (1, 3, 4, 9)))
HEIGHT, WIDTH = 333, 270


def positions(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that depend on the position in the window; invalid pixels are 0."""
    assert batch.dtype == np.float32
    assert batch.ndim == 4
    return np.stack([window_probabilities(each, each.any(axis=0)) for each in batch])


def model(function: Any = positions, **sides: Any) -> ModelBundle:
    return ModelBundle.from_callable(function, legend=LEGEND, window_px=64, overlap_px=24, **sides)


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(HEIGHT, WIDTH, seed=5)


@pytest.fixture(scope="module")
def whole(scene: Scene) -> NDArray[np.uint8]:
    made = geoseg.plan(scene, model=model())
    return whole_map(scene, made.grid, "hann", LEGEND.codes, is_filled=True)


@pytest.fixture(scope="module")
def usual(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """Return the labels of a run with one worker, one window per batch and a single tile."""
    out = tmp_path_factory.mktemp("usual") / "map.tif"
    return labels_of(geoseg.predict(scene, out, model=model(), tile=512, workers=1, batch_size=1))


def always(index: int) -> Any:
    """Return a function that gives every pixel one class."""
    return lambda batch: np.eye(CLASSES, dtype=np.float32)[index][:, None, None] * np.ones_like(batch[:, :1])


def test_another_function_of_the_same_name_and_version_is_run(scene: Scene, tmp_path: Path) -> None:
    edited = [model(always(index), name="edited", version="1") for index in range(CLASSES)]
    arrays = dask.compute(*(geoseg.plan(scene, model=each).to_dask() for each in edited))
    for map_, array, code in zip(edited, arrays, LEGEND.codes, strict=True):
        labels = labels_of(geoseg.predict(scene, tmp_path / "map.tif", model=map_, overwrite=True))
        assert set(np.unique(labels)) | set(np.unique(array)) <= {code, 255}


def test_a_process_opens_the_function_that_it_receives_with_each_tile_once(scene: Scene) -> None:
    sent = cloudpickle.dumps(geoseg.plan(scene, model=model(always(0))).engine)
    assert cloudpickle.loads(sent).open() is cloudpickle.loads(sent).open()


def labels_of(out: Path) -> NDArray[np.uint8]:
    with rasterio.open(out) as made:
        return made.read(1)


@pytest.mark.parametrize(
    "options", [{}, {"tile": 96, "workers": 3}, {"tile": 301, "batch_size": 5}, {"batch_size": 3, "tile": 64}], ids=str
)
def test_the_map_is_that_of_the_whole_scene_at_once(
    scene: Scene, whole: NDArray[np.uint8], usual: NDArray[np.uint8], tmp_path: Path, options: dict[str, Any]
) -> None:
    out = geoseg.predict(scene, tmp_path / "map.tif", model=model(), **options)
    with rasterio.open(out) as made:
        assert (made.read(1) == whole).mean() > 0.9999  # sums of two windows may be equal except for rounding
        assert made.tags()["GEOSEG_ENGINE"].startswith("function")
        assert made.colormap(1)[9][:3] == (9, 18, 50)
    np.testing.assert_array_equal(labels_of(out), usual)  # its bits do not depend on any of these
    lazy = geoseg.labels(scene, model=model(), **options).compute(scheduler="synchronous")
    np.testing.assert_array_equal(lazy, usual)


@pytest.mark.parametrize("options", [{"tile": 64, "workers": 3}, {"tile": 96, "batch_size": 4}, {}], ids=str)
def test_no_window_of_a_scene_is_scored_twice(scene: Scene, tmp_path: Path, options: dict[str, Any]) -> None:
    seen = 0

    def counted(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal seen
        seen += len(batch)
        return positions(batch)

    made = geoseg.plan(scene, model=model(counted), **options)
    made.run(tmp_path / "map.tif")
    valid = scene.read(Window(0, 0, HEIGHT, WIDTH)).valid
    windows = made.grid.windows_touching(Window(0, 0, HEIGHT, WIDTH))
    assert made.windows_run == len(windows)
    assert seen == sum(bool(valid[window.rows, window.cols].any()) for window in windows)


@pytest.mark.parametrize("workers", [1, 64])
def test_a_function_takes_its_time_whatever_the_workers(scene: Scene, workers: int) -> None:
    def naps(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(0.01)
        return positions(batch)

    figures = geoseg.plan(scene, model=model(naps), tile=64, workers=workers).estimate()
    assert figures.seconds >= 0.01 * figures.windows


def test_stored_values_are_normalized_clipped_to_the_scale_and_mirrored_where_invalid(scene: Scene) -> None:
    seen: list[NDArray[np.float32]] = []

    def spy(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch.copy())
        return np.full((len(batch), CLASSES, *batch.shape[2:]), 1 / CLASSES, np.float32)

    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    bundle = model(spy, normalization=geoseg.Normalization(mean, std))
    made = geoseg.plan(scene, model=bundle, scale=(50, 200), tile=4096)
    made.to_dask().compute(scheduler="synchronous")
    stored = scene.read(geoseg.Window(0, 0, HEIGHT, WIDTH))
    units = (np.clip(stored.data.astype(float), 50, 200) - 50) * 255 / 150
    wanted = (units - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    last = seen[-1][-1]
    row, col = made.grid.row_starts[-1], made.grid.col_starts[-1]
    at = slice(row, row + 64), slice(col, col + 64)
    filled, there = mirrored(wanted[:, *at], stored.valid[at])
    np.testing.assert_allclose(last, np.where(there, filled, 0), atol=1e-3)


def uniform(batch: NDArray[np.float32], classes: int = CLASSES) -> NDArray[np.float32]:
    return np.full((len(batch), classes, *batch.shape[2:]), 1 / classes, np.float32)


def failing(_batch: NDArray[np.float32]) -> None:
    raise KeyError("layer 7\nis not there")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda batch: uniform(batch, 3), r"shape \(1, 3, 64, 64\); it must give .*\(1, 4, 64, 64\)"),
        (lambda batch: uniform(batch)[:, :, ::2, ::2], r"shape \(1, 4, 32, 32\)"),
        (lambda batch: uniform(batch).argmax(1), r"shape \(1, 64, 64\)"),
        (lambda batch: uniform(batch) * np.nan, "not finite"),
        (lambda batch: uniform(batch) * 4, "off by up to 3; make them sum to one"),
        (lambda batch: np.log(positions(batch)), "make them sum to one with a softmax"),
        (lambda batch: np.concatenate([uniform(batch, 2) * 3, -uniform(batch, 2) * 2], 1), "off by up to 1"),
        (lambda batch: np.full((len(batch), 4, 64, 64), "water"), "it must give real numbers"),
        (lambda batch: uniform(batch).astype(np.complex64), "it must give real numbers"),
        (lambda _batch: None, r"NoneType of shape \(\)"),
        (lambda _batch: [[0.5, 0.5], [1.0]], "builtins.list that is no array; it must give probabilities"),
        (lambda batch: [torch.ones(4, 64, 64, requires_grad=True)] * len(batch), "builtins.list that is no array"),
        (failing, r"the function failing failed: KeyError: .layer 7"),
    ],
)
def test_what_is_no_probability_is_refused_in_one_line(scene: Scene, tmp_path: Path, function: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        geoseg.predict(scene, tmp_path / "map.tif", model=model(function))
    assert "\n" not in str(caught.value)
    assert "(in the window at row " in str(caught.value)
    assert not (tmp_path / "map.tif").exists()


def test_what_fails_in_one_window_is_said_of_that_window(scene: Scene, tmp_path: Path) -> None:
    grid = geoseg.plan(scene, model=model()).grid
    row, col = grid.row_starts[2], grid.col_starts[3]
    pixels = scene.read(geoseg.Window(row, col, 64, 64))
    filled, seen = mirrored(pixels.data, pixels.valid)
    one = np.where(seen, filled, 0).astype(np.float32)
    assert pixels.valid.any()

    def odd(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        found = positions(batch)
        found[[np.array_equal(window, one) for window in batch]] = np.nan
        return found

    with pytest.raises(ModelError, match=rf"not finite.* \(in the window at row {row}, column {col} of "):
        geoseg.predict(scene, tmp_path / "map.tif", model=model(odd), batch_size=1)


def test_tensors_of_half_precision_and_functions_short_of_memory(
    scene: Scene, whole: NDArray[np.uint8], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")

    def small(batch: NDArray[np.float32]) -> Any:
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
        return torch.tensor(positions(batch), requires_grad=True).half()

    with pytest.warns(GeosegWarning, match=r"function's device ran out of memory with \d windows per batch"):
        out = geoseg.predict(scene, tmp_path / "map.tif", model=model(small), batch_size=8, workers=1)
    with rasterio.open(out) as made:
        assert (made.read(1) == whole).mean() > 0.99


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_of_torch_is_a_function(scene: Scene, tmp_path: Path, dtype: str) -> None:
    import torch  # noqa: PLC0415 - one test of many

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Softmax(1)).to(
        getattr(torch, dtype)
    )

    def by_hand(batch: NDArray[np.float32]) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(batch).to(getattr(torch, dtype))).numpy()

    with pytest.raises(UsageError, match=r"eval\(\) first") as caught:
        model(network)
    assert caught.value.parameter == "function"
    network.eval()
    wanted = labels_of(geoseg.predict(scene, tmp_path / "by_hand.tif", model=model(by_hand)))
    found = labels_of(geoseg.predict(scene, tmp_path / "network.tif", model=model(network)))
    assert len(np.unique(wanted)) > 2
    assert np.array_equal(found, wanted)
    with pytest.raises(ModelError, match="with a softmax"):
        geoseg.predict(scene, tmp_path / "logits.tif", model=model(network[:2].eval()))
    with pytest.raises(UsageError, match=r"from_callable\(.*save_bundle"):
        geoseg.predict(scene, tmp_path / "no.tif", model=network)  # type: ignore[arg-type] # on purpose
    with pytest.raises(UsageError, match=r"from_callable"):
        geoseg.predict(scene, tmp_path / "no.tif", model=by_hand)  # type: ignore[arg-type] # on purpose


def test_calls_do_not_overlap(scene: Scene) -> None:
    busy = threading.Lock()

    def jealous(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        assert busy.acquire(blocking=False)
        try:
            return uniform(batch)
        finally:
            busy.release()

    made = geoseg.plan(scene, model=model(jealous), tile=96)
    made.to_dask().compute(scheduler="threads", num_workers=4)


def stopped(progress: Progress) -> None:
    if progress.pieces_done >= 2:
        raise KeyboardInterrupt


def test_a_run_resumes_where_the_function_is_known_to_be_the_same(
    scene: Scene, usual: NDArray[np.uint8], tmp_path: Path
) -> None:
    out, seen = tmp_path / "map.tif", list[Progress]()
    options: dict[str, Any] = {"tile": 96, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        geoseg.predict(scene, out, model=model(version="1"), progress=stopped, **options)
    for other in (model(version="2"), model(), model(uniform, version="1"), model(version="1", dtype="float32")):
        with pytest.raises(ResumeError, match="different settings: model"):
            geoseg.predict(scene, out, model=other, scale=(0, 255) if other.dtype == "float32" else None, **options)
    geoseg.predict(scene, out, model=model(version="1"), progress=seen.append, **options)
    assert seen[0].pieces_done >= 2
    np.testing.assert_array_equal(labels_of(out), usual)
    assert model().hash != model().hash


def test_what_cannot_be_sent_to_processes_is_one_line(scene: Scene, tmp_path: Path) -> None:
    lock = threading.Lock()

    def held(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with lock:
            return uniform(batch)

    with (
        dask.config.set(scheduler="processes"),
        pytest.raises(UsageError, match=r"cannot be sent to Dask's processes \(.*lock"),
    ):
        geoseg.predict(scene, tmp_path / "map.tif", model=model(held))


@pytest.mark.parametrize(
    ("sides", "parameter"),
    [
        ({"bands": (1, 2)}, "bands"),
        ({"dtype": "float64"}, "dtype"),
        ({"function": "model.pt"}, "function"),
        ({"legend": Legend((LandCover(0, "water", (0, 0, 1)),))}, "legend"),
    ],
)
def test_a_side_that_cannot_be_names_itself(sides: dict[str, Any], parameter: str) -> None:
    with pytest.raises(UsageError) as caught:
        ModelBundle.from_callable(**({"function": positions, "legend": LEGEND} | sides))
    assert caught.value.parameter == parameter


def test_a_legend_may_be_a_dict_of_names() -> None:
    bundle = ModelBundle.from_callable(positions, legend={4: "water", 7: "land"}, output_codes=(7, 4))
    assert (bundle.legend.names, bundle.legend.codes, bundle.output_codes) == (("water", "land"), (4, 7), (7, 4))


def test_a_function_has_no_device_and_may_want_a_divisor(scene: Scene) -> None:
    with pytest.raises(UsageError, match="chooses its device itself"):
        geoseg.plan(scene, model=model(), device="cpu")
    with pytest.raises(UsageError, match="must be a multiple of 32"):
        geoseg.plan(scene, model=model(divisor=32), window=80)
    assert geoseg.plan(scene, model=model(), window=np.int64(81)).engine.window_px == 81
