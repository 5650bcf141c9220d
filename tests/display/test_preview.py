"""The contents of a page, against numpy, pyproj and rasterio."""

from __future__ import annotations

import base64
import html
import json
import math
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from shapely.geometry import box as rectangle

import geoseg
from geoseg import errors
from geoseg.display import Page, code_table, overview_source, preview
from geoseg.display.code_table import ClassAreas, CodeTable
from geoseg.display.frame import SIDE_PX, TILE_PX, Frame
from geoseg.display.overview_source import OverviewSource
from geoseg.display.page import _json_in_html
from geoseg.display.palette import _OKABE_ITO, _SOFT, _as_seen, _color_blind_colors, colors_in
from geoseg.legend import DEEPGLOBE, Color, NamedClass, Nomenclature
from geoseg.raster import Scene
from tests.display.maps import LEGEND, NASTY, ROTATED, UTM, blocks, write_map, write_scene
from tests.evaluation.rasters import as_floats, colored

HALF_WORLD = math.pi * 6_378_137


def data_of(page: Page) -> dict[str, Any]:
    start = page.html.index('id="data">') + len('id="data">')
    found: dict[str, Any] = json.loads(page.html[start : page.html.index("</script>", start)])
    return found


def codes_of(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(SIDE_PX, SIDE_PX)


def deepest(data: dict[str, Any]) -> dict[tuple[int, int], NDArray[np.uint8]]:
    zoom = str(data["zooms"][1])
    keys = [key.split("/") for key in data["layers"]["classes"]]
    return {(int(x), int(y)): codes_of(data["layers"]["classes"][f"{z}/{x}/{y}"]) for z, x, y in keys if z == zoom}


@pytest.mark.parametrize("place", [UTM, ROTATED, {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 15, 0, -1e-4, 47)}])
def test_every_tile_pixel_has_the_code_of_its_place(tmp_path: Path, place: dict[str, Any]) -> None:
    codes = blocks()
    data = data_of(preview(write_map(tmp_path / "m.tif", codes, **place)))
    to_map = pyproj.Transformer.from_crs(3857, place["crs"], always_xy=True)
    side = 2 * HALF_WORLD / (256 * 2 ** data["zooms"][1])
    seen = np.zeros(codes.shape, bool)
    for (x, y), tile in deepest(data).items():
        rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
        place_x = -HALF_WORLD + (x * TILE_PX + cols) * side
        place_y = HALF_WORLD - (y * TILE_PX + rows) * side
        map_x, map_y = to_map.transform(place_x, place_y)
        a, b, c, d, e, f = tuple(~place["transform"])[:6]
        col, row = a * map_x + b * map_y + c, d * map_x + e * map_y + f
        clear = (abs(col - np.rint(col)) > 0.2) & (abs(row - np.rint(row)) > 0.2)  # GDAL warps to an eighth of a pixel
        inside = clear & (col > 0) & (col < codes.shape[1]) & (row > 0) & (row < codes.shape[0])
        i, j = row[inside].astype(int), col[inside].astype(int)
        np.testing.assert_array_equal(tile[inside], codes[i, j])
        seen[i, j] = True
        outside = (col < -0.2) | (col > codes.shape[1] + 0.2) | (row < -0.2) | (row > codes.shape[0] + 0.2)
        assert (tile[outside] == 255).all()
    assert seen.mean() > 0.3


def test_a_map_without_a_place_is_its_pixels(tmp_path: Path) -> None:
    codes = blocks(700, 900)
    data = data_of(preview(write_map(tmp_path / "m.tif", codes)))
    assert data["earth"] is False
    assert data["inPx"] is True
    whole = np.full((2 * TILE_PX, 2 * TILE_PX), 255, np.uint8)
    for (x, y), tile in deepest(data).items():
        whole[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX] = tile[:TILE_PX, :TILE_PX]
    np.testing.assert_array_equal(whole[:700, :900], codes)
    assert (whole[700:] == 255).all()


MOON = 'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],UNIT["Degree",0.0174532925199433]]'
ELSEWHERE: dict[str, dict[str, Any]] = {
    "moon": {"crs": CRS.from_wkt(MOON), "transform": Affine(0.01, 0, 10, 0, -0.01, 10)},
    "moon in metres": {
        "crs": CRS.from_wkt(f'PROJCS["M",{MOON},PROJECTION["Equirectangular"],UNIT["metre",1]]'),
        "transform": Affine(100, 0, 0, 0, -100, 0),
    },
    "a site": {"crs": CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), "transform": Affine(1, 0, 0, 0, -1, 0)},
    "pixels of no size": {"crs": UTM["crs"], "transform": Affine(0, 0, 500_000, 0, 0, 5_200_000)},
    "pixels of unknown size": {"crs": UTM["crs"], "transform": Affine(math.nan, 0, 500_000, 0, -10, 5_200_000)},
    "pixels nowhere": {"crs": UTM["crs"], "transform": Affine(10, 0, math.inf, 0, -10, 5_200_000)},
    "degrees of unknown size": {"crs": "EPSG:4326", "transform": Affine(math.nan, 0, 8, 0, -1, 50)},
    "pixels beyond numbers": {"crs": UTM["crs"], "transform": Affine(1e200, 0, 0, 0, -1e200, 0)},
}
FLAT = ("pixels of no size", "pixels of unknown size", "pixels nowhere", "pixels beyond numbers")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_map_that_is_not_on_this_earth_is_shown_as_its_pixels(tmp_path: Path, name: str) -> None:
    codes, place = blocks(), ELSEWHERE[name]
    path = write_map(tmp_path / "m.tif", codes, **place)
    data = data_of(preview(path, write_scene(tmp_path / "s.tif", codes.shape, **place)))
    assert data["earth"] is False
    enlarged = np.kron(codes, np.ones((4, 4), np.uint8))  # to the side of one tile
    np.testing.assert_array_equal(deepest(data)[0, 0][:384, :512], enlarged)
    assert data["layers"]["scene"]


def test_a_tile_repeats_the_first_pixels_of_its_neighbors(tmp_path: Path) -> None:
    tiles = deepest(data_of(preview(write_map(tmp_path / "m.tif", blocks(1100, 1200), **ROTATED))))
    pairs = 0
    for (x, y), tile in tiles.items():
        for beside, mine, its in (
            ((x + 1, y), tile[:TILE_PX, TILE_PX], np.s_[:TILE_PX, 0]),
            ((x, y + 1), tile[TILE_PX, :TILE_PX], np.s_[0, :TILE_PX]),
            ((x + 1, y + 1), tile[TILE_PX, TILE_PX], np.s_[0, 0]),
        ):
            if beside in tiles:
                np.testing.assert_array_equal(mine, tiles[beside][its])
                pairs += 1
    assert pairs > 4


def test_areas_are_the_pixels_times_their_size(tmp_path: Path) -> None:
    codes = blocks()
    codes[:5] = 255
    data = data_of(preview(write_map(tmp_path / "m.tif", codes, **UTM)))
    wanted = {int(code): float(n * 100) for code, n in zip(*np.unique(codes[5:], return_counts=True), strict=True)}
    assert {row["code"]: row["area"] for row in data["classes"]} == pytest.approx(wanted)


def test_the_world_has_the_area_of_the_earth(tmp_path: Path) -> None:
    globe = write_map(tmp_path / "m.tif", blocks(180, 360), crs="EPSG:4326", transform=Affine(1, 0, -180, 0, -1, 90))
    data = data_of(preview(globe))
    assert data["earth"] is True
    assert sum(row["area"] for row in data["classes"]) == pytest.approx(510_065_600e6, rel=1e-3)


def test_a_map_in_degrees_is_shown_in_pixels_if_mercator_lacks_most_of_it(tmp_path: Path) -> None:
    place = {"crs": "EPSG:4326", "transform": Affine(0.1, 0, -18, 0, -0.1, 90)}
    data = data_of(preview(write_map(tmp_path / "most.tif", blocks(90, 360), **place)))
    assert (data["earth"], data["cautions"]) == (False, [])
    assert data["metersPerPx"] == pytest.approx(11_170 * math.cos(math.radians(85.5)), rel=0.01)
    path = write_map(tmp_path / "less.tif", blocks(200, 360), **place)
    scene = write_scene(tmp_path / "s.tif", crs="EPSG:32633", transform=Affine(1000, 0, 400_000, 0, -1000, 8_200_000))
    data = data_of(preview(path, scene))
    assert (data["earth"], data["cautions"]) == (True, ["nothing beyond 85 degrees north or south is shown"])


@pytest.mark.parametrize(
    "place",
    [
        {"crs": "EPSG:3995", "transform": Affine(1000, 0, -64_000, 0, -1000, 48_000)},  # the north pole
        {"crs": "EPSG:32601", "transform": Affine(1000, 0, 230_000, 0, -1000, 5_200_000)},  # the antimeridian
    ],
)
def test_where_mercator_ends_or_tears_a_map_is_its_pixels(tmp_path: Path, place: dict[str, Any]) -> None:
    data = data_of(preview(write_map(tmp_path / "m.tif", blocks(), **place)))
    assert data["earth"] is False
    assert data["coordinates"]["label"] == place["crs"]
    assert data["metersPerPx"] == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("place", [UTM, ROTATED, {"crs": "EPSG:3035", "transform": Affine(100, 0, 4e6, 0, -100, 3e6)}])
def test_coordinates_are_those_of_pyproj(tmp_path: Path, place: dict[str, Any]) -> None:
    data = data_of(preview(write_map(tmp_path / "m.tif", blocks(960, 1280), **place)))
    left, bottom, right, top = data["bounds"]
    to_map = pyproj.Transformer.from_crs(3857, place["crs"], always_xy=True)
    terms = data["coordinates"]
    pixel = math.sqrt(abs(place["transform"].determinant))
    for u, v in np.random.default_rng(0).uniform(-1, 1, (50, 2)).tolist():
        powers = [u**i * v**j for i in range(terms["degree"] + 1) for j in range(terms["degree"] + 1 - i)]
        wanted = to_map.transform(left + (u + 1) / 2 * (right - left), bottom + (v + 1) / 2 * (top - bottom))
        assert np.dot(terms["x"], powers) == pytest.approx(wanted[0], abs=0.1 * pixel)
        assert np.dot(terms["y"], powers) == pytest.approx(wanted[1], abs=0.1 * pixel)


def test_a_page_is_no_larger_than_asked_and_goes_deeper_with_more(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 250, (1200, 1200), np.uint8)  # with few classes it is slow to compress
    path = write_map(tmp_path / "m.tif", noise, **UTM)
    small, large = (preview(path, max_mb=size) for size in (0.6, 3))
    assert small.size_bytes <= 600_000
    assert large.size_bytes <= 3_000_000
    assert data_of(small)["zooms"][1] < data_of(large)["zooms"][1] <= data_of(large)["zooms"][2]


def test_a_huge_map_without_overviews_is_copied_once_and_the_copy_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_source, "_COPY_PX", 128)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    codes = blocks(1024, 1024, 64)
    codes[:64] = 255
    scene = Scene.open(write_map(tmp_path / "m.tif", codes, **UTM))
    with OverviewSource(scene, Resampling.nearest) as source:
        with source.at(8) as (dataset, factor):
            assert factor == 8
            np.testing.assert_array_equal(dataset.read(1), codes[4::8, 4::8])
            assert dataset.transform @ (128, 128) == pytest.approx(UTM["transform"] @ (1024, 1024))
        with source.at(1) as (dataset, factor):
            assert (factor, dataset.shape) == (1, codes.shape)
    assert not list((tmp_path / "temporary").iterdir())


def test_a_map_of_many_pixels_is_counted_in_an_overview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_table, "_COUNTED_PX", 128 * 128)
    path = write_map(tmp_path / "m.tif", blocks(1024, 1024, 64), tiled=True, blockxsize=256, blockysize=256, **UTM)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.nearest)
    with OverviewSource(Scene.open(path), Resampling.nearest) as source:
        found = ClassAreas.of(source, CodeTable("m.tif"))
    assert found.step > 1
    assert sum(found.areas.values()) == pytest.approx(1024 * 1024 * 100)


def test_names_are_text(tmp_path: Path) -> None:
    page = preview(write_map(tmp_path / "m.tif", blocks(), **UTM))
    assert "<script>alert" not in page.html
    assert NASTY.replace("_", " ") in [row["name"] for row in data_of(page)["classes"]]


def test_json_in_a_page_comes_back_and_holds_no_tag() -> None:
    value = {"a": ["<!--", "</script>", "&amp;", "\u2028", "é\n"], "b": 1.5}
    text = _json_in_html(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028")


def test_the_file_name_is_text_in_the_title(tmp_path: Path) -> None:
    page = preview(write_map(tmp_path / "<b>&.tif", blocks(), **UTM))
    assert "<title>&lt;b&gt;&amp;</title>" in page.html


def test_a_notebook_gets_the_very_page_in_a_frame(tmp_path: Path) -> None:
    page = preview(write_map(tmp_path / "m.tif", blocks(), **UTM))
    frame = page._repr_html_()
    inner = frame.split('srcdoc="', 1)[1].split('"', 1)[0]
    assert html.unescape(inner) == page.html
    assert 'sandbox="allow-scripts allow-downloads"' in frame


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "float32", "float64"])
def test_a_map_in_colors_or_floats_is_the_page_of_its_codes(tmp_path: Path, kind: str) -> None:
    codes = blocks()
    codes[:8] = 255 if kind != "rgb" else 0
    plain = data_of(preview(write_map(tmp_path / "m.tif", codes, legend=False, **UTM), legend=DEEPGLOBE))
    other = tmp_path / "other.tif"
    if kind.startswith("float"):
        as_floats(other, codes, kind, np.nan)
        with rasterio.open(other, "r+") as file:
            file.crs, file.transform = UTM["crs"], UTM["transform"]
    else:
        colored(other, codes, DEEPGLOBE, kind, **UTM)
    found = data_of(preview(other, legend=DEEPGLOBE))
    for name in ("bounds", "zooms", "classes", "layers", "countedStep"):
        assert found[name] == plain[name], name


def test_an_existing_page_stays_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "map.html"
    out.write_text("mine")
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    with pytest.raises(errors.OutputError, match=r"map\.html exists; add `overwrite=True`"):
        preview(path, out=out)
    assert out.read_text() == "mine"
    assert preview(path, out=out, overwrite=True).path == out
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.tif", "map.html"]


def test_what_cannot_be_shown_is_said_in_one_line(tmp_path: Path) -> None:
    good = write_map(tmp_path / "m.tif", blocks(), **UTM)
    other_place: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(10, 0, 700_000, 0, -10, 5_200_000)}
    away = write_scene(tmp_path / "away.tif", **other_place)
    tall = write_scene(tmp_path / "tall.tif", (100, 20))
    heights = write_map(tmp_path / "h.tif", blocks().astype(np.float32) + 0.5, legend=False, **UTM)
    many = write_map(tmp_path / "n.tif", np.arange(96 * 128, dtype=np.int16).reshape(96, 128), legend=False, **UTM)
    far = write_map(tmp_path / "f.tif", np.full((9, 9), 2**31, np.uint32), legend=False, **UTM)
    natural = write_scene(tmp_path / "natural.tif", **UTM)
    cases: list[tuple[dict[str, Any], type[errors.GeosegError], str]] = [
        ({"landcover": good, "scene": away}, errors.SceneError, r"no valid pixel of .*away\.tif lies on"),
        ({"landcover": good, "scene": tall}, errors.SceneError, r"tall\.tif cannot be placed on .*m\.tif"),
        ({"landcover": heights}, errors.SceneError, r"h\.tif holds \d\.5; class codes must be whole"),
        ({"landcover": many}, errors.SceneError, r"n\.tif holds more than 255 codes.*is it a map of classes"),
        ({"landcover": far}, errors.SceneError, r"f\.tif holds the code 2147483648.*renumber"),
        ({"landcover": natural}, errors.SceneError, r"natural\.tif is a picture.* for imagery, predict"),
        ({"landcover": good, "confidence": heights}, errors.SceneError, r"confidence is percent as uint8"),
        ({"landcover": good, "confidence": natural}, errors.SceneError, r"natural\.tif has 3 bands of uint8.* in one"),
        (
            {"landcover": good, "palette": "pink"},
            errors.UsageError,
            r"one of soft, own, deepglobe, color-blind, got 'pink'",
        ),
        ({"landcover": good, "max_mb": 0.1}, errors.UsageError, r"`max_mb` must be 0\.5 to 500"),
        ({"landcover": good, "out": tmp_path / "m.pdf"}, errors.UsageError, r"must end in \.html"),
        ({"landcover": good, "out": tmp_path / "gone" / "m.html"}, errors.OutputError, "does not exist; check"),
        ({"landcover": tmp_path / "no.tif"}, errors.SceneError, r"no such file"),
        ({"landcover": good, "polygons": tmp_path / "no.gpkg"}, errors.GeosegError, r"no such file"),
    ]
    for knobs, kind, said in cases:
        with pytest.raises(kind, match=said) as caught:
            preview(**knobs)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (np.full((40, 50), 255, np.uint8), 0),
        (np.array([[2]], np.uint8), 1),
        (np.arange(255, dtype=np.uint8).reshape(15, 17), 255),
    ],
)
def test_odd_maps_are_pages_too(tmp_path: Path, codes: NDArray[np.uint8], names: int) -> None:
    data = data_of(preview(write_map(tmp_path / "m.tif", codes, legend=names < 255, **UTM)))
    assert len(data["classes"]) == names
    assert len({tuple(row["colors"]["color-blind"]) for row in data["classes"]}) == names


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("nodata", [99, None])
def test_codes_of_any_integers_are_shown(tmp_path: Path, dtype: str, nodata: int | None) -> None:
    whole = np.iinfo(dtype)
    wanted = np.array([max(whole.min, -5), 99, min(whole.max, 41_000)], dtype)  # 99 is a class unless it is nodata
    codes = wanted[blocks()]
    data = data_of(preview(write_map(tmp_path / "m.tif", codes, legend=False, **UTM, nodata=nodata)))
    areas = {code: float((codes == code).sum() * 100) for code in sorted(wanted.tolist()) if code != nodata}
    assert {row["code"]: row["area"] for row in data["classes"]} == pytest.approx(areas)
    assert [row["name"] for row in data["classes"]] == [f"class {code}" for code in areas]
    code_of = {row["slot"]: row["code"] for row in data["classes"]}
    assert len(code_of) == len(areas)
    slots, counts = np.unique(np.concatenate([tile.ravel() for tile in deepest(data).values()]), return_counts=True)
    seen = {code_of[slot]: float(n) for slot, n in zip(slots.tolist(), counts.tolist(), strict=True) if slot != 255}
    scale = sum(areas.values()) / sum(seen.values())
    assert {code: n * scale for code, n in seen.items()} == pytest.approx(areas, rel=0.05)


def test_beyond_its_edge_a_scene_of_any_numbers_is_transparent(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    corner: dict[str, Any] = {"crs": UTM["crs"], "transform": UTM["transform"] @ Affine.translation(64, 48)}
    for dtype in ("uint8", "uint16", "int16", "int32", "float32"):
        scene = write_map(tmp_path / f"{dtype}.tif", blocks(48, 64).astype(dtype), legend=False, **corner, nodata=None)
        tiles = data_of(preview(landcover, scene))["layers"]["scene"].values()
        opaque = 0
        for text in tiles:
            with MemoryFile(base64.b64decode(text)) as file, file.open() as picture:
                opaque += int((picture.read(4) > 0).sum()) if picture.count == 4 else SIDE_PX**2
        with_codes = sum(
            int((codes_of(text) != 255).sum()) for text in data_of(preview(landcover))["layers"]["classes"].values()
        )
        assert opaque == pytest.approx(with_codes / 4, rel=0.05), dtype


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint8", None), ("int16", None)])
def test_control_points_place_a_map_as_a_transform_does(tmp_path: Path, dtype: str, nodata: int | None) -> None:
    codes, place = blocks(320, 480, 40).astype(dtype), ROTATED["transform"]
    points = [GroundControlPoint(row, col, *(place @ (col, row))) for row in (0, 160, 320) for col in (0, 240, 480)]
    by_transform = write_map(tmp_path / "t.tif", codes, legend=False, **ROTATED, nodata=nodata)
    by_points = write_map(tmp_path / "p.tif", codes, legend=False, nodata=nodata)
    with rasterio.open(by_points, "r+") as file:
        file.gcps = (points, CRS.from_string(ROTATED["crs"]))
        file.build_overviews([2, 4], Resampling.nearest)
    wanted, found = (data_of(preview(path)) for path in (by_transform, by_points))
    assert found["earth"] is True
    assert found["bounds"] == pytest.approx(wanted["bounds"], abs=20)
    assert {row["code"]: row["area"] for row in found["classes"]} == pytest.approx(
        {row["code"]: row["area"] for row in wanted["classes"]}, rel=1e-3
    )
    tiles = wanted["layers"]["classes"]
    assert len({key.split("/")[0] for key in tiles}) > 1  # coarser levels are read from the overviews
    assert found["layers"]["classes"].keys() == tiles.keys()
    for key, text in tiles.items():
        assert (codes_of(found["layers"]["classes"][key]) == codes_of(text)).mean() > 0.95


def test_confidence_by_control_points_lies_on_a_map_by_transform(tmp_path: Path) -> None:
    codes, place = blocks(320, 480, 40), ROTATED["transform"]
    points = [GroundControlPoint(row, col, *(place @ (col, row))) for row in (0, 160, 320) for col in (0, 240, 480)]
    confidence = write_map(tmp_path / "c.tif", codes * 40, legend=False)
    with rasterio.open(confidence, "r+") as file:
        file.gcps = (points, CRS.from_string(ROTATED["crs"]))
    layers = data_of(preview(write_map(tmp_path / "t.tif", codes, **ROTATED), confidence=confidence))["layers"]
    for key, text in layers["classes"].items():
        percent, mapped = codes_of(layers["confidence"][key]), codes_of(text)
        assert (np.where(mapped == 255, 255, mapped * 40) == percent).mean() > 0.97


@pytest.mark.parametrize("place", [UTM, ROTATED])
def test_a_scene_ends_where_its_map_does_at_every_zoom(tmp_path: Path, place: dict[str, Any]) -> None:
    shape = (1100, 700)
    path, scene = (
        write_map(tmp_path / "m.tif", blocks(*shape), **place),
        write_scene(tmp_path / "s.tif", shape, **place),
    )
    data = data_of(preview(path, scene))
    layers = data["layers"]
    assert data["zooms"][1] - data["zooms"][0] >= 2
    transparent = 0
    for key, text in layers["classes"].items():
        with MemoryFile(base64.b64decode(layers["scene"][key])) as file, file.open() as picture:
            valid = picture.read(4) != 0 if picture.count == 4 else np.ones((SIDE_PX, SIDE_PX), bool)
        mapped = codes_of(text) != 255
        assert not (valid & ~mapped).any()
        assert np.count_nonzero(mapped & ~valid) <= 0.005 * np.count_nonzero(mapped)  # an eighth of a pixel
        transparent += int(np.count_nonzero(~valid))
    assert transparent > 0


def test_a_page_names_the_scene_and_the_model_of_its_map(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    found = data_of(preview(path, write_scene(tmp_path / "s.tif", **UTM)))
    assert found["origins"] == ["Scene: s.tif"]
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_MODEL_NAME=NASTY)
    page = preview(path)
    assert data_of(page)["origins"] == [f"Model: {NASTY}"]
    assert NASTY not in page.html


@pytest.mark.parametrize("which", ["map", "scene", "both"])
def test_control_points_on_one_line_place_nothing_and_break_nothing(tmp_path: Path, which: str) -> None:
    points = [GroundControlPoint(0, col, 400_000 + col / 2, 5e6) for col in (0, 48, 96)]
    landcover = write_map(tmp_path / "m.tif", blocks(), **(ROTATED if which == "scene" else {}))
    scene = write_scene(tmp_path / "s.tif", **(ROTATED if which == "map" else {}))
    for path in {"map": [landcover], "scene": [scene], "both": [landcover, scene]}[which]:
        with rasterio.open(path, "r+") as file:
            file.gcps = (points, CRS.from_string(ROTATED["crs"]))
    data = data_of(preview(landcover, scene))
    assert data["earth"] is (which == "scene")
    assert data["layers"]["scene"].keys() == data["layers"]["classes"].keys()


def test_255_is_a_class_where_it_is_not_nodata(tmp_path: Path) -> None:
    codes = np.where(blocks() == 1, 255, blocks()).astype(np.uint8)
    data = data_of(preview(write_map(tmp_path / "m.tif", codes, legend=False, **UTM, nodata=None)))
    slots = {row["code"]: row["slot"] for row in data["classes"]}
    assert slots == {0: 0, 2: 2, 255: slots[255]}
    assert slots[255] != 255
    assert {row["code"]: row["area"] for row in data["classes"]}[255] == (codes == 255).sum() * 100


def test_a_page_without_a_class_says_so(tmp_path: Path) -> None:
    nothing = np.full((96, 128), 255, np.uint8)
    full, empty = (write_map(tmp_path / f"{name}.tif", codes, **UTM) for name, codes in
                   (("full", blocks(96, 128)), ("empty", nothing)))  # fmt: skip
    line = "empty holds no class: all of its pixels are nodata"
    assert data_of(preview(empty))["cautions"] == [line]
    assert data_of(preview(full))["cautions"] == []


def test_a_scene_that_is_all_nodata_leaves_the_map_alone(tmp_path: Path) -> None:
    scene = tmp_path / "s.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", dtype="uint8", count=3, height=96, width=128, nodata=0, **UTM
    ) as file:
        file.write(np.zeros((3, 96, 128), np.uint8))
    data = data_of(preview(write_map(tmp_path / "m.tif", blocks(), **UTM), scene))
    assert "scene" not in data["layers"]
    assert data["cautions"] == ["s is not shown: all of its pixels are nodata"]


def test_polygons_lie_where_they_were(tmp_path: Path) -> None:
    x, y = UTM["transform"] @ (32, 48)
    shapes = [rectangle(x, y - 160, x + 320, y), rectangle(x + 600, y - 160, x + 640, y)]
    frame = geopandas.GeoDataFrame(
        {"code": [1, 2], "name": [NASTY, "urban_land"], "area_m2": [51_200.0, 6_400.0]}, geometry=shapes, crs=UTM["crs"]
    )
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    data = data_of(preview(path, polygons=frame))
    found = data["polygons"]
    assert (found["count"], len(found["shapes"])) == (2, 2)
    to_map = pyproj.Transformer.from_crs(3857, UTM["crs"], always_xy=True)
    code, name, area, _, _, ring = found["shapes"][0]
    assert (code, found["names"][name], area) == (1, NASTY, 51_200)
    steps = np.cumsum(np.reshape(ring, (-1, 2)), axis=0) * found["step"]
    corners = np.array(to_map.transform(data["bounds"][0] + steps[:, 0], data["bounds"][3] - steps[:, 1])).T
    wanted = np.array(shapes[0].exterior.coords[:-1])
    assert max(np.linalg.norm(wanted - corner, axis=1).min() for corner in corners) < 5
    assert len(corners) == 4
    with pytest.raises(errors.GeosegError, match=r"no polygon of .* lies on the map"):
        preview(path, polygons=frame.translate(1e6).to_frame("geometry").join(frame[["code", "name", "area_m2"]]))


def test_colour_blind_people_tell_the_classes_apart() -> None:
    def least_difference(colors: list[tuple[int, int, int]]) -> float:
        seen = _as_seen(np.array(colors))
        apart = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
        return float(apart[:, ~np.eye(len(colors), dtype=bool)].min())

    own = [land_cover.color for land_cover in DEEPGLOBE]
    safe = _color_blind_colors(DEEPGLOBE.names)
    assert least_difference(safe) > max(12, 1.5 * least_difference(own))
    assert safe[DEEPGLOBE.names.index("water")] == (0, 114, 178)
    assert len(set(_color_blind_colors([f"class {n}" for n in range(255)]))) == 255


def as_dichromats_see(colors: list[Color]) -> NDArray[np.float64]:
    """Return (kind of eye, color, 3) in Oklab: Vienot, Brettel and Mollon's dichromats (1999), on linear RGB."""
    light = np.array(colors) / 255
    linear = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    eyes = [
        np.eye(3),
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        [[1, 0.14461, -0.14461], [0, 0.85924, 0.14076], [0, 0.85924, 0.14076]],
    ]
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    seen = np.clip(np.einsum("kij,nj->kni", np.array(eyes), linear), 0, 1)
    return np.asarray(np.cbrt(seen @ np.array(to_cones).T) @ np.array(to_lab).T)


def test_soft_colors_are_told_apart_as_well_as_those_for_color_blind_people() -> None:
    """The model of color blindness and the color space differ from those used to search for the colors."""

    def least_difference(colors: list[Color]) -> float:
        seen = as_dichromats_see(colors)
        apart = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
        return float(apart[:, ~np.eye(len(colors), dtype=bool)].min())

    published = [land_cover.color for land_cover in DEEPGLOBE]
    soft = least_difference(colors_in("soft", Nomenclature.from_legend(DEEPGLOBE).classes))
    assert soft > 1.5 * least_difference(published)
    assert soft >= least_difference(list(_OKABE_ITO[:7]))
    assert set(_SOFT) == set(DEEPGLOBE.names)


def test_soft_colors_are_for_maps_in_the_published_ones(tmp_path: Path) -> None:
    published = Nomenclature.from_legend(DEEPGLOBE).classes
    own = tuple(NamedClass(known.code, known.name, (known.code, 99, 99)) for known in DEEPGLOBE)
    assert colors_in("soft", published) == [_SOFT[name] for name in DEEPGLOBE.names]
    assert colors_in("soft", own) == [known.color for known in own]
    assert colors_in("deepglobe", own) == colors_in("own", published) == [known.color for known in DEEPGLOBE]
    path = write_map(tmp_path / "m.tif", np.arange(6, dtype=np.uint8).reshape(2, 3), legend=False, **UTM)
    for palette, legend, wanted in [
        (None, DEEPGLOBE, ["soft", "own", "color-blind"]),
        ("own", DEEPGLOBE, ["own", "soft", "color-blind"]),
        ("deepglobe", DEEPGLOBE, ["own", "soft", "color-blind"]),
        ("color-blind", DEEPGLOBE, ["color-blind", "soft", "own"]),
        (None, Nomenclature(own), ["own", "color-blind"]),
        ("deepglobe", Nomenclature(own), ["deepglobe", "own", "color-blind"]),
    ]:
        data = data_of(preview(path, legend=legend, palette=palette))
        assert [name for name, _ in data["palettes"]] == wanted
        assert set(data["classes"][0]["colors"]) == set(wanted)


LATER: dict[str, dict[str, Any]] = {
    "the same grid": UTM,
    "pixels half as large": {"crs": "EPSG:32633", "transform": Affine(5, 0, 500_000, 0, -5, 5_200_000)},
    "another place and CRS": {"crs": "EPSG:3035", "transform": Affine(20, 0, 4_701_500, 0, -20, 2_661_700)},
}


@pytest.mark.parametrize("name", LATER)
def test_what_became_what_is_counted_where_both_maps_have_a_class(tmp_path: Path, name: str) -> None:
    place, codes = LATER[name], blocks()
    later = np.roll(np.kron(codes, np.ones((2, 2), np.uint8)), 9, axis=1)
    later[:20] = 255
    path = write_map(tmp_path / "m.tif", codes, **UTM)
    data = data_of(preview(path, later=write_map(tmp_path / "l.tif", later, **place)))
    rows, cols = np.mgrid[: codes.shape[0], : codes.shape[1]] + 0.5
    x, y = UTM["transform"] @ (cols.ravel(), rows.ravel())
    x, y = pyproj.Transformer.from_crs(UTM["crs"], place["crs"], always_xy=True).transform(x, y)
    col, row = (np.floor(at).astype(int) for at in ~place["transform"] @ (x, y))
    inside = (row >= 0) & (col >= 0) & (row < later.shape[0]) & (col < later.shape[1])
    there = np.where(inside, later[np.where(inside, row, 0), np.where(inside, col, 0)], 255)
    wanted = {(a, b): 100.0 * int(((codes.ravel() == a) & (there == b)).sum()) for a in range(3) for b in range(3)}
    found = {(a, b): area for a, b, area in data["later"]["pairs"]}
    assert sum(wanted.values()) > 1e5
    assert {pair: found.get(pair, 0.0) for pair in wanted} == pytest.approx(
        wanted, abs=0 if name != "another place and CRS" else 3000
    )
    for known in data["classes"]:
        sides = [sum(area for pair, area in found.items() if pair[side] == known["code"]) for side in (0, 1)]
        assert [known["area"], known["later"]] == pytest.approx(sides)


@pytest.mark.parametrize("kind", ["no CRS", "a plane of its own", "control points", "at a pole", "half as large"])
def test_changes_are_those_of_the_place_however_it_is_told(tmp_path: Path, kind: str) -> None:
    """Maps are matched by location; the later one starts 16 rows and 32 columns in unless only extents are known."""
    codes, moved = blocks(), np.roll(blocks(), 5, axis=1)
    at: dict[str, Any] = {
        "a plane of its own": {"transform": Affine(2, 0, 7000, 0, -2, 9000)},
        "control points": UTM,
        "at a pole": {"crs": "EPSG:3995", "transform": Affine(1000, 0, -64_000, 0, -1000, 48_000)},
    }.get(kind, {})
    whole = kind in ("no CRS", "half as large")
    later, rest = (
        (moved, {}) if whole else (moved[16:, 32:], at | {"transform": at["transform"] @ Affine.translation(32, 16)})
    )
    if kind == "half as large":
        later = np.kron(moved, np.ones((2, 2), np.uint8))
    paths = [write_map(tmp_path / "m.tif", codes, **at), write_map(tmp_path / "l.tif", later, **rest)]
    if kind == "control points":
        for path in paths:
            to_points(path)
    data = data_of(preview(paths[0], later=paths[1]))
    there = np.full(codes.shape, 255, np.uint8)
    there[0 if whole else 16 :, 0 if whole else 32 :] = moved if whole else moved[16:, 32:]
    found = {(a, b): area for a, b, area in data["later"]["pairs"]}
    counts = {(a, b): int(((codes == a) & (there == b)).sum()) for a in range(3) for b in range(3)}
    total, pixels = sum(found.values()), sum(counts.values())
    assert {pair: found.get(pair, 0.0) / total for pair in counts} == pytest.approx(
        {pair: number / pixels for pair, number in counts.items()}, abs=2e-3
    )


@pytest.mark.parametrize("west", [0, -180])
def test_a_raster_of_the_world_covers_a_map_of_the_world_wherever_each_begins(tmp_path: Path, west: int) -> None:
    codes = blocks(16, 36, 1)
    paths = []
    for first, pixels in ((west, codes), (-180 - west, np.roll(codes, 18, axis=1))):
        world = {"crs": "EPSG:4326", "transform": Affine(10, 0, first, 0, -10, 80)}
        paths.append(write_map(tmp_path / f"from {first}.tif", pixels, **world))
    data = data_of(preview(paths[0], later=paths[1]))
    assert {(before, after) for before, after, _ in data["later"]["pairs"]} == {(0, 0), (1, 1), (2, 2)}
    whole = [known["area"] for known in data_of(preview(paths[0]))["classes"]]
    assert [area for *_, area in data["later"]["pairs"]] == pytest.approx(whole)
    tiles = [{tile: codes_of(text) for tile, text in data["layers"][name].items()} for name in ("classes", "later")]
    assert tiles[0].keys() == tiles[1].keys()
    for tile, pixels in tiles[0].items():
        assert np.mean((pixels == tiles[1][tile])[pixels != 255]) > 0.99, tile


def test_at_a_pole_a_raster_in_another_crs_is_refused(tmp_path: Path) -> None:
    at = {"crs": "EPSG:3995", "transform": Affine(1000, 0, -64_000, 0, -1000, 48_000)}
    path, other = write_map(tmp_path / "m.tif", blocks(), **at), write_map(tmp_path / "l.tif", blocks(), **UTM)
    for given in ({"later": other}, {"scene": write_scene(tmp_path / "s.tif", **UTM)}):
        with pytest.raises(errors.SceneError, match=r"is in another CRS than .*m\.tif, which can only be shown"):
            preview(path, **given)


def test_a_raster_of_another_planet_is_refused_for_that_and_not_as_damaged(tmp_path: Path) -> None:
    mars = CRS.from_wkt(
        'PROJCS["Mars",GEOGCS["GCS_Mars",DATUM["D_Mars",SPHEROID["Mars",3396190,169.8944472]],PRIMEM["Reference",0],'
        'UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],'
        'PARAMETER["central_meridian",0],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    earth, scene = (
        write_map(tmp_path / "m.tif", blocks(), **UTM),
        write_scene(tmp_path / "mars.tif", **UTM | {"crs": mars}),
    )
    for draw in (lambda: preview(earth, scene), lambda: geoseg.picture(earth, scene, out=tmp_path / "p.png")):
        with pytest.raises(errors.SceneError, match=r"mars\.tif cannot be placed on the map: GDAL knows no transform"):
            draw()


def to_points(path: Path) -> None:
    """Replace a map's transform by ground control points at its corners."""
    with rasterio.open(path, "r+") as file:
        corners = [(0, 0), (0, file.width), (file.height, 0), (file.height, file.width)]
        points = [GroundControlPoint(row, col, *(file.transform @ (col, row))) for row, col in corners]
        file.transform, crs = Affine.identity(), file.crs
        file.gcps = (points, crs)


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("which", ["both", "map", "later"])
def test_maps_whose_pixels_have_no_size_are_compared_pixel_by_pixel(tmp_path: Path, which: str, name: str) -> None:
    flat = ELSEWHERE[name]
    codes, moved = blocks(), np.roll(blocks(), 5, axis=1)
    path = write_map(tmp_path / "m.tif", codes, **(UTM if which == "later" else flat))
    later = write_map(tmp_path / "l.tif", moved, **(UTM if which == "map" else flat))
    pairs = data_of(preview(path, later=later))["later"]["pairs"]
    total = sum(area for _, _, area in pairs)
    assert {(one, two): area / total for one, two, area in pairs} == pytest.approx(
        {(one, two): float(((codes == one) & (moved == two)).mean()) for one, two, _ in pairs}, abs=1e-3
    )


@pytest.mark.parametrize("name", FLAT)
def test_polygons_have_no_place_on_pixels_without_a_size(tmp_path: Path, name: str) -> None:
    polygons = geoseg.vectorize(write_map(tmp_path / "m.tif", blocks(), **UTM))
    flat = ELSEWHERE[name]
    with pytest.raises(errors.GeosegError, match="whose pixels have no size; correct its transform"):
        preview(write_map(tmp_path / "flat.tif", blocks(), **flat), polygons=polygons)


def test_a_later_map_without_a_class_is_called_by_its_name(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    later = write_map(tmp_path / "later.tif", np.full((96, 128), np.nan, np.float32), **UTM)
    with pytest.raises(errors.SceneError, match=r"^no valid pixel of .*later\.tif lies on"):
        preview(path, later=later)


def test_maps_that_cannot_be_compared_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    other_names = write_map(tmp_path / "n.tif", blocks(), legend=False, **UTM)
    renamed = [{**row, "name": f"{row['name'][:9]}s"} for row in LEGEND]
    with rasterio.open(other_names, "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps(renamed))
    away = write_map(tmp_path / "a.tif", blocks(), crs="EPSG:32633", transform=Affine(10, 0, 7e5, 0, -10, 5.2e6))
    for other, kind, said in [
        (other_names, errors.UsageError, r"code 0 is 'water' in .*m\.tif and 'waters' in .*n\.tif; .*`legend`"),
        (away, errors.SceneError, r"no valid pixel of .*a\.tif lies on .*m\.tif; give the later map of this place"),
        (tmp_path / "no.tif", errors.SceneError, "no such file"),
    ]:
        with pytest.raises(kind, match=said):
            preview(path, later=other)
    with rasterio.open(other_names, "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps([{**row, "name": f" {row['name']}".upper()} for row in LEGEND]))
    assert data_of(preview(path, later=other_names))["classes"][0]["name"] == "water"  # a name in any spelling is one
    assert preview(path, later=other_names, legend=DEEPGLOBE).title == "m \u2192 n"
    with pytest.raises(errors.UsageError, match="`confidence` is for a single map"):
        preview(path, later=path, confidence=path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"title": ""}, "`title` must be 1 to 200 characters on one line"),
        ({"title": "a\nb"}, "`title` must be 1 to 200 characters on one line"),
        ({"title": "x" * 201}, "`title` must be 1 to 200"),
        ({"title": 7}, "`title` must be a string"),
        ({"description": "  "}, "`description` must be 1 to 10,000 characters, got 0"),
        ({"description": "x" * 10_001}, "got 10,001"),
    ],
)
def test_headings_that_are_none_are_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        preview(tmp_path / "m.tif", **given)


@pytest.mark.parametrize("text", ["", "no JSON", "7", '[1, null, "  "]', "[" * 100_000])
def test_warnings_that_are_none_are_no_warnings(tmp_path: Path, text: str) -> None:
    path = write_map(tmp_path / "m.tif", np.zeros((4, 4), np.uint8), **UTM)
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_WARNINGS=text)
    assert data_of(preview(path))["cautions"] == []


def test_polygons_bring_perimeter_and_confidence_where_they_have_them(tmp_path: Path) -> None:
    x, y = UTM["transform"] @ (32, 48)
    frame = geopandas.GeoDataFrame(
        {"code": [1, 2], "name": ["a", "b"], "area_m2": [51_200.0, 6_400.0], "perimeter_m": [960.0, 400.0]},
        geometry=[rectangle(x, y - 160, x + 320, y), rectangle(x + 600, y - 160, x + 640, y)],
        crs=UTM["crs"],
    )
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    sure = frame.assign(confidence=[83.5, None])
    for name in ("p.gpkg", "p.parquet", "p.fgb"):
        sure.to_parquet(tmp_path / name) if name.endswith("parquet") else sure.to_file(tmp_path / name)
    for given in (sure, tmp_path / "p.gpkg", tmp_path / "p.parquet", tmp_path / "p.fgb"):
        shapes = sorted(data_of(preview(path, polygons=given))["polygons"]["shapes"])
        assert [shape[2:5] for shape in shapes] == [[51_200, 960, 83.5], [6_400, 400, None]]
    shapes = data_of(preview(path, polygons=frame.drop(columns="perimeter_m")))["polygons"]["shapes"]
    assert [shape[3:5] for shape in shapes] == [[None, None]] * 2


def test_polygons_with_an_infinite_figure_are_a_page_without_it(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    frame = geoseg.vectorize(path).assign(confidence=math.inf, perimeter_m=-math.inf)
    shapes = data_of(preview(path, polygons=frame))["polygons"]["shapes"]
    assert shapes
    assert all(shape[3:5] == [None, None] for shape in shapes)


def test_gray_is_alike_to_every_eye() -> None:
    seen = _as_seen(np.array([[128, 128, 128], [0, 0, 0], [255, 255, 255]]))
    np.testing.assert_allclose(seen, np.broadcast_to(seen[:1], seen.shape), atol=1.5)
    np.testing.assert_allclose(seen[0, :, 0], [53.585, 0, 100], atol=0.01)  # lightness by the CIE's definition


@pytest.mark.parametrize("first", ["geoseg.preview", "geoseg.picture", "geoseg.vectorize"])
def test_the_verb_can_be_called_whatever_came_first_and_without_torch(tmp_path: Path, first: str) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    program = f"import sys, geoseg; {first}; print(geoseg.preview({str(path)!r}).title, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["m", "False"]


def test_help_is_that_of_the_verb_whatever_came_first() -> None:
    for first in ("geoseg.preview", "geoseg.picture"):
        program = f"import inspect, geoseg; {first}; print(inspect.getdoc(geoseg.preview).split(',')[0])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "Show a land-cover map"


def test_frames_cut_the_plane_without_a_gap() -> None:
    frame = Frame(is_earth=False, bounds=(0, -700, 900, 0), native_zoom=0, first_zoom=-1, exact_zoom=0)
    assert frame.tiles(0) == [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    assert frame.tiles(-1) == [(-1, 0, 0)]
    assert frame.transform((0, 1, 1)) @ (0, 0) == (512, -512)


def test_where_both_do_not_fit_the_map_goes_deeper_than_the_scene(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 1000, 1000), np.uint8)
    path, scene = write_map(tmp_path / "m.tif", blocks(1000, 1000, 50), **UTM), tmp_path / "s.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", dtype="uint8", count=3, height=1000, width=1000, photometric="rgb", **UTM
    ) as file:
        file.write(noise)
    page = preview(path, scene, max_mb=0.6)
    data = data_of(page)
    assert page.size_bytes <= 600_000
    assert data["lastZooms"]["scene"] < data["lastZooms"]["classes"] == data["zooms"][2]
    deepest_of_scene = max(int(key.split("/")[0]) for key in data["layers"]["scene"])
    assert deepest_of_scene == data["lastZooms"]["scene"]
