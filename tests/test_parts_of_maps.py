"""Every verb on a part of a map (a Scene, a dataset or an array), compared with a file of that part."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.windows
import rioxarray
import shapely
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from numpy.typing import NDArray
from PIL import Image

import geoseg
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.legend import DEEPGLOBE, Legend, Nomenclature
from geoseg.model import ModelBundle
from geoseg.raster import read_nomenclature
from tests.evaluation.rasters import NODATA, UTM, patches, write

SHAPE, ROW, COL, ROWS, COLS = (120, 90), 20, 10, 80, 60
PLACE = UTM["transform"]
BOX = (*PLACE @ (COL, ROW + ROWS), *PLACE @ (COL + COLS, ROW))
CORNERS = [(COL, ROW), (COL + COLS, ROW + 5), (50, ROW + ROWS), (20, 90)]
AREA = geopandas.GeoDataFrame(
    {"name": ["parish"]}, geometry=[shapely.Polygon([PLACE @ corner for corner in CORNERS])], crs=UTM["crs"]
)
"""An area whose bounds are the box."""

PARTS: dict[str, Callable[[Path], Any]] = {
    "within": lambda path: geoseg.within(path, AREA),
    "crop": lambda path: geoseg.crop(path, BOX),
    "within a crop": lambda path: geoseg.within(geoseg.crop(path, BOX), AREA),
    "crop of within": lambda path: geoseg.within(path, AREA).crop(BOX),
    "mosaic": lambda path: geoseg.mosaic([geoseg.crop(path, BOX), path]),
    "dataset": rasterio.open,
    "array": rioxarray.open_rasterio,
}


def cut(path: Path, kind: str, folder: Path) -> Path:
    """Write a part of a map, its window with nodata outside the area, to a file of the same name."""
    folder.mkdir(exist_ok=True)
    with rasterio.open(path) as file:
        window = rasterio.windows.Window(COL, ROW, COLS, ROWS) if "crop" in kind else None
        pixels, profile, tags = file.read(window=window), file.profile, file.tags()
        place = file.transform if window is None else file.window_transform(window)
    if "within" in kind:
        outside = rasterio.features.geometry_mask(AREA.geometry, pixels.shape[1:], place)
        pixels[:, outside] = NODATA
    profile |= {"transform": place, "height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(folder / path.name, "w", **profile) as file:
        file.write(pixels)
        file.update_tags(**tags)
    return folder / path.name


@pytest.fixture
def landcover(tmp_path: Path) -> Path:
    pixels = patches(2, *SHAPE, side=4)
    pixels[:30, :20] = NODATA
    return write(tmp_path / "landcover.tif", pixels, legend=DEEPGLOBE, tiled=True, blockxsize=32, blockysize=32, **UTM)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "other.tif", patches(3, *SHAPE, side=5), legend=DEEPGLOBE, **UTM)


@pytest.fixture
def sure(tmp_path: Path) -> Path:
    percent = np.random.default_rng(0).integers(0, 101, SHAPE).astype(np.uint8)
    return write(tmp_path / "sure.tif", percent, **UTM)


@pytest.fixture(params=PARTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_areas_are_those_of_the_part(tmp_path: Path, kind: str, landcover: Path, other: Path) -> None:
    part, file = PARTS[kind](landcover), cut(landcover, kind, tmp_path / "cut")
    pd.testing.assert_frame_equal(geoseg.tabulate(part), geoseg.tabulate(file))
    pd.testing.assert_frame_equal(geoseg.tabulate(part, by=other), geoseg.tabulate(file, by=other))
    pd.testing.assert_frame_equal(geoseg.tabulate(other, by=part), geoseg.tabulate(other, by=file))
    pd.testing.assert_frame_equal(
        geoseg.tabulate(part, AREA, column="name"), geoseg.tabulate(file, AREA, column="name")
    )


def test_points_are_those_of_the_part(tmp_path: Path, kind: str, landcover: Path) -> None:
    part, file = PARTS[kind](landcover), cut(landcover, kind, tmp_path / "cut")
    assert_geodataframe_equal(geoseg.sample(part, per_class=9), geoseg.sample(file, per_class=9))


def test_polygons_are_those_of_the_part(tmp_path: Path, kind: str, landcover: Path, sure: Path) -> None:
    part, file = PARTS[kind](landcover), cut(landcover, kind, tmp_path / "cut")
    confidence = cut(sure, kind, tmp_path / "cut")
    assert_geodataframe_equal(
        geoseg.vectorize(part, confidence=PARTS[kind](sure)), geoseg.vectorize(file, confidence=confidence)
    )


def test_accuracy_is_that_of_the_part(tmp_path: Path, kind: str, landcover: Path, other: Path, sure: Path) -> None:
    part, file = PARTS[kind](landcover), cut(landcover, kind, tmp_path / "cut")
    confidence = cut(sure, kind, tmp_path / "cut")
    found = geoseg.evaluate(part, other, confidence=PARTS[kind](sure), areas=True)
    expected = geoseg.evaluate(file, other, confidence=confidence, areas=True)
    np.testing.assert_array_equal(found.matrix.counts, expected.matrix.counts)
    pd.testing.assert_frame_equal(found.areas.to_frame(), expected.areas.to_frame())
    np.testing.assert_array_equal(found.calibration.count_px, expected.calibration.count_px)
    swapped, expected = geoseg.evaluate(other, part), geoseg.evaluate(other, file)
    np.testing.assert_array_equal(swapped.matrix.counts, expected.matrix.counts)
    assert swapped.matrix.names == expected.matrix.names


def data_of(page: geoseg.Page) -> dict[str, Any]:
    """Return the data of a page's script, without the names of its maps."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    if data["later"]:
        del data["later"]["names"]
    return data


def test_a_page_is_that_of_the_part(tmp_path: Path, kind: str, landcover: Path, other: Path, sure: Path) -> None:
    part, file = PARTS[kind](landcover), cut(landcover, kind, tmp_path / "cut")
    confidence = cut(sure, kind, tmp_path / "cut")
    mine, its = geoseg.preview(part, confidence=PARTS[kind](sure)), geoseg.preview(file, confidence=confidence)
    assert data_of(mine) == data_of(its)
    assert data_of(geoseg.preview(other, later=part)) == data_of(geoseg.preview(other, later=file))


def drawn(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_picture_is_that_of_the_part(tmp_path: Path, kind: str, landcover: Path) -> None:
    pytest.importorskip("matplotlib")
    file = cut(landcover, "within a crop" if kind == "within" else kind, tmp_path / "cut")
    mine, its = (
        geoseg.picture(given, out=tmp_path / f"{name}.png", title="A part", width_px=400)
        for name, given in (("mine", PARTS[kind](landcover)), ("its", file))
    )
    np.testing.assert_array_equal(drawn(mine), drawn(its))


def test_imagery_under_a_page_may_be_a_part(tmp_path: Path, kind: str, landcover: Path) -> None:
    pytest.importorskip("matplotlib")
    pixels = np.random.default_rng(1).integers(0, 250, (3, *SHAPE)).astype(np.uint8)
    image = write(tmp_path / "image.tif", pixels, photometric="RGB", **UTM)
    part, file = PARTS[kind](image), cut(image, kind, tmp_path / "cut")
    assert "scene" in data_of(geoseg.preview(landcover, part))["layers"]
    mine, its = (
        geoseg.picture(landcover, given, out=tmp_path / f"{name}.png", title="A part", width_px=400)
        for name, given in (("mine", part), ("its", file))
    )
    if kind != "array":  # the picture names its scene
        np.testing.assert_array_equal(drawn(mine), drawn(its))


def test_an_area_counts_on_another_grid_too(tmp_path: Path, landcover: Path, other: Path) -> None:
    """Zones and imagery that are warped to the map's grid keep their area of interest."""
    coarse = write(tmp_path / "coarse.tif", patches(5, 60, 45), crs=UTM["crs"], transform=PLACE @ Affine.scale(2))
    part, file = geoseg.within(coarse, AREA), cut(coarse, "within", tmp_path / "cut")
    pd.testing.assert_frame_equal(geoseg.tabulate(landcover, by=part), geoseg.tabulate(landcover, by=file))
    found, expected = geoseg.evaluate(landcover, part), geoseg.evaluate(landcover, file)
    np.testing.assert_array_equal(found.matrix.counts, expected.matrix.counts)
    assert found.left_out.no_reference == expected.left_out.no_reference > 0
    assert data_of(geoseg.preview(other, later=part, legend=DEEPGLOBE)) == data_of(
        geoseg.preview(other, later=file, legend=DEEPGLOBE)
    )


@pytest.mark.parametrize("kind", ["crop", "mosaic"])
def test_a_part_names_its_classes_as_the_map_does(tmp_path: Path, kind: str, landcover: Path) -> None:
    """Class names come from geoseg's own tag, category names or netCDF flags, colors from a color table."""
    named = [landcover]
    for name in ("categories", "flags"):
        path = write(tmp_path / f"{name}.tif", patches(6, *SHAPE), photometric="PALETTE", **UTM)
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, {code: (code, 9, 7, 255) for code in range(4)})
            if name == "flags":
                file.update_tags(1, flag_values="{0,1,2,3}", flag_meanings="wheat rye oats fallow")
        named.append(path)
    names = "".join(f"<Category>{name} &amp; more</Category>" for name in ("wheat", "rye", "oats"))
    (tmp_path / "categories.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    for path in named:
        whole, part = geoseg.Scene.open(path), PARTS[kind](path)
        assert len(read_nomenclature(whole)) >= 3
        assert read_nomenclature(part) == read_nomenclature(whole)
        assert part.crop(BOX)._repr_html_().count("class") == whole.crop(BOX)._repr_html_().count("class")
        assert set(geoseg.vectorize(part).name) == set(geoseg.vectorize(path).name)


def test_the_classes_of_maps_are_joined(tmp_path: Path, landcover: Path) -> None:
    path = write(tmp_path / "fewer.tif", patches(6, *SHAPE), legend=Legend(DEEPGLOBE.classes[:4]), **UTM)
    for maps in ([landcover, path], [path, landcover]):
        assert read_nomenclature(geoseg.mosaic(maps)) == Nomenclature.from_legend(DEEPGLOBE)
    named = [replace(land_cover, name=f"other {land_cover.name}") for land_cover in DEEPGLOBE]
    other = write(tmp_path / "other.tif", patches(6, *SHAPE), legend=Legend(tuple(named)), **UTM)
    with pytest.raises(
        SceneError, match=r"code 0 is 'other urban_land' in .*other\.tif, but 'urban_land' in others; recode"
    ) as e:
        geoseg.mosaic([landcover, other])
    assert e.value.parameter == "scenes"
    paletted = [write(tmp_path / f"{name}.tif", patches(6, *SHAPE), photometric="PALETTE", **UTM) for name in "ab"]
    for blue, file in enumerate(paletted):
        with rasterio.open(file, "r+") as raster:
            raster.write_colormap(1, {code: (code, 9, blue, 255) for code in range(4)})
    with pytest.warns(
        GeosegWarning, match=r"b\.tif has other class names or colors than .*a\.tif; the mosaic has none"
    ):
        joined = geoseg.mosaic(paletted)
    assert not len(read_nomenclature(joined))


def test_a_mosaic_is_called_by_all_its_maps_and_has_the_origin_that_they_share(tmp_path: Path, landcover: Path) -> None:
    later = write(tmp_path / "later.tif", patches(6, *SHAPE), legend=DEEPGLOBE, **UTM)
    for path, scene in ((landcover, "june.tif"), (later, "july.tif")):
        with rasterio.open(path, "r+") as file:
            file.update_tags(GEOSEG_MODEL_NAME="demo", GEOSEG_SCENE_PATH=scene)
    joined = geoseg.mosaic([landcover, later])
    with rasterio.open(joined.path) as file:
        assert file.tags()["GEOSEG_MODEL_NAME"] == "demo"
        assert "GEOSEG_SCENE_PATH" not in file.tags()
    assert geoseg.preview(joined).title == "landcover and 1 more"
    assert repr(joined) == (
        f"Scene('{landcover} and 1 more', {SHAPE[0]} rows, {SHAPE[1]} columns, band_1 uint8, 10 m, EPSG:32631)"
    )


def test_codes_of_two_sizes_are_joined_and_not_averaged(tmp_path: Path, landcover: Path) -> None:
    east = {"crs": UTM["crs"], "transform": PLACE @ Affine.translation(SHAPE[1], 0) @ Affine.scale(2)}
    coarse = write(tmp_path / "coarse.tif", patches(6, 60, 45, (0, 3), side=1), legend=DEEPGLOBE, **east)
    with pytest.warns(GeosegWarning, match="larger pixels"):
        joined = geoseg.mosaic([landcover, coarse])
    found = geoseg.tabulate(geoseg.crop(joined, geoseg.Scene.open(coarse).geobox.bounds))
    assert set(found.code) == {0, 3}


def test_messages_name_the_file_and_not_the_view(tmp_path: Path, landcover: Path) -> None:
    part = geoseg.crop(landcover, BOX)
    assert geoseg.evaluate(part, landcover).subject == str(landcover)
    assert geoseg.preview(part).title == "landcover"
    with pytest.raises(UsageError, match=f"{re.escape(str(landcover))} has no pixel of water"):
        geoseg.sample(part, classes="water")
    empty = write(tmp_path / "empty.tif", np.full(SHAPE, NODATA, np.uint8), **UTM)
    with pytest.raises(SceneError, match=f"^{re.escape(str(empty))} has no pixel with a class;"):
        geoseg.tabulate(geoseg.crop(empty, BOX))


@pytest.mark.parametrize("kind", ["crop", "within"])
def test_a_picture_does_not_replace_the_map_it_is_a_part_of(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    profile = {"driver": "PNG", "dtype": "uint8", "count": 1, "height": SHAPE[0], "width": SHAPE[1]}
    path = tmp_path / "map.png"
    with rasterio.open(path, "w", **profile) as file:
        file.write(patches(4, *SHAPE), 1)
    path.with_suffix(".pgw").write_text("10\n0\n0\n-10\n400005\n4999995\n")
    before = path.read_bytes()
    part = geoseg.crop(path, (400_100, 4_999_000, 400_600, 4_999_800))
    with pytest.raises(UsageError, match="is read by this run"):
        geoseg.picture(part if kind == "crop" else geoseg.Scene.open(path), out=path, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("verb", [geoseg.tabulate, geoseg.sample, geoseg.vectorize, geoseg.preview])
def test_a_model_is_no_map(verb: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"`landcover` must be a path or a Scene .*, got .*ModelBundle") as caught:
        verb(ModelBundle.open("demo"))
    assert caught.value.parameter == "landcover"


def test_an_error_names_the_parameter_that_is_no_raster(tmp_path: Path, landcover: Path, other: Path) -> None:
    with rasterio.open(landcover) as closed:
        pass
    without_crs = rioxarray.open_rasterio(landcover).drop_vars("spatial_ref")
    calls: list[tuple[str, Callable[[Any], Any]]] = [
        ("landcover", geoseg.tabulate),
        ("by", lambda given: geoseg.tabulate(landcover, given)),
        ("landcover", geoseg.sample),
        ("landcover", lambda given: geoseg.evaluate(given, other)),
        ("reference", lambda given: geoseg.evaluate(landcover, given)),
        ("confidence", lambda given: geoseg.evaluate(landcover, other, confidence=given)),
        ("landcover", geoseg.vectorize),
        ("confidence", lambda given: geoseg.vectorize(landcover, confidence=given)),
        ("landcover", geoseg.preview),
        ("later", lambda given: geoseg.preview(landcover, later=given)),
        ("confidence", lambda given: geoseg.preview(landcover, confidence=given)),
        ("scene", lambda given: geoseg.preview(landcover, given)),
        ("landcover", lambda given: geoseg.picture(given, out=tmp_path / "p.png")),
        ("path", geoseg.info),
    ]
    for parameter, call in calls:
        for given in (closed, without_crs, without_crs.to_dataset(name="landcover")):
            with pytest.raises(UsageError) as caught:
                call(given)
            assert caught.value.parameter == parameter
    with pytest.raises(UsageError, match="evaluated on a data set, got a Dataset") as caught:
        geoseg.evaluate("demo", without_crs.to_dataset(name="landcover"))
    assert caught.value.parameter == "reference"


@pytest.mark.parametrize("kind", ["crop", "dataset", "array"])
def test_a_part_of_a_map_is_no_data_set(kind: str, landcover: Path) -> None:
    with pytest.raises(UsageError, match=r"evaluated on a data set, got a [A-Z]") as caught:
        geoseg.evaluate("demo", PARTS[kind](landcover))
    assert caught.value.parameter == "reference"


def test_bands_that_the_caller_chose_are_shown(tmp_path: Path, landcover: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 250, (4, *SHAPE)).astype(np.uint8)
    path = write(tmp_path / "four.tif", pixels, photometric="RGB", **UTM)
    pages = [geoseg.preview(landcover, given) for given in (path, geoseg.Scene.open(path))]
    assert data_of(pages[0])["layers"] == data_of(pages[1])["layers"]
    chosen = geoseg.preview(landcover, geoseg.Scene.open(path, bands=[3, 2, 1]))
    assert data_of(chosen)["layers"] != data_of(pages[0])["layers"]


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("area.fgb", lambda path, file: geoseg.vectorize(path, file, aoi=file, overwrite=True)),
        (
            "area.gpkg",
            lambda path, file: geoseg.vectorize(path, file, layer="area", aoi=f"{file}|layername=area", overwrite=True),
        ),
        ("area.fgb", lambda path, file: geoseg.sample(path, file, aoi=file, overwrite=True)),
        ("area.csv", lambda path, file: geoseg.sample(path, file, legend=file, overwrite=True)),
        ("area.csv", lambda path, file: geoseg.tabulate(path, file, out=file, overwrite=True)),
        ("area.csv", lambda path, file: geoseg.tabulate(path, legend=file, out=file, overwrite=True)),
        (
            "area.parquet",
            lambda path, file: geoseg.predict(
                path, file.with_name("new.tif"), aoi=file, polygons=file, overwrite=True, bands=(1, 1, 1), device="cpu"
            ),
        ),
        (
            "area.geojson",
            lambda path, file: geoseg.plan(path, aoi=file, bands=(1, 1, 1), device="cpu").run(
                file.with_name("new.tif"), polygons=file, overwrite=True
            ),
        ),
        ("a|b.csv", lambda path, file: geoseg.tabulate(path, legend=file, out=file, overwrite=True)),
    ],
)
@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
def test_no_verb_replaces_a_file_that_it_reads(
    tmp_path: Path, landcover: Path, name: str, verb: Callable[[Path, Path], Any]
) -> None:
    file = tmp_path / name
    if name.endswith(".csv"):
        file.write_text("code,name\n0,water\n")
    elif name.endswith(".parquet"):
        AREA.to_parquet(file)
    else:
        AREA.to_file(file)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=rf"{re.escape(name)} is read by this run .* choose another `(out|polygons)`"):
        verb(landcover, file)
    assert file.read_bytes() == before
    assert not (tmp_path / "new.tif").exists()


@pytest.mark.filterwarnings("ignore::geoseg.errors.UnlikeTrainingWarning")
@pytest.mark.parametrize("verb", ["vectorize", "predict"])
def test_the_geopackage_of_an_area_takes_further_layers(tmp_path: Path, landcover: Path, verb: str) -> None:
    file, named = tmp_path / "area.gpkg", f"{tmp_path / 'area.gpkg'}|layername=area"
    AREA.to_file(file, layer="area")

    def write_layer(layer: str, name: str, aoi: object, **options: Any) -> None:
        if verb == "vectorize":
            geoseg.vectorize(landcover, file, layer=layer, aoi=aoi, **options)
        else:
            out, options = tmp_path / name, options | {"bands": [1, 1, 1], "device": "cpu"}
            geoseg.predict(landcover, out, aoi=aoi, polygons=file, layer=layer, **options)

    write_layer("new", "new.tif", file)
    write_layer("new", "new.tif", named, overwrite=True)
    assert {"area", "new"} <= set(geopandas.list_layers(file)["name"])
    assert geopandas.read_file(file, layer="area").geometry.geom_equals(AREA.geometry).all()
    assert len(geopandas.read_file(file, layer="new"))
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"area\.gpkg is read by this run and would be replaced"):
        write_layer("AREA", "other.tif", named, overwrite=True)
    assert file.read_bytes() == before
