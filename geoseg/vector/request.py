"""A request to `vectorize`, checked before any pixel is read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from geoseg import features
from geoseg.atomic import check_unread
from geoseg.counts import codes_in
from geoseg.errors import SceneError, UsageError, warn
from geoseg.given import StrPath
from geoseg.legend import Nomenclature, choose_classes, class_list
from geoseg.progress import Announce
from geoseg.raster import (
    ClassRaster,
    GeoBox,
    Ground,
    Scene,
    Surface,
    as_scene,
    is_of_arrays,
    open_confidence,
    public_name,
    shown,
)
from geoseg.vector.generalize import LONGEST_PX, Generalization
from geoseg.vector.io import (
    RESERVED,
    check_layer_name,
    check_target,
    has_layers,
    is_mixed,
    is_moving,
    keeps_layers,
    may_be_cut,
    other_contents,
    parse_crs,
    stored_crs,
)
from geoseg.vector.options import CONNECTIVITIES, METHODS, Quantity, VectorizeOptions, parse_area, parse_length
from geoseg.vector.polygonize import Tracing
from geoseg.vector.polygons import PolygonLayer

if TYPE_CHECKING:
    from geoseg.raster.scene import SceneLike

_DEGREE_M = 111_320
"""Of longitude on the equator."""
_ULPS = 16
"""A pixel's side must span at least this many floating-point steps."""


@dataclass(frozen=True, slots=True)
class Request:
    """The polygons requested from `vectorize`."""

    raster: ClassRaster
    target: Path | None
    measured_on: Surface | Ground
    layer: PolygonLayer
    crs: CRS | None
    """The CRS of the polygons; None for the layer's."""
    tracing: Tracing
    sieving: dict[str, Any] | None
    """Arguments of `sieve` other than the raster; None for no sieve."""
    confidence: Scene | None
    dissolve: bool
    overwrite: bool

    def check_unchanged(self) -> None:
        """Raise SceneError if the raster was replaced during the run, OutputError if a file appeared at the target."""
        self.raster.check_unchanged()
        if self.target is not None:
            check_target(self.target, overwrite=self.overwrite, layer=self.layer.name)

    @classmethod
    def of(cls, landcover: SceneLike, out: StrPath | None, options: VectorizeOptions, announce: Announce) -> Self:
        """Check everything; raises as `vectorize` does."""
        connectivity, dissolve = options.get("connectivity", CONNECTIVITIES[0]), options.get("dissolve", False)
        if connectivity not in CONNECTIVITIES:
            raise UsageError(f"`connectivity` must be 4 or 8, got {connectivity!r}", "connectivity")
        landcover = as_scene(landcover, "landcover")
        raster, names = features.open_map(landcover, options.get("legend"), options.get("aoi"), options.get("aoi_crs"))
        geobox, confidence = raster.scene.geobox, options.get("confidence")
        confidence_scene = None if confidence is None else open_confidence(as_scene(confidence, "confidence"), geobox)
        inputs = [raster.scene] if confidence_scene is None else [raster.scene, confidence_scene]
        name = layer_name(landcover, out, options.get("layer"))
        target = None if out is None else _checked_target(Path(out), name, inputs, options, announce)
        surface = check_places(raster.scene)
        min_area, crs = options.get("min_area"), options.get("crs")
        sieving = None if min_area is None else _sieving(geobox, min_area, connectivity)
        layer_crs = None if surface.in_px else geobox.crs
        stored = stored_crs(target, layer_crs, None if crs is None else parse_crs(crs), announce)
        tracing = Tracing(
            nodes=options.get("simplify") is not None or is_moving(layer_crs, stored),  # a side may become a curve
            generalization=_generalization(geobox, options),
            corners=connectivity == 8 and not dissolve,
            codes=_codes(raster, names, options.get("classes")),
        )
        has_cuts = may_be_cut(geobox, stored) and not (target and is_mixed(target))
        layer = PolygonLayer(
            name=name,
            crs=layer_crs,
            legend=names,
            multi=dissolve or connectivity == 8 or has_cuts,
            confidence=confidence_scene is not None,
            decimals=_decimals(geobox, layer_crs),
        )
        for note in (raster.note, _px_note(geobox) if surface.in_px else None):
            if note:
                announce(note)
        overwrite = options.get("overwrite", False)
        measured_on = surface if surface.in_px else Ground.of(geobox).surface or Ground.of(geobox)
        return cls(raster, target, measured_on, layer, stored, tracing, sieving, confidence_scene, dissolve, overwrite)


def _checked_target(
    out: Path, layer: str, inputs: Sequence[Scene], options: VectorizeOptions, announce: Announce
) -> Path:
    """Return the target if it can be written and is not an input; see `check_target`."""
    files = [file for scene in inputs for file in scene.local_files()]
    check_unread(out, "out", *files, options.get("legend"))
    check_layer_unread(out, "out", layer, options.get("aoi"))
    overwrite, mkdir = options.get("overwrite", False), options.get("mkdir", False)
    target = check_target(out, overwrite=overwrite, layer=layer, mkdir=mkdir)
    if keeps_layers(target) and other_contents(target, layer) != []:
        announce(f"{target.name} keeps its other layers; only {layer!r} is written")
    return target


def check_layer_unread(target: Path, parameter: str, layer: str, aoi: object) -> None:
    """Raise UsageError if a layer would replace the area of interest; other layers of a GeoPackage stay."""
    try:
        check_unread(target, parameter, aoi)
    except UsageError:
        if not keeps_layers(target) or layer.casefold() in map(str.casefold, features.find_area(aoi).layers):
            raise


def layer_name(landcover: StrPath | Scene, out: StrPath | None, layer: str | None) -> str:
    """Return the name of the polygon layer: `layer` if given, else in a GeoPackage the map's name, else the file's.

    The map of an array has no name. UsageError for an invalid `layer`, or if the format has no layers.
    """
    layered = out is not None and has_layers(Path(out))
    if layer is not None:
        if not layered:
            target = "no file" if out is None else out
            raise UsageError(
                f"`layer` is only for GeoPackages, got {layer!r:.80} for {target}; leave it out, or write to a name "
                "that ends in .gpkg",
                "layer",
            )
        return check_layer_name(layer)
    path = landcover.path if isinstance(landcover, Scene) else os.fspath(landcover)
    has_map_name = layered and not is_of_arrays(path)
    stem = Path(public_name(path) if out is None or has_map_name else out).stem
    return f"_{stem}" if RESERVED.match(stem) or not re.match(r"\w", stem) else stem


def check_places(scene: Scene) -> Surface:
    """Return the surface of a raster's polygons. SceneError if pixels are too small to tell apart, or have no area.

    If the corners of a pixel round to the same number, polygons have no area.
    """
    surface = Surface.of(scene.geobox)
    a, b, c, d, e, f = scene.geobox.transform[:6]
    width, height = scene.geobox.width_px, scene.geobox.height_px
    steps = (math.ulp(abs(c) + abs(a * width) + abs(b * height)), math.ulp(abs(f) + abs(d * width) + abs(e * height)))
    if max(abs(a), abs(b)) < _ULPS * steps[0] or max(abs(d), abs(e)) < _ULPS * steps[1]:
        raise SceneError(
            f"{shown(scene.path)} has pixels too small for coordinates near {c:.8g}, {f:.8g}, got the transform "
            f"{scene.geobox.transform[:6]}; check it with rio info"
        )
    return surface


def _codes(
    raster: ClassRaster, names: Nomenclature, classes: str | int | Sequence[str | int] | None
) -> frozenset[int] | None:
    """Return the codes to keep; None for all. UsageError for a code with neither a name nor a pixel.

    A class with a name may be missing in some of many maps. A code without a name is searched for in the raster:
    usually it is missing only if it was mistyped.
    """
    if classes is None:
        return None
    codes = choose_classes(names, [classes] if isinstance(classes, int) else classes)
    sought, present = set(codes.difference(named.code for named in names)), set[int]()
    for strip in raster.strips() if sought else ():
        present.update(codes_in(strip[strip != raster.background]).tolist())
        if sought <= present:
            return codes
    if missing := sorted(sought - present):
        raise UsageError(
            f"{shown(raster.scene.path)} has no pixel of {class_list(names.completed(missing))}; it has "
            f"{class_list(names.completed(present))}; if a map may lack a class, name it in `legend`",
            "classes",
        )
    return codes


def _decimals(geobox: GeoBox, crs: CRS | None) -> int:
    """Return the decimals that move no vertex by more than a hundredth of a pixel, in degrees if there is a CRS.

    With too few polygons vanish. From eight decimals on GDAL takes the last digits after five 0 or 9 for rounding
    errors and drops up to two of them, which then moves a vertex by up to a tenth of a pixel.
    """
    a, b, _, d, e, _ = geobox.transform[:6]
    sides = (math.hypot(a, d), math.hypot(b, e)) if crs is None else [side / _DEGREE_M for side in geobox.pixel_m or ()]
    side = min(sides, default=1)
    return 7 if side >= 5e-6 else math.ceil(3 - math.log10(side))


def _generalization(geobox: GeoBox, options: VectorizeOptions) -> Generalization | None:
    smooth, simplify = options.get("smooth", False), options.get("simplify")
    if smooth and max(geobox.shape) > LONGEST_PX:
        raise UsageError(
            f"`smooth=True` is limited to rasters of at most {LONGEST_PX} rows and columns, got {geobox.shape[0]} x "
            f"{geobox.shape[1]}; leave it out, or crop the raster with rio clip --bounds",
            "smooth",
        )
    requested = parse_length("0px" if simplify is None else simplify)
    matrix = simplify_plane(requested, geobox)
    method = options.get("method")
    method_name = METHODS[0] if method is None else method.casefold()
    result = Generalization(method_name, min(requested.value, _longest_distance(matrix, geobox)), matrix, smooth)
    if result.is_idle and requested.value > 0:
        warn(_idle_note(requested, geobox, "no border would move", 1.5, "m"))
    return result if result.distance or smooth else None


def _longest_distance(matrix: _Matrix, geobox: GeoBox) -> float:
    """Return an upper limit for how far a border can move: squaring 1e300 px overflows."""
    a, b, c, d = matrix
    return geobox.width_px * math.hypot(a, c) + geobox.height_px * math.hypot(b, d)


def _sieving(geobox: GeoBox, min_area: float | str, connectivity: int) -> dict[str, Any]:
    requested = parse_area(min_area)
    row_weights, threshold = sieve_weights(requested, geobox)
    if requested.value > 0 and threshold <= (1 if row_weights is None else row_weights.min()):
        warn(_idle_note(requested, geobox, "no region is smaller than a pixel", 25, "m2"))
    return {
        "threshold": threshold,
        "row_weights": row_weights,
        "side_weights": side_weights(geobox),
        "connectivity": connectivity,
    }


def _px_note(geobox: GeoBox) -> str:
    """Return a note about areas in pixels."""
    if geobox.has_transform:
        return "the raster has no CRS: coordinates are those of its transform, areas and perimeters are in pixels"
    placement = "is georeferenced by control points, not by a transform" if geobox.gcps else "is not georeferenced"
    hint = "; for meters, warp it first with rio warp --dst-crs" if geobox.gcps else ""
    return f"the raster {placement}: coordinates, areas and perimeters are in pixels{hint}"


_Matrix = tuple[float, float, float, float]
_TOTAL_BITS = 61
"""A whole raster's weights sum to about 2**61 at most, so that two such sums still fit in int64."""
_UNREACHABLE = 1 << 62
"""A threshold above the weight of any region."""
_SAME_SIDES = 1e-3
_ROUNDING = 1e-9
"""100 m2 in 0.1 m pixels is 10000 pixels, not the 10001 that floating point gives."""


def simplify_plane(simplify: Quantity, geobox: GeoBox) -> _Matrix:
    """Return the matrix from (col, row) to the plane in which borders may move by `simplify`, row by row.

    UsageError for meters if the raster has no place.
    """
    return (1.0, 0.0, 0.0, 1.0) if simplify.in_px else _checked_ground(Ground.of(geobox), simplify).matrix


def sieve_weights(min_area: Quantity, geobox: GeoBox) -> tuple[NDArray[np.int64] | None, int]:
    """Return the weight of a pixel in each row (row,), and the weight at which a region is large enough.

    None: each pixel weighs 1. If pixels differ in area, weights are the mean areas of the rows on the ground, in a unit
    small enough for nine digits and large enough that all pixels together weigh less than 2**62. UsageError for square
    meters if the raster has no place.
    """
    if min_area.in_px:
        return None, _rounded_up(min_area.value)
    ground = _checked_ground(Ground.of(geobox), min_area)
    rows_m2 = ground.rows()
    if rows_m2 is None:
        return None, _rounded_up(min_area.value / ground.pixel)
    total_m2 = float(rows_m2.sum()) * geobox.width_px
    unit_m2 = 2.0 ** math.ceil(math.log2(total_m2) - _TOTAL_BITS)
    weights = np.maximum(np.rint(rows_m2 / unit_m2), 1).astype(np.int64)
    return weights, _rounded_up(min_area.value / unit_m2)


def side_weights(geobox: GeoBox) -> tuple[int, int]:
    """Return the lengths of a pixel's sides along a row and along a column, in a unit that makes them integers.

    (1, 1) if they are within 0.1 % of each other, or unknown, so that equal borders compare equal.
    """
    a, b, c, d = Ground.of(geobox).matrix
    along_row, along_column = math.hypot(a, c), math.hypot(b, d)
    if abs(along_row - along_column) <= _SAME_SIDES * min(along_row, along_column):
        return 1, 1
    unit = min(along_row, along_column) * _SAME_SIDES
    return round(along_row / unit), round(along_column / unit)


def _rounded_up(pixels: float) -> int:
    return min(math.ceil(pixels * (1 - _ROUNDING)), _UNREACHABLE)


def _checked_ground(ground: Ground, requested: Quantity) -> Ground:
    if ground.in_px:
        bare, parameter = not requested.unit, requested.parameter
        hint = f": `{parameter}` {requested.typed}px" if bare else f", a number and px, for `{parameter}`"
        on_ground = f"in {'square ' * (parameter == 'min_area')}meters" if bare else "on the ground"
        raise UsageError(
            f"`{parameter}` {requested.typed} is {on_ground}, but without a CRS and a transform the size of a pixel on "
            f"the ground is unknown; give pixels{hint}",
            parameter,
        )
    return ground


def _idle_note(requested: Quantity, geobox: GeoBox, effect: str, enough_px: float, unit: str) -> str:
    """Return a line about a length or an area too small to have an effect: its size in pixels, and a useful value."""
    ground = Ground.of(geobox)
    pixel = ground.pixel if unit == "m2" else math.sqrt(ground.pixel)
    size_text = (
        "" if requested.in_px else f" ({requested.value:.3g} {unit}) is {requested.value / pixel:.2g} of a pixel"
    )
    enough = f"{enough_px:g}px" if ground.in_px else f"{enough_px:g}px, {enough_px * pixel:.3g} {unit} here"
    return (
        f"`{requested.parameter}` {requested.typed}{size_text}: {effect}; use a few pixels ({enough}), or leave it out"
    )
