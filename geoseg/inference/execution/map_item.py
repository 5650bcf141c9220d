"""The STAC item of a map: its footprint, its classes, its files with checksums, and its sources.

Format: https://github.com/radiantearth/stac-spec, 1.1.0, with the extensions classification, file, processing,
projection and raster.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_geom

from geoseg.atomic import output_error, write_durably
from geoseg.catalog import FILE_EXTENSION, STAC_VERSION, file_facts, href, modified_text, utc_text
from geoseg.errors import GeosegError
from geoseg.legend import NODATA
from geoseg.raster import (
    GDAL_ERRORS,
    GeoBox,
    Scene,
    is_remote,
    item_times,
    opened,
    public_name,
    raster_environment,
    sources_of,
)
from geoseg.store import Key, is_store
from geoseg.version import VERSION

if TYPE_CHECKING:
    from affine import Affine

    from geoseg.inference.execution.outputs import Outputs
    from geoseg.inference.plan import Plan
    from geoseg.raster.landcover import ProductName

_EXTENSIONS = (
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    FILE_EXTENSION,
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
)
_COG, _ITEM = "image/tiff; application=geotiff; profile=cloud-optimized", "application/geo+json"
_VECTOR_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    **dict.fromkeys((".parquet", ".geoparquet"), "application/vnd.apache.parquet"),
    **dict.fromkeys((".geojson", ".json"), "application/geo+json"),
    **dict.fromkeys((".geojsonl", ".geojsons", ".geojsonseq"), "application/geo+json-seq"),
}
_ASSETS: Mapping[ProductName, tuple[str, str]] = {
    "labels": ("landcover", "Land cover"),
    "confidence": ("confidence", "Probability of the class, in percent"),
    "probabilities": ("probabilities", "Probability of each class, in percent"),
}
"""Key and title of each raster's asset."""
_WGS84 = CRS.from_epsg(4326)
_EDGE_POINTS = 21
_DIGITS = 7
"""Decimals of a degree: about a centimeter."""
_TOLERANCE = 1e-6
"""Degrees by which an outline may be simplified."""
_SEPARATORS = re.compile(r"[^0-9A-Za-z-]+")
_TIME_TAGS = (("IMAGERY", "ACQUISITIONDATETIME"), (None, "PRODUCT_START_TIME"))
"""Tags in which GDAL's drivers keep the acquisition time. A TIFF's own DATETIME is when the file was written."""

Address = Callable[[Path], str]
"""Gives the final path or URL of a file that is written at a path."""


def write_item(plan: Plan, outputs: Outputs, address: Address) -> None:
    """Write the item of a finished map atomically; OutputError if that is not possible."""
    if outputs.stac is None:
        return
    try:
        item = map_item(plan, outputs, outputs.stac, address)
    except OSError as error:
        raise output_error(outputs.stac, error) from error
    write_durably(outputs.stac, (json.dumps(item, indent=2, ensure_ascii=False) + "\n").encode())


def is_map_item(content: bytes) -> bool:
    """Return whether the content of a file is an item written by `write_item`."""
    return _map_size(content) is not None


def is_item_of(content: bytes, size: int | None) -> bool:
    """Return whether the content is the item of a map of `size` bytes."""
    return size is not None and _map_size(content) == size


def _map_size(content: bytes) -> int | None:
    try:
        item = json.loads(content)
        if "geoseg" in item["properties"]["processing:software"]:
            return int(item["assets"]["landcover"]["file:size"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def map_item(plan: Plan, outputs: Outputs, item: Path, address: Address) -> dict[str, Any]:
    """Return the item of a finished map, to be written at a path. Raises OSError if the map cannot be read."""
    grid, place = plan.scene.geobox, address(item)
    geometry = _footprint(grid)
    mapped = modified_text(outputs.labels)
    acquired = _time_of(plan.source)
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(_EXTENSIONS),
        "id": PurePosixPath(address(outputs.labels).replace("\\", "/")).stem,
        "geometry": geometry,
        **({} if geometry is None else {"bbox": _bbox(geometry)}),
        "properties": {
            **(acquired or {"datetime": mapped}),
            "created": mapped,
            "title": f"Land cover of {public_name(plan.source.item or plan.source.path)}",
            **_projection_fields(grid),
            "processing:datetime": mapped,
            "processing:lineage": _lineage(plan, has_time=acquired is not None),
            "processing:software": {"geoseg": VERSION},
            "geoseg:model": plan.bundle.name,
            "geoseg:model_sha256": plan.bundle.hash,
            "geoseg:engine": plan.engine.describe(),
        },
        "links": [*_scene_links(plan.source, place), _model_link(plan, place)],
        "assets": dict(_assets(plan, outputs, lambda path: _href(path, address(path), place))),
    }


def _lineage(plan: Plan, *, has_time: bool) -> str:
    scene = public_name(plan.source.item or plan.source.path)
    text = f"Mapped by geoseg {VERSION} from {scene} with the model {plan.bundle.name} (sha256 {plan.bundle.hash})."
    return text if has_time else f"{text} The scene has no acquisition time: datetime is when it was mapped."


def _scene_links(scene: Scene, item: str) -> Iterator[dict[str, str]]:
    """Yield a link to the scene's own item, or to each raster that it is made of."""
    if scene.item is not None:
        yield _link(scene.item.rpartition("#")[0] or scene.item, item, _ITEM)
        return
    for path in sources_of(scene.path):
        yield _link(path, item)


def _link(path: str, item: str, kind: str = "") -> dict[str, str]:
    name = public_name(path)
    target = name if is_remote(path) or is_store(item) else _local_href(path, Path(item)) or name
    return {"rel": "derived_from", "href": target, "title": name} | ({"type": kind} if kind else {})


def _local_href(path: str, item: Path) -> str | None:
    """Return a file's path relative to an item; None for a GDAL name that is not a file."""
    return href(Path(path).absolute(), item) if os.path.exists(path) else None  # noqa: PTH110 - a name may be a text


def _model_link(plan: Plan, item: str) -> dict[str, str]:
    """Return a link to the model: its page on a hub, or its file."""
    bundle = plan.bundle
    title = f"model {bundle.name}"
    if (hub := bundle.provenance.get("hub")) is not None:
        repository = str(hub).removeprefix("hf://").partition("@")[0]
        return {"rel": "derived_from", "href": f"https://huggingface.co/{repository}", "title": title}
    files = [file for file in bundle.files if file.is_file()]
    if not files:
        return {"rel": "derived_from", "href": f"urn:sha256:{bundle.hash}", "title": title}
    return _link(str(files[0]), item) | {"title": title}


def _href(path: Path, address: str, item: str) -> str:
    """Return the link from an item to a file of the map: relative if both are in one store, or both on disk."""
    if not is_store(address):
        return path.absolute().as_uri() if is_store(item) else href(path, Path(item))
    if is_store(item):
        item_key, file_key = Key.of(item), Key.of(address)
        if (item_key.scheme, item_key.bucket) == (file_key.scheme, file_key.bucket):
            return href(Path("/", file_key.path), Path("/", item_key.path))
    return address


def _assets(plan: Plan, outputs: Outputs, link_to: Callable[[Path], str]) -> Iterator[tuple[str, dict[str, Any]]]:
    gsd_m = plan.scene.geobox.gsd_m
    pixel = {"raster:sampling": "area"} | ({} if gsd_m is None else {"raster:spatial_resolution": round(gsd_m, 6)})
    for product, path in reversed(outputs.by_product.items()):
        key, title = _ASSETS[product]
        asset = {"href": link_to(path), "type": _COG, "title": title, "roles": ["data"]}
        values = {"data_type": "uint8", "nodata": NODATA} | pixel | _product_fields(plan, product)
        yield key, asset | values | file_facts(path)
    if outputs.polygons is not None and (path := Path(outputs.polygons.target).absolute()).is_file():
        kind = _VECTOR_TYPES[path.suffix.lower()]
        asset = {"href": link_to(path), "type": kind, "title": "Land cover as polygons", "roles": ["data"]}
        yield "polygons", asset | file_facts(path)


def _product_fields(plan: Plan, product: ProductName) -> dict[str, Any]:
    if product == "labels":
        return {"classification:classes": list(_classes(plan))}
    if product == "confidence":
        return {"unit": "%"}
    legend = plan.bundle.legend
    return {"unit": "%", "bands": [{"name": legend.by_code(code).name} for code in plan.mapping.output_codes]}


def _classes(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the classes with unique machine-readable names; their titles are the readable ones."""
    used: set[str] = set()
    for land_cover in plan.bundle.legend:
        plain = _SEPARATORS.sub("_", land_cover.name).strip("_") or f"class_{land_cover.code}"
        name = plain if plain.casefold() not in used else f"{plain}_{land_cover.code}"
        used.add(name.casefold())
        color = bytes(land_cover.color).hex().upper()
        yield {
            "value": land_cover.code, "name": name, "title": land_cover.name, "description": land_cover.name,
            "color_hint": color,
        }  # fmt: skip
    if all(land_cover.code != NODATA for land_cover in plan.bundle.legend):
        yield {"value": NODATA, "name": "nodata", "title": "nodata", "description": "not mapped", "nodata": True}


def _projection_fields(grid: GeoBox) -> dict[str, Any]:
    shape = {"proj:shape": list(grid.shape)}
    if grid.crs is None or not grid.has_grid:
        return {"proj:code": None} | shape
    authority = grid.crs.to_authority()
    wkt = {} if authority else {"proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}
    code = {"proj:code": ":".join(authority) if authority else None} | wkt
    gsd = {} if grid.gsd_m is None else {"gsd": round(grid.gsd_m, 6)}
    return code | shape | {"proj:transform": list(grid.transform)[:6], "proj:bbox": list(grid.bounds)} | gsd


def _footprint(grid: GeoBox) -> dict[str, Any] | None:
    """Return the outline in longitude and latitude, cut at 180 degrees; None if the map is not georeferenced."""
    crs, transform = grid.mapping()
    if crs is None or transform is None:
        return None
    steps = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    cols = np.concatenate([zeros, steps, ones, 1 - steps, [0]]) * grid.width_px
    rows = np.concatenate([steps, ones, 1 - steps, zeros, [0]]) * grid.height_px
    ring = [transform @ corner for corner in zip(cols.tolist(), rows.tolist(), strict=True)]
    try:
        with raster_environment():
            if not crs.is_geographic and (pole := _contained_pole(grid, crs, transform)):
                return _polar_cap(pole, transform_points(crs, _WGS84, *zip(*ring, strict=True))[1])
            outline = {"type": "Polygon", "coordinates": [ring]}
            cut = transform_geom(crs, _WGS84, outline, antimeridian_cutting=True, precision=_DIGITS)
    except GDAL_ERRORS:
        return None
    return _normalized(cut)


def _normalized(outline: dict[str, Any]) -> dict[str, Any] | None:
    """Return an outline within -180 to 180 degrees, simplified, with rings oriented as in RFC 7946."""
    from shapely import (  # noqa: PLC0415 - few maps have an item
        affinity,
        box,
        geometry,
        orient_polygons,
        set_precision,
        simplify,
        union_all,
    )

    footprint = geometry.shape(outline)
    if not np.isfinite(footprint.bounds).all():
        return None
    footprint = footprint if footprint.is_valid else box(*footprint.bounds)
    globe = box(-180, -90, 180, 90)
    clipped = union_all([affinity.translate(footprint, turn).intersection(globe) for turn in (-360, 0, 360)])
    rounded = set_precision(simplify(clipped, _TOLERANCE), 10.0**-_DIGITS)
    rounded = rounded if rounded.is_valid and not rounded.is_empty else box(*clipped.bounds)
    result: dict[str, Any] = json.loads(json.dumps(geometry.mapping(orient_polygons(rounded))))
    return result


def _contained_pole(grid: GeoBox, crs: CRS, transform: Affine) -> int | None:
    """Return the latitude of the pole that the map contains, if any."""
    for lat in (90, -90):
        try:
            (x,), (y,) = transform_points(_WGS84, crs, [0.0], [float(lat)])
        except GDAL_ERRORS:
            continue
        col, row = ~transform @ (x, y)
        if 0 <= col <= grid.width_px and 0 <= row <= grid.height_px:  # false for infinity
            return lat
    return None


def _polar_cap(pole: int, lats: Sequence[float]) -> dict[str, Any]:
    """Return a polygon of all longitudes, from a pole to the latitude farthest from it."""
    edge = round(min(lats) if pole > 0 else max(lats), _DIGITS)
    south, north = sorted((edge, pole))
    ring = [[-180, south], [180, south], [180, north], [-180, north], [-180, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _bbox(geometry: Mapping[str, Any]) -> list[float]:
    """Return the box of a footprint; if it is cut at 180 degrees, west exceeds east, as in RFC 7946."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    boxes = sorted((*map(float, np.min(part[0], axis=0)), *map(float, np.max(part[0], axis=0))) for part in parts)
    west, east = boxes[0][0], max(box[2] for box in boxes)
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    if len(boxes) == 2 and west <= -180 and east >= 180 and boxes[0][2] < boxes[1][0]:
        west, east = boxes[1][0], boxes[0][2]
    return [west, south, east, north]


def _time_of(scene: Scene) -> dict[str, str | None] | None:
    """Return when the scene was taken, according to its item or its file; None if neither says."""
    if scene.item is not None:
        return item_times(scene.item)
    try:
        with opened(scene.path) as dataset:
            texts = [str(dataset.tags(ns=domain).get(name, "")).strip() for domain, name in _TIME_TAGS]
    except GeosegError:
        return None
    for text in filter(None, texts):
        try:
            return {"datetime": utc_text(datetime.fromisoformat(text))}
        except ValueError:
            continue
    return None
