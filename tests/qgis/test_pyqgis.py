"""A real QGIS without a desktop: layers with their styles, cancellation, messages of the dialogs, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

import geoseg
from tests.qgis.conftest import SCENE, TRUTH, cut_out

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")  # a worker that steals tests returns to a module
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("b") / "Karten & Flächen"
    made.mkdir()
    with rasterio.open(made / "bare.tif", "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8") as bare:
        bare.write(np.zeros((3, 9, 9), np.uint8))
    for path, whole in ((made / "scene.tif", SCENE), (made / "truth.tif", TRUTH)):
        cut_out(path, whole, Window(0, 0, 1024, 448))
    return made


@pytest.fixture(scope="session")
def seen(warm_qgis: Any, folder: Path) -> dict[str, Any]:
    """Return the outcome that `in_qgis.py` recorded."""
    done = warm_qgis.python(Path(__file__).with_name("in_qgis.py"), folder, folder / "scene.tif", folder / "truth.tif")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("done\n")
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    return found


def legend(path: Path) -> dict[int, tuple[str, str]]:
    """Return the name and color of each code, as geoseg wrote them."""
    with rasterio.open(path) as landcover:
        names = json.loads(landcover.tags()["GEOSEG_LEGEND"])
    return {each["code"]: (each["name"], "#{:02x}{:02x}{:02x}".format(*each["color"])) for each in names}


def test_algorithms_have_icons_and_help(seen: dict[str, Any]) -> None:
    assert len(seen["algorithms"]) == 8
    for name, facts in seen["algorithms"].items():
        assert facts["icon"], name
        assert facts["without_help"] == [], name
        assert facts["can_run"], name
        assert {"segmentation", "land cover"} < set(facts["tags"]), name
        assert len(set(facts["tags"])) == len(facts["tags"]), name
        assert facts["title"] in facts["help"] or facts["help"].startswith("<p>"), name
    assert seen["version"] == geoseg.__version__


def test_only_what_geoseg_writes_is_offered(seen: dict[str, Any]) -> None:
    rasters, vectors = seen["extensions"]
    assert rasters == ["tif", "tiff"]
    assert seen["formats"] == [["GTiff", "tif"], ["GTiff", "tiff"]]
    assert vectors[:3] == ["gpkg", "fgb", "geojson"]
    assert set(vectors) <= {"gpkg", "fgb", "geojson", "parquet"}
    assert seen["img"] is False


def test_results_load_with_styles_and_names(seen: dict[str, Any], folder: Path) -> None:
    layers = seen["layers"]
    classes = dict(legend(folder / "karte.tif").values())
    assert layers["karte.tif"]["renderer"] == "paletted"
    assert layers["karte.tif"]["classes"] == classes
    assert layers["karte.tif"]["name"] == "Land cover of Szene"
    assert layers["konf.tif"]["renderer"] == "singlebandpseudocolor"
    assert layers["flächen.gpkg"]["renderer"] == "categorizedSymbol"
    assert layers["flächen.gpkg"]["features"] == int(seen["found"]["POLYGON_COUNT"])  # not those of the other layer
    assert {name: classes[name] for name in layers["flächen.gpkg"]["classes"]} == layers["flächen.gpkg"]["classes"]
    assert {each["crs"] for each in layers.values()} == {"EPSG:32631"}
    for name in ("geojson", "temporary"):
        assert seen[name]["renderer"] == "categorizedSymbol"
        assert seen[name]["name"] == "Polygons of Land cover of Szene"


def colors(path: Path) -> np.ndarray:
    with rasterio.open(path) as picture:
        return np.asarray(picture.read([1, 2, 3]))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_picture_that_qgis_draws_has_the_color_of_each_pixels_class(seen: dict[str, Any], folder: Path) -> None:
    table = np.zeros((256, 3), np.uint8)
    for code, (_, color) in legend(folder / "karte.tif").items():
        table[code] = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    with rasterio.open(folder / "karte.tif") as landcover:
        codes = landcover.read(1)
    expected = np.moveaxis(table[codes], -1, 0)
    assert "karte.tif" in seen["layers"]
    assert np.array_equal(colors(folder / "karte.png"), expected)
    drawn = colors(folder / "polygons.png")  # with outlines, and small regions merged: most pixels agree
    assert (drawn == expected).all(axis=0).mean() > 0.9


def test_an_extent_in_degrees_maps_at_least_that_box(seen: dict[str, Any], folder: Path) -> None:
    with rasterio.open(folder / "scene.tif") as scene:
        west, south, east, north = scene.bounds
    found = seen["part"]
    assert west < found[0] <= west + 100
    assert south < found[1] <= south + 100
    assert east - 100 <= found[2] < east
    assert north - 100 <= found[3] < north


def test_cancel_keeps_tiles_and_the_next_run_resumes(seen: dict[str, Any]) -> None:
    canceled = seen["canceled"]
    assert canceled["results"] == {}
    assert not canceled["there"]
    last = canceled["told"][-1]
    assert last.startswith("interrupted; ")
    assert last.endswith("run it again with the same settings and outputs to resume")
    kept = int(last.split()[1])
    assert kept > 0
    assert any("resum" in line or f"{kept} of" in line for line in seen["resumed"]), seen["resumed"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("web", "“Web” is not a file"),
        ("bare", "“Bare” has no coordinate reference system"),
        ("far", "The extent lies outside the scene"),
        ("no_reference", "Give a reference raster, or reference polygons"),
        ("no_labels", "Give the labels of the scene"),
        ("two", "one of the two"),
        ("two_zones", "Give zones or an earlier map, not both"),
        ("error", "Invalid value for “Values of black and white”"),
        ("old", "this plugin needs 0.1.0 or later"),
    ],
)
def test_what_cannot_run_is_one_sentence(seen: dict[str, Any], what: str, said: str) -> None:
    assert said in str(seen[what])
    assert "\n" not in str(seen[what]).strip()


def test_pages_are_written_where_they_are_said_to_be(seen: dict[str, Any], folder: Path) -> None:
    pages = {name: Path(seen[name]["OUTPUT"]) for name in ("preview", "info", "evaluate")}
    assert pages == {name: folder / f"{file}.html" for name, file in zip(pages, ("p", "i", "same"), strict=True)}
    assert all(page.stat().st_size > 0 for page in pages.values())
    assert float(seen["evaluate"]["OVERALL_ACCURACY"]) == 1
    assert "100.0 %" in pages["evaluate"].read_text(encoding="utf-8")
    assert json.loads((folder / "v.geojson").read_text(encoding="utf-8"))["features"]


def test_a_memory_layer_is_a_reference(seen: dict[str, Any], folder: Path) -> None:
    assert 0 <= float(seen["accuracy"]["OVERALL_ACCURACY"]) <= 1
    sample = (folder / "sample.html").read_text(encoding="utf-8")
    assert "3 points" in sample
    assert "95 % interval" in sample
    assert "80 000" in (folder / "e.html").read_text(encoding="utf-8")  # pixels of 0.5 m in two squares of 100 m


def test_a_sample_is_a_layer_whose_classes_make_the_accuracy_of_the_map(seen: dict[str, Any]) -> None:
    drawn = seen["sample"]
    assert (drawn["name"], drawn["crs"]) == ("Points of Land cover of Szene", "EPSG:32631")
    assert drawn["features"] == 4 * drawn["classes"]
    assert drawn["fields"][-2:] == ["id", "class"]
    assert "exists; add “Replace existing points” to replace it (classes that were filled in are lost)" in seen["again"]
    assert "\n" not in seen["again"].strip()
    assert float(seen["filled"]["OVERALL_ACCURACY"]) == 1  # each point was given the map's own class
    assert "is open in another program" in seen["open"]
    assert seen["replaced"] == drawn["features"]


def test_areas_are_a_table_of_numbers(seen: dict[str, Any], folder: Path) -> None:
    table = seen["areas"]
    assert table["name"] == "Areas of Land cover of Szene"
    with rasterio.open(folder / "karte.tif") as mapped:
        codes, pixels = np.unique(mapped.read(1)[200:400, 200:400], return_counts=True)  # the first parcel
    found = {row["code"]: row["pixels"] for row in table["rows"] if row["zone"] == "water"}
    assert found == dict(zip(codes.tolist(), pixels.tolist(), strict=True))
    assert {row["zone"] for row in table["rows"]} == {"water", "forest_land"}
    assert all(row["area_m2"] == pytest.approx(row["pixels"] / 4, rel=1e-3) for row in table["rows"])
    assert [(row["zone"], row["name"]) for row in seen["change"]] == [
        (row["name"], row["name"]) for row in seen["change"]
    ]


@pytest.mark.parametrize(("name", "west"), [("selected", 350), ("filtered", 100)])
def test_an_area_is_the_selected_or_filtered_polygon(
    seen: dict[str, Any], folder: Path, name: str, west: float
) -> None:
    assert seen["accuracy"]
    with rasterio.open(folder / f"{name}.tif") as mapped:
        rows, columns = np.nonzero(mapped.read(1) != 255)
        east, north = mapped.xy(rows, columns)
    assert len(rows) == 200 * 200
    assert (min(east), max(east)) == (400000 + west + 0.25, 400000 + west + 99.75)
    assert (min(north), max(north)) == (5000000 - 199.75, 5000000 - 100.25)


def test_the_settings_test_a_program_and_keep_it(seen: dict[str, Any], folder: Path) -> None:
    dialog = seen["dialog"]
    assert "pip install" in dialog["opened"]
    assert dialog["missing"].startswith("/no/geoseg does not exist")
    assert "works." in dialog["works"].splitlines()[0]
    assert "proj: ok" in dialog["works"]
    assert dialog["testing"] == [False, False, False]  # one at a time
    assert dialog["installing"] == [False, True, False]  # the button of the installation cancels it
    said, button, is_there = dialog["installed"]
    assert said.startswith("geoseg could not be installed (venv says: Error: no room)")
    assert (button, is_there) == ("Install geoseg", False)
    assert dialog["refused"][0] == ""
    assert dialog["refused"][1].startswith("/no/geoseg does not exist")
    assert dialog["set"] == str(folder / "gone")
    assert dialog["cannot"] == [False, dialog["warning"]]
    assert dialog["warning"].startswith(f"{folder / 'gone'} does not exist")
