"""The verb `preview`: show a land-cover map, with its scene, as a single web page to view and share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.enums import Resampling

from geoseg import features
from geoseg.atomic import check_target
from geoseg.display.code_table import Changes, ClassAreas, CodeTable, common_names, typical_gsd_m
from geoseg.display.features import FeatureSource, Outlines, open_features, outlines
from geoseg.display.frame import SIDE_PX, TILE_PX, Frame, is_cut, polynomial
from geoseg.display.origin import Heading, Origin, facts_of, name_of, scene_line
from geoseg.display.overview_source import OverviewSource, plain_codes
from geoseg.display.page import (
    ROUGH_QUALITY,
    Encode,
    NaturalColors,
    Page,
    PageLayer,
    build_page,
    encode_codes,
    encode_confidence,
    fill,
    picture_type,
    shell_bytes,
)
from geoseg.display.palette import Offered, PaletteName, check_palette, palettes
from geoseg.display.placement import natural_scene, place_in
from geoseg.errors import SceneError, UsageError
from geoseg.given import CrsLike, StrPath, plain_arguments
from geoseg.legend import GivenLegend, Nomenclature, given_names
from geoseg.progress import Progress, announcer
from geoseg.raster import ClassRaster, Scene, as_scene, confidence_raster, shown
from geoseg.version import VERSION

if TYPE_CHECKING:
    import geopandas

    from geoseg.features.area_of_interest import Aoi
    from geoseg.raster.scene import SceneLike

_PAGE_MB = 15.0
"""In an email this becomes 20 MB, which most servers accept."""
_INLINE_MB = 4.0
"""For notebooks, which store the page."""
_POLYGON_SHARE = 0.2
"""At most this share of the page is for polygons."""
_SIEVED_PX, _MOVED = 1.5, 1e-4
"""Polygons were sieved if none is smaller than this many pixels, and this share of the area has another class."""


@plain_arguments()
def preview(  # noqa: PLR0913 - a page has this many parts
    landcover: SceneLike,
    scene: SceneLike | None = None,
    *,
    later: SceneLike | None = None,
    out: StrPath | None = None,
    confidence: SceneLike | None = None,
    aoi: Aoi | None = None,
    aoi_crs: CrsLike | None = None,
    polygons: StrPath | geopandas.GeoDataFrame | None = None,
    layer: str | None = None,
    legend: GivenLegend | None = None,
    palette: str | None = None,
    title: str | None = None,
    description: str | None = None,
    max_mb: float | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Page:
    """Show a land-cover map, over its scene if given, as a single page that needs no network or server.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset or xarray.DataArray
        A raster of classes of any size, or a part of one, from `geoseg.within` or `geoseg.crop`.
    scene : as `landcover`, optional
        The imagery under the map, compared by a swipe line.
    later : as `landcover`, optional
        A second map of the same place, from another date: the swipe line then divides the two maps, and the page
        shows what changed. Both must have the same classes.
    out : path, optional
        Where to write the page (.html). Without it, the page is only returned, and a notebook shows it.
    confidence : as `landcover`, optional
        Confidence in percent, as written by `predict`: another layer of the page. Not with `later`.
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: only the map's pixels in them are shown and counted; `aoi_crs` is its CRS if it names none.
    polygons : path or GeoDataFrame, optional
        Polygons that `vectorize` wrote or returned, drawn on the page.
    layer : str, optional
        The layer of the polygons. Default: the only one, else the one with the map's name.
    legend : path, dict of names by code, Legend or Nomenclature, optional
        Names and colors. Default: the map's own, else its codes.
    palette : str, optional
        "soft" (for a map in DeepGlobe's published colors, else the map's own), "own", "deepglobe" or "color-blind". The
        reader of the page can switch. Default: "soft".
    title : str, optional
        The heading. Default: the map's file name.
    description : str, optional
        Text below it; an empty line starts a paragraph.
    max_mb : float, optional
        Maximum size of the page in megabytes; a larger page zooms deeper. Default: 15, or 4 without `out`.
    mkdir, overwrite : bool
        Make the folder of `out`; replace an existing file.
    progress : callable, optional
        Called with a `Progress` after every level of tiles.
    announce : callable, optional
        Called with lines for people: how colors were interpreted as classes.

    Returns
    -------
    Page
        Notebooks display it; `save` writes it.

    Raises
    ------
    SceneError
        A raster cannot be read, or cannot be placed on the map.
    UsageError
        An invalid option.
    GeosegError
        Polygons that do not match the map.
    OutputError
        The page cannot be written.

    Notes
    -----
    The page is a slippy map in Web Mercator, north up; a map without a place on Earth is shown pixel by pixel. It has
    a swipe line, an opacity slider, classes to switch on and off, areas by class, and coordinates at the pointer.
    Rasters are read through their overviews, so memory does not grow with the map; maps of more than 100 million
    pixels are counted in an overview.

    Examples
    --------
    >>> geoseg.preview("landcover.tif", "scene.tif", out="map.html")  # doctest: +SKIP

    """
    chosen = check_palette(palette)
    heading = Heading(title, description)
    if later is not None and confidence is not None:
        raise UsageError("`confidence` is for a single map; leave it out, or leave out `later`", "confidence")
    if layer is not None and polygons is None:
        raise UsageError("`layer` is for `polygons`; add them, or leave it out", "layer")
    landcover = as_scene(landcover, "landcover")
    later = None if later is None else as_scene(later, "later")
    confidence = None if confidence is None else as_scene(confidence, "confidence")
    budget = _budget_bytes(max_mb, inline=out is None)
    target = None if out is None else _page_target(out, mkdir=mkdir, overwrite=overwrite)
    given_legend = given_names(legend)
    if aoi is not None or aoi_crs is not None:
        landcover = features.within(landcover, aoi, aoi_crs)
        later = None if later is None else features.within(later, aoi, aoi_crs)
    sources = _Sources.open(landcover, later, given_legend, scene, confidence)
    for note in sources.notes:
        announcer(announce)(note)
    source = None if polygons is None else open_features(polygons, layer, name_of(sources.landcover))
    data = _data(sources, given_legend, source, chosen, budget - shell_bytes(), progress or (lambda _state: None))
    page = build_page(heading.title or sources.title, {**data, "description": heading.paragraphs})
    return page if target is None else replace(page, path=page.save(target, mkdir=mkdir, overwrite=overwrite))


def _budget_bytes(max_mb: float | None, *, inline: bool) -> int:
    requested = max_mb if max_mb is not None else _INLINE_MB if inline else _PAGE_MB
    if not 0.5 <= requested <= 500:
        raise UsageError(
            f"`max_mb` must be 0.5 to 500 megabytes, got {requested:g}; the default is {_PAGE_MB:g}", "max_mb"
        )
    return round(requested * 1e6)


def _page_target(out: StrPath, *, mkdir: bool, overwrite: bool) -> Path:
    path = Path(out)
    if path.suffix.lower() not in {".html", ".htm"}:
        verb = " (geoseg.picture)" if path.suffix.lower() == ".png" else ""  # the command draws these itself
        raise UsageError(f"{path}: a page must end in .html, a picture{verb} in .png", "out")
    return check_target(path, mkdir=mkdir, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class _Sources:
    """The rasters of a page."""

    classes: ClassRaster
    later: ClassRaster | None
    scene: Scene | None
    confidence: Scene | None

    @property
    def landcover(self) -> Scene:
        """The map's own raster."""
        return self.classes.scene

    @property
    def maps(self) -> list[ClassRaster]:
        """The map, and the later one if there is one."""
        return [self.classes] if self.later is None else [self.classes, self.later]

    @property
    def notes(self) -> list[str]:
        """How colors were interpreted as classes."""
        return [raster.note for raster in self.maps if raster.note]

    @property
    def names(self) -> list[str]:
        """The name of each map: its file, with the folder if both files have the same name."""
        paths = [Path(shown(raster.scene.path)) for raster in self.maps]
        stems = [name_of(raster.scene) for raster in self.maps]
        if len(set(stems)) == len(stems):
            return stems
        longer = [f"{path.parent.name}/{stem}" for path, stem in zip(paths, stems, strict=True)]
        return longer if len(set(longer)) == len(longer) else [f"{longer[0]} (first)", f"{longer[1]} (later)"]

    @property
    def title(self) -> str:
        """The default title of the page."""
        return " \u2192 ".join(self.names)

    @classmethod
    def open(
        cls,
        landcover: SceneLike,
        later: SceneLike | None,
        legend: Nomenclature | None,
        scene: SceneLike | None,
        confidence: SceneLike | None,
    ) -> _Sources:
        return cls(
            ClassRaster.open(landcover, legend),
            None if later is None else ClassRaster.open(later, legend),
            None if scene is None else natural_scene(scene),
            None if confidence is None else _confidence(confidence),
        )

    def nomenclature(self, given: Nomenclature | None, codes: set[int]) -> Nomenclature:
        """Return the meaning of the codes. UsageError if the two maps differ in it."""
        if given is not None or self.later is None:
            return self.classes.names if given is None else given
        maps = (self.classes.scene.path, self.later.scene.path)
        return common_names(self.classes.names, self.later.names, codes, maps)


def _confidence(given: SceneLike) -> Scene:
    scene = confidence_raster(given)
    if scene.dtype != "uint8":
        raise SceneError(
            f"{shown(scene.path)} holds {scene.dtype}; confidence is percent as uint8: give the raster that predict "
            "writes with `confidence`",
            "confidence",
        )
    return scene


def _data(  # noqa: PLR0913, PLR0917 - the parts of a page
    sources: _Sources,
    given_legend: Nomenclature | None,
    polygons: FeatureSource | None,
    palette: PaletteName,
    budget: int,
    progress: Callable[[Progress], None],
) -> dict[str, object]:
    landcover, frame = sources.landcover, Frame.of(sources.landcover)
    table = CodeTable(shown(landcover.path))
    with ExitStack() as stack:
        layers = _layers(sources, frame, table, stack)
        for_polygons = 0 if polygons is None else round(budget * _POLYGON_SHARE)
        _fill(layers, frame, budget - for_polygons, progress)
        _check_overlap(sources, layers)
        changes = None if sources.later is None else Changes.of(layers[0].source, layers[1].source, table)
        areas = [ClassAreas.of(layers[0].source, table)] if changes is None else [changes.areas(0), changes.areas(1)]
    coordinates = polynomial(frame, landcover.geobox)
    nomenclature = sources.nomenclature(given_legend, table.codes).completed(table.codes)
    offered = palettes(palette, list(nomenclature))
    traced = None
    if polygons is not None:
        traced = outlines(polygons, frame, landcover.geobox, layers[0].last_zoom, for_polygons)
    return {
        "facts": facts_of(landcover),
        "earth": frame.is_earth,
        "bounds": frame.bounds,
        "zooms": [frame.first_zoom, layers[0].last_zoom, frame.native_zoom],
        "lastZooms": {layer.name: layer.last_zoom for layer in layers},
        "tilePx": TILE_PX,
        "sidePx": SIDE_PX,
        "metersPerPx": (landcover.geobox.pixel_m or (None, typical_gsd_m(landcover.geobox)))[1],
        "palettes": [(name, label) for name, label, _ in offered],
        "classes": _classes(nomenclature, areas, table, offered),
        "inPx": areas[0].in_px,
        "countedStep": round(areas[0].step, 1),
        "later": None if changes is None else {"names": sources.names, "pairs": changes.rows()},
        "coordinates": coordinates,
        "pixels": _pixels(landcover, layers) if coordinates is not None and frame.is_earth else None,
        "polygons": None if traced is None else traced.to_json() | {"least": _least(traced, areas[0], landcover)},
        "sceneType": picture_type(),
        "cautions": [*_not_shown(sources, areas, layers, frame), *_cautions(sources)],
        "origins": _origins(sources),
        "layers": {layer.name: layer.tiles for layer in layers},
        "version": VERSION,
    }


def _least(traced: Outlines, areas: ClassAreas, landcover: Scene) -> float | None:
    """Return the area of the smallest polygon if the polygons were sieved, so that specks of the map are missing.

    In that case class areas differ from the map's, and no polygon is as small as a pixel.
    """
    total = sum(areas.areas.values())
    if not traced.count or traced.in_px is not areas.in_px or not total:
        return None
    pixel = 1.0 if areas.in_px else (typical_gsd_m(landcover.geobox) or 0.0) ** 2
    codes = areas.areas.keys() | traced.areas.keys()
    moved = sum(abs(areas.areas.get(code, 0.0) - traced.areas.get(code, 0.0)) for code in codes)
    return traced.least if traced.least > _SIEVED_PX * pixel and moved > _MOVED * total else None


def _not_shown(
    sources: _Sources, areas: Sequence[ClassAreas], layers: Sequence[PageLayer], frame: Frame
) -> Iterator[str]:
    """Yield a line for each raster that has nothing to show, to explain an empty page, and for a map that is cut."""
    for name, counted in zip(sources.names, areas, strict=True):
        if not counted.areas:
            yield f"{name} holds no class: all of its pixels are nodata"
    if sources.scene is not None and all(layer.name != "scene" for layer in layers):
        yield f"{name_of(sources.scene)} is not shown: all of its pixels are nodata"
    if is_cut(frame, sources.landcover.geobox):
        yield "nothing beyond 85 degrees north or south is shown"


def _cautions(sources: _Sources) -> list[str]:
    """Return the differences from the training imagery, labeled with the map's name if there are two maps."""
    cautions = [Origin.of(raster.scene).cautions for raster in sources.maps]
    if len(cautions) == 1:
        return list(cautions[0])
    return [f"{name}: {text}" for name, texts in zip(sources.names, cautions, strict=True) for text in texts]


def _origins(sources: _Sources) -> list[str]:
    """Return the origins of the maps, one line for each scene and model."""
    lines = [] if sources.scene is None else [scene_line(sources.scene)]
    origins = [Origin.of(raster.scene) for raster in sources.maps]
    differ = len({origin.model_text for origin in origins}) > 1
    for name, origin in zip(sources.names, origins, strict=True):
        if origin.scene and (sources.scene is None or origin.scene != Path(shown(sources.scene.path)).name):
            lines.append(f"Scene{f' of {name}' if sources.later else ''}: {origin.scene}")
        if origin.model_text:
            lines.append(f"Model{f' of {name}' if differ else ''}: {origin.model_text}")
    return list(dict.fromkeys(lines))


def _fill(layers: Sequence[PageLayer], frame: Frame, budget: int, progress: Callable[[Progress], None]) -> None:
    """Fill the layers level by level, reporting each; the budget decides how many there are."""
    start, levels = time.monotonic(), frame.exact_zoom - frame.first_zoom + 1

    def report(done: int) -> None:
        progress(Progress(done, levels, 0, 0, 0, time.monotonic() - start, stage="page"))

    report(0)
    fill(layers, frame, budget, report)
    report(levels)


def _layers(sources: _Sources, frame: Frame, table: CodeTable, stack: ExitStack) -> list[PageLayer]:
    """Return the layers, the map first; temporary copies exist until the stack is closed."""
    nearest = Resampling.nearest

    def layer(name: str, scene: Scene, method: Resampling, encode: Encode, rough: Encode | None = None) -> PageLayer:
        source = stack.enter_context(OverviewSource(scene, method if method is nearest else Resampling.average))
        is_exact = method is nearest and _pixels_of(scene) == _pixels_of(sources.landcover)
        return PageLayer(name, source, place_in(frame, sources.landcover, scene), method, encode, rough, is_exact)

    layers = [
        layer(name, stack.enter_context(plain_codes(raster)), nearest, partial(encode_codes, table=table))
        for name, raster in zip(("classes", "later"), sources.maps, strict=False)
    ]
    if sources.confidence is not None:
        layers.append(layer("confidence", sources.confidence, nearest, encode_confidence))
    statistics = None if sources.scene is None else sources.scene.statistics()
    if sources.scene is not None and statistics is not None:
        encode_colors = NaturalColors(min(statistics.low[:3]), max(statistics.high[:3]))
        shown_bands = replace(sources.scene, band_indexes=sources.scene.band_indexes[:3])
        rough = replace(encode_colors, quality=ROUGH_QUALITY)
        layers.append(layer("scene", shown_bands, Resampling.bilinear, encode_colors, rough))
    return layers


def _pixels_of(scene: Scene) -> object:
    return scene.shape, scene.geobox.transform, scene.geobox.crs


def _pixels(landcover: Scene, layers: Sequence[PageLayer]) -> dict[str, object]:
    """Return the transform from map coordinates to columns and rows, and the layers that share the map's grid."""
    return {
        "transform": tuple(~landcover.geobox.transform)[:6],
        "shape": landcover.shape,
        "layers": [layer.name for layer in layers if layer.is_exact],
    }


def _check_overlap(sources: _Sources, layers: Sequence[PageLayer]) -> None:
    for layer in layers[1:]:
        if not layer.tiles:
            expected = "later map of this place" if layer.name == "later" else f"{layer.name} of this map"
            scene = sources.later.scene if layer.name == "later" and sources.later else layer.source.scene
            raise SceneError(
                f"no valid pixel of {shown(scene.path)} lies on {shown(sources.landcover.path)}; give the {expected}"
            )


def _classes(
    nomenclature: Nomenclature, areas: Sequence[ClassAreas], table: CodeTable, offered: Sequence[Offered]
) -> list[dict[str, object]]:
    """Return the classes that occur, by code; rare ones may have no area, since only a sample was counted."""
    classes = [nomenclature.of(code) for code in sorted(table.codes)]
    return [
        {
            "code": named.code,
            "slot": table[named.code],
            "name": named.name,
            "own": named.color,
            "colors": {name: colors[index] for name, _, colors in offered},
            **{key: counted.areas.get(named.code, 0.0) for key, counted in zip(("area", "later"), areas, strict=False)},
        }
        for index, named in enumerate(classes)
    ]
