"""A sample of the truth: points with a class, from a CSV or anything with points that GDAL reads."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from geoseg.errors import SceneError, UsageError
from geoseg.evaluation.matching import key, listed
from geoseg.evaluation.placing import Shifted
from geoseg.evaluation.tally import NONE, Tally
from geoseg.raster.class_raster import ClassRaster
from geoseg.raster.environment import GDAL_ERRORS, shown
from geoseg.raster.nomenclature import Nomenclature
from geoseg.raster.windows import Window

_DEGREES = (("lon", "lat"), ("longitude", "latitude"), ("long", "lat"))
_PLANE = (("x", "y"), ("easting", "northing"), ("e", "n"))
_CSV = (".csv", ".tsv", ".txt")
_WHOLE = re.compile(r"([-+]?\d+)(?:\.0*)?", re.ASCII)
_WGS84 = "EPSG:4326"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Points with the class that is there in truth."""

    path: str
    x: NDArray[np.float64]
    """(point,)"""
    y: NDArray[np.float64]
    crs: CRS | None
    """None: the map's."""
    labels: tuple[str, ...]
    """Name or code of each point's class."""

    @classmethod
    def read(cls, path: str | os.PathLike[str], column: str | None = None) -> Self:
        """Read points and the column that holds their class. SceneError or UsageError says what is wrong with them.

        A CSV has a heading with x and y in the map's CRS, or with lon and lat in WGS 84.
        """
        name = os.fspath(path)
        if not Path(name).is_file():
            raise SceneError(f"{shown(name)}: no such file; check the path of --sample")
        x, y, crs, table = _from_csv(Path(name)) if name.lower().endswith(_CSV) else _from_layer(name)
        chosen = _column(table, column, name)
        labels = tuple(_label(value) for value in table[chosen])
        if not labels:
            raise SceneError(f"{name} holds no point; give a sample of the truth")
        for number, label in enumerate(labels, start=1):
            if not label:
                raise SceneError(f"{name}: point {number} has no class in the column {chosen}; fill it in or drop it")
        return cls(name, x, y, crs, labels)

    def __len__(self) -> int:
        return len(self.labels)

    def tally(self, mapped: ClassRaster, names: Nomenclature) -> Tally:
        """Count the points by their class and the map's code there.

        `names` are those of the reference. SceneError where the points cannot be brought to the map's CRS, UsageError
        for a class that nothing is known of.
        """
        codes = self._codes(names)
        rows, cols = self._pixels(mapped)
        counted, reader = Tally(), Shifted(mapped, 0, 0)
        height, width = mapped.scene.shape
        for point in np.lexsort((cols, rows)):
            row, col = rows[point], cols[point]
            there = NONE
            if 0 <= row < height and 0 <= col < width:
                found = reader.read(Window(int(row), int(col), 1, 1))
                code = int(found.data[0, 0])
                is_valid = code != found.nodata and (found.valid is None or bool(found.valid[0, 0]))
                there = code if is_valid else NONE
            counted.pixels[codes[point], there] += 1
        return counted

    def _codes(self, names: Nomenclature) -> list[int]:
        by_key = {key(named.name): named.code for named in names}
        codes = []
        for label in self.labels:
            whole = _WHOLE.fullmatch(label)
            code = by_key.get(key(label), int(whole[1]) if whole else None)
            if code is None:
                raise UsageError(
                    f"{self.path}: no class is called {label!r:.80}; known are {listed(names)}; "
                    "name classes with --reference-legend"
                )
            if not abs(code) < -NONE:
                raise UsageError(f"{self.path}: class code {code} does not fit 32 bits")
            codes.append(code)
        return codes

    def _pixels(self, mapped: ClassRaster) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and column of each point in the map; of one that is nowhere, -1."""
        geobox, x, y = mapped.scene.geobox, self.x, self.y
        if self.crs is not None and geobox.crs is None:
            raise SceneError(f"{shown(mapped.scene.path)} has no CRS to find the points of {self.path} by; assign one")
        if self.crs is not None and self.crs != geobox.crs:
            try:
                moved = transform_points(self.crs, geobox.crs, x.tolist(), y.tolist())
            except GDAL_ERRORS as error:
                raise SceneError(f"{self.path}: cannot bring its points to the map's CRS: {error}") from None
            x, y = np.array(moved[0]), np.array(moved[1])
        a, b, c, d, e, f = (~geobox.transform)[:6]
        cols, rows = a * x + b * y + c, d * x + e * y + f
        there = np.isfinite(cols) & np.isfinite(rows) & (np.abs(cols) < 2**31) & (np.abs(rows) < 2**31)
        return tuple(np.where(there, np.floor(axis), -1).astype(np.int64) for axis in (rows, cols))  # type: ignore[return-value]


_Read = tuple[NDArray[np.float64], NDArray[np.float64], CRS | None, dict[str, Sequence[Any]]]


def _from_csv(path: Path) -> _Read:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"cannot read {path}: {error}") from None
    lines = text.splitlines()
    heading = lines[0] if lines else ""
    rows = list(csv.reader(lines, delimiter=max(",;\t", key=heading.count), skipinitialspace=True))
    titles = [title.strip() for title in rows[0]] if rows else []
    filled = [row for row in rows[1:] if any(cell.strip() for cell in row)]
    table = {title: [row[i].strip() if i < len(row) else "" for row in filled] for i, title in enumerate(titles)}
    known = {title.casefold(): title for title in titles}
    for pairs, crs in ((_DEGREES, CRS.from_string(_WGS84)), (_PLANE, None)):
        for first, second in pairs:
            if first in known and second in known:
                x, y = (_numbers(table.pop(known[title]), f"{path}, {known[title]}") for title in (first, second))
                return x, y, crs, {**table}
    raise SceneError(f"{path} has no columns x and y, or lon and lat, in its heading, got {heading!r:.60}; add them")


def _numbers(cells: Sequence[str], where: str) -> NDArray[np.float64]:
    numbers = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            numbers[i] = float(cell)
        except ValueError:
            raise SceneError(f"{where}: point {i + 1} is no number, got {cell!r:.40}") from None
    return numbers


def _from_layer(path: str) -> _Read:
    import pyogrio  # noqa: PLC0415 - a quarter of a second that most runs do not need

    try:
        frame = pyogrio.read_dataframe(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise SceneError(f"cannot read points from {shown(path)}: {' '.join(str(error).split()):.160}") from None
    if not hasattr(frame, "geometry") or not (frame.geometry.geom_type == "Point").all():
        raise SceneError(f"{shown(path)} holds other things than points; give one point for each place of the sample")
    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    table = {str(title): frame[title].tolist() for title in frame.columns if title != frame.geometry.name}
    return frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy(), crs, table


def _column(table: dict[str, Sequence[Any]], column: str | None, path: str) -> str:
    if column is None and len(table) == 1:
        return next(iter(table))
    if column in table:
        return str(column)
    have = ", ".join(table) or "no column"
    fault = "says not which column holds the class" if column is None else f"has no column {column!r}"
    raise UsageError(f"{shown(path)} {fault}, it has {have}; name it with --column")


def _label(value: object) -> str:
    """Return a cell as text; empty for what pandas calls missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()
