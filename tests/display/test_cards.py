"""The notebook displays of a scene, a map and a model."""

from __future__ import annotations

import base64
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile

import geoseg
from geoseg.errors import UnlikeTrainingWarning
from geoseg.legend import DEEPGLOBE
from geoseg.model import ModelBundle
from geoseg.raster import Scene
from tests.display.maps import COLOR_OF, SCENE_COLOR, UTM, blocks, write_map, write_scene


def colors_of(card: str) -> set[tuple[int, ...]]:
    content = base64.b64decode(re.findall(r'src="data:image/png;base64,([^"]+)"', card)[0])
    with MemoryFile(content) as file, file.open() as picture:
        return {tuple(color) for color in picture.read()[:3].reshape(3, -1).T.tolist()}


def test_a_map_has_its_colours_and_a_scene_its_own(tmp_path: Path) -> None:
    codes = blocks()
    names = write_map(tmp_path / "<m>.tif", codes, photometric="palette", **UTM)
    card = Scene.open(names)._repr_html_()
    assert colors_of(card) == set(COLOR_OF.values())
    assert "&lt;m&gt;.tif" in card
    assert "<m>" not in card
    assert "EPSG:32633" in card
    scene = Scene.open(write_scene(tmp_path / "s.tif", **UTM))._repr_html_()
    assert any(np.allclose(color, SCENE_COLOR, atol=6) for color in colors_of(scene))


def test_a_scene_that_has_gone_is_a_table_all_the_same(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", **UTM)
    scene = Scene.open(path)
    path.unlink()
    assert "<img" not in scene._repr_html_()
    assert "96 rows, 128 columns" in scene._repr_html_()


def test_a_model_shows_its_classes_as_text() -> None:
    card = replace(ModelBundle.open(), name="<script>alert(1)</script>")._repr_html_()
    assert "<script" not in card
    assert all(name in card for name in DEEPGLOBE.names[:5])


def test_a_map_names_its_classes_as_text_and_says_that_it_is_one(tmp_path: Path) -> None:
    codes = np.minimum(blocks(), 1)
    path = write_map(tmp_path / "m.tif", codes, photometric="palette", **UTM)
    card = Scene.open(path)._repr_html_()
    assert ">map</th>" in card
    assert ">scene</th>" not in card
    assert "water" in card
    assert "&lt;/script&gt;" in card
    assert "<script" not in card
    assert "urban_land" not in card  # which is in the legend, and nowhere in the map


def test_a_model_and_a_plan_are_short_in_a_shell(tmp_path: Path) -> None:
    """The repr leaves out the demo model's provenance, which alone has a hundred thousand characters."""
    model = ModelBundle.open()
    assert len(repr(model)) < 3000
    scene = write_scene(tmp_path / "s.tif", crs="EPSG:32633", transform=Affine(1, 0, 5e5, 0, -1, 5.2e6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTrainingWarning)  # one color
        assert len(repr(geoseg.plan(scene, model=model, device="onnx"))) < 300
