"""Polygons as reference data, burned to the map's pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import rasterio.features

from geoseg import dataset, features
from geoseg.counts import MOST_CODES, NONE, StoredCodes
from geoseg.errors import SceneError, UsageError
from geoseg.given import looks_raster
from geoseg.legend import Nomenclature, class_list, name_key
from geoseg.raster import GeoBox, Window

if TYPE_CHECKING:
    from geoseg.features import LayerChoice, VectorSource

_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_SHOWN = 6
_NO_BYTE = 255
"""The byte of pixels without a code."""

_Codes = tuple[Nomenclature, tuple[tuple[str, int], ...]]
"""Names of codes, and (value of a column as text, code)."""


@dataclass(frozen=True, slots=True)
class BurnedPolygons:
    """A reference of polygons. A pixel has the class of the last polygon that contains its center."""

    source: VectorSource
    column: str
    codes: tuple[tuple[str, int], ...]
    """(value of the column as text, code)."""
    names: Nomenclature
    """Names of the codes; empty if the values are codes that the map's legend names."""
    grid: GeoBox
    """The map's grid."""
    stamp: object
    """Stamp of the source when it was opened."""
    notes: tuple[str, ...] = ()

    @classmethod
    def open(  # noqa: PLR0913, PLR0917 - the polygons and the map
        cls,
        given: Any,  # noqa: ANN401 - a path, or a GeoDataFrame, slow to import
        column: str | None,
        layer: LayerChoice,
        grid: GeoBox,
        map_path: str,
        assign_codes: Callable[[list[str], str], _Codes],
        role: Literal["reference", "zones"] = "reference",
    ) -> Self:
        """Read polygons and find the code of each value of their column, with `coded`.

        SceneError if they cannot be read or do not lie on the map, UsageError for an unclear column, layer or class.
        """
        content, kind = ("class", "a reference") if role == "reference" else ("name", "zones")
        source = features.find_features(given, "polygons", role, layer)
        title = features.column_of(source, column, content)
        try:
            polygons = dataset.read_polygons(source, title)
            dataset.check_polygons(source, polygons.crs_wkt, grid, map_path)
        except SceneError:
            if role == "reference":
                _refuse_points(source, title)
            raise
        if polygons.beside([grid]) == len(polygons.geometries):
            raise SceneError(f"{source.name} and the map do not overlap; check their CRS and place")
        where = f"{source.name}, column {title}"
        values = sorted(set(polygons.values) - {""})
        if not values:
            raise SceneError(f"{where}: no polygon has a {content}; fill in the column")
        names, codes = assign_codes(values, where)
        dataset.placed_polygons(source, title, grid)  # cached before threads ask for it
        notes = (source.note, polygons.note([grid], kind, "the map", content))
        return cls(source, title, codes, names, grid, source.stamp, tuple(note for note in notes if note))

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.source.name

    @property
    def note(self) -> str | None:
        """One line of all notes; None if there are none."""
        return "; ".join(self.notes) or None

    @property
    def is_plain(self) -> bool:
        """Whether its codes are bytes, which are counted unchanged."""
        return all(0 <= code < _NO_BYTE for _, code in self.codes)

    def check_unchanged(self) -> None:
        """Raise SceneError if the source was replaced during the run."""
        if self.source.stamp != self.stamp:
            raise SceneError(f"{self.name} has changed since the run began; run again when it is complete")

    def read(self, window: Window) -> StoredCodes:
        """Return the codes in a window of the map; NONE outside all polygons."""
        place = self.grid[window]
        shapes = dataset.placed_polygons(self.source, self.column, self.grid).near(place, dict(self.codes))
        none = _NO_BYTE if self.is_plain else NONE
        codes = np.full(window.shape, none, np.uint8 if self.is_plain else np.int32)
        if shapes:
            rasterio.features.rasterize(shapes, out=codes, transform=place.transform)
        return StoredCodes(codes, None, none, _contested_px(shapes, place), max(MOST_CODES, len(self.codes) + 1))


def _refuse_points(source: VectorSource, column: str) -> None:
    """Raise UsageError if a source holds only points: the caller must mean a sample."""
    import shapely  # noqa: PLC0415 - not needed for a reference that can be read

    points = shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT
    kinds = shapely.get_type_id(np.asarray(source.read(column).geometries, object))
    if np.isin(kinds[kinds >= 0], points).all() and (kinds >= 0).any():
        raise points_error(source.name)


def are_polygons(given: object) -> bool:
    """Return whether polygons were given. For a raster, the readers of polygons are not loaded."""
    return given is not None and not looks_raster(given) and features.is_features(given)


def points_error(name: str) -> UsageError:
    """Return the error for points instead of a reference."""
    return UsageError(
        f"a reference is a raster or polygons, but {name} holds points; give them as `sample`, their class as `column`",
        "reference",
    )


def _contested_px(shapes: list[tuple[Any, int]], place: GeoBox) -> int:
    """Return how many pixels lie in polygons of several classes: the least and the greatest code differ in them."""
    if len({code for _, code in shapes}) < 2:
        return 0
    ascending = sorted(shapes, key=itemgetter(1))
    greatest, least = (
        rasterio.features.rasterize(burned, place.shape, NONE, transform=place.transform, dtype="int32")
        for burned in (ascending, ascending[::-1])
    )
    return int(np.count_nonzero(least != greatest))


def zone_codes(values: list[str], _where: str) -> _Codes:
    """Return codes from 0 for zones with any names, in numeric order for whole numbers, else in alphabetical order."""
    if all(_INTEGER.fullmatch(value) for value in values):
        values = sorted(values, key=int)
    names = Nomenclature.from_names(dict(enumerate(values)), {})
    return names, tuple((value, code) for code, value in enumerate(values))


def class_codes(values: list[str], where: str, map_names: Nomenclature, reference_names: Nomenclature | None) -> _Codes:
    """Return the names of the reference's codes and the code of each value, matched as for label rasters.

    Names are those of the given legend, else the map's plus those that the map lacks; whole numbers are codes.
    """
    if all(_INTEGER.fullmatch(value) for value in values):
        names = reference_names or Nomenclature()
        return names, tuple((value, checked_code(int(value), where)) for value in values)
    nomenclature = map_names if reference_names is None else reference_names
    if not len(nomenclature):
        raise UsageError(
            f"{where} holds names such as {', '.join(values[:_SHOWN])}, but the map has no names; name its codes with "
            "`legend`, or give polygons with its codes",
            "legend",
        )
    by_key = {name_key(named.name): named.code for named in nomenclature}
    new: dict[str, int] = {}
    codes = {}
    for value in values:
        code = by_key.get(name_key(value))
        if code is None and _INTEGER.fullmatch(value) and int(value) in {named.code for named in nomenclature}:
            code = int(value)
        if code is None and reference_names is not None:
            raise UsageError(
                f"{where}: no class is called {value!r:.80}; the legend has {class_list(nomenclature)}; "
                "correct one of the two",
                "reference_legend",
            )
        codes[value] = (
            new.setdefault(name_key(value), nomenclature.classes[-1].code + 1 + len(new)) if code is None else code
        )
    if set(codes.values()) <= set(new.values()):
        raise UsageError(
            f"{where} shares no class with the map: it has {', '.join(values[:_SHOWN])}, the map has "
            f"{class_list(nomenclature)}; name its classes with `reference_legend`",
            "reference_legend",
        )
    new_names = {code: value for value, code in reversed(codes.items()) if code in new.values()}
    all_names = {named.code: named.name for named in nomenclature} | new_names
    return Nomenclature.from_names(all_names, nomenclature.palette), tuple(codes.items())


def checked_code(code: int, where: str) -> int:
    """Return the code of a class. UsageError if it does not fit 32 bits."""
    if not abs(code) < -NONE:
        raise UsageError(f"{where}: class code {code} does not fit into 32 bits; renumber it")
    return code
