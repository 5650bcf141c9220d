"""The STAC item of a map: valid by the schemas, its contents checked with rasterio, shapely and a clock."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import JsonSchemaSTACValidator
from rasterio.warp import transform_bounds
from shapely.geometry import shape

import geoseg
from geoseg import catalog
from geoseg.errors import OutputError, UsageError
from geoseg.model import ModelBundle
from tests.buckets import Bucket
from tests.inference.conftest import random_pixels, write_scene
from tests.networks import tiny_bundle

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::geoseg.errors.GeosegWarning")
TEXT, NUMBER = {"type": "string"}, {"type": "number"}
RULES: dict[str, Any] = {
    "properties": {
        "properties": {
            "required": ["processing:software", "processing:lineage", "proj:shape", "created"],
            "properties": {
                "processing:software": {"type": "object", "additionalProperties": TEXT},
                "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
                "proj:wkt2": {"type": ["string", "null"]},
                "proj:transform": {"minItems": 6, "maxItems": 6, "items": NUMBER},
                "proj:bbox": {"minItems": 4, "maxItems": 4, "items": NUMBER},
                "proj:shape": {"minItems": 2, "maxItems": 2, "items": {"type": "integer"}},
            },
            "patternProperties": {
                "^processing:(?!software|lineage|datetime)": False,
                "^proj:(?!code|wkt2|transform|bbox|shape)": False,
            },
        },
        "assets": {
            "required": ["landcover"],
            "additionalProperties": {
                "required": ["href", "roles", "type", "file:size", "file:checksum"],
                "properties": {
                    "file:checksum": {"pattern": "^1220[0-9a-f]{64}$"},
                    "raster:sampling": {"enum": ["area"]},
                    "raster:spatial_resolution": NUMBER,
                    "classification:classes": {
                        "minItems": 1,
                        "uniqueItems": True,
                        "items": {
                            "required": ["value", "name"],
                            "properties": {
                                "value": {"type": "integer"},
                                "name": {"pattern": "^[0-9A-Za-z-_]+$"},
                                "color_hint": {"pattern": "^[0-9A-F]{6}$"},
                                "nodata": {"type": "boolean"},
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The rules that the extensions' schemas set for such an item, restated; pystac brings STAC's own schemas."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return tiny_bundle(tmp_path_factory.mktemp("model"), window_px=64)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    (tmp_path / "scenes").mkdir()
    return write_scene(tmp_path / "scenes" / "scene.tif", random_pixels(70, 90, 0, 0.1))


def read(content: bytes | Path) -> dict[str, Any]:
    """Return an item after validating it against the schemas."""
    text = content.read_bytes() if isinstance(content, Path) else content
    found: dict[str, Any] = json.loads(text)
    JsonSchemaSTACValidator().validate_core(found, pystac.STACObjectType.ITEM, "1.1.0")
    jsonschema.Draft7Validator(RULES).validate(found)
    return found


def multihash(content: bytes) -> str:
    return "1220" + hashlib.sha256(content).hexdigest()


def test_an_item_tells_of_each_file_of_its_map(scene: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    maps = tmp_path / "maps"
    out = geoseg.predict(
        scene,
        maps / "map.tif",
        confidence=maps / "more" / "sure.tif",
        probabilities=maps / "each.tif",
        polygons=tmp_path / "polygons.gpkg",
        model=bundle,
        device="onnx",
        stac=True,
        mkdir=True,
    )
    found = read(maps / "map.json")
    item = pystac.Item.from_file(maps / "map.json")
    assert found["id"] == "map"
    for asset, expected in {
        "landcover": maps / "map.tif",
        "confidence": maps / "more" / "sure.tif",
        "probabilities": maps / "each.tif",
        "polygons": tmp_path / "polygons.gpkg",
    }.items():
        place = Path(str(item.assets[asset].get_absolute_href()))
        assert place.resolve() == expected.resolve()
        told = FileExtension.ext(item.assets[asset])
        assert (told.size, told.checksum) == (place.stat().st_size, multihash(place.read_bytes()))
    classes = ClassificationExtension.ext(item.assets["landcover"]).classes
    assert classes is not None
    legend = {each.code: "".join(f"{part:02X}" for part in each.color) for each in bundle.legend}
    assert {each.value: each.color_hint for each in classes if each.value != 255} == legend
    assert [each.value for each in classes if each.nodata] == [255]
    with rasterio.open(out) as made:
        place = ProjectionExtension.ext(item)
        assert place.code == made.crs.to_string()
        assert (place.shape, place.transform) == ([*made.shape], [*made.transform][:6])
        np.testing.assert_allclose(
            found["bbox"], transform_bounds(made.crs, "EPSG:4326", *made.bounds, densify_pts=21), atol=1e-6
        )
        assert found["assets"]["landcover"]["nodata"] == made.nodata
        assert found["assets"]["landcover"]["data_type"] == made.dtypes[0]
    outline = shape(found["geometry"])
    assert outline.is_valid
    assert outline.exterior.is_ccw
    np.testing.assert_allclose(outline.bounds, found["bbox"], atol=1e-6)
    made_from = [(maps / link["href"]).resolve() for link in found["links"] if link["rel"] == "derived_from"]
    assert made_from == [scene.resolve(), bundle.weights_path.resolve()]
    mapped = datetime.fromisoformat(found["properties"]["datetime"])
    assert before <= mapped <= datetime.now(UTC)
    assert "datetime is when it was mapped" in found["properties"]["processing:lineage"]


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".geoparquet", "application/vnd.apache.parquet"),
        (".json", "application/geo+json"),
        (".geojsons", "application/geo+json-seq"),
    ],
)
def test_polygons_have_their_media_type(
    scene: Path, tmp_path: Path, bundle: ModelBundle, suffix: str, kind: str
) -> None:
    polygons = tmp_path / f"polygons{suffix}"
    geoseg.predict(
        scene, tmp_path / "map.tif", polygons=polygons, model=bundle, device="onnx", stac=tmp_path / "item.json"
    )
    assert read(tmp_path / "item.json")["assets"]["polygons"]["type"] == kind


def test_a_file_is_read_once_for_its_checksum_and_again_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The item is written twice, without and with the polygons; the map is hashed once."""
    read: list[Path] = []

    def counted(file: Path) -> str:
        read.append(file)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(catalog, "sha256", counted)
    file = tmp_path / "map.tif"
    for content, times in ((b"first", 1), (b"first, longer", 2)):
        file.write_bytes(content)
        for _ in range(2):
            told = catalog.file_facts(file)
            assert told["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        assert len(read) == times


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ns": "IMAGERY", "ACQUISITIONDATETIME": "2024-05-06 07:08:09"}, "2024-05-06T07:08:09Z"),
        ({"PRODUCT_START_TIME": "2024-05-06T09:08:09.123+02:00"}, "2024-05-06T07:08:09Z"),
        ({"TIFFTAG_DATETIME": "2001:02:03 04:05:06"}, None),
        ({"ns": "IMAGERY", "ACQUISITIONDATETIME": "in spring"}, None),
    ],
    ids=str,
)
def test_the_time_is_the_scenes_where_its_file_tells_it(
    scene: Path, tmp_path: Path, bundle: ModelBundle, tags: dict[str, str], expected: str | None
) -> None:
    with rasterio.open(scene, "r+") as file:
        file.update_tags(**tags)
    geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="onnx", stac=tmp_path / "item.json")
    told = read(tmp_path / "item.json")["properties"]
    assert told["datetime"] == (expected or told["processing:datetime"])
    assert ("is when it was mapped" in told["processing:lineage"]) is (expected is None)


@pytest.mark.parametrize(
    ("crs", "transform", "inside", "outside"),
    [
        ("EPSG:32660", Affine(3000, 0, 700_000, 0, -3000, 200_000), (-179.5, 0), (0, 0)),  # over 180 degrees
        ("EPSG:3413", Affine(1e4, 0, -45e4, 0, -1e4, 35e4), (12, 89.9), (12, 80)),  # around the north pole
        ("EPSG:3031", Affine(1e4, 0, -45e4, 0, -1e4, 35e4), (170, -89.9), (170, -80)),
        ("EPSG:4326", Affine(0.1, 0, 176, 0, -0.1, 3), (-179, 0), (170, 0)),
        ("EPSG:2056", Affine(8, 6, 2_600_000, 6, -8, 1_200_000), (7.45, 46.95), (8.45, 46.95)),  # rotated
        ("EPSG:32632", Affine(10, 0, 500_000, 0, 10, 5_400_000), (9.005, 48.755), (9.005, 48.745)),  # south up
    ],
    ids=str,
)
def test_the_outline_holds_what_the_map_holds(
    tmp_path: Path,
    bundle: ModelBundle,
    crs: str,
    transform: Affine,
    inside: tuple[float, float],
    outside: tuple[float, float],
) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(70, 90, 0, 0), crs=crs, transform=transform)
    geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="onnx", stac=True)
    found = read(tmp_path / "map.json")
    outline = shape(found["geometry"])
    west, south, east, north = found["bbox"]
    assert outline.is_valid
    for (lon, lat), expected in ((inside, True), (outside, False)):
        assert outline.intersects(shape({"type": "Point", "coordinates": (lon, lat)})) is expected
        across = west <= lon <= east if west <= east else lon >= west or lon <= east
        assert (across and south <= lat <= north) is expected


def test_a_map_without_a_place_has_an_item_without_one(tmp_path: Path, bundle: ModelBundle) -> None:
    scene = write_scene(tmp_path / "scene.tif", random_pixels(70, 90, 0, 0), crs=None, transform=Affine.identity())
    geoseg.predict(scene, tmp_path / "map.tif", model=bundle, device="onnx", stac=True)
    found = read(tmp_path / "map.json")
    assert found["geometry"] is None
    assert "bbox" not in found


def test_a_file_of_somebody_else_keeps_its_place(scene: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    (tmp_path / "map.json").write_text('{"mine": 1}')
    with pytest.raises(
        OutputError, match=r"map\.json exists and is not a map's STAC item; add `overwrite=True`"
    ) as refused:
        geoseg.predict(scene, tmp_path / "map.tif", stac=True, **options)
    assert refused.value.parameter == "stac"
    assert not (tmp_path / "map.tif").exists()
    assert (tmp_path / "map.json").read_text() == '{"mine": 1}'
    for wrong in ("item.txt", 3):
        with pytest.raises(UsageError, match="`stac`"):
            geoseg.predict(scene, tmp_path / "map.tif", stac=wrong, **options)  # type: ignore[arg-type] # to be refused
    with pytest.raises(OutputError, match="does not exist; check the path"):
        geoseg.predict(scene, tmp_path / "map.tif", stac=tmp_path / "nowhere" / "item.json", **options)
    geoseg.predict(scene, tmp_path / "map.tif", stac=True, overwrite=True, **options)
    read(tmp_path / "map.json")


@pytest.mark.usefixtures("scene")
def test_an_item_that_is_read_is_not_replaced(tmp_path: Path, bundle: ModelBundle) -> None:
    bands = [{"name": name} for name in "rgb"]
    read_item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S2",
        "properties": {"datetime": "2024-05-06T07:08:09Z"},
        "assets": {"visual": {"href": "scenes/scene.tif", "type": "image/tiff", "roles": ["visual"], "bands": bands}},
    }
    item = tmp_path / "S2.json"
    item.write_text(json.dumps(read_item))
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "stac": True, "overwrite": True, "bands": ["visual"]}
    with pytest.raises(UsageError, match="is read by this run and would be replaced; choose another `stac`"):
        geoseg.predict(item, tmp_path / "S2.tif", **options)
    with pytest.raises(UsageError, match=r"the STAC item of .* would replace a scene"):
        geoseg.predict_many([item], tmp_path, **options)
    assert json.loads(item.read_text()) == read_item
    geoseg.predict(item, tmp_path / "map.tif", **options)
    found = read(tmp_path / "map.json")
    assert found["links"][0] == {
        "rel": "derived_from", "href": "./S2.json", "title": "S2.json", "type": "application/geo+json"
    }  # fmt: skip
    assert found["properties"]["datetime"] == "2024-05-06T07:08:09Z"


def test_maps_that_are_finished_get_their_items(scene: Path, tmp_path: Path, bundle: ModelBundle) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    maps = tmp_path / "maps"
    (first,) = geoseg.predict_many([scene], maps, **options)
    assert not (maps / "scene.json").exists()
    for _ in range(2):
        (again,) = geoseg.predict_many([scene], maps, stac=True, **options)
        assert again.status == "finished"
        written = (maps / "scene.json").stat().st_mtime_ns
        told = read(maps / "scene.json")["assets"]["landcover"]
        assert told["file:checksum"] == multihash(Path(first.labels).read_bytes())
    (again,) = geoseg.predict_many([scene], maps, stac=True, **options)
    assert (maps / "scene.json").stat().st_mtime_ns == written
    (maps / "scene.json").write_text("mine")
    (again,) = geoseg.predict_many([scene], maps, stac=True, **options)
    assert (again.status, (maps / "scene.json").read_text()) == ("failed", "mine")
    geoseg.predict_many([scene], maps, stac=f"{tmp_path}/items/{{name}}.geojson", mkdir=True, **options)
    assert read(tmp_path / "items" / "scene.geojson")["assets"]["landcover"]["href"] == "./../maps/scene.tif"


def test_an_item_that_a_kill_has_left_out_is_written_by_the_same_call(
    scene: Path, tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx", "stac": True}
    with monkeypatch.context() as patched:
        patched.setattr("geoseg.inference.execution.execute.write_item", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            geoseg.predict(scene, tmp_path / "map.tif", **options)
    assert (tmp_path / "map.tif").exists()
    geoseg.predict(scene, tmp_path / "map.tif", **options)
    assert read(tmp_path / "map.json")["id"] == "map"
    assert not (tmp_path / "map.tif.parts").exists()


def test_the_item_of_a_map_in_a_store_is_beside_it(
    bucket: Bucket, scene: Path, tmp_path: Path, bundle: ModelBundle
) -> None:
    options: dict[str, Any] = {"model": bundle, "device": "onnx"}
    geoseg.predict(scene, bucket.url("maps/map.tif"), confidence=bucket.url("sure.tif"), stac=True, **options)
    found = read(bucket.read("maps/map.json"))
    assert found["assets"]["landcover"]["href"] == "./map.tif"
    assert found["assets"]["confidence"]["href"] == "./../sure.tif"
    assert found["assets"]["landcover"]["file:checksum"] == multihash(bucket.read("maps/map.tif"))
    assert str(tmp_path) not in json.dumps(found)
    geoseg.predict(scene, bucket.url("other.tif"), stac=tmp_path / "here.json", **options)
    assert read(tmp_path / "here.json")["assets"]["landcover"]["href"] == bucket.url("other.tif")
    bucket.write("third.json", b"mine")
    with pytest.raises(OutputError, match="exists; add `overwrite=True`"):
        geoseg.predict(scene, bucket.url("third.tif"), stac=True, **options)
    assert bucket.read("third.json") == b"mine"
    assert "third.tif" not in bucket.names()
