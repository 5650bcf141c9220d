from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import Resampling

import geoseg
from geoseg.display.overview_source import plain_codes
from geoseg.errors import SceneError, UsageError
from geoseg.legend import (
    DEEPGLOBE,
    LandCover,
    Legend,
    NamedClass,
    Nomenclature,
    choose_classes,
    distinct_color,
    given_legend,
    given_names,
    read_legend_file,
)
from geoseg.raster import (
    ClassRaster,
    Reading,
    Scene,
    Window,
    class_shares,
    is_classes,
    mosaic,
    palette_reading,
    read_nomenclature,
    with_own_codes,
)
from geoseg.raster.classes.color_codes import CLEAR, key
from tests.raster.conftest import NORTH_UP, MakeRaster, noise

WORLDCOVER = {10: (0, 100, 0), 20: (255, 187, 34), 80: (0, 100, 200)}
"""Colors of ESA's map; its nodata value is 0 and its color table has no names."""
TREES = NamedClass(10, "Trees", (0, 100, 0))
CROPS = NamedClass(300, "Crops, mixed", (200, 100, 0))


def pixels(*codes: int, dtype: str = "uint8") -> np.ndarray:
    """Return (1, 4, 4) pixels that repeat the codes."""
    return np.resize(np.array(codes, dtype), (1, 4, 4))


def nomenclature(path: Path) -> Nomenclature:
    return read_nomenclature(Scene.open(path))


def rat(usages: tuple[int, ...] = (5, 2, 6, 7, 8), scale: float = 1, attributes: str = "") -> str:
    """Return a PAM file with an attribute table of TREES, CROPS and a nameless row."""
    titles = zip(("Value", "Kind", "Red", "Green", "Blue"), (0, 2, 1, 1, 1), usages, strict=True)
    fields = [
        f'<FieldDefn index="{n}"><Name>{title}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for n, (title, kind, usage) in enumerate(titles)
    ]
    rows = [(c.code, c.name, *(level * scale for level in c.color)) for c in (TREES, CROPS)] + [(7, "", 0, 0, 0)]
    cells = ["".join(f"<F>{cell}</F>" for cell in row) for row in rows]
    body = "".join(fields) + "".join(f'<Row index="{n}">{row}</Row>' for n, row in enumerate(cells))
    return pam(f"<GDALRasterAttributeTable {attributes}>{body}</GDALRasterAttributeTable>")


def pam(band: str) -> str:
    return f'<PAMDataset><PAMRasterBand band="1">{band}</PAMRasterBand></PAMDataset>'


def beside(path: Path, text: str) -> None:
    path.with_name(f"{path.name}.aux.xml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("usages", "scale"), [((5, 2, 6, 7, 8), 1), ((5, 2, 0, 0, 0), 1 / 255), ((0, 0, 0, 0, 0), 1), ((3, 2, 6, 7, 8), 1)]
)
def test_an_attribute_table_beside_a_map_names_any_code(
    make_raster: MakeRaster, usages: tuple[int, ...], scale: float
) -> None:
    path = make_raster(pixels(10, 300, dtype="int32"))
    beside(path, rat(usages, scale))
    assert nomenclature(path).classes == (TREES, CROPS)


def test_an_attribute_table_without_values_counts_its_rows(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(5, 7))
    table = rat().replace(
        "<Name>Value</Name><Type>0</Type><Usage>5</Usage>", "<Name>Histogram</Name><Type>0</Type><Usage>1</Usage>"
    )
    beside(path, table.replace("<GDALRasterAttributeTable >", '<GDALRasterAttributeTable Row0Min="5" BinSize="2">'))
    assert [(c.code, c.name) for c in nomenclature(path)] == [(5, "Trees"), (7, "Crops, mixed")]


def test_an_erdas_image_keeps_its_table_inside(make_raster: MakeRaster, tmp_path: Path) -> None:
    path = make_raster(pixels(10, 300, dtype="uint16"))
    beside(path, rat())
    image = tmp_path / "thematic.img"
    rasterio.shutil.copy(path, image, driver="HFA")
    image.with_name("thematic.img.aux.xml").unlink(missing_ok=True)
    assert nomenclature(image).classes == (TREES, CROPS)


def test_the_flags_of_a_netcdf_name_its_classes(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(10, 140))
    said = {"flag_values": "{10,-116}", "flag_meanings": "tree_cover bare_areas", "flag_colors": "#006400 #fff5d7"}
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, **said)
    known = nomenclature(path)
    assert [(each.code, each.name, each.color) for each in known.classes] == [
        (10, "tree_cover", (0, 100, 0)),
        (140, "bare_areas", (255, 245, 215)),
    ]
    assert is_classes(Scene.open(path))
    for others in ({"flag_masks": "{10,-116}"}, {"flag_meanings": "tree_cover"}):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(1, **others)
        assert not nomenclature(path).classes


def test_the_table_of_corine_names_its_classes(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(10, 300, dtype="uint16"))
    rows = pd.DataFrame({"Value": [10, 300], "CODE_18": ["311", "243"], "LABEL3": ["Trees", "Crops, mixed"]})
    pyogrio.write_dataframe(rows, path.with_name("scene.tif.vat.dbf"), driver="ESRI Shapefile")
    assert [each.name for each in nomenclature(path).classes] == ["Trees", "Crops, mixed"]


@pytest.mark.parametrize("name", ["scene.tif.vat.dbf", "scene.vat.dbf"])
def test_an_esri_table_stands_beside_its_map(make_raster: MakeRaster, name: str) -> None:
    path = make_raster(pixels(10, 300, dtype="uint16"))
    rows = pd.DataFrame(
        {
            "VALUE": [10, 300],
            "COUNT": [8.0, 8.0],
            "CLASS_NAME": ["Trees", "Crops, mixed"],
            "RED": [0, 200 / 255],
            "GREEN": [100 / 255] * 2,
            "BLUE": [0.0, 0.0],
        }
    )
    pyogrio.write_dataframe(rows, path.with_name(name), driver="ESRI Shapefile")
    assert nomenclature(path).classes == (TREES, CROPS)
    assert is_classes(Scene.open(path))


def test_a_broken_esri_table_is_said(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(1))
    path.with_name("scene.tif.vat.dbf").write_bytes(b"no table")
    with pytest.raises(SceneError, match=r"scene\.tif\.vat\.dbf"):
        nomenclature(path)


def test_names_and_colors_are_those_of_the_band_in_use(make_raster: MakeRaster) -> None:
    path = make_raster(np.concatenate([pixels(1, 2), pixels(3, 4)]), photometric="minisblack")
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset>"
        + "".join(
            f'<PAMRasterBand band="{band}"><ColorInterp>Palette</ColorInterp><CategoryNames><Category/>'
            f"{''.join(f'<Category>{name}</Category>' for name in names)}</CategoryNames></PAMRasterBand>"
            for band, names in ((1, "ab"), (2, "--cd"))
        )
        + "</PAMDataset>"
    )
    scene = Scene.open(path, bands=[2])
    assert is_classes(scene)
    assert not is_classes(Scene.open(path))
    for part in (scene, scene.crop(scene.geobox.bounds)):
        assert {named.code: named.name for named in read_nomenclature(part)} == {1: "-", 2: "-", 3: "c", 4: "d"}
    assert [named.name for named in read_nomenclature(Scene.open(path, bands=[1]))] == ["a", "b"]


@pytest.mark.parametrize("shape", [(513, 700), (90, 77), (7, 300)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("method", ["nearest", "mode", "average", "cubic", "stale"])
def test_decimated_reads_of_a_map_give_codes_of_its_pixels(
    make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], dtype: str, method: str
) -> None:
    monkeypatch.setenv("TIFF_USE_OVR", "YES" if method == "stale" else "NO")
    codes = np.kron(noise(150, 150) % 3 * 7, np.ones((5, 5)))[None, : shape[0], : shape[1]].astype(dtype)
    path = make_raster(codes, tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling["nearest" if method == "stale" else method])
    if method == "stale":
        sidecar = Path(f"{path}.ovr").read_bytes()
        path = make_raster(codes + 1, tiled=True, blockxsize=128, blockysize=128)
        Path(f"{path}.ovr").write_bytes(sidecar)
    scene = Scene.open(path)
    assert (with_own_codes(scene) is scene) == (method in {"nearest", "mode"})
    shown = with_own_codes(scene).overview(max(shape) // 2).data
    assert set(np.unique(shown)) <= set(np.unique(codes + (method == "stale")))
    with plain_codes(ClassRaster.open(path)) as plain:
        assert set(np.unique(plain.overview(max(shape) // 4).data)) <= set(np.unique(shown))
    assert set(class_shares(scene, max(shape) // 2)) == set(np.unique(shown))


@pytest.mark.parametrize(
    "view", ["crop", "mosaic", "crop of a mosaic", "mosaic of crops", "mosaic that overlaps", "VRT"]
)
@pytest.mark.parametrize("method", ["nearest", "average"])
def test_views_of_maps_give_codes_of_their_pixels_too(make_raster: MakeRaster, view: str, method: str) -> None:
    codes = np.kron(noise(150, 150) % 3 * 7, np.ones((5, 5)))[None].astype(np.uint8)
    shift, legend = 300 if "overlaps" in view else 750, given_legend({0: "water", 7: "trees", 14: "roofs"})
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "nodata": 0}
    path = make_raster(codes, **tiles)
    other = make_raster(codes, "other.tif", **tiles, transform=NORTH_UP @ Affine.translation(shift, 0))
    for file in (path, other):
        with rasterio.open(file, "r+") as dataset:
            dataset.update_tags(GEOSEG_LEGEND=json.dumps(legend.to_json()))
            dataset.build_overviews([2, 4], Resampling[method])
    if view == "VRT":
        rasterio.shutil.copy(path, path.with_suffix(".vrt"), driver="VRT")
        path = path.with_suffix(".vrt")
    maps = [Scene.open(file) for file in (path, other)]
    if view in {"crop", "mosaic of crops"}:
        maps = [scene.cut(Window(0, 0, 700, 750)) for scene in maps]
    scene = maps[0] if view in {"crop", "VRT"} else mosaic(maps)
    scene = scene.cut(Window(0, 0, 700, 750)) if view == "crop of a mosaic" else scene
    own = with_own_codes(scene)
    assert (own is scene) == (method == "nearest")
    np.testing.assert_array_equal(own.read(Window(0, 0, 700, 740)).data, scene.read(Window(0, 0, 700, 740)).data)
    assert set(class_shares(scene, 200)) <= {0, 7, 14}


@pytest.mark.parametrize("fault", ["missing", "level"])
def test_views_whose_files_cannot_be_compared_are_read_as_they_are(make_raster: MakeRaster, fault: str) -> None:
    """One source is gone, but lies outside of the raster; or the VRT reads an overview of its source."""
    codes = np.kron(noise(150, 150) % 3 * 7, np.ones((5, 5)))[None].astype(np.uint8)
    path = make_raster(codes, tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    vrt = path.with_suffix(".vrt")
    rasterio.shutil.copy(path, vrt, driver="VRT")
    text = vrt.read_text()
    if fault == "missing":
        start, end = text.index("<SimpleSource>"), text.index("</SimpleSource>") + len("</SimpleSource>")
        outside = re.sub(
            r'<DstRect xOff="0"', '<DstRect xOff="90000"', text[start:end].replace("scene.tif", "gone.tif")
        )
        text = text[:end] + outside + text[end:]
    else:
        with rasterio.open(path, overview_level=0) as overview:
            rasterio.shutil.copy(overview, vrt, driver="VRT")
        text = vrt.read_text()
        assert "OVERVIEW_LEVEL" in text
    vrt.write_text(text)
    assert set(class_shares(Scene.open(vrt), 200))


def test_a_colour_table_colours_but_names_nothing(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(0, 10, 20, 80), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, WORLDCOVER)
    known = nomenclature(path)
    assert len(known) == 0
    assert known.completed([80, 10]).classes == (
        NamedClass(10, "class 10", WORLDCOVER[10]),
        NamedClass(80, "class 80", WORLDCOVER[80]),
    )


def test_category_names_go_without_nodata(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(0, 1, 2), nodata=0)
    beside(
        path,
        pam("<CategoryNames><Category>none</Category><Category/><Category>water</Category></CategoryNames>"),
    )
    scene = Scene.open(path)
    assert [(c.code, c.name) for c in read_nomenclature(scene)] == [(2, "water")]
    assert is_classes(scene)


def test_our_own_tag_comes_first(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(0, 6))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(GEOSEG_LEGEND=json.dumps(DEEPGLOBE.to_json()))
    beside(path, rat())
    assert nomenclature(path) == Nomenclature.from_legend(DEEPGLOBE)


def test_a_map_that_says_nothing_has_numbers_and_colours(make_raster: MakeRaster) -> None:
    known = nomenclature(make_raster(pixels(-3, 100000, dtype="int32")))
    assert known.of(-3).name == "class -3"
    colors = {distinct_color(code) for code in range(-5, 250)}
    assert len(colors) == 255


def test_names_may_repeat_but_codes_may_not() -> None:
    twice = (NamedClass(1, "forest", (0, 0, 0)), NamedClass(2, "forest", (0, 0, 0)))
    assert choose_classes(Nomenclature(twice), "forest") == {1, 2}
    with pytest.raises(UsageError, match="code 1 occurs twice"):
        Nomenclature((twice[0], twice[0]))


KNOWN = Nomenclature((TREES, NamedClass(11, "water", (0, 0, 255)), NamedClass(12, "Water", (0, 0, 200)), CROPS))


@pytest.mark.parametrize(
    ("wanted", "codes"),
    [
        ("Trees,water", {10, 11}),
        ("trees, Water", {10, 12}),
        (["WATER"], {11, 12}),
        ("Crops, mixed", {300}),
        ("Trees,Crops, mixed,11", {10, 11, 300}),
        (["Crops, mixed", 10], {10, 300}),
        ("10,300,", {10, 300}),
        ("class 77", {77}),
    ],
)
def test_classes_are_chosen_by_name_or_code(wanted: str | list[str | int], codes: set[int]) -> None:
    assert choose_classes(KNOWN, wanted) == codes


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("tree", "no class is called 'tree'; did you mean 'Trees'; the map has Trees \\(10\\), water \\(11\\)"),
        ("77", "no class is called '77'; the map has Trees"),
        ("Trees,mixed", "'mixed'"),
        ("", "names no class"),
        ([], "names no class"),
    ],
)
def test_unknown_classes_are_refused_with_those_known(wanted: str | list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        choose_classes(KNOWN, wanted)
    assert "\n" not in str(caught.value)


def test_a_number_is_a_code_even_where_a_class_is_named_so() -> None:
    names = Nomenclature.from_names({0: "1", 1: "2", 3: "x"}, {})
    assert choose_classes(names, [1]) == {1}
    assert choose_classes(names, "1") == choose_classes(names, ["1"]) == {0}
    with pytest.raises(UsageError, match="no class has code 2; the map has 1"):
        choose_classes(names, [2])


def test_without_names_any_code_will_do_but_no_name() -> None:
    assert choose_classes(Nomenclature(), ["10", 20]) == {10, 20}
    with pytest.raises(UsageError, match="give codes such as 10,20"):
        choose_classes(Nomenclature(), "water")


FILES = {
    "list.json": '[{"code": 300, "name": "Crops, mixed", "color": [200, 100, 0]},'
    '{"code": 10, "name": "Trees", "color": "#006400"}]',
    "map.json": '{"10": {"name": "Trees", "color": [0, 100, 0]}, "300": {"name": "Crops, mixed", "color": "c86400"}}',
    "stac.json": '{"classification:classes": [{"value": 10, "description": "Trees", "color_hint": "006400"},'
    '{"value": 300, "description": "Crops, mixed", "color_hint": "C86400"}]}',
    "coco.json": '{"categories": [{"id": 300, "name": "Crops, mixed", "color": [200, 100, 0]},'
    '{"id": 10, "name": "Trees", "color": [0, 100, 0]}]}',
    "huggingface.json": '{"id2label": {"10": {"name": "Trees", "color": [0, 100, 0, 255]}, '
    '"300": {"name": "Crops, mixed", "color": [200, 100, 0, 255]}}, "label2id": {}}',
    "corine.csv": "GRIDCODE,CLC_CODE,LABEL1,LABEL3,RGB\n10,311,Forest,Trees,000-100-000\n"
    '300,24,Fields,"Crops, mixed",200-100-000\n',
    "grid_code.csv": 'Grid Code,CLC_CODE,LABEL3,RGB\n10,311,Trees,000-100-000\n300,211,"Crops, mixed",200-100-000\n',
    "dn.csv": 'DN,class,color\n10,Trees,#006400\n300,"Crops,\nmixed",#C86400\n',
    "hex.csv": 'Code,Name,Color\n10,Trees,#006400\n\n300,"Crops, mixed",#C86400\n',
    "levels.csv": "\ufeffname;value;red;green;blue\r\nTrees;10;0;100;0\r\nCrops, mixed;300;200;100;0\r\n",
    "tabs.csv": "class\tcode\tr\tg\tb\nTrees\t10\t0\t100\t0\nCrops, mixed\t300\t200\t100\t0",
    "qgis.qml": "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    "<qgis><pipe><rasterrenderer type='paletted'><colorPalette>"
    "<paletteEntry value='10' color='#006400' alpha='255' label='Trees'/>"
    "<paletteEntry value='300' color='#c86400' label='Crops, mixed'/></colorPalette></rasterrenderer></pipe></qgis>",
    "exact.qml": "<qgis><pipe><rasterrenderer type='singlebandpseudocolor'><rastershader>"
    "<colorrampshader colorRampType='EXACT' clip='0'><item value='10' color='#006400' alpha='255' label='Trees'/>"
    "<item value='300' color='#c86400' label='Crops, mixed'/></colorrampshader></rastershader></rasterrenderer></pipe>"
    "</qgis>",
    "geoserver.sld": '<StyledLayerDescriptor xmlns="http://www.opengis.net/sld" xmlns:sld="http://www.opengis.net/sld">'
    '<RasterSymbolizer><sld:ColorMap type="values"><sld:ColorMapEntry color="#006400" quantity="10.0" label="Trees"/>'
    '<sld:ColorMapEntry color="#C86400" quantity="300" label="Crops, mixed" opacity="1"/></sld:ColorMap>'
    "</RasterSymbolizer></StyledLayerDescriptor>",
    "qgis.txt": "# QGIS Generated Color Map Export File\nINTERPOLATION:EXACT\n10,0,100,0,255,Trees\n"
    "300,200,100,0,255,Crops, mixed\n",
    "gdal.clr": "# comment\nnv 0 0 0 0\n10 0 100 0 Trees\n300\t200 100 0  255 Crops, mixed\n",
}


@pytest.mark.parametrize("name", FILES)
def test_legend_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8", newline="")
    assert read_legend_file(path).classes == (TREES, CROPS)


def test_codes_by_name_are_a_legend_too(tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_text('{"Trees": 10, "Crops, mixed": 300}', encoding="utf-8")
    assert [(each.code, each.name) for each in read_legend_file(path)] == [(10, "Trees"), (300, "Crops, mixed")]
    path.write_text('{"10": 20}', encoding="utf-8")
    with pytest.raises(UsageError, match="class 1 should be like"):
        read_legend_file(path)


@pytest.mark.parametrize(
    ("name", "text", "codes"),
    [
        (
            "model.emd",
            '{"Classes": [{"Value": 1, "Name": "Wet", "Color": [0, 0, 9]}, {"Value": 5, "Name": "Dry"}]}',
            (1, 5),
        ),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nWet:0,0,9::\nDry:0,9,0:a,b:\n", (0, 1)),
        ("meta.json", '{"classes": [{"title": "Wet", "color": "#000009", "shape": "any"}, {"title": "Dry"}]}', (0, 1)),
        ("b.json", '[{"title": "Wet", "color": "#000009", "hotkey": "2"}, {"title": "Dry", "hotkey": "1"}]', (0, 1)),
    ],
)
def test_classes_as_tools_for_labels_write_them(tmp_path: Path, name: str, text: str, codes: tuple[int, int]) -> None:
    """ArcGIS Pro, CVAT and Supervisely."""
    (tmp_path / name).write_text(text)
    wet, dry = read_legend_file(tmp_path / name)
    assert (wet.code, wet.name, wet.color, dry.code, dry.name) == (codes[0], "Wet", (0, 0, 9), codes[1], "Dry")


def test_entries_of_a_geoserver_style_that_are_not_seen_are_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "style.sld"
    clear, green = (
        f'<ColorMapEntry color="#006400" quantity="{code}" opacity="{opacity}"/>'
        for code, opacity in (("0.0", "0.0"), ("7.0", "0.5"))
    )
    path.write_text(f'<sld><ColorMap type="values">{clear}{green}</ColorMap></sld>')
    assert [(each.code, each.name) for each in read_legend_file(path)] == [(7, "class 7")]


@pytest.mark.parametrize(
    "text",
    [
        "name,r,g,b,alpha\nwater,0,0,255,255\nland,0,255,0,128\n",
        "name,color,pixels\nwater,#0000ff,12\nland,#00ff00,15\n",
        "name,color,size\nwater,#0000ff,1200\nland,#00ff00,15\n",
        "name,level\nwater,3\n",
    ],
)
def test_columns_of_numbers_that_are_no_codes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "legend.csv"
    path.write_text(text)
    names = ("water", "land")[: len(text.splitlines()) - 1]
    assert [(each.code, each.name) for each in read_legend_file(path)] == [*enumerate(names)]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_folder_is_no_legend(path: str) -> None:
    with pytest.raises(UsageError, match=r"a legend file must end in"):
        read_legend_file(path)


def test_a_list_of_names_counts_from_zero(tmp_path: Path) -> None:
    # DeepGlobe's own class_dict.csv.
    path = tmp_path / "class_dict.csv"
    path.write_text(
        "name,r,g,b\n" + "".join(f"{c.name},{','.join(map(str, c.color))}\n" for c in DEEPGLOBE), encoding="utf-8"
    )
    assert read_legend_file(path) == Nomenclature(Nomenclature.from_legend(DEEPGLOBE).classes)


@pytest.mark.parametrize("name", ["names.txt", "names.json"])
@pytest.mark.parametrize("line", ["{code} {name}", "{code}: {name}", "{code},{name}", "{code}\t{name}", "{name}"])
@pytest.mark.parametrize("first", [0, 1])
def test_names_without_colors_have_the_codes_they_are_written_with(
    tmp_path: Path, name: str, line: str, first: int
) -> None:
    """Codes may start from 0 or 1; names alone get 0, 1, 2 and so on."""
    names = dict(enumerate(["water", "Developed, open space", "2-lane road", "Größe"], start=first))
    path, alone = tmp_path / name, line == "{name}"
    lines = [line.format(code=code, name=named) for code, named in names.items()]
    in_json = json.dumps(list(names.values()) if alone else {str(code): named for code, named in names.items()})
    path.write_text(in_json if name.endswith("json") else "\n".join(["# classes", "", *lines]), encoding="utf-8")
    found = {each.code: each.name for each in read_legend_file(path)}
    assert found == (dict(enumerate(names.values())) if alone else names)


def test_a_file_of_our_own_legend_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "legend.JSON"
    path.write_text(json.dumps(DEEPGLOBE.to_json()), encoding="utf-8")
    assert read_legend_file(path).classes == Nomenclature.from_legend(DEEPGLOBE).classes


def test_classes_without_colours_get_some(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('{"0": "water", "1": "land"}', encoding="utf-8")
    assert [c.color for c in read_legend_file(path)] == [distinct_color(0), distinct_color(1)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[\n{]", "line 2 is not valid JSON"),
        ("a.json", "[" * 100000, "not valid JSON"),
        ("a.json", "3", "list of classes, got int"),
        ("a.json", "[]", "it holds no classes"),
        ("a.json", '[{"code": 1, "name": "a"}, {"code": 1, "name": "b"}]', "code 1 occurs twice"),
        ("a.json", '[{"code": 1.5, "name": "a"}]', "class 1: the code should be a whole number, got '1.5'"),
        ("a.json", '[{"code": 1, "name": "a", "color": [1, 2]}]', "class 1: a color should be"),
        ("a.json", '[{"code": 1, "name": "a", "color": ["x", 1, 2, 3, 4]}]', "class 1: a color should be"),
        ("a.json", '[{"code": 1, "name": "a", "color": [1, 2, 3, "x"]}]', "class 1: a color should be"),
        ("a.json", '[{"code": 1}]', "class 1 should be like"),
        ("a.json", '[{"code": 9999999999, "name": "a"}]', "32 bits"),
        ("a.csv", "", "line 1 should be a heading"),
        ("a.csv", "10,Trees\n", "line 1 should be a heading"),
        ("a.csv", "code,name\n1,water\nx,land\n", "line 3: the code should be a whole number, got 'x'"),
        ("a.csv", "code,name\n1,\n", "line 2: class name must be text"),
        ("a.csv", "code,name,color\n1,water,blue\n", "line 2: a color should be #rrggbb"),
        ("a.csv", "code,name,red,green,blue\n1,water,0,0,256\n", "line 2: class color must be three levels"),
        ("a.csv", 'code,name\n1,"water\n', "is not CSV"),
        ("a.csv", "class,label\n10,water\n20,land\n", "no column called code, but 'class' may hold the codes"),
        ("a.csv", "label,clc\nurban,111\nfields,211\n", "no column called code, but 'clc' may hold the codes"),
        ("a.csv", "Idx,Ratio,Name\n1,0.2,water\n2,0.2,land\n", "no column called code, but 'idx' may hold the codes"),
        *(
            (
                "a.json",
                json.dumps([{"name": "a", key: 20}, {"name": "b", key: 10}]),
                f"key called code, but '{key}' may",
            )
            for key in ("classid", "index", "label_id", "trainid", "class")
        ),
        ("a.qml", "<qgis>\n<pipe>", "line 2 is not XML"),
        ("a.qml", "<qgis/>", "no palette"),
        ("a.sld", "<sld/>", "it has no ColorMap; a class is a ColorMapEntry"),
        ("a.sld", "<sld><ColorMap/></sld>", 'its ColorMap is "ramp", so its colors are those of ranges; if each'),
        ("a.sld", '<sld><ColorMap type="intervals"/></sld>', 'its ColorMap is "intervals", so its colors are'),
        ("a.sld", '<sld><ColorMap type="values"/></sld>', "it holds no classes"),
        ("a.clr", "1 2 3\n", "line 1 should be: code red"),
        ("a.clr", "\n1 a b c water\n", "line 2: a color"),
        ("a.txt", "1 2 3\n", "line 1 should be: name, code name, or code red"),
        ("a.txt", "1 2 3 4\n2 land\n", "line 2 should be: code red"),
        ("a.txt", "1 water\nland\n", "line 2 should be: name, code name"),
        ("a.txt", "1 water\n1 land\n", "code 1 occurs twice"),
        ("a.tif", "", "a legend file must end in .json, .csv"),
        ("a.csv", "code,name\n1,\udcff\n", "not UTF-8"),
    ],
)
def test_broken_legend_files_are_refused_in_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as caught:
        read_legend_file(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "color", ["#c86400", "c86400", "#C86400FF", "200,100,0", "200, 100, 0", "200 100 0", "(200, 100, 0)"]
)
@pytest.mark.parametrize("form", ["{}", "rgb({})", "rgba({},255)", "[{}]"])
def test_a_color_may_be_written_in_any_usual_way(tmp_path: Path, color: str, form: str) -> None:
    if form != "{}" and not color[-1].isdigit():
        form = "{}"
    if form != "{}" and "6" in color:
        form = "{}"
    written = form.format(color)
    (tmp_path / "a.csv").write_text(f'code,name,color\n300,"Crops, mixed","{written}"\n')
    (tmp_path / "b.csv").write_text(f'code;name;color\n300;Crops, mixed;"{written}"\n')
    (tmp_path / "a.json").write_text(json.dumps([{"code": 300, "name": "Crops, mixed", "color": written}]))
    for name in ("a.csv", "b.csv", "a.json"):
        assert read_legend_file(tmp_path / name).classes == (CROPS,), (name, written)


@pytest.mark.parametrize("color", ["255,0", "255,0,0,0,0", "rgb(300,0,0)", "1,2,x", "#12345", "0.1,0.2,0.3"])
def test_colors_that_cannot_be_are_refused_with_what_is_wanted(tmp_path: Path, color: str) -> None:
    (tmp_path / "a.csv").write_text(f'code,name,color\n1,water,"{color}"\n')
    with pytest.raises(UsageError, match=r"line 2: (a color should be #rrggbb, or .*255,0,0|class color must be)"):
        read_legend_file(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "names",
    [
        {1: "Trees", np.int64(2): "Crops"},
        {1: {"name": "Trees", "color": (0, 0, 255)}, 2: {"name": "Crops", "color": "#ff0000"}},
        {"classes": [{"code": 2, "name": "Crops"}, {"code": 1, "name": "Trees"}]},
    ],
)
def test_names_by_code_are_what_they_are_in_a_file(tmp_path: Path, names: dict[Any, Any]) -> None:
    path = tmp_path / "legend.json"
    path.write_text(json.dumps({str(key): value for key, value in names.items()}))
    assert given_names(names) == read_legend_file(path)
    assert given_legend(names) == given_legend(path)


@pytest.mark.parametrize(
    ("names", "said"),
    [({}, "holds no class"), ({"a": "b"}, "whole number, got 'a'"), ({1: 2}, "class 1 should be like"), (5, "a path")],
)
def test_names_that_are_no_legend_are_one_line(make_raster: MakeRaster, names: object, said: str) -> None:
    for verb in (geoseg.vectorize, geoseg.preview, geoseg.evaluate):
        with pytest.raises(UsageError, match=f"^`legend`.*{said}") as caught:
            verb(make_raster(pixels(1, 2)), legend=names, **({"reference": "b.tif"} if verb is geoseg.evaluate else {}))
        assert (caught.value.parameter, len(str(caught.value).splitlines())) == ("legend", 1)


def test_a_missing_legend_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_legend_file(tmp_path / "none.csv")


def test_a_file_that_is_open_is_described_once(make_raster: MakeRaster, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_raster(pixels(10, 20))
    beside(path, pam("<CategoryNames>" + "<Category></Category>" * 10 + "<Category>Trees</Category></CategoryNames>"))
    copies = []
    really = rasterio.shutil.copy
    monkeypatch.setattr(rasterio.shutil, "copy", lambda *args, **knobs: copies.append(args) or really(*args, **knobs))
    scene = Scene.open(path)
    assert is_classes(scene)
    assert [named.name for named in nomenclature(path)] == ["Trees"]
    assert len(copies) == 1
    rewritten = make_raster(pixels(10, 20, 20))
    assert rewritten == path
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)
    assert list(nomenclature(path)) == []


_FOUR = Legend(
    tuple(
        LandCover(code, name, color)
        for code, (name, color) in enumerate(
            {"crops": (255, 255, 0), "forest": (0, 255, 0), "water": (0, 0, 255), "unknown": (0, 0, 0)}.items()
        )
    )
)
_Y, _G, _B, _K = (key(land_cover.color) for land_cover in _FOUR)
_GRAY, _BROWN = key((90, 90, 90)), key((90, 40, 0))


@pytest.mark.parametrize(
    ("palette", "used", "expected"),
    [
        # unused entries do not matter
        ({0: _G, 1: _B, 5: _GRAY}, {0: 50, 1: 50}, Reading.COLORS),
        ({0: _GRAY, 1: _BROWN, 5: _G, 6: _B}, {0: 50, 1: 50}, Reading.CODES),
        # a single color may be the only one in use
        ({1: _B}, {1: 100}, Reading.COLORS),
        # but is chance if others are not the legend's
        ({0: _K, 1: _GRAY, 2: _BROWN}, {0: 90, 1: 5, 2: 5}, Reading.CODES),
        # two in the minority are chance too, unless the indexes are not codes
        ({0: _G, 1: _Y, 2: _GRAY, 3: _BROWN}, {0: 20, 1: 20, 2: 30, 3: 30}, Reading.CODES),
        ({0: _G, 1: _Y, 2: _GRAY, 9: _BROWN}, {0: 20, 1: 20, 2: 30, 9: 30}, Reading.COLORS),
        # a smoothed picture of few colors is not a raster of codes
        ({0: _G, 1: _Y, 2: _GRAY}, {0: 40, 1: 40, 2: 20}, Reading.COLORS),
        # a few strays are tolerated
        ({0: _G, 1: _Y, 2: _GRAY}, {0: 5000, 1: 4999, 2: 1}, Reading.COLORS),
        # indexes and colors agree, as in geoseg's own maps
        ({0: _Y, 1: _G, 2: _B, 3: _K, 4: _K}, {0: 10, 1: 10, 3: 10}, Reading.EITHER),
        ({0: _Y, 1: _G, 2: CLEAR}, {0: 10, 1: 10, 2: 10}, Reading.COLORS),
        ({0: _Y, 1: _G, 2: _GRAY}, {0: 80, 1: 10, 2: 10}, Reading.CODES),
        # 255 means no label
        ({0: _K, 1: _GRAY, 255: _BROWN}, {0: 50, 1: 20, 255: 30}, Reading.CODES),
        ({0: CLEAR}, {0: 10}, Reading.CODES),
    ],
)
def test_what_the_indexes_of_a_palette_are(palette: dict[int, int], used: dict[int, int], expected: Reading) -> None:
    keys = tuple(palette.get(index, _GRAY) for index in range(256))
    assert palette_reading(keys, used, _FOUR, 0.001) is expected
    if expected is not Reading.CODES:
        return
    assert palette_reading(keys, used, Legend(tuple(reversed_names(_FOUR))), 0.001) is expected  # names do not matter


def reversed_names(legend: Legend) -> list[LandCover]:
    return [LandCover(c.code, name, c.color) for c, name in zip(legend, reversed(legend.names), strict=True)]


def test_a_color_that_two_classes_share_decides_nothing() -> None:
    twins = Legend((*_FOUR, LandCover(4, "lake", (0, 0, 255))))
    keys = tuple({0: _B, 1: _GRAY}.get(index, _BROWN) for index in range(256))
    assert palette_reading(keys, {0: 50, 1: 50}, twins, 0.001) is Reading.CODES


def test_a_palette_without_a_color_table_is_none(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(0, 3, 5))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [rasterio.enums.ColorInterp.palette]
    with rasterio.open(path) as dataset, pytest.raises(ValueError, match="color table"):
        dataset.colormap(1)
    assert is_classes(Scene.open(path))
    assert nomenclature(path) == Nomenclature.from_names({}, {})


def test_a_map_given_as_a_legend_is_told_where_its_classes_are(tmp_path: Path) -> None:
    (tmp_path / "map.tif").touch()
    (tmp_path / "map.qml").touch()
    with pytest.raises(UsageError, match=r"got '\.tif'; the classes of this map are in map\.qml beside it"):
        read_legend_file(tmp_path / "map.tif")


def test_percents_read_as_codes_are_noted(make_raster: MakeRaster) -> None:
    path = make_raster(pixels(60, 70))
    with rasterio.open(path, "r+") as file:
        file.update_tags(GEOSEG_PRODUCT="confidence")
    assert ClassRaster.open(path).note == (
        f"{path} holds confidence in percent, not classes; its numbers are read as class codes"
    )


@pytest.mark.parametrize("palette", [False, True])
def test_colors_in_strips_are_read_from_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, palette: bool
) -> None:
    path, colors = tmp_path / "wide.tif", np.array([land_cover.color for land_cover in DEEPGLOBE], np.uint8)
    codes = np.random.default_rng(0).integers(0, 7, (24, 5000)).astype(np.uint8)[:, ::-1]
    pixels = codes[None] if palette else colors[codes].transpose(2, 0, 1)
    profile = {"count": len(pixels), "height": 24, "width": 5000, "blockysize": 1, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", **profile) as file:
        file.write(pixels)
        if palette:
            file.write_colormap(1, {6 - code: (*color, 255) for code, color in enumerate(colors.tolist())})
    read, taken = Scene.read, []
    monkeypatch.setattr(Scene, "read", lambda scene, window: (taken.append(window), read(scene, window))[1])
    geoseg.tabulate(path, legend=DEEPGLOBE)
    assert {(window.col, window.width) for window in taken} == {(0, 5000)}


def test_a_map_wider_than_its_strips_may_be_is_decoded_about_once(tmp_path: Path) -> None:
    path, tiled = tmp_path / "wide.tif", {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=1024, width=140_000, **tiled):
        pass
    assert len(ClassRaster.open(path).windows()) == 3
