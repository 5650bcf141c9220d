"""The page in a real headless browser; skipped without Chromium (Debian: apt-get install chromium)."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.io import MemoryFile
from shapely.geometry import box as rectangle
from shapely.geometry import shape

from geoseg.display import preview
from tests.display.browser import SIZES, Browser, Tab
from tests.display.conftest import NEEDS, Open
from tests.display.maps import COLOR_OF, NASTY, ROTATED, SCENE_COLOR, UTM, blocks, write_map, write_scene

pytestmark = NEEDS
GROUND = (238, 240, 242)
MIDDLES = [(row, col) for row in (8, 24, 56, 88) for col in (8, 40, 72, 120)]
"""Centers of blocks: (row, col) of the map."""


def pixels(tab: Tab) -> NDArray[np.uint8]:
    """Return the pixels (row, col, 3) on the screen."""
    with MemoryFile(tab.picture()) as file, file.open() as picture:
        return np.moveaxis(picture.read()[:3], 0, -1)


def on_screen(tab: Tab, place: dict[str, Any], row: float, col: float) -> tuple[int, int]:
    """Return the position (x, y) on the screen of a pixel of the map, computed with pyproj."""
    lon, lat = pyproj.Transformer.from_crs(place["crs"], 4326, always_xy=True).transform(
        *(place["transform"] @ (col, row))
    )
    x, y = tab.run(f"(p => [p.x, p.y])(geosegPage.map.latLngToContainerPoint([{lat}, {lon}]))")
    return round(x), round(y)


def color_at(tab: Tab, place: dict[str, Any], row: float, col: float) -> tuple[int, ...]:
    x, y = on_screen(tab, place, row, col)
    return tuple(pixels(tab)[y, x].tolist())


PLACES: dict[str, dict[str, Any]] = {
    "utm": UTM,
    "rotated": ROTATED,
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 15, 0, -7e-5, 47)},
    "polar": {"crs": "EPSG:3413", "transform": Affine(25, 0, -400_000, 0, -25, -1_200_000)},
    "pixels": {},
}
LOOKS = [(-0.25, 1), (0, 2), (1.25, 1.5), (4, 2)]
"""Zoom levels relative to the map's own pixels, and screen pixels per CSS pixel."""


class View:
    """The position in the map of every screen pixel, from the page's own coordinates and pyproj."""

    def __init__(self, tab: Tab, place: dict[str, Any], zoom: float, ratio: float) -> None:
        tab.size(760, 420, ratio)
        tab.run(f"geosegPage.map.setView(geosegPage.map.getCenter(), {zoom}, {{animate: false}}); 1")
        tab.settle()
        self.image, self.ratio, self._place = pixels(tab), ratio, place
        (self._left, self._top), (right, bottom), (self.width, self.height) = tab.run(
            "(s => [[0, 0], [s.clientWidth, s.clientHeight]]"
            ".map(it => geosegPage.toXY(geosegPage.map.containerPointToLatLng(it))).map(it => [it.x, it.y])"
            ".concat([[s.clientWidth, s.clientHeight]]))(document.getElementById('stage'))"
        )
        self.step = (right - self._left) / self.width / ratio
        """The page's units per screen pixel."""
        assert (self._top - bottom) / self.height / ratio == pytest.approx(self.step, rel=1e-6)

    def rows_cols(self, x_px: NDArray[Any], y_px: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return fractional rows and columns of the map at positions on the screen, given in screen pixels."""
        x, y = self._left + x_px * self.step, self._top - y_px * self.step
        if not self._place:
            return -y, x
        x, y = pyproj.Transformer.from_crs(3857, self._place["crs"], always_xy=True).transform(x, y)
        a, b, c, d, e, f = tuple(~self._place["transform"])[:6]
        return d * x + e * y + f, a * x + b * y + c

    def seen(self, count: int = 40_000) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return random positions on the screen (x and y of pixel centers) and the class, of three, shown at each."""
        random, rim = np.random.default_rng(5), 40 * self.ratio  # away from the scale and the buttons
        x = random.integers(rim, self.width * self.ratio - 3 * rim, count)
        y = random.integers(rim, self.height * self.ratio - 3 * rim, count)
        colors = np.array([COLOR_OF[code] for code in range(3)], int)
        return x + 0.5, y + 0.5, np.abs(self.image[y, x, None].astype(int) - colors).sum(axis=-1).argmin(axis=-1)

    def truth(self, codes: NDArray[np.uint8], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the codes at positions on the screen; 255 outside the map."""
        row, col = (np.floor(it).astype(int) for it in self.rows_cols(x, y))
        inside = (row >= 0) & (row < codes.shape[0]) & (col >= 0) & (col < codes.shape[1])
        return np.where(inside, codes[np.where(inside, row, 0), np.where(inside, col, 0)], np.uint8(255))

    def shift_px(self, codes: NDArray[np.uint8], reach_px: float) -> tuple[float, float]:
        """Return how far the class layer is displaced to the right and down, in screen pixels.

        The share of equal pixels falls linearly with the distance from the true shift, on both sides of it.
        """
        x, y, seen = self.seen()

        def equal(dx: float, dy: float) -> float:
            truth = self.truth(codes, x - dx, y - dy)
            return float((truth == seen)[truth != 255].mean())

        def center(dx: float, dy: float) -> float:
            far, near, right, farther = (equal(dx * step, dy * step) for step in (-2, -1, 1, 2))
            return (right - near) / ((right - farther) + (near - far)) * reach_px

        return center(reach_px, 0), center(0, reach_px)


def native_zoom(tab: Tab) -> int:
    return int(tab.run("geosegPage.map.getMaxZoom() - 4"))


@pytest.mark.parametrize("name", PLACES)
def test_each_pixel_of_the_map_stands_where_the_page_says(show: Open, tmp_path: Path, name: str) -> None:
    place, codes = PLACES[name], squares(5)
    tab = show(write_map(tmp_path / "m.tif", codes, **place))
    for deeper, ratio in LOOKS:
        view = View(tab, place, native_zoom(tab) + deeper, ratio)
        if deeper < 2:  # otherwise too few borders are visible for a mean
            assert max(map(abs, view.shift_px(codes, 2 * ratio))) < 0.5, (deeper, ratio)
        x, y, seen = view.seen()
        around = [view.truth(codes, x + dx, y + dy) for dx in (-ratio, ratio) for dy in (-ratio, ratio)]
        clear = np.logical_and.reduce([around[0] == it for it in around]) & (around[0] != 255)
        assert (seen == around[0])[clear].mean() > 0.9995, (deeper, ratio)
        assert clear.mean() > 0.1


@pytest.mark.parametrize("name", ["utm", "degrees", "pixels"])
def test_polygons_lie_on_the_edges_of_the_pixels(show: Open, tmp_path: Path, name: str) -> None:
    place, codes = PLACES[name], squares(8)
    found = list(shapes(codes, transform=place.get("transform", Affine.identity())))
    frame = geopandas.GeoDataFrame(
        {"code": [code for _, code in found], "name": "x", "area_px": 1.0},
        geometry=[shape(outline) for outline, _ in found],
        crs=place.get("crs"),
    )
    tab = show(write_map(tmp_path / "m.tif", codes, **place), polygons=frame)
    for deeper, ratio in ((1.25, 1), (4, 1), (4, 2)):
        view = View(tab, place, native_zoom(tab) + deeper, ratio)
        x, y, _ = view.seen()
        dark = view.image[y.astype(int), x.astype(int)].max(axis=-1) < 90
        reach = ratio + 0.5  # Leaflet rounds a corner to whole CSS pixels, and may draw them between the screen's
        around = [view.truth(codes, x + dx, y + dy) for dx in (-reach, reach) for dy in (-reach, reach)]
        on_edge = ~np.logical_and.reduce([around[0] == it for it in around])
        assert dark.sum() > 50
        assert on_edge[dark].all(), (deeper, ratio)
        assert dark[on_edge].mean() > 0.15  # a line is one pixel wide; three pixels across it are checked


@pytest.mark.parametrize("name", ["utm", "pixels"])
def test_no_gap_shows_between_tiles(show: Open, tmp_path: Path, name: str) -> None:
    place, codes = PLACES[name], np.zeros((1000, 1100), np.uint8)
    tab = show(write_map(tmp_path / "m.tif", codes, **place), write_scene(tmp_path / "s.tif", codes.shape, **place))
    tab.run("geosegPage.setSwipe(0); 1")
    for deeper, ratio in ((-0.25, 1), (0.5, 1.5), (1.25, 1)):
        view = View(tab, place, native_zoom(tab) + deeper, ratio)
        rim = round(60 * ratio)
        inner = view.image[rim : round(view.height * ratio) - rim, rim : round(view.width * ratio) - 2 * rim]
        assert (inner == COLOR_OF[0]).all(), (deeper, ratio)


def squares(side: int) -> NDArray[np.uint8]:
    """Return 360 x 480 random codes of 0, 1 and 2 in squares."""
    found = np.random.default_rng(3).integers(0, 3, (360 // side, 480 // side))
    return np.kron(found, np.ones((side, side), int)).astype(np.uint8)


def click(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector({selector!r}).click()")
    tab.settle()


def choose(tab: Tab, name: str, value: str, event: str) -> None:
    told = f"it.value = {value!r}; it.dispatchEvent(new Event({event!r}, {{bubbles: true}}))"
    tab.run(f"(it => {{ {told}; }})(document.getElementById({name!r}))")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [UTM, ROTATED])
def test_each_place_has_the_colour_of_its_class(
    show: Open, tmp_path: Path, place: dict[str, Any], size: tuple[int, int]
) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **place), size=size)
    image = pixels(tab)
    for row, col in MIDDLES:
        x, y = on_screen(tab, place, row, col)
        assert tuple(image[y, x].tolist()) == COLOR_OF[int(codes[row, col])]
    x, y = on_screen(tab, place, 99, 64)  # below the map, next to the buttons
    assert tuple(image[y, x].tolist()) == GROUND


@pytest.mark.parametrize("size", SIZES)
def test_it_asks_for_nothing_complains_of_nothing_and_fits(show: Open, tmp_path: Path, size: tuple[int, int]) -> None:
    path, scene = write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM)
    tab = show(path, scene, size)
    tab.run("geosegPage.map.zoomIn(2, {animate: false}); 1")
    tab.settle()
    assert tab.complaints() == []
    assert tab.requests() == []
    assert tab.events("Page.javascriptDialogOpening") == []
    assert tab.run("document.documentElement.scrollWidth") == size[0]
    boxes = tab.run(
        "['stage', 'panel', 'readout'].map(id => { const b = document.getElementById(id).getBoundingClientRect();"
        "return [b.left, b.top, b.right, b.bottom]; })"
    )
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        for other in boxes[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    assert boxes[0][2] - boxes[0][0] >= 0.7 * size[0]
    assert boxes[0][3] - boxes[0][1] >= 0.45 * size[1]


def test_the_policy_forbids_what_a_page_may_not_do(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM))
    assert tab.run("fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.name)") == "TypeError"
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert tab.run("typeof window.ran") == "undefined"
    assert tab.requests() == []
    assert any("Content Security Policy" in text for text in tab.complaints())


def test_the_swipe_moves_by_keys_and_by_hand(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM), write_scene(tmp_path / "s.tif", **UTM))
    left, right = (56, 40), (56, 88)
    assert np.allclose(color_at(tab, UTM, *left), SCENE_COLOR, atol=12)
    assert color_at(tab, UTM, *right) == COLOR_OF[int(codes[right])]
    tab.run("document.getElementById('swipe').focus()")
    tab.key("Home")
    assert color_at(tab, UTM, *left) == COLOR_OF[int(codes[left])]
    assert tab.run("document.getElementById('swipe').getAttribute('aria-valuenow')") == "0"
    tab.key("ArrowRight")
    assert tab.run("document.getElementById('swipe').getAttribute('aria-valuenow')") == "2"
    width, height = tab.run("(s => [s.clientWidth, s.clientHeight])(document.getElementById('stage'))")
    tab.drag(*((part * width, height / 2) for part in (0.02, 0.5, 0.99)))
    assert tab.run("document.getElementById('swipe').getAttribute('aria-valuenow')") == "99"
    assert np.allclose(color_at(tab, UTM, *right), SCENE_COLOR, atol=12)
    tab.run("geosegPage.map.panBy([40, 0], {animate: false}); geosegPage.setSwipe(0); 1")
    tab.settle()
    assert color_at(tab, UTM, *right) == COLOR_OF[int(codes[right])]


def test_opacity_mixes_map_and_scene(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM), write_scene(tmp_path / "s.tif", **UTM))
    choose(tab, "opacity", "50", "input")
    mixed = np.mean([SCENE_COLOR, COLOR_OF[int(codes[56, 88])]], axis=0)
    assert np.allclose(color_at(tab, UTM, 56, 88), mixed, atol=10)


def test_a_class_is_switched_off_and_on_by_keys(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM))
    water = next(spot for spot in MIDDLES if codes[spot] == 0)
    other = next(spot for spot in MIDDLES if codes[spot] == 1)
    name = "[...document.querySelectorAll('tbody label')].find(label => label.textContent === 'water')"
    tab.run(f"{name}.control.focus()")
    tab.key(" ")
    assert color_at(tab, UTM, *water) == GROUND
    assert color_at(tab, UTM, *other) == COLOR_OF[1]
    click(tab, "#none")
    assert color_at(tab, UTM, *other) == GROUND
    click(tab, "#all")
    assert color_at(tab, UTM, *water) == COLOR_OF[0]
    assert tab.run(f"{name}.control.checked") is True


def test_codes_that_no_byte_holds_are_shown_and_switched(show: Open, tmp_path: Path) -> None:
    codes = np.array([-5, 111, 523], np.int16)[blocks()]
    names = tmp_path / "names.csv"
    names.write_text("code,name,color\n-5,mires,#2040c0\n111,towns,#c04020\n523,sea,#20c040\n")
    colors = {-5: (32, 64, 192), 111: (192, 64, 32), 523: (32, 192, 64)}
    tab = show(write_map(tmp_path / "m.tif", codes, legend=False, **UTM, nodata=-9999), legend=names)
    image = pixels(tab)
    for row, col in MIDDLES:
        x, y = on_screen(tab, UTM, row, col)
        assert tuple(image[y, x].tolist()) == colors[int(codes[row, col])]
    sea, town = (next(spot for spot in MIDDLES if codes[spot] == code) for code in (523, 111))
    tab.hover(on_screen(tab, UTM, *sea))
    assert tab.run("document.getElementById('under').textContent") == "sea"
    tab.run("[...document.querySelectorAll('tbody label')].find(it => it.textContent === 'sea').control.click()")
    tab.settle()
    assert color_at(tab, UTM, *sea) == GROUND
    assert color_at(tab, UTM, *town) == colors[111]


def test_nasty_names_are_shown_as_they_are(show: Open, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"code": [1], "name": [NASTY], "area_m2": [9_216_00.0]},
        geometry=[rectangle(500_000, 5_200_000 - 960, 501_280, 5_200_000)],
        crs=UTM["crs"],
    )
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), polygons=frame)
    names = tab.run("[...document.querySelectorAll('tbody label')].map(label => label.textContent)")
    assert sorted(names) == sorted(["water", NASTY, "urban_land"])
    tab.drag(on_screen(tab, UTM, 48, 64))
    tab.until("document.querySelector('.leaflet-popup strong') !== null")
    assert tab.run("document.querySelector('.leaflet-popup strong').textContent") == NASTY
    assert tab.events("Page.javascriptDialogOpening") == []


def test_the_pointer_reads_coordinates_and_class(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM))
    tab.hover(on_screen(tab, UTM, 56, 72))
    place, under = tab.run("['place', 'under'].map(id => document.getElementById(id).textContent)")
    assert under == {0: "water", 1: NASTY, 2: "urban_land"}[int(codes[56, 72])]
    numbers = place.replace("\u00a0", " ").split("\u2002")[1].split(" \u00b7 ")
    wanted = UTM["transform"] @ (72, 56)
    step = 1280 / tab.run("document.getElementById('stage').clientWidth") * 2  # two screen pixels, in meters
    assert [float(number) for number in numbers[0].split(", ")] == pytest.approx(wanted, abs=step)
    lon, lat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(*wanted)
    read_lat, read_lon = (float(number.split("\u00b0")[0]) for number in numbers[1].split(", "))
    assert (read_lon, read_lat) == pytest.approx((lon, lat), abs=5e-5)


def test_the_scale_bar_is_true(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM))
    (left, _), (right, _) = on_screen(tab, UTM, 48, 14), on_screen(tab, UTM, 48, 114)
    text, width = tab.run("(s => [s.textContent, parseFloat(s.style.width)])(document.querySelector('.scale'))")
    length_m = float(text.split()[0]) * {"m": 1, "km": 1000}[text.split()[1]]
    assert length_m == pytest.approx(width * 1000 / (right - left), rel=0.02)


def test_confidence_and_colours_can_be_chosen(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    percent = np.full(codes.shape, 100, np.uint8)
    percent[:, :64] = 0
    path = write_map(tmp_path / "m.tif", codes, **UTM)
    tab = show(path, confidence=write_map(tmp_path / "c.tif", percent, legend=False, **UTM), palette="colour-blind")
    spot = next(spot for spot in MIDDLES if codes[spot] == 0)
    assert color_at(tab, UTM, *spot) == (0, 114, 178)
    choose(tab, "palette", "own", "change")
    assert color_at(tab, UTM, *spot) == COLOR_OF[0]
    click(tab, "input[value=confidence]")
    assert color_at(tab, UTM, 56, 40) == (68, 1, 84)
    assert color_at(tab, UTM, 56, 88) == (253, 231, 37)
    click(tab, "input[value=classes]")
    assert color_at(tab, UTM, *spot) == COLOR_OF[0]


def test_a_map_without_a_place_is_shown_as_pixels(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes))
    x, y = tab.run("(p => [p.x, p.y])(geosegPage.map.latLngToContainerPoint([-56.5, 72.5]))")
    assert tuple(pixels(tab)[round(y), round(x)].tolist()) == COLOR_OF[int(codes[56, 72])]
    tab.hover((x, y))
    assert tab.run("document.getElementById('place').textContent").replace("\u00a0", " ") == "row 56, column 72"
    assert tab.run("document.querySelector('.scale').textContent").endswith(" px")


def test_a_map_of_nodata_says_so(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", np.full((40, 40), 255, np.uint8), **UTM))
    assert tab.run("document.getElementById('message').textContent").startswith("No pixel of this map holds a class")
    assert tab.complaints() == []


def test_the_whole_map_comes_back_by_a_button(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM))
    place = "(m => [m.getCenter().lat, m.getCenter().lng, m.getZoom()])(geosegPage.map)"
    before = tab.run(place)
    tab.run("geosegPage.map.setView([0, 0], 9, {animate: false}); 1")
    tab.run("document.querySelector('.whole').focus()")
    tab.key("Enter")
    tab.settle()
    assert tab.run(place) == pytest.approx(before)
    sides = tab.run(
        "(b => [b.getNorthWest(), b.getSouthEast()].map(it => geosegPage.map.latLngToContainerPoint(it)))"
        "(L.latLngBounds(geosegPage.toLatLng(...geosegPage.bounds.slice(0, 2)), "
        "geosegPage.toLatLng(...geosegPage.bounds.slice(2)))).map(it => [it.x, it.y])"
    )
    width, height = tab.run("(s => [s.clientWidth, s.clientHeight])(document.getElementById('stage'))")
    (left, top), (right, bottom) = sides
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left > width - 40 or bottom - top > height - 40


def test_a_dark_screen_gets_a_dark_page_with_the_map_as_it_is(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM))
    for scheme, is_dark in (("light", False), ("dark", True)):
        tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.settle()
        ink, card = tab.run(
            "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
            ".map(color => color.match(/[0-9]+/g).slice(0, 3).map(Number))"
        )
        assert (sum(card) < sum(ink)) is is_dark
        assert abs(sum(card) - sum(ink)) > 450
        assert color_at(tab, UTM, 56, 72) == COLOR_OF[int(codes[56, 72])]


def test_the_total_is_in_the_unit_of_the_largest_class(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", np.add.outer(np.arange(96) // 16, np.arange(128) * 0) % 3, **UTM))
    areas = tab.run(
        "[...document.querySelectorAll('#classes tr:not(.bars) td:nth-child(2)'), document.getElementById('total')]"
        ".map(it => it.textContent)"
    )
    assert {text.split(" ")[1] for text in areas} == {"ha"}
    numbers = [float(text.split(" ")[0]) for text in areas]
    assert numbers[-1] == pytest.approx(96 * 128 * 100 / 1e4, rel=0.01)
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], rel=0.01)


def test_a_very_long_name_leaves_room_for_the_others(show: Open, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text(f"code,name,color\n0,{'x' * 300},#2040c0\n1,{'long words ' * 30},#c04020\n2,sea,#20c040\n")
    tab = show(write_map(tmp_path / "m.tif", blocks(), legend=False, **UTM), legend=names)
    heights, titles = tab.run(
        "(all => [all.map(it => it.getBoundingClientRect().height), all.map(it => it.title.length)])"
        "([...document.querySelectorAll('tbody label')])"
    )
    assert max(heights) < 80
    assert max(titles) >= 300


@pytest.mark.parametrize("size", SIZES)
def test_what_stands_on_the_map_keeps_apart(show: Open, tmp_path: Path, size: tuple[int, int]) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM), size)
    for percent in (0, 5, 10, 20, 50, 80, 95, 100):
        boxes = tab.run(
            f"geosegPage.setSwipe({percent}); ['.leaflet-bar', '.scale', '#left-side', '#right-side']"
            ".map(it => document.querySelector(it).getBoundingClientRect())"
            ".map(it => [it.left, it.top, it.right, it.bottom])"
        )
        seen = [box for box in boxes if box[0] < box[2]]
        assert len(seen) >= 3
        for number, (left, top, right, bottom) in enumerate(seen):
            assert 0 <= left < right <= size[0], percent
            for other in seen[number + 1 :]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top, percent


def test_everything_has_a_name_for_those_who_do_not_see_it(show: Open, tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    tab = show(path, write_scene(tmp_path / "s.tif", **UTM))
    tree = tab.send("Accessibility.getFullAXTree")["nodes"]
    wanted = {"slider", "checkbox", "button", "combobox", "radio", "table"}
    found = [
        (node["role"]["value"].lower(), node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored") and node.get("role", {}).get("value", "").lower() in wanted
    ]
    assert {role for role, _ in found} >= {"slider", "checkbox", "button", "combobox", "table"}
    assert all(name for _, name in found), found


def test_a_notebook_shows_it_in_its_frame(browser: Browser, tmp_path: Path) -> None:
    codes = blocks()
    page = preview(write_map(tmp_path / "m.tif", codes, **UTM))
    outer = tmp_path / "notebook.html"
    outer.write_text(
        f'<!DOCTYPE html><html data-ready="yes"><body>{page._repr_html_()}</body></html>', encoding="utf-8"
    )
    tab = Tab(browser, outer, 1280, 800)
    for _ in range(100):
        if np.all(pixels(tab) == COLOR_OF[0], axis=-1).sum() > 10_000:
            break
        tab.run("new Promise(done => setTimeout(done, 100))")
    assert np.all(pixels(tab) == COLOR_OF[0], axis=-1).sum() > 10_000
    assert tab.complaints() == []


CONTRAST = """
(name => {
  const light = text => { const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(level => level / 255)
      .map(level => level <= 0.03928 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(name)].map(it => light(getComputedStyle(it).color))
    .map(ink => Math.max(ink, ground) / Math.min(ink, ground));
})
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_switched_off_can_be_read(show: Open, tmp_path: Path, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM))
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    click(tab, "#none")
    found = tab.run(f"{CONTRAST}('tr.off th span, tr.off td')")
    assert len(found) >= 9
    assert min(found) >= 4.5


@pytest.mark.parametrize("size", SIZES)
def test_what_is_tapped_is_large_enough(show: Open, tmp_path: Path, size: tuple[int, int]) -> None:
    """Controls are at least 24 by 24 CSS pixels (WCAG 2.2, 2.5.8)."""
    frame = geopandas.GeoDataFrame(
        {"code": [1], "name": ["a_very_long_name_of_a_class" * 2], "area_m2": [921_600.0]},
        geometry=[rectangle(500_000, 5_200_000 - 960, 501_280, 5_200_000)],
        crs=UTM["crs"],
    )
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    tab = show(path, write_scene(tmp_path / "s.tif", **UTM), size, polygons=frame, confidence=path)
    sides = tab.run(
        "[...document.querySelectorAll('input:not([type=range]), button, select, .leaflet-bar a, #grip')]"
        ".map(it => it.getBoundingClientRect()).filter(it => it.width).flatMap(it => [it.width, it.height])"
    )
    assert len(sides) > 20
    assert min(sides) >= 24
    tab.run("geosegPage.setSwipe(0); 1")
    tab.drag(on_screen(tab, UTM, 48, 64))
    tab.until("document.querySelector('.leaflet-popup strong') !== null")
    name, cross = tab.run(
        "['.leaflet-popup strong', '.leaflet-popup-close-button']"
        ".map(it => document.querySelector(it).getBoundingClientRect()).map(it => [it.left, it.right])"
    )
    assert name[1] <= cross[0]


@pytest.mark.parametrize("size", SIZES)
def test_paper_has_the_whole_map_and_its_legend(show: Open, tmp_path: Path, size: tuple[int, int]) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM), size)
    before = tab.run("geosegPage.map.getSize().x")
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.send("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
    tab.settle()
    assert tab.run("geosegPage.map.getSize().x") == before  # the layout does not change
    left, top, right, bottom = tab.run(
        "(b => [b.left, b.top, b.right, b.bottom])(document.getElementById('stage').getBoundingClientRect())"
    )
    assert left == 0
    title = tab.run("document.getElementById('title').getBoundingClientRect().bottom")
    assert 0 < title < top < 100
    assert right <= 718
    assert 300 < bottom < 740
    hidden = tab.run(
        "['#controls', '#swipe', '#readout', '.leaflet-control-zoom']"
        ".map(it => getComputedStyle(document.querySelector(it)).display)"
    )
    assert set(hidden) == {"none"}
    last, total = tab.run(
        "['#classes tr:nth-last-child(2)', '#total']"
        ".map(it => document.querySelector(it).getBoundingClientRect().bottom)"
    )
    assert bottom < last < total < 1000
    opacity = tab.run(  # the opacity of a tile that is fading in
        "(it => { it.style.opacity = 0.1; return getComputedStyle(it).opacity; })"
        "(document.querySelector('.leaflet-tile-loaded'))"
    )
    assert opacity == "1"
    assert sheets(tab, A4, turned=False) == 1


A4, LETTER = (8.27, 11.69), (8.5, 11)


def sheets(tab: Tab, paper: tuple[float, float], *, turned: bool) -> int:
    """Return the number of sheets that a page prints on; the paper's size is in inches."""
    width, height = paper
    told = {"printBackground": True, "paperWidth": width, "paperHeight": height, "landscape": turned}
    return len(re.findall(rb"/Type */Page\b", base64.b64decode(tab.send("Page.printToPDF", **told)["data"])))


def boxes(tab: Tab, *chosen: str) -> list[tuple[float, float, float, float]]:
    """Return left, top, right and bottom of the first element that each selector finds."""
    return [
        tuple(
            tab.run(
                f"(b => [b.left, b.top, b.right, b.bottom])(document.querySelector('{each}').getBoundingClientRect())"
            )
        )
        for each in chosen
    ]


@pytest.mark.parametrize(("dates", "count"), [(1, 5), (1, 14), (1, 60), (2, 6), (2, 14), (2, 24)])
def test_one_sheet_holds_a_long_legend_and_the_map(show: Open, tmp_path: Path, dates: int, count: int) -> None:
    names = tmp_path / "names.csv"
    words = "Land principally occupied by agriculture", "Pastures", "Discontinuous urban fabric", "Water"
    lines = [f"{code},{words[code % 4]} {code},#{code * 4:02x}40{255 - code * 4:02x}" for code in range(count)]
    names.write_text("\n".join(["code,name,color", *lines, ""]))
    random = np.random.default_rng(3)
    maps = [
        write_map(tmp_path / f"{year}.tif", np.kron(codes, np.ones((4, 4), np.uint8)), legend=False, **UTM)
        for year, codes in enumerate(random.integers(0, count, (dates, 24, 32)).astype(np.uint8), 2018)
    ]
    later = maps[1] if dates == 2 else None
    tab = show(maps[0], later=later, legend=names, title="Land cover", description="For the parish council.")
    for paper in (A4, LETTER):
        assert [sheets(tab, paper, turned=turned) for turned in (False, True)] == [1, 1]
    tab.send("Emulation.setEmulatedMedia", media="print")
    for width, height in ((718, 1047), (1047, 718), (740, 980), (980, 740)):  # the two papers less their margins
        tab.size(width, height)
        tab.settle()
        view, legend, total, notes = boxes(tab, "#view", "#legend", "#total", "#notes")
        assert tab.run("document.documentElement.scrollWidth") <= width  # otherwise the browser shrinks it for printing
        assert view[2] - view[0] > 240
        assert view[3] - view[1] > 190
        assert (view[2] - legend[0] if width > height else view[3] - legend[1]) < 0.01
        assert max(view[3], total[3]) <= notes[1] + 1
        assert notes[3] <= height
        drawn = tab.run("[...document.querySelectorAll('#classes tr:not(.bars)')].map(it => it.getBoundingClientRect())"
                        ".map(it => [it.left, it.top, it.right, it.bottom])")  # fmt: skip
        assert len(drawn) == count
        assert count <= 14 or len({round(box[0]) for box in drawn}) > 1
        assert all(legend[0] - 1 <= box[0] and box[2] <= width and box[3] <= notes[1] + 1 for box in drawn)
