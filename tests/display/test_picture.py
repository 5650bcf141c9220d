from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import geometry_mask

from geoseg import errors
from geoseg.display import picture, preview
from geoseg.display.placement import read_beside
from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.raster import Scene
from tests.display.maps import COLOR_OF, ROTATED, UTM, blocks, write_map, write_scene

image = pytest.importorskip("matplotlib.image", reason="pictures need the extra [plot]")
sheet = importlib.import_module("geoseg.display.sheet")

COLORS = {0: (0, 255, 255, 255), 4: (0, 0, 255, 255)}


def drawn(*given: Any, **knobs: Any) -> Path:
    """Draw a picture a third as wide as usual, in a ninth of the time."""
    return picture(*given, **{"width_px": 1000, **knobs})


def write(path: Path, count: int, value: float | NDArray[Any], dtype: str = "uint8") -> Path:
    profile = {"driver": "GTiff", "dtype": dtype, "height": 60, "width": 90, "transform": Affine(1, 0, 0, 0, -1, 60)}
    with rasterio.open(path, "w", count=count, nodata=NODATA, **profile) as file:
        file.write(np.broadcast_to(np.asarray(value, dtype), (count, 60, 90)))
        if count == 1 and dtype == "uint8":
            file.write_colormap(1, COLORS)
    return path


def write_bands(path: Path, data: NDArray[np.uint8], **place: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    count, height, width = data.shape
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=count, height=height, width=width, **place) as f:
        f.write(data)
    return path


def shown(path: Path, least_px: int = 1_500) -> dict[tuple[int, int, int], int]:
    """Return the pixel counts of the colors that fill large areas."""
    levels = np.round(image.imread(path)[..., :3] * 255).astype(np.uint32)
    colors, counts = np.unique(levels @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_counts=True)
    return {
        (color >> 16, color >> 8 & 255, color & 255): count
        for color, count in zip(colors.tolist(), counts.tolist(), strict=True)
        if count > least_px
    }


@pytest.mark.parametrize("code", [0, 4])
def test_the_map_is_shown_in_its_own_colours(tmp_path: Path, code: int) -> None:
    out = drawn(
        write(tmp_path / "m.tif", 1, code), write(tmp_path / "s.tif", 3, 90), out=tmp_path / "p.png", palette="own"
    )
    found = shown(out)
    assert COLORS[code][:3] in found
    assert found.keys().isdisjoint({color[:3] for other, color in COLORS.items() if other != code})


def test_a_picture_has_no_empty_bands_above_and_below(tmp_path: Path) -> None:
    out = picture(
        write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM), out=tmp_path / "p.png"
    )
    levels = image.imread(out)[..., :3]
    rows = np.flatnonzero((levels < 0.99).any(axis=(1, 2)))
    assert rows[0] < 80
    assert rows[-1] > len(levels) - 80


@pytest.mark.parametrize("rows", [60, 180, 600])
def test_a_picture_of_a_tall_scene_has_no_empty_margins(tmp_path: Path, rows: int) -> None:
    write_scene(tmp_path / "s.tif", (rows, 60))
    write_map(tmp_path / "m.tif", np.full((rows, 60), 1, np.uint8))
    levels = image.imread(drawn(tmp_path / "m.tif", tmp_path / "s.tif", out=tmp_path / "p.png"))[..., :3]
    inked = (levels < 0.99).any(axis=2)
    down, across = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    assert down[0] < 0.05 * len(levels)
    assert across[0] < (0.3 if rows == 600 else 0.1) * levels.shape[1]


def test_how_a_palette_was_read_is_said(tmp_path: Path) -> None:
    landcover, told = write(tmp_path / "m.tif", 1, 4), []
    scene = write(tmp_path / "s.tif", 3, 90)
    colors = np.array(DEEPGLOBE.by_code(4).color, np.uint8)[:, None, None]
    with rasterio.open(landcover) as file:
        profile = file.profile | {"count": 3, "nodata": None}
    with rasterio.open(tmp_path / "rgb.tif", "w", **profile) as file:
        file.write(np.broadcast_to(colors, (3, 60, 90)))
    drawn(tmp_path / "rgb.tif", scene, out=tmp_path / "p.png", announce=told.append)
    preview(tmp_path / "rgb.tif", announce=told.append)
    assert len(told) == 2
    assert told[0] == told[1]
    assert "DeepGlobe" in told[0] or "color" in told[0]


def test_of_a_scene_of_another_extent_the_maps_part_is_shown(tmp_path: Path) -> None:
    """The scene is twice as wide and high as the map, on another grid; only the map's quarter of it is shown."""
    quarters = np.kron(np.array([[40, 90], [140, 190]], np.uint8), np.ones((90, 150), np.uint8))
    place: dict[str, Any] = {"crs": "EPSG:32633", "driver": "GTiff", "dtype": "uint8", "nodata": NODATA}
    with rasterio.open(
        tmp_path / "s.tif", "w", count=3, height=180, width=300, transform=Affine(10, 0, 5e5, 0, -10, 5.2e6), **place
    ) as file:
        file.write(np.stack([quarters, quarters, 230 - quarters]))
    for number, (x, y) in {0: (5e5, 5.2e6), 3: (5e5 + 1500, 5.2e6 - 900)}.items():
        landcover, out = tmp_path / f"m{number}.tif", tmp_path / f"{number}.png"
        with rasterio.open(
            landcover, "w", count=1, height=30, width=50, transform=Affine(30, 0, x, 0, -30, y), **place
        ) as file:
            file.write(np.ones((1, 30, 50), np.uint8))
        low, high = 40, 190
        level, blue = ((value - low) * 255 // (high - low) for value in (40 + 50 * number, 190 - 50 * number))
        assert (level, level, blue) in shown(drawn(landcover, tmp_path / "s.tif", out=out))


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_scene_beside_a_coarse_map_keeps_its_pixels(tmp_path: Path, pixels: int) -> None:
    landcover = Scene.open(
        write_map(
            tmp_path / "m.tif", np.ones((pixels, pixels), np.uint8), crs="EPSG:32633",
            transform=Affine(60 / pixels, 0, 5e5, 0, -60 / pixels, 5.2e6),
        )
    )  # fmt: skip
    data = np.random.default_rng(2).integers(1, 255, (3, 60, 60), np.uint8)
    fine = write_bands(tmp_path / "s.tif", data, crs="EPSG:32633", transform=Affine(1, 0, 5e5, 0, -1, 5.2e6))
    patch = read_beside(Scene.open(fine), landcover, 100)
    assert patch.valid.all()
    np.testing.assert_array_equal(patch.data, data)
    assert read_beside(Scene.open(fine), landcover, 30).data.shape == (3, 30, 30)


def test_a_scene_of_the_world_covers_a_map_beyond_the_180th_meridian(tmp_path: Path) -> None:
    beyond, world = Affine(0.1, 0, 178, 0, -0.1, 5), Affine(1, 0, -180, 0, -1, 90)
    landcover = Scene.open(write_map(tmp_path / "m.tif", blocks(40, 60), crs="EPSG:4326", transform=beyond))
    data = np.random.default_rng(2).integers(1, 255, (3, 180, 360), np.uint8)
    scene = Scene.open(write_bands(tmp_path / "s.tif", data, crs="EPSG:4326", transform=world))
    patch = read_beside(scene, landcover, 60)
    assert patch.valid.all()
    centers = patch.data[:, 5::10, [5, 15, 25, 35, 45, 55]].astype(int)  # a twentieth of a pixel off the scene's
    assert np.abs(centers - data[:, 85:89, [358, 359, 0, 1, 2, 3]]).max() < 40


def test_a_scene_that_is_not_the_maps_is_refused(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    away = write_scene(tmp_path / "away.tif", crs=UTM["crs"], transform=Affine(10, 0, 7e5, 0, -10, 5.2e6))
    tall = write_scene(tmp_path / "tall.tif", (100, 20))
    for scene, said in [
        (away, r"no valid pixel of .*away\.tif lies on .*m\.tif"),
        (tall, r"tall\.tif cannot be placed on"),
    ]:
        with pytest.raises(errors.SceneError, match=said):
            drawn(landcover, scene, out=tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_nothing_valid_is_a_picture_all_the_same(tmp_path: Path) -> None:
    out = picture(write(tmp_path / "m.tif", 1, NODATA), write(tmp_path / "s.tif", 3, NODATA), out=tmp_path / "p.png")
    assert all(max(color) - min(color) < 4 for color in shown(out, 10_000))  # the page and its lines
    single = image.imread(picture(tmp_path / "m.tif", out=tmp_path / "q.png"))[..., :3].min(axis=2)
    rows, cols = (side // 4 for side in single.shape)
    assert single[rows:-rows, cols : 2 * cols].min() < 0.6  # a word in the middle of the map


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, 0)
    with pytest.raises(errors.OutputError, match=r"cannot write .*gone"):
        drawn(landcover, scene, out=tmp_path / "gone" / "p.png")


@pytest.mark.parametrize(
    ("heights", "dtype", "said"),
    [
        (0.5, "float32", r"m\.tif holds 0\.5; class codes must be whole numbers"),
        (np.arange(5400).reshape(60, 90), "uint16", r"m\.tif holds more than 255 codes"),
    ],
)
def test_a_map_of_no_classes_is_refused(tmp_path: Path, heights: Any, dtype: str, said: str) -> None:
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, heights, dtype)
    with pytest.raises(errors.SceneError, match=said):
        drawn(landcover, scene, out=tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize(("dtype", "code"), [("uint16", 3000), ("int16", -7), ("int32", 70_000)])
def test_codes_of_any_integers_have_their_colours(tmp_path: Path, dtype: str, code: int) -> None:
    (tmp_path / "names.csv").write_text(f"code,name,color\n{code},$a$ \\b_c,#2040c0\n{code + 1},other,#c04020\n")
    codes = np.full((60, 90), code)
    codes[:, 60:] += 1
    scene, landcover = write(tmp_path / "s.tif", 3, 90), write(tmp_path / "m.tif", 1, codes, dtype)
    areas = shown(drawn(landcover, scene, out=tmp_path / "p.png", legend=tmp_path / "names.csv"))
    assert areas[32, 64, 192] == pytest.approx(2 * areas[192, 64, 32], rel=0.05)


def test_many_classes_leave_room_for_the_map(tmp_path: Path) -> None:
    codes = np.broadcast_to(np.arange(90), (60, 90))
    landcover = write(tmp_path / "m.tif", 1, np.where(codes < 45, 0, codes))  # half of it is one class
    names = [f"{code},class {code} of a long name,#808080\n" for code in range(1, 90)]
    (tmp_path / "names.csv").write_text("".join(["code,name,color\n0,most,#2040c0\n", *names]))
    out = drawn(landcover, write(tmp_path / "s.tif", 3, 90), out=tmp_path / "p.png", legend=tmp_path / "names.csv")
    rows, cols = image.imread(out).shape[:2]
    assert shown(out)[32, 64, 192] == pytest.approx((cols / 2) ** 2 * 60 / 90 / 2, rel=0.1)
    assert rows < cols


def test_of_many_classes_the_largest_are_listed() -> None:
    areas = [0.0] * 40 + [7.0, 7.0, 9.0]
    entries = [sheet.LegendEntry(str(place), (1, 2, 3), area) for place, area in enumerate(areas)]
    listed, rest = sheet.largest(entries)
    assert [entry.name for entry in listed] == [*map(str, range(21)), "40", "41", "42"]
    assert [entry.name for entry in rest] == [*map(str, range(21, 40))]


def runs(levels: NDArray[np.uint8], color: tuple[int, int, int]) -> int:
    """Return the longest run of a color along a row."""
    longest = 0
    for row in (levels == color).all(axis=-1):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        longest = max(longest, *(edges[1::2] - edges[::2]), 0)
    return longest


@pytest.mark.parametrize(("width_px", "dpi"), [(None, None), (900, 300), (2008, 72)])
def test_a_picture_is_as_wide_as_asked_and_its_scale_bar_is_true(
    tmp_path: Path, width_px: int | None, dpi: int | None
) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    out = picture(landcover, out=tmp_path / "p.png", width_px=width_px, dpi=dpi)
    with Image.open(out) as found:
        assert found.width == (width_px or 1600 + 3 * 48 + 400)
        assert found.info["dpi"] == pytest.approx((dpi or 144,) * 2, abs=0.1)
        levels = np.asarray(found.convert("RGB"))
    areas = {code: int((levels == color).all(axis=-1).sum()) for code, color in COLOR_OF.items()}
    cols = math.sqrt(sum(areas.values()) * 128 / 96)
    assert cols == pytest.approx(1600 / 2144 * levels.shape[1], rel=0.02)
    shares = np.bincount(blocks().ravel()) / blocks().size
    assert [areas[code] / sum(areas.values()) for code in range(3)] == pytest.approx(shares, abs=0.01)
    half_m = runs(levels, (31, 35, 40)) * 1280 / cols  # the dark half of a bar of 200 m
    assert half_m == pytest.approx(100, abs=3 * 1280 / cols)


def test_wide_names_and_titles_stay_on_the_paper(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    out = drawn(landcover, out=tmp_path / "p.png", legend=dict.fromkeys(range(3), "W" * 30), title="M" * 90)
    assert (np.round(image.imread(out)[:, -18:, :3] * 255) == 255).all()  # the margin has 22 pixels


def _written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    written: list[tuple[str, float]] = []
    write = sheet._Drawing.write

    def kept(drawing: Any, x: float, y: float, text: str, **look: Any) -> None:
        written.append((text, y))
        write(drawing, x, y, text, **look)

    monkeypatch.setattr(sheet._Drawing, "write", kept)
    return written


@pytest.mark.parametrize("row_m", [-10, 10])
def test_the_letter_of_north_is_at_the_arrows_tip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_m: int) -> None:
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, row_m, 5_200_000)}
    written = _written(monkeypatch)
    landcover = write_map(tmp_path / "m.tif", blocks(48, 128), **place)
    with rasterio.open(landcover, "r+") as file:
        file.update_tags(GEOSEG_WARNINGS='["Dark."]')
    drawn(landcover, out=tmp_path / "p.png")
    bar = next(y for text, y in written if text == "200 m")
    assert (dict(written)["N"] < bar) is (row_m < 0)
    note = min(y for text, y in written if y > bar and text != "N")
    assert dict(written)["N"] < note - 17  # the height of its letters


def test_a_raster_drawn_wider_than_it_is_has_no_scale_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = _written(monkeypatch)
    drawn(write_map(tmp_path / "m.tif", blocks(600, 1), **UTM), out=tmp_path / "p.png")
    assert not {"0", "N"} & {text for text, _ in written}


def test_each_pixel_of_a_picture_is_the_mean_of_what_is_in_it(tmp_path: Path) -> None:
    stripes = np.zeros((600, 3200), np.uint8)
    stripes[:, ::2] = 1  # two to a pixel of the picture
    names = tmp_path / "names.csv"
    names.write_text("code,name,color\n0,a,#000000\n1,b,#ffffff\n")
    out = drawn(write_map(tmp_path / "m.tif", stripes, legend=False), out=tmp_path / "p.png", legend=names)
    gray = shown(out)
    assert any(color in gray for color in [(127, 127, 127), (128, 128, 128)])


@pytest.mark.parametrize("beside", ["alone", "scene"])
@pytest.mark.parametrize(("dtype", "place"), [("uint8", UTM), ("int16", ROTATED), ("float32", UTM | {"crs": None})])
def test_the_picture_of_an_area_is_that_of_a_map_cut_to_it(
    tmp_path: Path, dtype: str, place: dict[str, Any], beside: str
) -> None:
    codes, to_ground = blocks().astype(dtype), place["transform"]
    area = shapely.Polygon([to_ground @ corner for corner in ((31.2, 20.7), (90.1, 30.4), (70.3, 61.8), (33.3, 55.2))])
    inside = geometry_mask([area], codes.shape, to_ground, invert=True)
    rows, cols = (slice(found.min(), found.max() + 1) for found in np.nonzero(inside))
    moved = place | {"transform": to_ground @ Affine.translation(cols.start, rows.start)}
    maps = (
        write_map(tmp_path / "m.tif", codes, **place),
        write_map(
            tmp_path / "cut.tif", np.where(inside, codes, 255)[rows, cols].astype(dtype), **moved | {"nodata": 255}
        ),
    )
    checkers = np.stack([blocks(side=8) % 2 * 200] * 3)
    scenes: tuple[Path | None, Path | None] = None, None
    if beside == "scene":
        scenes = (
            write_bands(tmp_path / "a" / "s.tif", checkers, **place),
            write_bands(tmp_path / "b" / "s.tif", checkers[:, rows, cols], **moved),
        )
    given: dict[str, Any] = {"title": "A", "width_px": 700}
    out = drawn(maps[0], scenes[0], out=tmp_path / "area.png", aoi=area, **given)
    wanted = drawn(maps[1], scenes[1], out=tmp_path / "oracle.png", **given)
    with Image.open(out) as found, Image.open(wanted) as known:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(known))


def test_an_area_has_its_own_legend_and_scale_bar(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    lone = shapely.box(500_000 + 10, 5_200_000 - 150, 500_000 + 150, 5_200_000 - 10)  # inside the first square
    away = geopandas.GeoSeries([lone], crs=UTM["crs"]).to_crs("EPSG:4326")
    away.to_file(tmp_path / "a.geojson")
    out = drawn(landcover, out=tmp_path / "p.png", aoi=tmp_path / "a.geojson", width_px=1000)
    assert {color for color in shown(out) if color in COLOR_OF.values()} == {COLOR_OF[0]}
    with Image.open(out) as found:
        levels = np.asarray(found.convert("RGB"))
    half_m = runs(levels, (31, 35, 40)) * 140 / runs(levels, COLOR_OF[0])
    assert half_m == pytest.approx(10, abs=0.5)


def test_two_images_are_the_scene_and_its_map(tmp_path: Path) -> None:
    landcover, scene = write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM)
    found = shown(drawn(landcover, scene, out=tmp_path / "p.png"))
    assert set(COLOR_OF.values()) <= found.keys()
    area = sum(found[color] for color in COLOR_OF.values())
    yellow = max(count for (red, _, blue), count in found.items() if red - blue > 200)
    assert yellow == pytest.approx(area * 15 / 16, rel=0.02)


def test_a_picture_says_warnings_and_where_it_comes_from(tmp_path: Path) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    plain = picture(landcover, out=tmp_path / "p.png").read_bytes()
    with rasterio.open(landcover, "r+") as file:
        file.update_tags(GEOSEG_WARNINGS='["The $scene$ is dark."]', GEOSEG_MODEL_NAME="x")
    noted = picture(landcover, out=tmp_path / "q.png")
    with Image.open(tmp_path / "p.png") as before, Image.open(noted) as after:
        assert after.width == before.width
        assert after.height > before.height + 40
    titled = picture(landcover, out=tmp_path / "r.png", title="T" * 200, description="words " * 200)
    levels = image.imread(titled)[..., :3]
    inked = np.flatnonzero((levels[: len(levels) // 3] < 0.5).any(axis=(0, 2)))
    assert inked[-1] < levels.shape[1] - 20
    assert plain != noted.read_bytes()


def test_a_picture_that_is_there_stays_unless_told(tmp_path: Path) -> None:
    landcover, out = write_map(tmp_path / "m.tif", blocks(), **UTM), tmp_path / "p.png"
    out.write_text("mine")
    with pytest.raises(errors.OutputError, match=r"p\.png exists; add `overwrite=True`"):
        drawn(landcover, out=out)
    assert out.read_text() == "mine"
    assert drawn(landcover, out=out, overwrite=True).read_bytes().startswith(b"\x89PNG")


def test_a_picture_never_replaces_the_source_of_a_vrt(tmp_path: Path) -> None:
    mine, vrt = tmp_path / "mine.png", tmp_path / "m.vrt"
    with rasterio.open(mine, "w", driver="PNG", dtype="uint8", count=1, height=9, width=9) as file:
        file.write(np.ones((1, 9, 9), np.uint8))
    rasterio.shutil.copy(mine, vrt, driver="VRT")
    before = mine.read_bytes()
    for given in ({"landcover": vrt}, {"landcover": vrt, "scene": vrt}):
        with pytest.raises(errors.UsageError, match=r"mine\.png is read by this run .* choose another `out`"):
            drawn(**given, out=mine, overwrite=True)
    assert mine.read_bytes() == before


@pytest.mark.parametrize("read", ["landcover", "scene", "legend"])
def test_a_picture_never_replaces_what_it_is_made_of(tmp_path: Path, read: str) -> None:
    landcover = write_map(tmp_path / "m.tif", blocks(), **UTM)
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    with pytest.raises(errors.UsageError, match=r"mine\.png is read by this run .* choose another `out`"):
        drawn(**{"landcover": landcover, "out": tmp_path / "." / "mine.png", "overwrite": True} | {read: mine})
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "there is nothing to draw: give `landcover` or `polygons`"),
        (
            {"landcover": "m.tif", "scene": "s.tif", "polygons": "p.gpkg"},
            "a picture shows either scene and map, or polygons",
        ),
        ({"landcover": "m.tif", "layer": "x"}, "`layer` is for `polygons`"),
        ({"landcover": "m.tif", "polygons": "p.gpkg", "aoi": "a.gpkg"}, "`aoi` is for a picture of the map"),
        ({"landcover": "m.tif", "polygons": "p.gpkg", "aoi_crs": "EPSG:4326"}, "`aoi_crs` is for a picture of the map"),
        ({"landcover": "m.tif", "width_px": 299}, "`width_px` must be 300 to 6000 pixels, got 299"),
        ({"landcover": "m.tif", "width_px": "wide"}, "`width_px` must be a whole number"),
        ({"landcover": "m.tif", "dpi": 0}, "`dpi` must be 30 to 1200 per inch, got 0"),
        ({"landcover": "m.tif", "palette": "pink"}, "`palette` must be one of soft, own, deepglobe, color-blind"),
        ({"landcover": "m.tif", "title": "two\nlines"}, "`title` must be 1 to 200 characters on one line"),
        ({"landcover": "m.tif", "out": "p.pdf"}, "a picture must end in .png"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    given = {"out": "p.png"} | given
    with pytest.raises(errors.UsageError, match=said):
        drawn(**given | {"out": tmp_path / given["out"]})
    assert not list(tmp_path.iterdir())
