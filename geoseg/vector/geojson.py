"""GeoJSON (RFC 7946), and GeoJSON text sequences: one feature a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoseg.errors import OutputError
from geoseg.vector.antimeridian import beyond, cut
from geoseg.vector.geojson_coordinates import LARGEST, to_coordinates
from geoseg.vector.layer import Layer, Table, parts
from geoseg.vector.reproject import WGS84

_PART_FEATURES = 16_384
_PART_VERTICES = 262_144
_SEPARATED = ".geojsons"
"""The extension whose records begin with the letter RS, as RFC 8142 has it; GDAL does the same."""


def write_geojson(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write one FeatureCollection. Raises OSError, OutputError, and whatever the tables raise."""
    name = json.dumps(layer.name, ensure_ascii=False)
    with path.open("wb") as file:
        file.write(f'{{"type":"FeatureCollection","name":{name},"features":['.encode())
        between = b"\n"
        for lines in _lines(layer, tables):
            file.write(between + b",\n".join(lines))
            between = b",\n"
        file.write(b"\n]}\n")


def write_geojson_sequence(path: Path, layer: Layer, tables: Iterable[Table]) -> None:
    """Write one feature a line, after the letter RS where the extension is `.geojsons`. Raises as `write_geojson`."""
    mark = b"\x1e" if path.suffix.lower() == _SEPARATED else b""
    with path.open("wb") as file:
        for lines in _lines(layer, tables):
            file.write(mark + (b"\n" + mark).join(lines) + b"\n")


def _lines(layer: Layer, tables: Iterable[Table]) -> Iterator[list[bytes]]:
    """Yield the features as text, many at a time."""
    for table in tables:
        polygons = table.polygons
        vertices = np.diff(polygons.rings[polygons.polygons[polygons.features]])
        if np.abs(polygons.xy).max(initial=0) >= LARGEST:
            raise OutputError(f"GeoJSON is written for coordinates below {LARGEST:.0e}; choose another format")
        for part in parts(table, np.asarray(vertices), _PART_FEATURES, _PART_VERTICES):
            yield _features(layer, part)


def _features(layer: Layer, table: Table) -> list[bytes]:
    lines = _plain_features(layer, table)
    if layer.crs != WGS84:  # that of a raster without CRS
        return lines
    far = beyond(table.polygons)
    several = (np.diff(table.polygons.features) > 1) & (not layer.multi)  # cut when it was reprojected
    for feature in np.flatnonzero(far | several).tolist():
        whole = table.part(feature, feature + 1)
        parts = replace(whole, polygons=cut(whole.polygons, multi=layer.multi)) if far[feature] else whole
        lines[feature : feature + 1] = _plain_features(replace(layer, multi=True), parts)
    return lines


def _plain_features(layer: Layer, table: Table) -> list[bytes]:
    offsets, text = to_coordinates(table.polygons, multi=layer.multi)
    content, ends = text.tobytes(), offsets.tolist()
    kind = "MultiPolygon" if layer.multi else "Polygon"
    return [
        b"%s%s}}" % (head, content[start:stop])
        for head, start, stop in zip(_heads(layer, table, kind), ends[:-1], ends[1:], strict=True)
    ]


def _heads(layer: Layer, table: Table, kind: str) -> Iterator[bytes]:
    """Yield the text of each feature up to its coordinates."""
    codes = table.polygons.codes.tolist()
    names = {code: json.dumps(layer.name_of(code), ensure_ascii=False) for code in set(codes)}
    classes = {code: f'{{"type":"Feature","properties":{{"code":{code},"name":{name}' for code, name in names.items()}
    tail = f'}},"geometry":{{"type":"{kind}","coordinates":'
    keys = [f',"{name}":' for name in layer.numbers]
    for code, *numbers in zip(codes, *(column.tolist() for column in table.numbers), strict=True):
        # NaN, which JSON does not know, is no confidence. It alone differs from itself.
        texts = [f"{key}{number!r}" if number == number else f"{key}null" for key, number in zip(keys, numbers)]  # noqa: B905, PLR0124
        yield f"{classes[code]}{''.join(texts)}{tail}".encode()
