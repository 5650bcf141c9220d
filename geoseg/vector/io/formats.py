"""Output of polygons: to a file, in the format of its extension, whole or not at all; or to a GeoDataFrame."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg.atomic import (
    check_closed,
    check_free,
    output_error,
    probe_writable,
    replace_durably,
    sync_file,
    write_durably,
)
from geoseg.errors import OutputError, UsageError, listed
from geoseg.progress import Announce
from geoseg.raster.landcover import QGIS_DOCTYPE, is_foreign_style, style_path
from geoseg.store import Key
from geoseg.vector.io.arrow import write_flatgeobuf, write_geojson, write_geojson_sequence, write_geoparquet
from geoseg.vector.io.crs import WGS84, in_crs, to_pyproj
from geoseg.vector.io.geopackage import (
    MOST_CATEGORIES,
    add_style,
    categorized_style,
    check_file,
    locked_copy,
    move_layer,
    other_contents,
    write_geopackage,
)
from geoseg.vector.polygons import FeatureTable, PolygonLayer, to_shapes

Writer = Callable[[Path, PolygonLayer, Iterable[FeatureTable]], None]

_WRITERS: dict[str, Writer] = {
    ".gpkg": write_geopackage,
    ".parquet": write_geoparquet,
    ".geoparquet": write_geoparquet,
    ".fgb": write_flatgeobuf,
    ".geojson": write_geojson,
    ".json": write_geojson,
    ".geojsonl": write_geojson_sequence,
    ".geojsons": write_geojson_sequence,
    ".geojsonseq": write_geojson_sequence,
}
EXTENSIONS = tuple(_WRITERS)
_GEOJSON = (write_geojson, write_geojson_sequence)


def check_target(
    out: str | os.PathLike[str], *, overwrite: bool = False, layer: str | None = None, mkdir: bool = False
) -> Path:
    """Return the target as an absolute path if polygons can be written there; called before any work is done.

    In a GeoPackage a `layer` is written, or replaced with `overwrite`; all other layers stay.

    UsageError for an extension of no known format; OutputError if no file can be created, if one exists and may not be
    replaced, or if another program has the GeoPackage open.
    """
    path = Path(out)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(
            f"{path} does not have the extension of a polygon format; use one of {', '.join(EXTENSIONS)}", "out"
        )
    path = probe_writable(out, mkdir=mkdir).absolute()
    if has_layers(path):
        check_closed(path)
    if keeps_layers(path):
        check_file(path, layer or path.stem, overwrite=overwrite)
        return path
    check_free(path, "out", overwrite=overwrite)
    return path


def check_stored(key: Key, layer: str, parameter: str) -> None:
    """Raise OutputError for a GeoPackage in a store that holds more than a layer: an upload replaces all of it."""
    if not key.size():
        return
    with TemporaryDirectory(prefix="geoseg-") as folder:
        copy = Path(folder) / "stored.gpkg"
        key.download(copy)
        others = other_contents(copy, layer)
    if others is None:
        raise OutputError(
            f"{key} exists and is not a GeoPackage, so it is left as it is; choose another `{parameter}`, or remove it",
            parameter,
        )
    if others:
        raise OutputError(
            f"{key} holds more than the layer {layer!r}, which an upload would replace: {listed(others)}; choose "
            f"another `{parameter}`, or write to a copy on the disk and upload that",
            parameter,
        )


def spare_style(polygons: Path, key: Key) -> None:
    """Drop the style next to polygons if an upload would replace that of a raster, or one of another program."""
    style = style_path(polygons)
    there = key.beside(style.name).read() if style.exists() else None
    if there is not None and not (there.startswith(QGIS_DOCTYPE.encode()) and b"<renderer-v2" in there):
        style.unlink()


def has_layers(target: Path) -> bool:
    """Return whether a file of that name has layers: one is written, the others are kept."""
    return _WRITERS.get(target.suffix.lower()) is write_geopackage


def is_mixed(target: Path) -> bool:
    """Return whether a file of that name may mix polygons and multipolygons."""
    return _WRITERS[target.suffix.lower()] in _GEOJSON


def keeps_layers(target: Path) -> bool:
    """Return whether the file exists and keeps all layers except the one written; not if it is empty."""
    return has_layers(target) and target.exists() and target.stat().st_size > 0


def stored_crs(
    target: Path | None, crs: CRS | None, requested: CRS | None = None, announce: Announce | None = None
) -> CRS | None:
    """Return the CRS of the output, `target` None being a GeoDataFrame: `requested`, else the raster's `crs`.

    GeoJSON is always in WGS 84 (RFC 7946, section 4); that is announced. UsageError for a CRS that is not possible.
    """
    if requested is not None and crs is None:
        raise UsageError(
            "the raster has no CRS to reproject from; leave out `crs`, or assign one with rio edit-info --crs", "crs"
        )
    if target is None or _WRITERS[target.suffix.lower()] not in _GEOJSON:
        return requested or crs
    if requested is not None and requested != WGS84:
        raise UsageError(
            f"GeoJSON is always in WGS 84 (RFC 7946), got `crs={requested.to_string()[:80]}`; "
            "leave out `crs`, or choose a format such as .gpkg",
            "crs",
        )
    _announce_crs(announce, target, crs)
    return None if crs is None else WGS84


def _announce_crs(announce: Announce | None, target: Path, crs: CRS | None) -> None:
    if announce is None:
        return
    if crs is None:
        announce(
            f"{target.name}: GeoJSON implies WGS 84, but the raster has no CRS; coordinates are written as they are"
        )
    elif crs != WGS84:
        announce(f"{target.name}: GeoJSON uses longitude and latitude in WGS 84 (RFC 7946); polygons are reprojected")


def write(target: Path, layer: PolygonLayer, tables: Iterable[FeatureTable], *, crs: CRS | None = None) -> None:
    """Write the features in batches as they arrive, and name the file only when it is whole and on disk.

    `target` is from `check_target`; `crs`, the file's, from `stored_crs`; None for `layer.crs`. In an existing
    GeoPackage only the layer of that name is replaced. OutputError if the file cannot be written, and whatever the
    tables raise: then nothing is left behind, and an existing file is unchanged.
    """
    writer = _WRITERS[target.suffix.lower()]
    if has_layers(target) and target.is_symlink():
        target = target.resolve()  # the file that other programs open by its own name
    codes: set[int] = set()
    tables = _collect_codes(_checked(tables, layer), codes)
    layer, tables = in_crs(layer, tables, crs, mixed=is_mixed(target))
    with _work_folder(target) as folder:
        # A plain name: some target names have a special meaning for GDAL.
        unfinished = folder / f"unfinished{target.suffix.lower()}"
        try:
            writer(unfinished, layer, tables)
            style = categorized_style(layer, codes)
            if has_layers(target):
                check_closed(target)
                if keeps_layers(target):
                    _replace_layer(unfinished, layer, style, target)
                    return
                add_style(unfinished, layer, style)
            sync_file(unfinished)
            replace_durably(unfinished, target)
            if not has_layers(target):
                _write_style(target, style)
        except (OSError, sqlite3.Error) as error:
            raise output_error(target, error) from error


def _replace_layer(unfinished: Path, layer: PolygonLayer, style: str | None, target: Path) -> None:
    """Put a layer into a copy of a GeoPackage, which replaces the original when it is whole and on disk."""
    copy = unfinished.with_name("whole.gpkg")
    with locked_copy(target, copy, unfinished.stat().st_size) as check_unchanged:
        move_layer(unfinished, layer, copy)
        add_style(copy, layer, style)
        sync_file(copy)
        check_unchanged()
        replace_durably(copy, target)


def _checked(tables: Iterable[FeatureTable], layer: PolygonLayer) -> Iterator[FeatureTable]:
    for table in tables:
        if not layer.multi and np.any(np.diff(table.polygons.features) != 1):
            raise ValueError("a feature of several polygons, or none, needs a layer of multipolygons")
        yield table


def _collect_codes(tables: Iterable[FeatureTable], codes: set[int]) -> Iterator[FeatureTable]:
    """Yield tables unchanged, and collect their class codes, up to one more than a style can show."""
    for table in tables:
        if len(codes) <= MOST_CATEGORIES:
            codes.update(np.unique(table.polygons.codes).tolist())
        yield table


def _write_style(target: Path, style: str | None) -> None:
    """Write the style that QGIS opens with the file, unless another file of that stem would use it too."""
    path = style_path(target)
    others = {other.name for other in target.parent.glob(f"{glob.escape(target.stem)}.*")} - {target.name, path.name}
    if others or style is None or is_foreign_style(path):
        return
    with contextlib.suppress(OutputError):  # the polygons are already written
        write_durably(path, style.encode())


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Make a folder next to the target for the unfinished file, and for any files a driver adds."""
    folder = target.parent / f".geoseg-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise output_error(target, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def to_geodataframe(tables: Iterable[FeatureTable], layer: PolygonLayer, *, crs: CRS | None = None) -> Any:
    """Return all features with the same columns as files: code, name, area, perimeter, confidence, geometry.

    `crs` is that of the geometries, None for `layer.crs`. Raises whatever the tables raise.
    """
    import geopandas  # noqa: PLC0415 - takes a second; files are written without it
    import pandas as pd  # noqa: PLC0415 - see above

    layer, tables = in_crs(layer, tables, crs)
    tables = list(tables)
    codes = _concatenated([table.polygons.codes for table in tables], np.int32)
    distinct_codes, rows = np.unique(codes, return_inverse=True)
    names = np.array([layer.name_of(int(code)) for code in distinct_codes], object)
    columns: dict[str, Any] = {"code": codes, "name": pd.Series(names[rows], dtype="str")}
    for index, name in enumerate(layer.numbers):
        columns[name] = _concatenated([table.numbers[index] for table in tables], np.float64)
    geometry = _concatenated([to_shapes(table.polygons, multi=layer.multi) for table in tables], object)
    crs = None if layer.crs is None else to_pyproj(layer.crs)
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=crs)


def _concatenated(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
