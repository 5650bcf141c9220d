"""Using a page in a real browser: keys, addresses, tables, two dates; skipped without Chromium."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
from shapely.geometry import Polygon
from shapely.geometry import box as rectangle

from tests.display.browser import Tab
from tests.display.conftest import NEEDS, Open
from tests.display.maps import COLOR_OF, LEGEND, NASTY, SCENE_COLOR, UTM, blocks, write_map, write_scene
from tests.display.test_browser import MIDDLES, choose, click, color_at, on_screen

pytestmark = NEEDS


def polygons() -> geopandas.GeoDataFrame:
    """Return three polygons of a map in UTM: a large square, a smaller rectangle, and one shaped like a C."""
    x, y = 500_000, 5_200_000
    bent = [(640, -480), (1280, -480), (1280, -960), (640, -960), (640, -940), (1200, -940), (1200, -500), (640, -500)]
    shapes = [
        rectangle(x, y - 480, x + 640, y),
        rectangle(x + 700, y - 300, x + 1100, y - 100),
        Polygon([(x + dx, y + dy) for dx, dy in bent]),
    ]
    return geopandas.GeoDataFrame(
        {
            "code": [1, 0, 2],
            "name": ["fields", "water", "urban_land"],
            "area_m2": [shape.area for shape in shapes],
            "perimeter_m": [shape.length for shape in shapes],
            "confidence": [83.4, None, 12.0],
        },
        geometry=shapes,
        crs=UTM["crs"],
    )


def card(tab: Tab) -> list[str]:
    """Return the lines of the open card, or none if it is closed."""
    return list(
        tab.run(
            "[...document.querySelectorAll('.leaflet-popup strong, .leaflet-popup dt, .leaflet-popup dd')]"
            ".map(it => it.textContent)"
        )
    )


def spoken(tab: Tab) -> str:
    return str(tab.run("document.getElementById('chosen').getAttribute('aria-valuetext')"))


def test_a_polygon_that_is_clicked_is_marked_and_says_what_is_known_of_it(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), polygons=polygons())
    edge = (0.5, 32)  # the upper edge of the first polygon, a row below the map's
    before = color_at(tab, UTM, *edge)
    tab.drag(on_screen(tab, UTM, 24, 32))
    tab.until("document.querySelector('.leaflet-popup strong') !== null")
    assert card(tab) == ["fields", "Area", "30.7 ha", "Code", "1", "Perimeter", "2\u202f240 m", "Confidence", "83 %"]
    assert spoken(tab) == "1 of 3: fields, 30.7 ha"
    tab.settle()
    marked = color_at(tab, UTM, *edge)
    assert marked != before
    tab.drag(on_screen(tab, UTM, 98, 64))  # below the map: nothing is chosen there
    tab.until("document.getElementById('chosen').getAttribute('aria-valuenow') === '0'")
    assert color_at(tab, UTM, *edge) == before


def test_polygons_are_reached_by_keys_alone(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), polygons=polygons())
    for _ in range(20):
        tab.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if tab.run("document.activeElement.id") == "chosen":
            break
    assert tab.run("document.activeElement.id") == "chosen"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert tab.run("document.activeElement.getAttribute('role')") == "spinbutton"
    assert spoken(tab) == "none chosen"
    said = []
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "Home", "End"):
        tab.key(key)
        said.append(spoken(tab).partition(":")[0])
    assert said == ["1 of 3", "2 of 3", "3 of 3", "3 of 3", "2 of 3", "1 of 3", "3 of 3"]
    tab.key("ArrowUp")
    assert card(tab) == []
    tab.key("Enter")
    tab.until("document.querySelector('.leaflet-popup strong') !== null")
    assert card(tab)[0] == "water"
    assert "Confidence" not in card(tab)
    tab.key("Home")
    assert card(tab)[0] == "fields"
    assert tab.run("document.activeElement.id") == "chosen"
    tab.key("Escape")
    tab.until("document.querySelector('.leaflet-popup') === null")
    assert spoken(tab).startswith("1 of 3")
    tab.key("Escape")
    assert spoken(tab) == "none chosen"


def test_a_card_points_into_its_polygon(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), polygons=polygons())
    tab.run("document.getElementById('chosen').focus()")
    to_utm = pyproj.Transformer.from_crs(4326, UTM["crs"], always_xy=True)
    for shape in sorted(polygons().geometry, key=lambda shape: -shape.area):
        tab.key("ArrowDown")
        tab.key("Enter")
        lat, lng = tab.run("(at => [at.lat, at.lng])(geosegPage.map._popup.getLatLng())")
        assert shape.contains(geopandas.points_from_xy(*zip(to_utm.transform(lng, lat), strict=True))[0])


def test_a_name_too_long_for_its_column_breaks_after_an_underscore(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM))
    lines = tab.run(
        """(() => {
        const label = [...document.querySelectorAll('tbody label')].find(it => it.title === 'urban_land');
        label.style.width = label.control.getBoundingClientRect().width + 70 + 'px';
        const walker = document.createTreeWalker(label.querySelector('span'), NodeFilter.SHOW_TEXT), lines = {};
        while (walker.nextNode()) [...walker.currentNode.data].forEach((letter, at) => {
            const range = document.createRange();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + 1);
            const top = range.getBoundingClientRect().top;
            lines[top] = (lines[top] || '') + letter;
        });
        return Object.entries(lines).sort((a, b) => a[0] - b[0]).map(([, line]) => line);
        })()"""
    )
    assert lines == ["urban_", "land"]


def test_a_class_that_is_switched_off_takes_its_polygons_along(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), polygons=polygons())
    tab.run("document.getElementById('chosen').focus()")
    tab.key("Home")
    tab.run("[...document.querySelectorAll('tbody label')].find(it => it.title.startsWith('<')).control.click()")
    assert spoken(tab) == "none chosen"
    tab.key("Home")
    assert spoken(tab).startswith("1 of 2: water")
    click(tab, "#outlines")
    assert tab.run("document.getElementById('picker').hidden") is True


def test_specks_that_are_no_polygons_are_explained(show: Open, tmp_path: Path) -> None:
    codes = np.zeros((96, 128), np.uint8)
    codes[40:44, 60:64] = 1  # 1600 m2 that are not in the polygons
    whole = rectangle(500_000, 5_200_000 - 960, 501_280, 5_200_000)
    frame = geopandas.GeoDataFrame(
        {"code": [0], "name": ["water"], "area_m2": [whole.area]}, geometry=[whole], crs=UTM["crs"]
    )
    specks = "(it => [it.hidden, it.textContent])(document.getElementById('specks'))"
    hidden, text = show(write_map(tmp_path / "m.tif", codes, **UTM), polygons=frame).run(specks)
    assert (hidden, "smaller than the smallest polygon, 1.2 km²" in text) == (False, True)
    without = write_map(tmp_path / "n.tif", np.zeros_like(codes), **UTM)
    assert show(without, polygons=frame).run(specks) == [True, ""]


STATE = (
    "[geosegPage.map.getCenter().lat, geosegPage.map.getCenter().lng, geosegPage.map.getZoom(), "
    "+document.getElementById('swipe').getAttribute('aria-valuenow'), +document.getElementById('opacity').value, "
    "document.getElementById('palette').value, document.querySelector('#show input:checked').value, "
    "document.getElementById('outlines').checked, "
    "[...document.querySelectorAll('tbody input')].map(it => it.checked).join()]"
)


def test_an_address_brings_back_view_and_classes(show: Open, tmp_path: Path) -> None:
    path, scene = write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM)
    tab = show(path, scene, confidence=path, polygons=polygons())
    first = tab.run(STATE)
    time.sleep(0.5)
    assert tab.run("location.hash") == ""  # nothing was chosen
    tab.run("geosegPage.map.setView([46.9512, 15.0078], 14.25, {animate: false}); geosegPage.setSwipe(23); 1")
    choose(tab, "opacity", "60", "input")
    choose(tab, "palette", "color-blind", "change")
    click(tab, "input[value=confidence]")
    click(tab, "#outlines")
    tab.run("document.querySelector('tbody input').click()")
    tab.until("location.hash.includes('off=')")
    wanted, address = tab.run(STATE), tab.run("location.hash")
    assert wanted != first
    tab.run("location.hash = ''; 1")
    tab.until("document.querySelector('tbody input').checked")
    assert tab.run(STATE) == pytest.approx(first, abs=1e-4)
    tab.run(f"location.hash = {json.dumps(address)}; 1")
    tab.until("!document.querySelector('tbody input').checked")
    assert tab.run(STATE) == pytest.approx(wanted, abs=1e-4)  # half a pixel of the screen
    tab.send("Page.reload")
    tab.until("document.documentElement?.dataset.ready === 'yes'")
    assert tab.run(STATE) == pytest.approx(wanted, abs=1e-4)  # half a pixel of the screen
    assert tab.complaints() == []


def test_an_address_of_nonsense_shows_the_whole_map(show: Open, tmp_path: Path) -> None:
    tab = show(write_map(tmp_path / "m.tif", blocks(), **UTM), write_scene(tmp_path / "s.tif", **UTM))
    state = STATE.replace("document.querySelector('#show input:checked').value, ", "").replace(
        "document.getElementById('outlines').checked, ", ""
    )
    before = tab.run(state)
    nonsense = [
        "at=1,2",
        "at=abc,1,3&off=x",
        "at=95,15,12&off=99",
        "swipe=-5&opacity=1e9&colors=pink&show=all",
        "%E0%A",
    ]
    for address in nonsense:
        tab.run(f"location.hash = '#{address}'; 1")
        tab.run("new Promise(done => setTimeout(done, 100))")
        assert tab.run(state) == pytest.approx(before), address
    assert tab.complaints() == []


def downloaded(tab: Tab, folder: Path) -> bytes:
    """Press the table's download button and return the file that the browser writes."""
    folder.mkdir()
    tab.browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    click(tab, "#csv")
    end = time.monotonic() + 20
    while not (found := [path for path in folder.iterdir() if path.suffix == ".csv"]):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found[0].read_bytes()


def test_the_table_of_classes_can_be_kept(show: Open, tmp_path: Path) -> None:
    codes = blocks()
    legend = tmp_path / "names.json"
    names = ["w\u00e4sser", '=HYPERLINK("x"), "quoted"', "urban_land"]
    rows = [{**row, "name": name} for row, name in zip(LEGEND, names, strict=True)]
    legend.write_text(json.dumps(rows), encoding="utf-8")
    tab = show(write_map(tmp_path / "m.tif", codes, **UTM), legend=legend)
    content = downloaded(tab, tmp_path / "downloads")
    assert content.startswith(b"\xef\xbb\xbf")  # otherwise spreadsheets assume the machine's code page
    found = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [int(row["code"]) for row in found] == [0, 1, 2]
    assert [row["name"] for row in found] == [names[0], f"'{names[1]}", names[2]]
    pixels = np.bincount(codes.ravel())
    assert [float(row["area_m2"]) for row in found] == pytest.approx((pixels * 100).tolist())
    assert [float(row["share_percent"]) for row in found] == pytest.approx((100 * pixels / codes.size).tolist())
    assert [row["color"] for row in found] == [f"#{bytes(COLOR_OF[code]).hex()}" for code in range(3)]
    assert tab.complaints() == []
    assert tab.requests() == []


def later_map(path: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """Write a map in which a part of class 0 has become class 2 and a corner is nodata."""
    codes = blocks()
    codes[:48][codes[:48] == 0] = 2
    codes[-16:, -16:] = 255
    return write_map(path, codes, **UTM), codes


def test_two_dates_part_at_the_swipe_line_and_tell_what_changed(show: Open, tmp_path: Path) -> None:
    first = blocks()
    path, second = later_map(tmp_path / "later.tif")
    tab = show(write_map(tmp_path / "first.tif", first, **UTM), write_scene(tmp_path / "s.tif", **UTM), later=path)
    assert tab.run("[...document.querySelectorAll('.side')].map(it => it.textContent)") == ["first", "later"]
    for percent, codes in ((100, first), (0, second)):
        tab.run(f"geosegPage.setSwipe({percent}); 1")
        for row, col in MIDDLES:
            code = int(codes[row, col])
            wanted = SCENE_COLOR if code == 255 else COLOR_OF[code]
            assert np.allclose(color_at(tab, UTM, row, col), wanted, atol=12 if code == 255 else 0)
    changed = next(spot for spot in MIDDLES if first[spot] == 0 and second[spot] == 2)
    tab.hover(on_screen(tab, UTM, *changed))
    assert tab.run("document.getElementById('under').textContent") == "water \u2192 urban_land"
    both = second != 255
    area_ha = {(a, b): float(((first == a) & (second == b) & both).sum()) / 100 for a in range(3) for b in range(3)}
    pair = tab.run("[...document.querySelectorAll('#pairs tr')].map(it => it.textContent)")
    assert pair == [f"water\u2192 urban_land{area_ha[0, 2]:.1f} ha"]
    rows = tab.run(
        "[...document.querySelectorAll('#classes tr:not(.bars)')].map(it => [...it.children].map(it => it.textContent))"
    )
    found = {name: cells for name, *cells in rows}
    for code, name in ((0, "water"), (1, NASTY), (2, "urban_land")):
        was, now = (sum(area_ha[pair] for pair in area_ha if pair[side] == code) for side in (0, 1))
        numbers = [float(cell.split(" ")[0].replace("\u2212", "-")) for cell in found[name]]
        assert numbers == pytest.approx([was, now, now - was], abs=0.06)
    assert tab.complaints() == []


def test_warnings_title_and_description_stand_on_the_page_as_text(show: Open, tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    with rasterio.open(path, "r+") as file:
        warning = f"The scene is mapped with pixels of 5 m, the model was trained on 0.5 m. {NASTY}"
        file.update_tags(GEOSEG_WARNINGS=json.dumps([warning]), GEOSEG_MODEL_NAME="x", GEOSEG_MODEL_ABOUT="a Unet")
    tab = show(path, title=f"Title {NASTY}", description=f"One {NASTY}\n\ntwo")
    told = tab.run(
        "['title', 'cautions', 'notes'].map(id => document.getElementById(id).innerText)"
        ".concat([[...document.querySelectorAll('#description p')].map(it => it.textContent)])"
    )
    assert told[0] == f"Title {NASTY}"
    assert told[1].splitlines()[-1] == warning
    assert "Model: x (a Unet)" in told[2]
    assert told[3] == [f"One {NASTY}", "two"]
    assert tab.run("document.getElementById('cautions').getAttribute('role')") == "note"
    plain = show(write_map(tmp_path / "n.tif", blocks(), **UTM))
    assert plain.run("document.getElementById('cautions').hidden") is True


def test_paper_says_where_north_is_the_date_and_the_source(show: Open, tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", blocks(), **UTM)
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_WARNINGS='["Expect little."]', GEOSEG_SCENE_PATH="scene_of_june.tif")
    tab = show(path, description="A description", polygons=polygons())
    assert tab.run("getComputedStyle(document.getElementById('printed')).display") == "none"
    tab.send("Emulation.setEmulatedMedia", media="print")
    seen = tab.run(
        "['.north', '.scale', '#title', '#description', '#cautions', '#notes', '#printed', '#legend']"
        ".map(it => document.querySelector(it)).map(it => [it.getBoundingClientRect().height, it.innerText])"
    )
    assert all(height > 0 for height, _ in seen)
    assert "Expect little." in seen[4][1]
    assert "Scene: scene_of_june.tif" in seen[5][1]
    assert str(time.localtime().tm_year) in seen[6][1]
    shown = tab.run(
        "[...document.querySelectorAll('button, select, input[type=range], #picker, #specks')]"
        ".filter(it => it.getBoundingClientRect().height > 0).length"
    )
    assert shown == 0
