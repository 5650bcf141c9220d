"""Every output shows a class by the legend's own name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas
import numpy as np
import pytest
import rasterio
from matplotlib.figure import Figure
from matplotlib.text import Text

import geoseg
from geoseg.evaluation import ConfusionMatrix, Evaluation, WorstCrops, to_markdown
from geoseg.evaluation.pictures import draw_matrix, sheets
from geoseg.html import swatches
from geoseg.legend import LandCover, Legend
from geoseg.raster import Patch, Window
from geoseg.raster.landcover import labels
from geoseg.raster.landcover.sidecars import sidecars
from geoseg.training.report import EpochRow, draw_curves
from geoseg.vector import vectorize
from tests.display.maps import UTM, write_map, write_scene
from tests.display.test_preview import data_of

NAMES = ("urban_land", "_private", "two__lines_", "Größe_$x_1$", "plain")
LEGEND = Legend(tuple(LandCover(code, name, (40 * code, 255 - 40 * code, 90)) for code, name in enumerate(NAMES)))
CODES = np.kron(np.arange(60).reshape(6, 10) % 5, np.ones((16, 16), int)).astype(np.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Return a list that collects the texts of every saved picture."""
    texts: list[Text] = []
    save = Figure.savefig

    def saving(figure: Figure, *given: Any, **knobs: Any) -> None:
        save(figure, *given, **knobs)
        texts.extend(figure.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", saving)
    return texts


@pytest.fixture
def landcover(tmp_path: Path) -> Path:
    path = write_map(tmp_path / "m.tif", CODES, legend=False, **UTM)
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_LEGEND=json.dumps([{"code": c.code, "name": c.name, "color": c.color} for c in LEGEND]))
    return path


def check(drawn: list[Text]) -> None:
    """Assert that each name is drawn literally, and not typeset as a formula."""
    for name in NAMES:
        found = [text for text in drawn if text.get_text() == name]
        assert found, name
        assert not any(text.get_parse_math() for text in found), name


def test_a_page_and_its_pictures(landcover: Path, tmp_path: Path, drawn: list[Text]) -> None:
    data = data_of(geoseg.preview(landcover, polygons=vectorize(landcover)))
    assert [land["name"] for land in data["classes"]] == list(NAMES)
    assert data["polygons"]["names"] == sorted(NAMES)
    geoseg.picture(landcover, write_scene(tmp_path / "s.tif", CODES.shape, **UTM), out=tmp_path / "p.png")
    check(drawn)
    drawn.clear()
    geoseg.picture(polygons=vectorize(landcover), out=tmp_path / "v.png")
    check(drawn)
    drawn.clear()
    other = {land_cover.code: f"x{land_cover.code}" for land_cover in LEGEND}
    geoseg.picture(polygons=vectorize(landcover, legend=other), legend=LEGEND, out=tmp_path / "w.png")
    check(drawn)


def test_a_report(tmp_path: Path, drawn: list[Text]) -> None:
    truth = np.roll(CODES, 5)
    matrix = ConfusionMatrix.from_arrays(truth, CODES, LEGEND)
    draw_matrix(matrix, tmp_path / "confusion.png")
    check(drawn)
    text = to_markdown(Evaluation.of("map", "truth", matrix))
    assert all(f"| {name} |" in text for name in NAMES)


def test_the_worst_crops(tmp_path: Path, drawn: list[Text]) -> None:
    class Chip:
        id = "chip"

        def read(self, window: Window) -> Patch:
            return Patch(np.zeros((3, *window.shape), np.uint8), np.ones(window.shape, np.bool_))

    worst = WorstCrops(LEGEND)
    worst.see(Chip(), Window(0, 0, *CODES.shape), CODES, np.roll(CODES, 40))
    drawing = sheets(worst)
    assert len(drawing) == len(NAMES)
    for number, draw in enumerate(drawing.values()):
        draw(tmp_path / f"{number}.png")
    check(drawn)
    assert {text.get_text() for text in drawn} >= {f"worst of {name}" for name in NAMES}


def test_the_curves_of_a_training(tmp_path: Path, drawn: list[Text]) -> None:
    rows = [EpochRow(n, n, 0.5, 0.5, 0.5, {name: 0.1 * k for k, name in enumerate(NAMES)}, 0.1) for n in range(3)]
    draw_curves(rows, tmp_path / "curves.png", LEGEND)
    check(drawn)


def test_what_other_programs_show(landcover: Path, tmp_path: Path) -> None:
    style = next(content for path, content in sidecars(tmp_path / "x.tif", labels(LEGEND)) if path.suffix == ".qml")
    assert style is not None
    assert [entry.get("label") for entry in ET.fromstring(style).iterfind(".//paletteEntry")] == list(NAMES)  # noqa: S314 - made here
    vectorize(landcover, tmp_path / "v.gpkg")
    assert set(geopandas.read_file(tmp_path / "v.gpkg", layer=0)["name"]) == set(NAMES)
    assert all(f">{name}<" in swatches((known.name, known.color) for known in LEGEND) for name in NAMES)
