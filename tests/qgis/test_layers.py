"""Layers of every kind in a real QGIS: what geoseg gets of them, and how results are named, styled and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from tests.qgis.conftest import SCENE, TRUTH, cut_out

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")  # a worker that steals tests returns to a module
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("c") / "Karten & Flächen"
    made.mkdir()
    grid = rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5000000)
    kind = {"driver": "GTiff", "width": 9, "height": 9, "count": 3, "dtype": "uint8"}
    with rasterio.open(made / "bare.tif", "w", transform=grid, **kind) as bare:
        bare.write(np.zeros((3, 9, 9), np.uint8))
    for path, whole in ((made / "scene.tif", SCENE), (made / "truth.tif", TRUTH)):
        cut_out(path, whole, Window(1024, 768, 512, 256))
    return made


@pytest.fixture(scope="session")
def seen(warm_qgis: Any, folder: Path) -> dict[str, Any]:
    """Return what `in_qgis_layers.py` saw."""
    program = Path(__file__).with_name("in_qgis_layers.py")
    done = warm_qgis.python(program, folder, folder / "scene.tif", folder / "truth.tif")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("done\n")
    found: dict[str, Any] = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(
    ("layer", "features", "fields"),
    [
        ("plain", 2, {"kind"}),
        ("edited", 1, {"kind"}),
        ("virtual", 2, {"kind", "virtual"}),
        ("joined", 2, {"kind", "Owners_owner"}),
        ("moved", 2, {"kind"}),
        ("by number", 1, {"kind"}),
        ("comma", 1, {"kind"}),
        ("unnamed", 2, {"kind"}),
        ("limit", 1, {"kind"}),
        ("mixed", 1, {"kind"}),
        ("encoded", 1, {"kind"}),
        ("repeated", 2, {"fid", "kind"}),
        ("curve", 1, {"kind"}),
    ],
)
def test_geoseg_gets_what_a_layer_shows(
    seen: dict[str, Any], folder: Path, layer: str, features: int, fields: set[str]
) -> None:
    given = seen["vectors"][layer]
    keys = {"fid"} if layer == "plain" else {"geoseg_fid"}  # which numbers the features of a GeoPackage
    assert (given["features"], set(given["fields"]) - keys) == (features, fields)
    assert given["crs"] == ("EPSG:32632" if layer == "moved" else "EPSG:32631")
    assert (given["path"] == str(folder / "parcels.gpkg")) == (layer == "plain")
    assert not [each for each in given["wkt"] if "Curve" in each]
    if layer == "encoded":
        assert given["kinds"] == ["Straße"]


def test_the_same_labels_are_the_same_file_so_that_training_resumes(seen: dict[str, Any]) -> None:
    assert seen["same bytes"]


def test_a_raster_is_the_file_that_qgis_shows(seen: dict[str, Any], folder: Path) -> None:
    assert seen["zipped"] == f"/vsizip/{folder / 'two.zip'}/scene.tif"
    assert seen["optioned"] == str(folder / "scene.tif")
    assert seen["about bare"] == ""
    assert any("EPSG:32632" in line and "geoseg reads the file" in line for line in seen["elsewhere"])
    assert any("other nodata values in QGIS than its file" in line for line in seen["elsewhere"])
    assert seen["number"] == ""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing selected", "Nothing is selected in the layer “Parcels”"),
        ("table", "“Owners” is a table"),
        ("twice", "“Twice” has several fields called “kind”"),
        ("no column", "“My parcels” does not say which column"),
        ("bare", "The file of the layer “Bare” has no coordinate reference system"),
        ("no model", "none.onnx does not exist"),
        ("option", "no such option '--nonsense'"),
        ("help", "geoseg gave no result: check “More options of the command”"),
        ("quote", "a quotation mark is not closed"),
        ("comma", "“Simplify borders (m)” takes a number, such as 2.5, not 1,5"),
        ("points", "The points need a file of their own"),
        ("shp", ".shp"),
        ("memory", "disk-based"),
        ("none", "not supported"),
    ],
)
def test_what_cannot_be_done_is_one_line(seen: dict[str, Any], what: str, said: str) -> None:
    assert said in str(seen[what])
    assert "\n" not in str(seen[what]).strip()
    assert "/processing_" not in str(seen[what])


def test_a_page_that_cannot_be_written_is_refused_before_the_run(seen: dict[str, Any], folder: Path) -> None:
    error, told = seen["folder"]
    assert error.startswith(f"{folder / 'folder.html'} cannot be written: ")
    assert told == []


def test_an_output_written_again_shows_the_new_result(seen: dict[str, Any]) -> None:
    again = seen["again"]
    assert again["Polygons of Truth"] == again["water"]
    assert again["Land cover of Scene"] == again["whole"]


def test_a_name_given_by_the_caller_stays(seen: dict[str, Any]) -> None:
    assert seen["named"] == ["Mine"]
    assert seen["model"] == ["Forest and water"]


def test_polygons_go_to_a_table_of_a_geopackage(seen: dict[str, Any], folder: Path) -> None:
    source = f"{folder / 'named.gpkg'}|layername=a table"
    assert seen["table of a file"] == [source, {"Polygons of Truth": source}]
    assert seen["in extra"] == [f"{folder / 'named.gpkg'}|layername=in extra"]


def test_polygons_without_a_style_have_the_colors_of_the_map_and_the_users_style_comes_first(
    seen: dict[str, Any], folder: Path
) -> None:
    with rasterio.open(folder / "again.tif") as mapped:
        codes, colors = np.unique(mapped.read(1)), mapped.colormap(1)
        names = {each["code"]: each["name"] for each in json.loads(mapped.tags()["GEOSEG_LEGEND"])}
    expected = {str(code): [names[code], "#{:02x}{:02x}{:02x}".format(*colors[code][:3])] for code in codes}
    assert {str(int(float(code))): each for code, each in seen["colored"].items()} == expected
    assert seen["styled"] == ["singleSymbol"]


def test_a_dry_run_loads_nothing(seen: dict[str, Any]) -> None:
    assert seen["dry"] == []
    assert seen["dry table"] == []
    assert seen["written"] == [False, True]


def test_polygons_of_a_class_that_the_style_lacks_are_drawn(seen: dict[str, Any], folder: Path) -> None:
    with rasterio.open(folder / "again.tif") as mapped:
        (name,) = [each["name"] for each in json.loads(mapped.tags()["GEOSEG_LEGEND"]) if each["code"] == 1]
    assert seen["stray"] == [name, "Other classes"]


def test_a_page_that_fails_leaves_nothing(seen: dict[str, Any]) -> None:
    assert "folder.html cannot be written: " in seen["page"][0]
    assert seen["page"][1] == []
