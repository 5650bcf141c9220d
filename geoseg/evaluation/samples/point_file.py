"""A file of points whose class somebody is to fill in: a table with a place, whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.warp import transform

from geoseg.atomic import make_folders, output_error, probe_writable, replace_durably, sync_file
from geoseg.errors import OutputError, UsageError, listed
from geoseg.raster import GDAL_ERRORS, GeoBox

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

_DRIVERS: Mapping[str, str | None] = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".json": "GeoJSON",
    ".fgb": "FlatGeobuf",
    ".parquet": None,
    ".geoparquet": None,
    ".csv": None,
}
"""GDAL's, by the extension; None where GDAL does not write it."""
_GEOJSON = "GeoJSON"
_WGS84 = "EPSG:4326"
_DECIMALS = 9
"""Of degrees: a tenth of a millimeter."""


def check_target(out: str | os.PathLike[str], *, mkdir: bool, overwrite: bool) -> Path:
    """Return the path if a file of points can be written there, before any work is done.

    UsageError for an extension that names no format. OutputError where no file can be made, or one is there that may
    not be replaced: a GeoPackage with other layers never is.
    """
    path = Path(out)
    if path.suffix.lower() not in _DRIVERS:
        raise UsageError(
            f"{path} names no format of points; give it one of the extensions {', '.join(_DRIVERS)}", "out"
        )
    if mkdir:
        make_folders(out)
    path = probe_writable(out)
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} exists; add `overwrite=True` to replace it (classes that were filled in are lost), or choose "
            "another `out`",
            "out",
        )
    if path.exists() and path.suffix.lower() == ".gpkg":
        _check_layers(path)
    return path


def check_degrees(target: Path, place: GeoBox, name: str) -> None:
    """Raise UsageError for GeoJSON, which is in degrees, of a map that has none."""
    if _DRIVERS[target.suffix.lower()] == _GEOJSON and not _has_degrees(place):
        raise UsageError(
            f"GeoJSON is in degrees of WGS 84, and {name} has no CRS on Earth; choose another format, such as .gpkg",
            "out",
        )


def _has_degrees(place: GeoBox) -> bool:
    if place.crs is None:
        return False
    x, y = place.transform @ (place.width_px / 2, place.height_px / 2)
    try:
        transform(place.crs, _WGS84, [x], [y])
    except GDAL_ERRORS:  # of another body
        return False
    return True


def _check_layers(path: Path) -> None:
    """Raise OutputError for a GeoPackage that holds more than the points of an earlier call."""
    import pyogrio  # noqa: PLC0415 - half a second that an error need not wait for

    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
    except pyogrio.errors.DataSourceError:  # no GeoPackage, or a damaged one
        names = ["something else"]
    if others := [name for name in names if name not in {path.stem, "layer_styles"}]:
        raise OutputError(f"{path} holds {listed(others)}, which would be lost; choose another `out`", "out")


def write_points(points: geopandas.GeoDataFrame, target: Path, place: GeoBox) -> None:
    """Write points of a map that lies at a `place`, whole or not at all. OutputError says why not."""
    folder = Path(tempfile.mkdtemp(prefix=".geoseg-", dir=target.parent))
    unfinished = folder / target.name
    try:
        _write(points, unfinished, has_degrees=_has_degrees(place))
        sync_file(unfinished)
        replace_durably(unfinished, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(points: geopandas.GeoDataFrame, path: Path, *, has_degrees: bool) -> None:
    ending = path.suffix.lower()
    driver = _DRIVERS[ending]
    if ending == ".csv":
        _table(points, has_degrees=has_degrees).to_csv(path, index=False, lineterminator="\n")
    elif driver is None:
        points.to_parquet(path)
    elif driver == _GEOJSON:
        points.to_crs(_WGS84).to_file(path, driver=driver, engine="pyogrio")
    else:
        # an index would sort FlatGeobuf's features by place
        options = {"SPATIAL_INDEX": "NO"} if driver == "FlatGeobuf" else {}
        points.to_file(path, driver=driver, engine="pyogrio", layer=path.stem, layer_options=options)


def _table(points: geopandas.GeoDataFrame, *, has_degrees: bool) -> pd.DataFrame:
    """Return points as a table with their places in columns: in degrees where they have some, and in the map's CRS."""
    columns = {"id": points["id"]}
    if has_degrees:
        degrees = points.to_crs(_WGS84).geometry
        columns |= {"lon": degrees.x.round(_DECIMALS), "lat": degrees.y.round(_DECIMALS)}
    if not (has_degrees and points.crs.is_geographic):
        columns |= {"x": points.geometry.x, "y": points.geometry.y}
    import pandas as pd  # noqa: PLC0415 - the other formats do without its name

    return pd.DataFrame(columns | {"class": points["class"]})
