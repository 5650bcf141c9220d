"""The verb: a land-cover map, beside its scene, as one page to look at and to send."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.enums import Resampling

from geoseg.atomic import make_folders
from geoseg.display.code_table import ClassAreas, CodeTable, typical_gsd_m
from geoseg.display.features import FeatureSource, open_features, outlines
from geoseg.display.frame import SIDE_PX, TILE_PX, Frame, polynomial
from geoseg.display.overview_source import OverviewSource, plain_codes
from geoseg.display.page import Page, build_page, check_target, shell_bytes
from geoseg.display.palette import check_palette, color_blind_colors
from geoseg.display.placement import natural_scene, place_in
from geoseg.display.tiles import (
    ROUGH_QUALITY,
    Natural,
    PageLayer,
    encode_codes,
    encode_confidence,
    fill,
    picture_type,
)
from geoseg.errors import SceneError, UsageError
from geoseg.given import plain_arguments
from geoseg.legend import Legend, Nomenclature, given_names
from geoseg.progress import Progress, announcer
from geoseg.raster import ClassRaster, GeoBox, Patch, Scene, opened, shown
from geoseg.version import VERSION

if TYPE_CHECKING:
    import geopandas

StrPath = str | os.PathLike[str]
PAGE_MB = 15.0
"""A mail's encoding makes 20 MB of it, which most servers take."""
INLINE_MB = 4.0
"""In a notebook, which keeps it."""
_FOR_POLYGONS = 0.2
"""At most this share of the page is polygons."""
_MODEL_TAG, _MOST_LETTERS = "GEOSEG_MODEL_NAME", 100
"""What `predict` notes in a map, and how much of it is shown."""


@plain_arguments()
def preview(  # noqa: PLR0913 - each is a noun of the page
    landcover: StrPath,
    scene: StrPath | Scene | None = None,
    *,
    out: StrPath | None = None,
    confidence: StrPath | None = None,
    polygons: StrPath | geopandas.GeoDataFrame | None = None,
    layer: str | None = None,
    legend: StrPath | Legend | Nomenclature | None = None,
    palette: str | None = None,
    max_mb: float | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Page:
    """Show a land-cover map, over its scene if there is one, as one page that needs no network and no server.

    Parameters
    ----------
    landcover : path
        A raster of classes of any size.
    scene : path or Scene, optional
        The imagery under the map, compared by a swipe line.
    out : path, optional
        Where to write the page (.html). Without it the page is returned only, and a notebook shows it.
    confidence : path, optional
        Percent as `predict` writes it: a layer of the page.
    polygons : path or GeoDataFrame, optional
        What `vectorize` wrote or returned, drawn on the page.
    layer : str, optional
        The layer of the polygons. Default: the only one, else the one with the map's name.
    legend : path, Legend or Nomenclature, optional
        Names and colors. Default: the map's own, else its codes.
    palette : str, optional
        "own" or "color-blind"; the reader of the page can switch.
    max_mb : float, optional
        How large the page may be in megabytes: it zooms the deeper. Default: 15, or 4 without `out`.
    mkdir, overwrite : bool
        Make the folder of `out`; replace an existing file.
    progress : callable, optional
        Called with a `Progress` after every level of tiles.
    announce : callable, optional
        Called with lines for people: how colors were read as classes.

    Returns
    -------
    Page
        It shows itself in a notebook; `save` writes it.

    Raises
    ------
    SceneError
        A raster cannot be read, or cannot be laid on the map.
    UsageError
        An option that cannot be right.
    GeosegError
        Polygons that do not fit the map.
    OutputError
        The page cannot be written.

    Notes
    -----
    The page is a slippy map in Web Mercator, north up; a map without a place on Earth is shown as its pixels. It has
    a swipe line, opacity, classes to switch on and off, areas by class and coordinates under the pointer. Rasters are
    read through their overviews, so memory does not grow with the map; maps of more than 100 million pixels are
    counted in an overview.

    Examples
    --------
    >>> geoseg.preview("landcover.tif", "scene.tif", out="map.html")  # doctest: +SKIP

    """
    chosen = check_palette(palette)
    if mkdir:
        make_folders(out)
    budget = _budget_bytes(max_mb, inline=out is None)
    target = None if out is None else _page_target(out, overwrite=overwrite)
    if layer is not None and polygons is None:
        raise UsageError("`layer` is for `polygons`; add them, or leave it out", "layer")
    given = given_names(legend)
    sources = _Sources.open(landcover, given, scene, confidence)
    if sources.classes.note:
        announcer(announce)(sources.classes.note)
    source = None if polygons is None else open_features(polygons, layer, _title(sources.landcover))
    names = sources.classes.names if given is None else given
    data = _data(sources, names, source, budget - shell_bytes(), progress or _quiet)
    page = build_page(_title(sources.landcover), {**data, "palette": chosen})
    return page if target is None else replace(page, path=page.save(target, overwrite=overwrite))


def _budget_bytes(max_mb: float | None, *, inline: bool) -> int:
    wanted = max_mb if max_mb is not None else INLINE_MB if inline else PAGE_MB
    if not 0.5 <= wanted <= 500:
        raise UsageError(f"`max_mb` must be 0.5 to 500 megabytes, got {wanted:g}; the default is {PAGE_MB:g}", "max_mb")
    return round(wanted * 1e6)


def _page_target(out: StrPath, *, overwrite: bool) -> Path:
    path = Path(out)
    if path.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{path}: a page must end in .html, a picture (geoseg.picture) in .png", "out")
    return check_target(path, overwrite=overwrite)


def _title(landcover: Scene) -> str:
    return Path(shown(landcover.path)).stem or "Land cover"


@dataclass(frozen=True, slots=True)
class _Sources:
    """The rasters of a page."""

    classes: ClassRaster
    scene: Scene | None
    confidence: Scene | None

    @property
    def landcover(self) -> Scene:
        """The map as it is stored."""
        return self.classes.scene

    @classmethod
    def open(
        cls,
        landcover: StrPath,
        legend: Nomenclature | None,
        scene: StrPath | Scene | None,
        confidence: StrPath | None,
    ) -> _Sources:
        return cls(
            ClassRaster.open(landcover, legend),
            None if scene is None else scene if isinstance(scene, Scene) else natural_scene(scene),
            None if confidence is None else _confidence(confidence),
        )


def _confidence(path: StrPath) -> Scene:
    found = Scene.open(path)
    bands = len(found.band_indexes)
    if found.dtype != "uint8" or bands != 1:
        raise SceneError(
            f"{shown(found.path)} has {bands} band{'s' * (bands != 1)} of {found.dtype}, confidence is percent as "
            "uint8 in one; give what geoseg predict --confidence wrote"
        )
    return found


def _model_name(landcover: Scene) -> str | None:
    """Return the model that a map of geoseg's own says it is by."""
    with opened(landcover.path) as dataset:
        name = dataset.tags().get(_MODEL_TAG)
    return name[:_MOST_LETTERS] if name else None


def _quiet(_state: Progress) -> None:
    """Take a state when nobody listens."""


def _data(
    sources: _Sources,
    known: Nomenclature,
    polygons: FeatureSource | None,
    budget: int,
    progress: Callable[[Progress], None],
) -> dict[str, object]:
    """Return what the page's program is given."""
    landcover, frame = sources.landcover, Frame.of(sources.landcover)
    table = CodeTable(shown(landcover.path))
    with ExitStack() as stack:
        layers = _layers(sources, frame, table, stack)
        for_polygons = 0 if polygons is None else round(budget * _FOR_POLYGONS)
        _fill(layers, frame, budget - for_polygons, progress)
        areas = ClassAreas.of(layers[0].source, table)
    _check_overlap(sources, layers)
    own = polynomial(frame, landcover.geobox)
    return {
        "facts": _facts(landcover),
        "earth": frame.is_earth,
        "bounds": frame.bounds,
        "zooms": [frame.first_zoom, layers[0].last_zoom, frame.native_zoom],
        "lastZooms": {layer.name: layer.last_zoom for layer in layers},
        "tilePx": TILE_PX,
        "sidePx": SIDE_PX,
        "metresPerPx": typical_gsd_m(landcover.geobox),
        "classes": _classes(known, areas, table),
        "inPx": areas.in_px,
        "countedStep": round(areas.step, 1),
        "coordinates": None if own is None else own.to_json(),
        "pixels": _pixels(landcover, layers) if own is not None and frame.is_earth else None,
        "polygons": None
        if polygons is None
        else outlines(polygons, frame, landcover.geobox, layers[0].last_zoom, for_polygons).to_json(),
        "sceneType": picture_type(),
        "model": _model_name(landcover),
        "sceneName": None if sources.scene is None else Path(shown(sources.scene.path)).name,
        "layers": {layer.name: layer.tiles for layer in layers},
        "version": VERSION,
    }


def _fill(layers: Sequence[PageLayer], frame: Frame, budget: int, progress: Callable[[Progress], None]) -> None:
    """Fill the layers level by level, and report each; how many there will be, the budget decides."""
    began, levels = time.monotonic(), frame.exact_zoom - frame.first_zoom + 1

    def report(done: int) -> None:
        progress(Progress(done, levels, 0, 0, 0, time.monotonic() - began, stage="page"))

    report(0)
    fill(layers, frame, budget, report)
    report(levels)


def _layers(sources: _Sources, frame: Frame, table: CodeTable, stack: ExitStack) -> list[PageLayer]:
    """Return the layers, the map first; copies that they need last as long as the stack."""
    wanted: list[tuple[str, Scene, Resampling, Callable[[Patch], bytes], Callable[[Patch], bytes] | None]] = [
        (
            "classes",
            stack.enter_context(plain_codes(sources.classes)),
            Resampling.nearest,
            partial(encode_codes, table=table),
            None,
        )
    ]
    if sources.confidence is not None:
        wanted.append(("confidence", sources.confidence, Resampling.nearest, encode_confidence, None))
    statistics = None if sources.scene is None else sources.scene.statistics()
    if sources.scene is not None and statistics is not None:
        natural = Natural(min(statistics.low[:3]), max(statistics.high[:3]))
        shown_bands = replace(sources.scene, band_indexes=sources.scene.band_indexes[:3])
        wanted.append(("scene", shown_bands, Resampling.bilinear, natural, replace(natural, quality=ROUGH_QUALITY)))
    return [
        PageLayer(
            name,
            stack.enter_context(OverviewSource(scene, how if how is Resampling.nearest else Resampling.average)),
            place_in(frame, sources.landcover, scene),
            how,
            encode,
            rough,
            is_exact=how is Resampling.nearest and _shares_pixels(scene, sources.landcover),
        )
        for name, scene, how, encode, rough in wanted
    ]


def _shares_pixels(one: Scene, other: Scene) -> bool:
    return (one.shape, one.geobox.transform, one.geobox.crs) == (
        other.shape,
        other.geobox.transform,
        other.geobox.crs,
    )


def _pixels(landcover: Scene, layers: Sequence[PageLayer]) -> dict[str, object]:
    """Return what takes the map's own coordinates to its columns and rows, and the layers that share these."""
    return {
        "transform": tuple(~landcover.geobox.transform)[:6],
        "shape": landcover.shape,
        "layers": [layer.name for layer in layers if layer.is_exact],
    }


def _check_overlap(sources: _Sources, layers: Sequence[PageLayer]) -> None:
    for layer in layers[1:]:
        if not layer.tiles:
            raise SceneError(
                f"no valid pixel of {shown(layer.source.scene.path)} lies on {shown(sources.landcover.path)}; "
                f"give the {layer.name} of this map"
            )


def _facts(landcover: Scene) -> str:
    box = landcover.geobox
    crs = box.crs if box.has_transform else box.gcp_crs
    authority = None if crs is None else crs.to_authority()
    place = "no CRS" if crs is None else ":".join(authority) if authority else "own CRS"
    size = f"{box.width_px:,} \u00d7 {box.height_px:,} px".replace(",", "\u202f")
    return " · ".join([size, *_pixel(box), place])


def _pixel(box: GeoBox) -> list[str]:
    """Return what a pixel measures, as people say it."""
    gsd_m = typical_gsd_m(box)
    if gsd_m is None:
        return []
    if box.crs is not None and box.crs.is_geographic and box.has_transform:
        return [f"{math.sqrt(abs(box.transform.determinant)) * math.degrees(box.crs.units_factor[1]):.3g}°"]
    return [f"{gsd_m / 1000:.3g} km" if gsd_m >= 1000 else f"{gsd_m:.3g} m"]


def _classes(known: Nomenclature, areas: ClassAreas, table: CodeTable) -> list[dict[str, object]]:
    """Return the classes that occur, by code; a sample for areas may have missed a rare one."""
    found = [known.of(code) for code in sorted(table.codes)]
    safe = color_blind_colors([named.name for named in found])
    return [
        {
            "code": named.code,
            "slot": table[named.code],
            "name": named.name,
            "own": named.color,
            "safe": color,
            "area": areas.areas.get(named.code, 0.0),
        }
        for named, color in zip(found, safe, strict=True)
    ]
