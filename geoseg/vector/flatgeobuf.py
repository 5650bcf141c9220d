"""FlatGeobuf."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from geoseg.vector.gdal import write_gdal
from geoseg.vector.layer import Layer, Table


def write_flatgeobuf(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write FlatGeobuf with its spatial index."""
    write_gdal(path, layer, tables, driver="FlatGeobuf", layer_options={"SPATIAL_INDEX": "YES"})
