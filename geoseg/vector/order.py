"""What was asked for, checked before a pixel is read."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rasterio.crs import CRS

from geoseg.atomic import same_file
from geoseg.errors import GeosegWarning, OutputError, SceneError, UsageError
from geoseg.legend import Legend, Nomenclature, choose_classes, given_names
from geoseg.raster import ClassRaster, GeoBox, Scene, Surface, open_confidence, shown, stretch_note
from geoseg.vector import formats
from geoseg.vector.generalize import Generalization
from geoseg.vector.geopackage_file import RESERVED, check_layer_name
from geoseg.vector.layer import Layer
from geoseg.vector.pixel_size import Tolerance, idle_note, side_weights, sieve_weights, tolerance
from geoseg.vector.reproject import may_be_cut, parse_crs
from geoseg.vector.smooth import LONGEST_PX
from geoseg.vector.trace import Tracing
from geoseg.vector.units import area, length

StrPath = str | os.PathLike[str]
CONNECTIVITIES = (4, 8)
_ULPS = 16
"""Steps between neighbouring numbers that a pixel's side spans at least."""


@dataclass(frozen=True, slots=True)
class Order:
    """Polygons of a raster, as `vectorize` was asked for them."""

    raster: ClassRaster
    target: Path | None
    surface: Surface
    layer: Layer
    crs: CRS | None
    """What the polygons shall be in, if not the layer's."""
    tracing: Tracing
    sieving: dict[str, Any] | None
    """What `sieve` is told beside the raster; None for no sieve."""
    confidence: Scene | None
    dissolve: bool
    overwrite: bool

    def check_unchanged(self) -> None:
        """Raise SceneError when the raster was replaced under the run, OutputError when a file came to the target."""
        self.raster.check_unchanged()
        if self.target is not None:
            formats.check_target(self.target, overwrite=self.overwrite, layer=self.layer.name)

    @classmethod
    def of(
        cls,
        landcover: StrPath,
        out: StrPath | None,
        *,
        simplify: float | str | None,
        method: str,
        smooth: bool,
        min_area: float | str | None,
        connectivity: int,
        classes: str | int | Sequence[str | int] | None,
        dissolve: bool,
        confidence: StrPath | None,
        legend: StrPath | Legend | Nomenclature | None,
        crs: Any,
        layer: str | None,
        overwrite: bool,
        announce: Callable[[str], None],
    ) -> Self:
        """Check everything; raises as `vectorize` does."""
        if connectivity not in CONNECTIVITIES:
            raise UsageError(f"connectivity is 4 or 8, got {connectivity!r}")
        given = given_names(legend)
        raster = ClassRaster.open(landcover, given)
        scene, geobox = raster.scene, raster.scene.geobox
        sure = None if confidence is None else open_confidence(os.fspath(confidence), geobox)
        if out is not None:
            _check_unread(Path(out), [scene, *([sure] if sure else [])], legend)
        name = layer_name(landcover, out, layer)
        target = None if out is None else formats.check_target(out, overwrite=overwrite, layer=name)
        if target is not None and formats.keeps_layers(target):
            announce(f"{target.name} is kept: of its layers, only {name!r} is written")
        names = raster.names if given is None else given
        surface = check_places(scene)
        features = Layer(
            name=name,
            crs=None if surface.in_px else geobox.crs,
            legend=names,
            multi=dissolve or connectivity == 8,
            confidence=sure is not None,
        )
        tracing = Tracing(
            nodes=simplify is not None,
            generalization=_generalization(geobox, simplify, method, smooth=smooth),
            corners=connectivity == 8 and not dissolve,
            codes=None
            if classes is None
            else choose_classes(names, [classes] if isinstance(classes, int) else classes),
        )
        sieving = None if min_area is None else _sieving(geobox, min_area, connectivity)
        stored = formats.stored_crs(target, features.crs, None if crs is None else parse_crs(crs), announce)
        if may_be_cut(geobox, stored) and not (target and formats.is_mixed(target)):
            features = replace(features, multi=True)
        if raster.note:
            announce(raster.note)
        _note(geobox, surface, announce)
        return cls(raster, target, surface, features, stored, tracing, sieving, sure, dissolve, overwrite)


def layer_name(landcover: StrPath, out: StrPath | None, layer: str | None) -> str:
    """Return the name of the layer of polygons: in a GeoPackage the map's, where none is given; else the file's.

    UsageError for a `layer` that cannot be one, or one in a file that has no layers.
    """
    layered = out is not None and formats.has_layers(Path(out))
    if layer is not None:
        if not layered:
            raise UsageError(
                f"layer names one of a GeoPackage's layers, got {layer!r:.80} for {'no file' if out is None else out}; "
                "leave it out, or write to a name that ends in .gpkg"
            )
        return check_layer_name(layer)
    stem = Path(landcover if layered or out is None else out).stem
    return f"_{stem}" if RESERVED.match(stem) or not re.match(r"\w", stem) else stem


def check_places(scene: Scene) -> Surface:
    """Return what a raster's polygons lie on. SceneError where pixels are too small to be told apart, or have no area.

    Corners that are one number make polygons of no area.
    """
    surface = Surface.of(scene.geobox)
    a, b, c, d, e, f = scene.geobox.transform[:6]
    width, height = scene.geobox.width_px, scene.geobox.height_px
    steps = (math.ulp(abs(c) + abs(a * width) + abs(b * height)), math.ulp(abs(f) + abs(d * width) + abs(e * height)))
    if max(abs(a), abs(b)) < _ULPS * steps[0] or max(abs(d), abs(e)) < _ULPS * steps[1]:
        raise SceneError(
            f"{shown(scene.path)} has pixels too small to be told apart at {c:.8g}, {f:.8g}, got the transform "
            f"{scene.geobox.transform[:6]}; see what rio info says"
        )
    return surface


def _check_unread(target: Path, scenes: Sequence[Scene], legend: object) -> None:
    read = [file for scene in scenes for file in scene.local_files()]
    read += [Path(legend)] if isinstance(legend, str | os.PathLike) else []
    if any(same_file(target, file) for file in read):
        raise OutputError(f"{target} is read by this run and cannot be its output; choose another `out`")


def _generalization(
    geobox: GeoBox, simplify: float | str | None, method: str, *, smooth: bool
) -> Generalization | None:
    if smooth and max(geobox.shape) > LONGEST_PX:
        raise UsageError(
            f"`smooth=True` takes rasters of at most {LONGEST_PX} rows and columns, got {geobox.shape[0]} x "
            f"{geobox.shape[1]}; leave it out, or cut the raster by rio clip --bounds"
        )
    wanted = length("0px" if simplify is None else simplify)
    allowed = tolerance(wanted, geobox)
    how = Generalization(method.casefold(), min(allowed.distance, _reach(allowed, geobox)), allowed.matrix, smooth)
    if how.is_idle and wanted.value > 0:
        note = idle_note(wanted, geobox, "no border is moved by so little", 1.5, "m")
        warnings.warn(note, GeosegWarning, stacklevel=2)
    return how if how.distance or smooth else None


def _reach(allowed: Tolerance, geobox: GeoBox) -> float:
    """Return a distance that no border can be moved beyond: 1e300 px squared is no number."""
    a, b, c, d = allowed.matrix
    return geobox.width_px * math.hypot(a, c) + geobox.height_px * math.hypot(b, d)


def _sieving(geobox: GeoBox, min_area: float | str, connectivity: int) -> dict[str, Any]:
    wanted = area(min_area)
    row_weights, threshold = sieve_weights(wanted, geobox)
    if wanted.value > 0 and threshold <= (1 if row_weights is None else row_weights.min()):
        note = idle_note(wanted, geobox, "no region is smaller than a pixel", 25, "m2")
        warnings.warn(note, GeosegWarning, stacklevel=2)
    return {
        "threshold": threshold,
        "row_weights": row_weights,
        "side_weights": side_weights(geobox),
        "connectivity": connectivity,
    }


def _note(geobox: GeoBox, surface: Surface, announce: Callable[[str], None]) -> None:
    """Say what the reader of areas should know."""
    if surface.in_px:
        why = "is placed by control points, not by a transform" if geobox.gcps else "has no place on Earth"
        way_out = "; for metres, warp it first by rio warp --dst-crs" if geobox.gcps else ""
        announce(f"the raster {why}: coordinates, areas and perimeters are in pixels{way_out}")
    note = stretch_note(geobox)
    if note:
        warnings.warn(note, GeosegWarning, stacklevel=2)
