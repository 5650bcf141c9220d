"""GeoJSON (RFC 7946) and text sequences of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from geoseg.vector.gdal import write_gdal
from geoseg.vector.layer import Layer, Table


def write_geojson(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write a FeatureCollection."""
    write_gdal(path, layer, tables, driver="GeoJSON", layer_options={"RFC7946": "YES"})


def write_geojson_sequence(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write one feature a line."""
    write_gdal(path, layer, tables, driver="GeoJSONSeq", layer_options={})
