"""Features streamed to a file by GDAL, for the formats that it writes best."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from geoseg.atomic import free_space_bytes
from geoseg.vector.io.arrow import bounded, record_batch, schema
from geoseg.vector.io.crs import wkt
from geoseg.vector.polygons import FeatureTable, PolygonLayer

if TYPE_CHECKING:
    import pyarrow as pa

_FULL_BYTES = 2**20
"""So little free space is none: SQLite takes whole pages."""
FEATURE_BYTES = 2**31 - 2**20
"""FlatGeobuf counts the bytes of a feature, its columns too, in 31 bits."""
_DECIMALS = "7"
"""A centimeter of longitude on the equator; RFC 7946, section 11.2, finds six enough."""
_SEPARATED = ".geojsons"
"""The extension whose records begin with the letter RS, as RFC 8142 has it; GDAL does the same."""


def write_flatgeobuf(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write FlatGeobuf with its spatial index, features along a Hilbert curve. Raises as `write_gdal`.

    GDAL keeps a record of a hundred bytes for each feature in memory until the end.
    """
    options = {"SPATIAL_INDEX": "YES", "TITLE": layer.name, "DESCRIPTION": layer.description}
    write_gdal(path, layer, tables, driver="FlatGeobuf", layer_options=options)


def write_geojson(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write one FeatureCollection as RFC 7946 has it. Raises as `write_gdal`.

    Rings are right-handed and cut at the 180th meridian already; asked for RFC 7946, GDAL would refuse coordinates
    without a CRS, and half a pixel beyond a pole.
    """
    options = {"COORDINATE_PRECISION": _DECIMALS}
    write_gdal(path, layer, tables, driver="GeoJSON", layer_options=options, crs=None)


def write_geojson_sequence(path: Path, layer: PolygonLayer, tables: Iterable[FeatureTable]) -> None:
    """Write one feature a line, after the letter RS where the extension is `.geojsons`. Raises as `write_gdal`."""
    options = {"RS": "YES" if path.suffix.lower() == _SEPARATED else "NO", "COORDINATE_PRECISION": _DECIMALS}
    write_gdal(path, layer, tables, driver="GeoJSONSeq", layer_options=options, crs="EPSG:4326")


def write_gdal(
    path: Path,
    layer: PolygonLayer,
    tables: Iterable[FeatureTable],
    *,
    driver: str,
    layer_options: Mapping[str, str],
    dataset_options: Mapping[str, str] | None = None,
    feature_bytes: int | None = None,
    settings: Mapping[str, str] | None = None,
    crs: str | None = "layer",
) -> frozenset[int]:
    """Write a file by one of GDAL's drivers; return the class codes in it.

    `feature_bytes` is the most that the driver takes for one, by default FEATURE_BYTES; `crs` is what GDAL is told,
    by default that of the layer. Raises OSError, OutputError, and what the tables raise.
    """
    import pyarrow as pa  # noqa: PLC0415 - a format that does without it starts quicker
    import pyogrio  # noqa: PLC0415 - half a second; the other formats do without it

    flow = _Flow(bounded(tables, layer, feature_bytes or FEATURE_BYTES), layer)
    batches = iter(flow)
    next(batches)  # an interruption from here on is caught within it, not lost in Arrow's C stream
    try:
        with _settings(settings or {}), _plain(path) as target, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(schema(layer), batches),
                target,
                layer=layer.name,
                driver=driver,
                geometry_type="MultiPolygon" if layer.multi else "Polygon",
                crs=crs if crs != "layer" else layer.crs and wkt(layer.crs),
                dataset_options=dict(dataset_options or {}),
                layer_options=dict(layer_options),
            )
    except Exception as error:
        if flow.failure is None:
            raise _os_error(path.parent, error) from error
    if flow.failure is not None:  # Arrow's C stream knows only a text, or nothing
        raise flow.failure from None
    return frozenset(flow.codes)


def copy_gdal(
    made: Path,
    layer: PolygonLayer,
    into: Path,
    *,
    driver: str,
    layer_options: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
) -> None:
    """Copy a layer into another file, which has none of its name. Raises OSError."""
    import pyogrio  # noqa: PLC0415 - see write_gdal

    try:
        with (
            _settings(settings or {}),
            _plain(made) as source,
            _plain(into) as target,
            pyogrio.open_arrow(source, layer=layer.name, use_pyarrow=False) as (meta, features),
        ):
            pyogrio.write_arrow(
                features,
                target,
                layer=layer.name,
                driver=driver,
                geometry_name=meta["geometry_name"],
                geometry_type="MultiPolygon" if layer.multi else "Polygon",
                crs=None if layer.crs is None else wkt(layer.crs),
                layer_options=dict(layer_options),
            )
    except Exception as error:
        raise _os_error(into.parent, error) from error


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """Yield a way to a file that pyogrio takes as it is: at a semicolon or an exclamation mark it would cut."""
    if sys.platform == "win32" or not set(";!") & set(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="geoseg-") as folder:
        link = Path(folder) / "there"
        link.symlink_to(path.parent, target_is_directory=True)
        yield link / path.name


def _os_error(folder: Path, error: Exception) -> OSError:
    """Return what the system would have said. GDAL tells its last trouble, which need not be the first."""
    if free_space_bytes(folder) < _FULL_BYTES:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OSError(str(error))


class _Flow:
    """The record batches of bounded tables; remembers what went wrong, and which codes went by."""

    def __init__(self, tables: Iterable[FeatureTable], layer: PolygonLayer) -> None:
        self._tables, self._layer = tables, layer
        self.failure: BaseException | None = None
        self.codes: set[int] = set()

    def __iter__(self) -> Iterator[pa.RecordBatch | None]:
        try:
            yield None  # see above
            for table in self._tables:
                self.codes.update(np.unique(table.polygons.codes).tolist())
                yield record_batch(table, self._layer)
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def _settings(values: Mapping[str, str]) -> Iterator[None]:
    """Hold settings of pyogrio's GDAL, which are the whole process's, and put back what was there."""
    import pyogrio  # noqa: PLC0415 - see write_gdal

    before = {name: pyogrio.get_gdal_config_option(name) for name in values}
    pyogrio.set_gdal_config_options(dict(values))
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)
