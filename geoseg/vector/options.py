"""The options of `vectorize`, defined once; lengths and areas as users type them: 1.5, "1.5px", "0.5ha"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from geoseg.errors import UsageError
from geoseg.legend import GivenLegend

if TYPE_CHECKING:
    from geoseg.features.area_of_interest import Aoi
    from geoseg.given import CrsLike
    from geoseg.raster.scene import SceneLike

METHODS: Final = ("visvalingam", "douglas-peucker")
CONNECTIVITIES: Final = (4, 8)
"""The first of each tuple is the default."""


class PolygonOptions(TypedDict, total=False):
    """Options for polygons, shared by `vectorize` and `predict`."""

    layer: str | None
    """The layer to write in a GeoPackage, by default the map's name; an existing file on a disk keeps its others."""
    min_area: float | str | None
    """Regions smaller than this go to the neighbor with the longest shared border: 100 (m2), "0.5ha", "25px"."""
    simplify: float | str | None
    """Roughly how far borders may move to save vertices: 1.5 (m), "1.5px". Neighbors still meet exactly."""
    smooth: bool
    """Round the staircase of the pixels."""


class VectorizeOptions(PolygonOptions, total=False):
    """Options of `vectorize`."""

    method: str | None
    """How to simplify: "visvalingam" (the default) or "douglas-peucker"."""
    connectivity: int
    """4: pixels that share a side are one region; 8: also those that touch at a corner."""
    classes: str | int | Sequence[str | int] | None
    """The classes to keep, by name or code."""
    dissolve: bool
    """Merge all polygons of a class into one feature."""
    confidence: SceneLike | None
    """A raster on the same grid; each polygon gets its mean."""
    legend: GivenLegend | None
    """Overrides the names in the raster."""
    crs: CrsLike
    """The CRS to reproject the polygons to: "EPSG:4326", WKT, a rasterio or pyproj CRS."""
    aoi: Aoi | None
    """Polygons: only pixels whose centers lie in them are traced; see `geoseg.within`."""
    aoi_crs: CrsLike | None
    """The CRS of `aoi`, if it names none."""
    mkdir: bool
    """Create missing folders."""
    overwrite: bool
    """Replace existing files; in a GeoPackage on a disk, only the layer."""


_TYPED = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*([a-z²]*[23]?)\s*", re.IGNORECASE | re.ASCII)
_LENGTHS: Final = {"": 1.0, "m": 1.0, "km": 1e3, "cm": 1e-2}
_AREAS: Final = {"": 1.0, "m2": 1.0, "m²": 1.0, "ha": 1e4, "km2": 1e6, "km²": 1e6}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A length or an area, at least 0."""

    value: float
    """In meters or square meters, or in pixels."""
    in_px: bool
    parameter: str
    """The option's name: "simplify"."""
    typed: str
    """As the user typed it: "0.5ha"."""
    unit: str
    """The unit typed, "" if there is none."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise UsageError(f"`{self.parameter}` must be a number from 0 up, got {self.value:g}", self.parameter)


def parse_length(typed: float | str) -> Quantity:
    """Parse `simplify`, in meters or pixels; a bare number is in meters. UsageError for anything else."""
    return _quantity(typed, "simplify", _LENGTHS, "meters such as 1.5, or pixels such as 1.5px")


def parse_area(typed: float | str) -> Quantity:
    """Parse `min_area`, in m2 or pixels; a bare number is in m2. UsageError for anything else."""
    expected = "square meters such as 100, hectares such as 0.5ha, or pixels such as 25px"
    return _quantity(typed, "min_area", _AREAS, expected)


def _quantity(typed: float | str, parameter: str, units: dict[str, float], expected: str) -> Quantity:
    parts = _TYPED.fullmatch(str(typed))
    unit = parts[2].lower() if parts else ""
    if parts is None or (unit != "px" and unit not in units):
        raise UsageError(f"`{parameter}` must be {expected}, got {str(typed)!r:.40}", parameter)
    in_px = unit == "px"
    factor = 1.0 if in_px else units[unit]
    return Quantity(float(parts[1]) * factor, in_px, parameter, str(typed).strip(), unit)
