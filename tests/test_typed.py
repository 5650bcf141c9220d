"""Annotations of public values and methods are enforced: a wrong type is one line, never Python's own error."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import rasterio.windows
import torch
from numpy.typing import ArrayLike, NDArray

import geoseg
from geoseg.dataset import prepare
from geoseg.errors import GeosegError, UsageError
from geoseg.model import ModelBundle
from geoseg.synthetic import Landscape, write_landscape
from geoseg.typed import checked, integer
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import random_network, tiny_bundle
from tests.training.tiny import write_data

if TYPE_CHECKING:
    import geopandas

WRONG: dict[str, Any] = {
    "None": None, "-1": -1, "0": 0, "2.5": 2.5, "nan": float("nan"), "inf": float("inf"), "10**30": 10**30,
    "10**400": 10**400, "True": True, "empty": "", "text": "x", "zero byte": "a\0b", "half a character": "\ud800",
    "bytes": b"x", "[]": [], "[1]": [1], "['x']": ["x"], "[None]": [None], "ragged": [[1], [1, 2]], "{}": {},
    "dict": {1: 2}, "object": object(), "set": {1}, "complex": 1j, "Decimal": Decimal("nan"),
    "nans": np.full((3, 3), np.nan), "no numbers": np.zeros(0), "texts": np.array(["a", "b"]),
    "no list": np.array(3.7),
    "rank 4": np.zeros((2, 2, 2, 2), np.uint8), "tensor": torch.zeros(3), "function": len, "type": int, "module": os,
    "path": Path("nowhere"), "window": geoseg.Window(0, 0, 1, 1), "legend": geoseg.DEEPGLOBE,
}  # fmt: skip
Door = tuple[Callable[..., object], dict[str, Any]]


def _sides(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    """Return public values with all their fields, and methods with all their required arguments, by name."""
    folder = tmp_path_factory.mktemp("doors")
    legend, window = geoseg.DEEPGLOBE, geoseg.Window(0, 0, 8, 8)
    path = write_scene(folder / "scene.tif", random_pixels(64, 64, 1, 0))
    bundle, scene = tiny_bundle(folder, window_px=64), geoseg.Scene.open(path)
    plan = geoseg.plan(scene, model=bundle, device="onnx")
    data = geoseg.open_dataset(write_data(folder / "data"))
    parts, codes = geoseg.split(data), np.zeros((8, 8), np.uint8)
    matrix = geoseg.ConfusionMatrix.from_arrays(codes, codes, legend)
    evaluation = geoseg.Evaluation.of("map", "truth", matrix)
    page, profile, recipe = geoseg.Page("title", "<p>"), geoseg.Profile(), geoseg.Recipe()
    statistics = geoseg.BandStatistics((1.0,), (1.0,), (0.0,), (2.0,))
    landscape, normalization = Landscape(1, 16, 16), bundle.normalization
    values = (
        legend, legend.classes[0], window, scene, scene.geobox, scene.read(window), bundle, normalization, plan, data,
        parts, parts.train[0], matrix, evaluation, evaluation.metrics, page, recipe, statistics, landscape,
        geoseg.Progress(1, 2, 3, 4, 5, 1.0), geoseg.SceneResult("scene", folder / "map.tif", "mapped"),
    )  # fmt: skip
    made: dict[str, Door] = {
        type(value).__name__: (
            type(value),
            {each.name: getattr(value, each.name) for each in dataclasses.fields(value)},
        )
        for value in values
    }
    network = random_network("Unet", bundle.arguments)
    card = {"legend": legend, "normalization": normalization}
    return made | {
        "ConfusionMatrix.empty": (geoseg.ConfusionMatrix.empty, {"codes": [1], "names": ["a"]}),
        "ConfusionMatrix.of_legend": (geoseg.ConfusionMatrix.of_legend, {"legend": legend}),
        "ConfusionMatrix.from_arrays": (
            geoseg.ConfusionMatrix.from_arrays,
            {"reference": codes, "predicted": codes, "legend": legend, "ignore": (1,)},
        ),
        "ConfusionMatrix.add": (matrix.add, {"reference": codes, "predicted": codes, "ignore": (1,)}),
        "ConfusionMatrix.merge": (matrix.merge, {"other": matrix}),
        "ConfusionMatrix.without": (matrix.without, {"codes": [1]}),
        "ConfusionMatrix.ignoring": (matrix.ignoring, {"codes": [1]}),
        "ConfusionMatrix.only": (matrix.only, {"codes": [1]}),
        "Metrics.of": (geoseg.Metrics.of, {"matrix": matrix}),
        "Evaluation.of": (geoseg.Evaluation.of, {"subject": "a", "reference": "b", "matrix": matrix, "notes": ()}),
        "Dataset.mapped": (data.mapped, {"mapping": {"water": "water"}, "target": legend}),
        "Dataset.pair": (data.pair, {"pair_id": data.pairs[0].id}),
        **{f"Split.{name}": (getattr(parts, name), {"name": "train"}) for name in ("size_of", "part", "part_json")},
        "Legend.by_code": (legend.by_code, {"code": 1}),
        "Legend.by_name": (legend.by_name, {"name": "water"}),
        "Legend.from_json": (geoseg.Legend.from_json, {"rows": legend.to_json()}),
        "Normalization.gain_bias": (normalization.gain_bias, {"scale": (0, 1)}),
        "Page.save": (page.save, {"path": folder / "page.html", "mkdir": False, "overwrite": True}),
        "Profile.add": (profile.add, {"stage": "read", "seconds": 1.0, "cpu_seconds": 1.0}),
        "Profile.waited": (profile.waited, {"stage": "read", "seconds": 1.0}),
        "Recipe.from_json": (geoseg.Recipe.from_json, {"plain": {}, "base": recipe}),
        "Recipe.changed": (recipe.changed, {"arguments": {}, "lr": 0.1}),
        "Scene.open": (geoseg.Scene.open, {"path": path, "bands": [1], "wanted_bands": ["red"]}),
        "Scene.crop": (scene.crop, {"bbox": scene.geobox.bounds, "crs": None}),
        **{f"Scene.{name}": (getattr(scene, name), {"window": window}) for name in ("cut", "read", "valid")},
        "Scene.read_into": (scene.read_into, {"parts": [(window, np.zeros((3, 8, 8), np.uint8))]}),
        "Scene.read_into memory": (lambda into: scene.read_into([(window, into)]), {"into": scene.read(window).data}),
        "Scene.overview": (scene.overview, {"max_px": 8}),
        "Scene.to_xarray": (scene.to_xarray, {"masked": True}),
        "GeoBox[]": (lambda window: scene.geobox[window], {"window": window}),
        "GeoBox.from_odc": (geoseg.GeoBox.from_odc, {"geobox": scene.geobox.to_odc()}),
        "Window.from_rasterio": (geoseg.Window.from_rasterio, {"window": window.to_rasterio()}),
        "Window.intersection": (window.intersection, {"other": window}),
        "Window.relative_to": (window.relative_to, {"other": window}),
        "Plan.tile": (plan.tile, {"index": 0}),
        "ModelBundle.open": (ModelBundle.open, {"path": bundle.weights_path}),
        "ModelBundle.from_pretrained": (ModelBundle.from_pretrained, {"folder": folder, **card}),
        "ModelBundle.from_text": (ModelBundle.from_text, {"text": bundle.to_text()}),
        "ModelBundle.from_callable": (
            ModelBundle.from_callable,
            {"function": len, "legend": legend, "bands": ["red"], "window_px": 64, "divisor": 1, "dtype": "uint8"},
        ),
        "prepare": (prepare, {"dataset": data, "areas": parts.train, "folder": folder / "cache", "gsd_m": None}),
        "write_landscape": (write_landscape, {"landscape": landscape, "scene_path": folder / "made.tif"}),
        "save_bundle": (
            geoseg.save_bundle,
            {
                "path": folder / "m.safetensors", "network": network, "architecture": "Unet",
                "arguments": bundle.arguments, "window_px": 64, "overlap_px": 16, "provenance": {},
                "bands": ("red", "green", "blue"), **card,
            },
        ),
        "predict": (
            geoseg.predict,
            {
                "scene": scene, "out": folder / "map.tif", "model": bundle, "polygons": folder / "map.gpkg",
                "resolution": "scene", "network_resolution": "scene", "workers": 1, "shard": "1/1", "overwrite": True,
            },
        ),
        "predict_many": (geoseg.predict_many, {"scenes": [scene], "out_dir": folder / "maps", "workers": 1}),
        "vectorize": (geoseg.vectorize, {"landcover": path, "legend": legend, "min_area": 1, "layer": "a"}),
        "mosaic": (geoseg.mosaic, {"scenes": [scene]}),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::geoseg.errors.GeosegWarning")
@pytest.mark.parametrize("label", WRONG)
def test_a_wrong_argument_is_one_line(
    doors: dict[str, Door], label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One argument is wrong at a time; values that make sense may be accepted."""
    monkeypatch.chdir(tmp_path)
    faults = []
    for name, (call, right) in doors.items():
        for argument in right:
            try:
                call(**right | {argument: WRONG[label]})
            except GeosegError as error:
                faults += [] if len(str(error).splitlines()) == 1 else [f"{name}({argument}): {error}"]
            except Exception as error:  # noqa: BLE001 - which is the fault
                faults.append(f"{name}({argument}): {type(error).__name__}: {error}")
    assert faults == []


@dataclass(frozen=True, slots=True)
@checked
class Every:
    """A field of each kind."""

    whole: int = 1
    real: float = 1.0
    switch: bool = False
    words: str = "a"
    file: Path = Path("a")
    path: str | os.PathLike[str] = "a"
    several: tuple[int, ...] = ()
    two: tuple[float, float] = (0.0, 1.0)
    maybe: float | None = None
    either: int | tuple[str, ...] = 1
    choice: Literal["a", "b"] = "a"
    any_order: Iterable[int] = ()
    in_order: Sequence[int] = ()
    by_name: Mapping[str, int] = dataclasses.field(default_factory=dict)
    array: NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.zeros(1, np.uint8))
    codes: ArrayLike = 0
    late: geopandas.GeoDataFrame | None = None
    window: rasterio.windows.Window | None = None
    legend: geoseg.Legend | None = None


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("whole", 1.5, "a whole number, got 1.5"),
        ("whole", True, "a whole number, got True"),
        ("whole", 10**30, "a whole number of at most 18 digits, got 1000"),
        ("real", "1", "a number, got '1'"),
        ("real", 10**400, "a number that a float can hold, got 1000"),
        ("switch", 1, "True or False, got 1"),
        ("words", b"a", "a string, got b'a' (bytes)"),
        ("file", 3, "a path, got 3"),
        ("path", "a\0", r"a path without null bytes or lone surrogates, got 'a\x00'"),
        ("path", "\ud800", "a path without null bytes or lone surrogates, got "),
        ("several", 3, "a list of whole numbers, got 3"),
        ("several", [1, "x"], "a list of whole numbers, got [1, 'x']"),
        ("several", "12", "a list of whole numbers, got '12'"),
        ("two", [1], "two numbers, got [1]"),
        ("maybe", "x", "a number, got 'x'"),
        ("either", 1.5, "a whole number or a list of strings, got 1.5"),
        ("choice", "c", "one of a, b, got 'c'"),
        ("in_order", {1}, "a list of whole numbers, got {1} (set)"),
        ("by_name", [1], "a mapping, got [1]"),
        ("array", [1], "a NumPy array, got [1]"),
        ("late", [1], "a GeoDataFrame, got [1]"),
        ("window", geoseg.Window(0, 0, 1, 1), "a Window, got Window(row=0, col=0, height=1, width=1) (Window)"),
        ("legend", {1: "a"}, "a Legend, got {1: 'a'}"),
    ],
)
def test_a_field_says_what_it_wants(name: str, value: object, wanted: str) -> None:
    with pytest.raises(UsageError) as refused:
        Every(**{name: value})  # type: ignore[arg-type]
    assert str(refused.value).startswith(f"`{name}` must be {wanted}")
    assert refused.value.parameter == name


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("whole", np.float32(2), 2), ("real", Decimal("1.5"), 1.5), ("switch", np.True_, True),
        ("words", Path("a") / "b", str(Path("a") / "b")), ("words", np.str_("a"), "a"), ("file", "a", Path("a")),
        ("path", Path("a"), Path("a")), ("several", np.arange(2), (0, 1)), ("several", torch.tensor([1, 2]), (1, 2)),
        ("two", [1, np.int8(2)], (1.0, 2.0)), ("maybe", None, None), ("either", ["a"], ("a",)),
        ("any_order", {5}, (5,)), ("any_order", iter([1]), (1,)), ("codes", "anything", "anything"),
    ],
)  # fmt: skip
def test_a_field_takes_what_can_be_meant(name: str, value: object, taken: object) -> None:
    found = getattr(Every(**{name: value}), name)  # type: ignore[arg-type]
    assert found == taken
    assert type(found) is type(taken)


def test_whole_numbers_are_told_from_others() -> None:
    for value in (float("inf"), float("nan"), 0.5, "1", None, [1], True):
        with pytest.raises(UsageError, match=r"^`n` must be a whole number, got "):
            integer("n", value)
