from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rio_cogeo.cogeo import cog_validate

from geoseg.errors import OutputError, UsageError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.raster import GeoBox, Scene, Tiling, Window, read_nomenclature, tiles
from geoseg.raster.geobox import GroundControlPoint
from geoseg.raster.landcover import (
    DEFAULTS,
    LEGEND_TAG,
    NextStage,
    PartEncoder,
    PartFormat,
    Product,
    begin_cog,
    build_cog,
    built_path,
    cog,
    confidence,
    creation_options,
    foreign_beside,
    labels,
    outputs,
    overview_levels,
    part_path,
    place,
    probabilities,
)
from geoseg.raster.landcover.overviews import Pixels
from tests.parts import write_part
from tests.raster.conftest import NORTH_UP, UTM, assemble
from tests.raster.gdal_cog import assert_same, check_layout, described, pyramid, write_by_gdal
from tests.raster.test_durable import small_disk  # noqa: F401 - a fixture

LABELS = labels(DEEPGLOBE)
ONES = [1.0] * 20
RPCS = RPC(100, 50, 45, 0.1, ONES, ONES, 500, 500, 7, 0.1, ONES, ONES, 400, 400, 0.5, 0.25)
POINTS = tuple(
    GroundControlPoint(float(row), float(col), 5e5 + col, 4e6 - 2 * row, 30.0)
    for row, col in itertools.product((0, 99), (0, 99))
)
PLACES = {
    "north-up": {"transform": NORTH_UP, "crs": UTM},
    "south-up": {"transform": Affine(0.5, 0, 5e5, 0, 0.5, 4e6), "crs": UTM},
    "rotated": {"transform": Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5), "crs": UTM},
    "degrees": {"transform": Affine(1e-5, 0, 13.4, 0, -1e-5, 52.5), "crs": CRS.from_epsg(4326)},
    "rotated pole": {
        "transform": Affine(0.1, 0, 13.4, 0, -0.1, 52.5),
        "crs": CRS.from_string("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18"),
    },
    "no CRS": {"transform": NORTH_UP},
    "nowhere": {"transform": Affine.identity()},
    "points": {"transform": Affine.identity(), "gcps": POINTS, "gcp_crs": UTM},
    "RPCs": {"transform": Affine.identity(), "rpcs": RPCS},
}


def landscape(bands: int, height: int, width: int, top: int = 7) -> Pixels:
    """Return patches of classes (band, row, col) with nodata in one corner."""
    rng = np.random.default_rng(height + width)
    small = rng.integers(0, top, (bands, height // 9 + 1, width // 9 + 1), np.uint8)
    pixels = small.repeat(9, 1).repeat(9, 2)[:, :height, :width].copy()
    pixels[:, : height // 3, : width // 3] = 255
    return pixels


def write_parts(
    folder: Path,
    product: Product,
    pixels: Pixels,
    tile_px: int,
    storage: Mapping[str, str] = DEFAULTS,
    begun: NextStage | None = None,
) -> list[Window]:
    """Write the parts of a map in random order and return its tiles.

    Some parts are written at once, some by rows of blocks, some by another job; `begun` assembles the map alongside.
    """
    shape = pixels.shape[1], pixels.shape[2]
    cut, form = tiles(*shape, tile_px, tile_px), PartFormat.of(shape, (tile_px, tile_px), storage)
    order = np.random.default_rng(len(cut)).permutation(len(cut)).tolist()
    for count, index in enumerate(order, start=1):
        tile = cut[index]
        encoder = PartEncoder(product, tile.height, form)
        step_px = (tile.height, form.block_px, 77)[index % 3]
        for row in range(tile.row, tile.row_stop, step_px):
            encoder.add(pixels[:, row : min(row + step_px, tile.row_stop), tile.cols])
        encoder.write(folder, index)
        if begun is not None:
            begun.go_on(order[:count])
    return cut


def make_map(
    folder: Path, product: Product, pixels: Pixels, geobox: GeoBox, tile_px: int, tags: Mapping[str, str] | None = None
) -> Path:
    parts = folder / "map.tif.parts"
    parts.mkdir(exist_ok=True)
    cut = write_parts(parts, product, pixels, tile_px)
    assemble(parts, product, cut, geobox, folder / "map.tif", tags or {})
    return folder / "map.tif"


STORAGES: dict[str, dict[str, str]] = {
    "usual": {},
    "small blocks": {"BLOCKSIZE": "128"},
    "odd blocks": {"BLOCKSIZE": "144"},
    "ZSTD, BigTIFF": {"BLOCKSIZE": "256", "COMPRESS": "ZSTD", "PREDICTOR": "YES", "BIGTIFF": "YES"},
    "large blocks, plain": {"BLOCKSIZE": "1024", "COMPRESS": "NONE"},
    "LZW": {"BLOCKSIZE": "256", "COMPRESS": "LZW", "PREDICTOR": "STANDARD"},
    "LZMA": {"BLOCKSIZE": "256", "COMPRESS": "LZMA", "LEVEL": "1", "PREDICTOR": "YES"},
}


THREE = probabilities(("a", "b & c", "d"))


@pytest.mark.parametrize(
    ("product", "height", "width", "tile_px", "stored"),
    [
        *((LABELS, 1500, 1100, 512, stored) for stored in STORAGES),
        (LABELS, 1025, 2049, 1024, "small blocks"),
        (LABELS, 1300, 2100, 256, "small blocks"),
        (LABELS, 700, 2500, 96, "small blocks"),
        (LABELS, 500, 700, 72, "usual"),
        (LABELS, 1, 1, 8, "usual"),
        (confidence(), 900, 1300, 260, "small blocks"),
        (THREE, 700, 900, 256, "ZSTD, BigTIFF"),
        (THREE, 700, 900, 94, "odd blocks"),
        (THREE, 300, 200, 64, "large blocks, plain"),
    ],
    ids=lambda it: getattr(it, "name", it),
)
def test_the_map_is_what_gdal_writes_of_the_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    product: Product,
    height: int,
    width: int,
    tile_px: int,
    stored: str,
) -> None:
    """Levels, tags, colors and georeference are equal, and so is the layout of the blocks in the file."""
    monkeypatch.setattr(
        "geoseg.raster.landcover.stages._LARGE_PIXELS", product.count * 300**2
    )  # so that there are many stages
    storage, tags = creation_options(STORAGES[stored]), {"GEOSEG_MODEL": 'a "name" <&> é'}
    pixels = landscape(product.count, height, width, 7 if product.legend else 101)
    geobox = GeoBox(height, width, NORTH_UP, UTM)
    begun = begin_cog(tmp_path, product, Tiling(height, width, tile_px, tile_px), geobox.shape, storage)
    write_parts(tmp_path, product, pixels, tile_px, storage, begun)
    path = build_cog(tmp_path, product, Tiling(height, width, tile_px, tile_px), geobox, tags, storage, begun)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".zip"] == [path.name]
    levels = pyramid(pixels, overview_levels(height, width), classes=product.legend is not None)
    write_by_gdal(tmp_path / "gdal.tif", product, levels, geobox, tags, storage)
    assert_same(path, tmp_path / "gdal.tif")
    check_layout(path)
    check_layout(tmp_path / "gdal.tif")
    assert cog_validate(path, strict=True) == (True, [], [])


@pytest.mark.parametrize(
    ("before", "tile_px"),
    [({"COMPRESS": "ZSTD"}, 512), ({"BLOCKSIZE": "256"}, 768), ({"BLOCKSIZE": "1024"}, 512), ({"LEVEL": "9"}, 512)],
)
def test_parts_of_a_run_with_other_creation_options_make_the_same_map(
    tmp_path: Path, tile_px: int, before: dict[str, str]
) -> None:
    pixels, geobox = landscape(1, 1500, 1100), GeoBox(1500, 1100, NORTH_UP, UTM)
    cut = write_parts(tmp_path, LABELS, pixels, tile_px, creation_options(before))
    write_part(
        tmp_path, LABELS, 1, pixels[:, cut[1].rows, cut[1].cols], PartFormat.of((1500, 1100), (tile_px, tile_px))
    )
    path = build_cog(tmp_path, LABELS, cut, geobox, {})
    write_by_gdal(tmp_path / "gdal.tif", LABELS, pyramid(pixels, 2, classes=True), geobox, {})
    assert_same(path, tmp_path / "gdal.tif")
    check_layout(path)


@pytest.mark.parametrize("place", PLACES)
def test_the_map_lies_where_the_scene_lies(tmp_path: Path, place: str) -> None:
    geobox = GeoBox(100, 90, **PLACES[place])  # type: ignore[arg-type]
    path = make_map(tmp_path, LABELS, landscape(1, 100, 90), geobox, 64)
    assert Scene.open(path).geobox == geobox
    assert cog_validate(path, strict=True)[0]
    oracle = tmp_path / "map.tif.parts" / "gdal.tif"
    write_by_gdal(oracle, LABELS, [landscape(1, 100, 90)], geobox, {})
    assert [about.get("gcps") for about in described(path)] == [about.get("gcps") for about in described(oracle)]
    assert [about.get("rpcs") for about in described(path)] == [about.get("rpcs") for about in described(oracle)]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "map.qml",
        "map.tif",
        "map.tif.aux.xml",
        "map.tif.parts",
    ]


def test_the_places_of_real_scenes_survive(shared_data: Path, tmp_path: Path) -> None:
    for name in (
        "odc-geo/au-gcp.tif",
        "odc-geo/au-3577-rotated.tif",
        "rio-tiler/cog_hirise_mars.tif",
        "rio-tiler/inverted_lat.tif",
    ):
        geobox = Scene.open(shared_data / "geotiff_zoo" / name).geobox
        path = make_map(tmp_path, LABELS, landscape(1, *geobox.shape), geobox, 512)
        found = Scene.open(path).geobox
        assert (found.crs, found.transform, found.gcp_crs, found.gcps) == (
            geobox.crs,
            geobox.transform,
            geobox.gcp_crs,
            geobox.gcps,
        ), name


def test_colours_names_and_provenance(tmp_path: Path) -> None:
    tags = {"GEOSEG_VERSION": "0.1", "GEOSEG_MODEL": 'a "name" <&> é'}
    path = make_map(tmp_path, LABELS, landscape(1, 90, 80), GeoBox(90, 80, NORTH_UP, UTM), 64, tags)
    with rasterio.open(path) as dataset:
        colors = dataset.colormap(1)
        assert {code: colors[code][:3] for code in DEEPGLOBE.codes} == {c.code: c.color for c in DEEPGLOBE}
        assert tags.items() <= dataset.tags().items()
        assert Legend.from_json(json.loads(dataset.tags()[LEGEND_TAG])) == DEEPGLOBE
    names = ET.parse(f"{path}.aux.xml").iterfind("PAMRasterBand[@band='1']/CategoryNames/Category")  # noqa: S314
    assert tuple(name.text for name in names) == DEEPGLOBE.names
    entries = list(ET.parse(path.with_suffix(".qml")).iter("paletteEntry"))  # noqa: S314
    assert [(int(entry.get("value", "")), entry.get("label"), entry.get("color")) for entry in entries] == [
        (c.code, c.name, "#{:02x}{:02x}{:02x}".format(*c.color)) for c in DEEPGLOBE
    ]


def test_gdal_reads_the_names(tmp_path: Path) -> None:
    sparse = Legend(tuple(c for c in DEEPGLOBE if c.code in {1, 4}))
    path = make_map(tmp_path, labels(sparse), landscape(1, 90, 80), GeoBox(90, 80, NORTH_UP, UTM), 64)
    copy = tmp_path / "copy.vrt"
    rasterio.shutil.copy(path, copy, driver="VRT")
    found = [name.text or "" for name in ET.parse(copy).iter("Category")]  # noqa: S314
    assert found == ["", "agriculture_land", "", "", "water"]


def test_gdal_reads_the_attribute_table(tmp_path: Path) -> None:
    """Names and usages are the ones that QGIS, terra and GeoServer look for (GDALRATFieldUsage)."""
    wild = LandCover(200, "<wild> & é", (1, 2, 3))
    legend = Legend((*(c for c in DEEPGLOBE if c.code in {1, 4}), wild))
    path = make_map(tmp_path, labels(legend), landscape(1, 90, 80), GeoBox(90, 80, NORTH_UP, UTM), 64)
    copy = tmp_path / "copy.vrt"
    rasterio.shutil.copy(path, copy, driver="VRT")  # GDAL writes only what it understood
    table = next(ET.parse(copy).iter("GDALRasterAttributeTable"))  # noqa: S314
    assert table.get("tableType") == "thematic"
    columns = [tuple(column.findtext(name) for name in ("Name", "Type", "Usage")) for column in table.iter("FieldDefn")]
    min_max, name, red = 5, 2, 6
    assert columns == [
        ("Value", "0", str(min_max)),
        ("Class", "2", str(name)),
        *((color, "0", str(red + place)) for place, color in enumerate(("Red", "Green", "Blue"))),
    ]
    rows = [tuple(cell.text for cell in row.iter("F")) for row in table.iter("Row")]
    assert rows == [(str(c.code), c.name, *map(str, c.color)) for c in legend]
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(GEOSEG_LEGEND="")
    sidecar = path.with_name("map.tif.aux.xml")
    sidecar.write_text(re.sub(r"<CategoryNames>.*</CategoryNames>", "", sidecar.read_text("utf-8"), flags=re.DOTALL))
    found = read_nomenclature(Scene.open(path))
    assert [(c.code, c.name, c.color) for c in found] == [(c.code, c.name, c.color) for c in legend]


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL's programs are not installed")
def test_gdalinfo_shows_the_attribute_table(tmp_path: Path) -> None:
    path = make_map(tmp_path, LABELS, landscape(1, 90, 80), GeoBox(90, 80, NORTH_UP, UTM), 64)
    shown = subprocess.run(["gdalinfo", "-json", str(path)], capture_output=True, check=True, text=True)  # noqa: S607
    rows = json.loads(shown.stdout)["rat"]["row"]
    assert [row["f"] for row in rows] == [[c.code, c.name, *c.color] for c in DEEPGLOBE]


@pytest.mark.parametrize("bands", [1, 2, 3, 7])
def test_probabilities_open_from_0_to_100_percent(tmp_path: Path, bands: int) -> None:
    product = probabilities(tuple("abcdefg"[:bands]))
    path = make_map(tmp_path, product, landscape(bands, 90, 80, 101), GeoBox(90, 80, NORTH_UP, UTM), 64)
    renderer = next(ET.parse(path.with_suffix(".qml")).iter("rasterrenderer"))  # noqa: S314
    if bands < 3:
        values = [float(item.get("value", "")) for item in renderer.iter("item")]
        assert (renderer.get("band"), values[0], values[-1]) == ("1", 0, 100)
        return
    assert [renderer.get(f"{color}Band") for color in ("red", "green", "blue")] == ["1", "2", "3"]
    for color in ("red", "green", "blue"):
        stretch = renderer.find(f"{color}ContrastEnhancement")
        assert stretch is not None
        assert (stretch.findtext("minValue"), stretch.findtext("maxValue")) == ("0", "100")


def test_sidecars_of_another_map_do_not_stay(tmp_path: Path) -> None:
    geobox = GeoBox(90, 80, NORTH_UP, UTM)
    path = make_map(tmp_path, LABELS, landscape(1, 90, 80), geobox, 64)
    for suffix in (".ovr", ".msk"):
        path.with_name(path.name + suffix).write_bytes(b"of an older map")
    make_map(tmp_path, probabilities(("a", "b")), landscape(2, 90, 80, 101), geobox, 64)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.qml", "map.tif", "map.tif.parts"]
    assert "paletteEntry" not in path.with_suffix(".qml").read_text()
    make_map(tmp_path, confidence(), landscape(1, 90, 80, 101), geobox, 64)
    ramp = [float(item.get("value", "")) for item in ET.parse(path.with_suffix(".qml")).iter("item")]  # noqa: S314
    assert (ramp[0], ramp[-1]) == (0, 100)


def test_the_bytes_do_not_depend_on_the_tiles(tmp_path: Path) -> None:
    pixels, geobox = landscape(1, 1300, 700), GeoBox(1300, 700, NORTH_UP, UTM)
    contents = set()
    for tile_px in (256, 700, 2048):
        folder = tmp_path / str(tile_px)
        folder.mkdir()
        contents.add(make_map(folder, LABELS, pixels, geobox, tile_px).read_bytes())
    assert len(contents) == 1


def test_many_parts(tmp_path: Path) -> None:
    pixels, geobox = landscape(1, 320, 320), GeoBox(320, 320, NORTH_UP, UTM)
    path = make_map(tmp_path, LABELS, pixels, geobox, 16)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
    assert len(list((tmp_path / "map.tif.parts").iterdir())) == 400


def test_a_missing_part_is_told_and_the_old_map_stays(tmp_path: Path) -> None:
    geobox = GeoBox(90, 80, NORTH_UP, UTM)
    path = make_map(tmp_path, LABELS, landscape(1, 90, 80), geobox, 64)
    old = path.read_bytes()
    part_path(tmp_path / "map.tif.parts", LABELS, 2).unlink()
    with pytest.raises(OutputError, match=r"1 of 4 tiles .* number 2"):
        assemble(tmp_path / "map.tif.parts", LABELS, tiles(90, 80, 64, 64), geobox, path, {})
    assert path.read_bytes() == old


def test_a_damaged_part_is_told_and_the_old_map_stays(tmp_path: Path) -> None:
    geobox = GeoBox(900, 800, NORTH_UP, UTM)
    path = make_map(tmp_path, LABELS, landscape(1, 900, 800), geobox, 512)
    old = path.read_bytes()
    part = part_path(tmp_path / "map.tif.parts", LABELS, 1)
    os.truncate(part, part.stat().st_size // 2)
    with pytest.raises(OutputError) as caught:
        assemble(tmp_path / "map.tif.parts", LABELS, tiles(900, 800, 512, 512), geobox, path, {})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == old
    assert not list((tmp_path / "map.tif.parts").glob("*cog*"))


def test_pixels_that_are_not_the_products_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int64"):
        write_part(tmp_path, LABELS, 0, np.zeros((1, 4, 4), np.int64), PartFormat(0))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="7 bands"):
        write_part(tmp_path, probabilities(DEEPGLOBE.names), 0, np.zeros((1, 4, 4), np.uint8), PartFormat(0))


@pytest.mark.parametrize("free_kb", [250, 200, 100, 50, 8])
def test_a_full_disk_is_told_and_the_old_map_stays(small_disk: Path, free_kb: int) -> None:  # noqa: F811
    pixels = np.random.default_rng(0).integers(0, 7, (1, 700, 900), np.uint8)
    geobox = GeoBox(700, 900, NORTH_UP, UTM)
    cut, parts, target = tiles(700, 900, 512, 512), small_disk / "parts", small_disk / "map.tif"
    parts.mkdir()
    target.write_bytes(b"the old map")
    write_parts(parts, LABELS, pixels, 512)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(max(0, free - free_kb * 1024)))
    before = sorted(parts.iterdir())
    with pytest.raises(OutputError) as caught:
        assemble(parts, LABELS, cut, geobox, target, {})
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"the old map"
    assert [path for path in sorted(parts.iterdir()) if path != built_path(parts, LABELS)] == before
    if built_path(parts, LABELS).exists():  # only its sidecars did not fit
        check_layout(built_path(parts, LABELS))
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)  # noqa: S607
    assemble(parts, LABELS, cut, geobox, target, {})
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-8], "ends too early"),
        (lambda content: content[:-3000] + bytes(3000), "cannot write"),
        (lambda content: content.replace(b"II*\0", b"II*\1", 1), "cannot write"),
    ],
    ids=["cut off", "no last block", "no directory"],
)
def test_a_file_that_is_not_what_was_written_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], said: str
) -> None:
    check = outputs.check_whole

    def check_damaged(path: Path, layout: cog.CogLayout) -> None:
        path.write_bytes(damage(path.read_bytes()))
        check(path, layout)

    monkeypatch.setattr(outputs, "check_whole", check_damaged)
    with pytest.raises(OutputError, match=said) as caught:
        make_map(tmp_path, LABELS, landscape(1, 1500, 1100), GeoBox(1500, 1100, NORTH_UP, UTM), 512)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tif"))


def test_a_part_that_cannot_be_read_is_not_said_to_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = write_parts(tmp_path, LABELS, landscape(1, 90, 80), 512)

    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(zipfile, "ZipFile", denied)
    with pytest.raises(OutputError, match=r"labels_0000000\.zip cannot be read \(Permission denied\); check its perm"):
        build_cog(tmp_path, LABELS, cut, GeoBox(90, 80, NORTH_UP, UTM), {})


def test_a_part_that_changed_on_the_disk_is_named_or_makes_the_same_map(tmp_path: Path) -> None:
    geobox = GeoBox(900, 800, NORTH_UP, UTM)
    cut = write_parts(tmp_path, LABELS, landscape(1, 900, 800), 512)
    expected = build_cog(tmp_path, LABELS, cut, geobox, {}).read_bytes()
    part, told = part_path(tmp_path, LABELS, 3), list[str]()
    whole = part.read_bytes()
    for at in np.linspace(0, len(whole) - 1, 25, dtype=int):
        part.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            assert build_cog(tmp_path, LABELS, cut, geobox, {}).read_bytes() == expected
        except OutputError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(re.search(r"labels_0000003\.zip is damaged .* remove it", line) for line in told)
    assert not any("\n" in line for line in told)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".zip", ".tif"}


def test_a_map_too_large_for_what_was_asked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "_CLASSIC_BYTES", 20_000)
    pixels, geobox = landscape(1, 900, 800), GeoBox(900, 800, NORTH_UP, UTM)
    cut = write_parts(tmp_path, LABELS, pixels, 512)
    with pytest.raises(OutputError, match="without the creation option BIGTIFF=NO, all tiles are kept"):
        build_cog(tmp_path, LABELS, cut, geobox, {}, creation_options({"BIGTIFF": "NO"}))
    for asked in ("IF_NEEDED", "IF_SAFER"):
        path = build_cog(tmp_path, LABELS, cut, geobox, {}, creation_options({"BIGTIFF": asked}))
        assert path.read_bytes()[2] == 43
        check_layout(path)
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(), pixels)


def built_beside_an_old_map(folder: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """Return a finished COG, its target, and the old files at the target by name."""
    parts, target = folder / "parts", folder / "map.tif"
    parts.mkdir()
    write_parts(parts, LABELS, landscape(1, 90, 80), 96)
    built = build_cog(parts, LABELS, tiles(90, 80, 96, 96), GeoBox(90, 80, NORTH_UP, UTM), {})
    old = {name: name.encode() for name in ("map.tif", "map.tif.aux.xml", "map.qml", "map.tif.ovr")}
    for name, content in old.items():
        (folder / name).write_bytes(content)
    return built, target, old


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_nothing_appears_before_it_is_placed(tmp_path: Path) -> None:
    built, target, old = built_beside_an_old_map(tmp_path)
    assert files_in(tmp_path) == old
    check_layout(built)
    content = built.read_bytes()
    place(built, LABELS, target)
    assert target.read_bytes() == content
    assert sorted(files_in(tmp_path)) == ["map.qml", "map.tif", "map.tif.aux.xml"]
    assert [path.name for path in built.parent.iterdir()] == ["labels_0000000.zip"]


@pytest.mark.parametrize("held", ["map.tif", "map.tif.aux.xml", "map.qml", "map.tif.ovr"])
def test_a_file_that_cannot_be_replaced_leaves_the_old_map_with_its_own_sidecars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    built, target, old = built_beside_an_old_map(tmp_path)
    replace = Path.replace

    def replace_unless_held(source: Path, other: Path) -> Path:
        if held in {source.name, other.name} and not source.name.startswith("labels.aside"):
            raise PermissionError(13, "used by another process")
        return replace(source, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_unless_held)
        with pytest.raises(OutputError, match="used by another process"):
            place(built, LABELS, target)
    assert files_in(tmp_path) == old
    place(built, LABELS, target)
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), landscape(1, 90, 80))


def test_no_file_is_replaced_while_this_thread_holds_it_open(tmp_path: Path, replaced_while_open: list[str]) -> None:
    """A notebook could not map again what it has shown."""
    target = make_map(tmp_path, LABELS, landscape(1, 1200, 80), GeoBox(1200, 80, NORTH_UP, UTM), 64)
    parts = tmp_path / "again"
    parts.mkdir()
    write_parts(parts, LABELS, landscape(1, 90, 80), 96)
    built = build_cog(parts, LABELS, tiles(90, 80, 96, 96), GeoBox(90, 80, NORTH_UP, UTM), {})
    Scene.open(target).read(Window(0, 0, 9, 9))
    place(built, LABELS, target)
    assert not replaced_while_open


def test_a_map_is_placed_on_another_disk(small_disk: Path, tmp_path: Path) -> None:  # noqa: F811
    built, _, old = built_beside_an_old_map(tmp_path)
    for name, content in old.items():
        (small_disk / name).write_bytes(content)
    content = built.read_bytes()
    place(built, LABELS, small_disk / "map.tif")
    assert files_in(small_disk)["map.tif"] == content
    assert sorted(files_in(small_disk)) == ["map.qml", "map.tif", "map.tif.aux.xml"]
    assert not built.exists()


def test_files_of_others_beside_a_target_are_known(tmp_path: Path) -> None:
    path = make_map(tmp_path, LABELS, landscape(1, 90, 80), GeoBox(90, 80, NORTH_UP, UTM), 64)
    assert foreign_beside(path) == []
    theirs = {path.with_name("map.tif.ovr"), path.with_name("map.tif.aux.xml"), path.with_suffix(".qml")}
    for file in theirs:
        file.write_text("<PAMDataset>\n</PAMDataset>")
    assert set(foreign_beside(path)) == theirs


def test_what_is_begun_of_a_map_on_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk accepts parts and nothing else; once there is room the map is complete and nothing else is left."""
    storage = creation_options({"BLOCKSIZE": "128"})
    pixels, geobox = landscape(1, 900, 2100), GeoBox(900, 2100, NORTH_UP, UTM)
    begun = begin_cog(tmp_path, LABELS, Tiling(900, 2100, 512, 512), geobox.shape, storage)
    assert begun is not None

    def full(_path: Path, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="the disk is full; free some space and run the same command again"):
            write_parts(tmp_path, LABELS, pixels, 512, storage, begun)
    cut = write_parts(tmp_path, LABELS, pixels, 512, storage)
    path = build_cog(tmp_path, LABELS, cut, geobox, {}, storage)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".zip"] == [path.name]
    np.testing.assert_array_equal(rasterio.open(path).read(), pixels)


def test_a_part_that_is_given_up_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    PartEncoder(LABELS, 4000, PartFormat(3, 2)).add(landscape(1, 1100, 700))
    gc.collect()
    assert not said
