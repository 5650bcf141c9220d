"""The verb `picture`: draw a map or its polygons as a PNG, for reports."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoseg import features
from geoseg.atomic import check_free, check_target, check_unread, make_folders, probe_writable, write_durably
from geoseg.display.code_table import ClassAreas, CodeTable
from geoseg.display.features import FeatureSource, open_features
from geoseg.display.origin import Heading, Origin, crs_text, facts_of, grouped, name_of, scene_line
from geoseg.display.overview_source import OverviewSource, plain_codes
from geoseg.display.palette import PaletteName, check_palette, colors_in
from geoseg.display.placement import natural_scene, read_beside
from geoseg.errors import GeosegError, UsageError
from geoseg.given import CrsLike, StrPath, plain_arguments
from geoseg.legend import DEEPGLOBE, NODATA, Color, GivenLegend, NamedClass, Nomenclature, distinct_color, given_names
from geoseg.progress import announcer
from geoseg.raster import ClassRaster, Patch, Scene, as_scene, local_files, natural_colors, shown

if TYPE_CHECKING:
    import geopandas

    from geoseg.display.sheet import LegendEntry, Panel, Sheet
    from geoseg.features.area_of_interest import Aoi
    from geoseg.raster.scene import SceneLike

WIDTHS_PX, DOTS = (300, 6000), (30, 1200)
"""Limits on a picture's width in pixels, and on the resolution stored in it, in pixels per inch."""
_NARROWEST = 0.05
"""Width relative to height of the narrowest picture of a raster; a narrower raster is stretched."""
_OVERSAMPLING = 2
"""Codes are read this many times finer than the picture: each pixel shows the mix of the classes in it."""
_MOST_OVERSAMPLED_PX = 16_000_000


@plain_arguments()
def picture(  # noqa: PLR0913 - a picture has this many parts
    landcover: SceneLike | None = None,
    scene: SceneLike | None = None,
    *,
    out: StrPath,
    aoi: Aoi | None = None,
    aoi_crs: CrsLike | None = None,
    polygons: StrPath | geopandas.GeoDataFrame | None = None,
    layer: str | None = None,
    legend: GivenLegend | None = None,
    palette: str | None = None,
    title: str | None = None,
    description: str | None = None,
    width_px: int | None = None,
    dpi: int | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Draw a land-cover map, next to its scene if given, or its polygons, as a PNG, and return its path.

    Parameters
    ----------
    landcover : path, Scene, rasterio dataset or xarray.DataArray, optional
        A raster of classes, or a part of one, from `geoseg.within` or `geoseg.crop`. It is read decimated, so its size
        does not matter.
    scene : as `landcover`, optional
        The imagery, shown to the left of the map; a larger scene is cut to the map.
    out : path
        The picture (.png).
    aoi : path, GeoDataFrame, geometry or GeoJSON, optional
        Polygons: the picture shows the rectangle around them, and only the map's pixels in them are shown and counted;
        `aoi_crs` is its CRS if it names none. Not with `polygons`: `vectorize` has its own `aoi`.
    polygons : path or GeoDataFrame, optional
        Any number of polygons from `vectorize` (columns code, name and area_m2 or area_px), drawn instead of the
        raster. `landcover` then only provides the colors.
    layer : str, optional
        The layer of the polygons, if there are several. Default: the one with the map's name.
    legend : path, dict of names by code, Legend or Nomenclature, optional
        Names and colors. Default: the map's own; for polygons without a map, those of the style in a GeoPackage, else
        the DeepGlobe legend's for its names, else distinct colors.
    palette : str, optional
        "soft" (for DeepGlobe's published colors, else the legend's own), "own", "deepglobe" or "color-blind". Default:
        "soft".
    title : str, optional
        Default: the file's name.
    description : str, optional
        Text below the title.
    width_px : int, optional
        Width of the picture, 300 to 6000 pixels; everything in it scales. Default: fits one image of 1600 pixels, or
        two of 1100.
    dpi : int, optional
        Resolution stored in the file, in pixels per inch, which sets its printed size: 2008 pixels at 300 are 17 cm
        wide. Default: 144.
    mkdir, overwrite : bool
        Make the folder of `out`; replace an existing file.
    announce : callable, optional
        Called with lines for people: how colors were interpreted as classes.

    Raises
    ------
    SceneError
        A raster cannot be read, the map is not a raster of classes, or the scene does not match the map.
    UsageError
        Nothing to draw or too much, an unknown palette, an invalid legend, polygons that lack the columns.
    OutputError
        The picture cannot be written.
    GeosegError
        matplotlib is not installed, or the file holds no polygons.

    Notes
    -----
    The picture has a title, a legend with areas, a scale bar, a north arrow, and at the bottom the warnings of the run
    that made the map, the scene and the model. Each pixel shows the mix of the classes in it. Only polygons that are
    large enough to see get a border.

    Examples
    --------
    >>> geoseg.picture("landcover.tif", "scene.tif", out="map.png", width_px=2008, dpi=300)  # doctest: +SKIP
    >>> geoseg.picture(polygons="landcover.gpkg", out="polygons.png")  # doctest: +SKIP

    """
    _need_matplotlib()
    chosen, heading = check_palette(palette), Heading(title, description)
    _check_subject(landcover, scene, polygons, layer)
    is_part = aoi is not None or aoi_crs is not None
    if polygons is not None and is_part:
        name = "aoi" if aoi is not None else "aoi_crs"
        raise UsageError(
            f"`{name}` is for a picture of the map; leave out `polygons`, or draw polygons that geoseg.vectorize made "
            "with it",
            name,
        )
    _check_size(width_px, dpi)
    landcover = None if landcover is None else as_scene(landcover, "landcover")
    scene = None if scene is None else as_scene(scene)
    files = (file for raster in (landcover, scene) if raster is not None for file in local_files(raster))
    check_unread(Path(out), "out", *files, landcover, scene, polygons, legend, aoi)
    target = _png(check_target(out, mkdir=mkdir, overwrite=overwrite))
    given_legend = given_names(legend)
    if landcover is not None and is_part:
        landcover = features.within(landcover, aoi, aoi_crs)
    raster = None if landcover is None else ClassRaster.open(landcover, given_legend)
    if raster is not None and raster.note:
        announcer(announce)(raster.note)
    if polygons is None and raster is not None:
        sheet = _raster_sheet(raster, given_legend, scene, chosen)
    else:
        sheet = _polygon_sheet(polygons, layer, raster, given_legend, chosen)
    from geoseg.display.sheet import draw_sheet  # noqa: PLC0415 - the extra [plot]

    sheet = replace(sheet, title=heading.title or sheet.title, paragraphs=heading.paragraphs)
    png = draw_sheet(sheet, width_px, dpi)
    if mkdir:
        make_folders(target)
    write_durably(target, png)
    return target


def _raster_sheet(
    raster: ClassRaster, given_legend: Nomenclature | None, scene: SceneLike | None, palette: PaletteName
) -> Sheet:
    from geoseg.display.sheet import MapScale, Panel, Sheet  # noqa: PLC0415 - the extra [plot]

    landcover, table = raster.scene, CodeTable(shown(raster.scene.path))
    source = None if scene is None else natural_scene(scene)
    window = None if landcover.area is None else landcover.area.within(landcover.shape)
    part = raster if window is None else replace(raster, scene=landcover.cut(window))
    with plain_codes(part) as plain, OverviewSource(plain, Resampling.nearest) as counted:
        areas = ClassAreas.of(counted, table)
    classes = _colored_classes(
        palette, list((raster.names if given_legend is None else given_legend).completed(table.codes))
    )
    rows, cols = part.scene.shape
    height_m, width_m = part.scene.geobox.pixel_m or (1.0, 1.0)
    aspect = cols * width_m / (rows * height_m)

    def panels(shape: tuple[int, int]) -> Sequence[Panel]:
        with plain_codes(part) as plain:
            image = Panel(_map_image(plain, table, classes, shape), "" if source is None else "Land cover")
        if source is None:
            return [image]
        natural = _natural(read_beside(source, landcover, max(shape), window), source)
        return [Panel(_stretched(natural, shape), "Scene"), image]

    return Sheet(
        name_of(landcover),
        facts_of(part.scene),
        _entries(classes, areas.areas),
        areas.in_px,
        MapScale.of_raster(part.scene.geobox) if aspect >= _NARROWEST else MapScale(),  # as it is drawn wider
        min(1 / _NARROWEST, max(_NARROWEST, aspect)),
        panels,
        1 if source is None else 2,
        _notes(landcover, source),
        "no class, all nodata",
    )


def _polygon_sheet(
    polygons: StrPath | geopandas.GeoDataFrame | None,
    layer: str | None,
    raster: ClassRaster | None,
    given_legend: Nomenclature | None,
    palette: PaletteName,
) -> Sheet:
    from geoseg.display.canvas import Canvas  # noqa: PLC0415 - the extra [plot]
    from geoseg.display.sheet import MapScale, Panel, Sheet, vertical_stretch  # noqa: PLC0415 - as above

    source = open_features(polygons, layer, None if raster is None else Path(shown(raster.scene.path)).stem)
    nomenclature = given_legend if given_legend is not None else None if raster is None else raster.names
    count, found, areas = _counted(source, nomenclature)
    own = {named.code: named for named in given_legend or ()}
    classes = _colored_classes(palette, [own.get(named.code, named) for named in found])
    bounds = source.bounds
    stretch = 1.0 if bounds is None else vertical_stretch(source.crs, bounds)

    def panels(shape: tuple[int, int]) -> Sequence[Panel]:
        if bounds is None:
            return []
        canvas = Canvas(bounds, max(shape), stretch)
        for batch in source.batches():
            for each in classes:
                canvas.fill(batch.shapes[batch.codes == each.code], each.color)
            canvas.border(batch.shapes)
        return [Panel(canvas.image())]

    return Sheet(
        source.title,
        f"{grouped(count)} polygon{'' if count == 1 else 's'}  ·  {crs_text(source.crs)}",
        _entries(classes, areas),
        source.in_px,
        MapScale() if bounds is None else MapScale.of_bounds(source.crs, bounds),
        4 / 3 if bounds is None else (bounds[2] - bounds[0]) / ((bounds[3] - bounds[1]) * stretch),
        panels,
        1,
        () if raster is None else _notes(raster.scene, None),
        "no polygons",
    )


def _entries(classes: Sequence[NamedClass], areas: Mapping[int, float]) -> list[LegendEntry]:
    from geoseg.display.sheet import LegendEntry  # noqa: PLC0415 - the extra [plot]

    return [LegendEntry(named.name, named.color, areas.get(named.code, 0.0)) for named in classes]


def _counted(
    source: FeatureSource, nomenclature: Nomenclature | None
) -> tuple[int, list[NamedClass], dict[int, float]]:
    """Return the number of polygons, their classes by code, and the area of each class."""
    count, names, areas = 0, dict[int, str](), dict[int, float]()
    for batch in source.batches():
        count += len(batch.codes)
        codes, first, indexes = np.unique(batch.codes, return_index=True, return_inverse=True)
        sums = np.bincount(indexes, batch.areas, minlength=len(codes))
        for number, code in enumerate(codes.tolist()):
            names.setdefault(code, batch.names[first[number]])
            areas[code] = areas.get(code, 0.0) + float(sums[number])
    by_name: dict[str, Color] = {land_cover.name: land_cover.color for land_cover in DEEPGLOBE} | source.colors
    colors = {
        code: nomenclature.of(code).color if nomenclature is not None else by_name.get(name) or distinct_color(code)
        for code, name in names.items()
    }
    return count, [NamedClass(code, names[code], colors[code]) for code in sorted(names)], areas


def _check_subject(landcover: object, scene: object, polygons: object, layer: str | None) -> None:
    if landcover is None and polygons is None:
        raise UsageError("there is nothing to draw: give `landcover` or `polygons`", "landcover")
    if scene is not None and polygons is not None:
        raise UsageError("a picture shows either scene and map, or polygons; leave out `scene` or `polygons`", "scene")
    if layer is not None and polygons is None:
        raise UsageError("`layer` is for `polygons`; add them, or leave it out", "layer")


def _check_size(width_px: int | None, dpi: int | None) -> None:
    for name, value, (low, high), unit in (("width_px", width_px, WIDTHS_PX, "pixels"), ("dpi", dpi, DOTS, "per inch")):
        if value is not None and not low <= value <= high:
            raise UsageError(f"`{name}` must be {low} to {high} {unit}, got {value}", name)


def check_picture(out: StrPath, *, overwrite: bool, others: Iterable[str] = ()) -> Path:
    """Return the path of a picture if it can be written there; checked before any work is done.

    GeosegError if matplotlib is missing; UsageError if the extension is not .png or the path is one of `others`, which
    the run reads; OutputError if no file can be created, or one exists and must not be replaced.
    """
    _need_matplotlib()
    path = _png(probe_writable(out), "png")
    check_unread(path, "png", *others)
    check_free(path, "png", overwrite=overwrite)
    return path


def _need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise GeosegError("pictures need matplotlib, which is not installed; pip install matplotlib")


def _png(path: Path, parameter: str = "out") -> Path:
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a picture must end in .png, a page (geoseg.preview) in .html", parameter)
    return path


def _colored_classes(palette: PaletteName, classes: Sequence[NamedClass]) -> list[NamedClass]:
    colors = colors_in(palette, classes)
    return [NamedClass(named.code, named.name, color) for named, color in zip(classes, colors, strict=True)]


def _notes(landcover: Scene, source: Scene | None) -> list[str]:
    """Return the notes at the bottom: warnings, the scene, the model."""
    origin = Origin.of(landcover)
    sources = [] if source is None else [scene_line(source)]
    if source is None and origin.scene:
        sources.append(f"Scene: {origin.scene}")
    if origin.model_text:
        sources.append(f"Model: {origin.model_text}")
    return [*origin.cautions, *(["  ·  ".join(sources)] if sources else [])]


def _map_image(
    plain: Scene, table: CodeTable, classes: Sequence[NamedClass], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a map as (row, col, 4) in a given shape, each pixel the mean of its colors; nodata is transparent."""
    finer = _OVERSAMPLING if shape[0] * shape[1] * _OVERSAMPLING**2 <= _MOST_OVERSAMPLED_PX else 1
    patch = plain.overview(max(shape) * finer)
    colors = {table[named.code]: named.color for named in classes}
    colored = _colored(table.of(patch.data[0], patch.valid), colors)
    rows, cols = shape
    fine = _stretched(colored, (rows * finer, cols * finer))
    return _mean(fine, finer) if finer > 1 else fine


def _mean(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the mean of squares of pixels, colors weighted by coverage."""
    rows, cols = image.shape[0] // side, image.shape[1] // side
    sums = np.zeros((rows, cols, 4), np.uint32)
    for row in range(side):
        for col in range(side):
            part = image[row::side, col::side].astype(np.uint32)
            part[..., :3] *= part[..., 3:]
            sums += part
    cover = sums[..., 3:]
    color = np.divide(sums[..., :3], cover, out=np.zeros((rows, cols, 3)), where=cover > 0)
    return np.concatenate([color, cover / side**2], axis=2).round().astype(np.uint8)


def _stretched(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    row, col = (
        ((np.arange(target) + 0.5) * side / target).astype(int)
        for target, side in zip(shape, image.shape[:2], strict=True)
    )
    found: NDArray[np.uint8] = image[row[:, None], col[None]]
    return found


def _natural(patch: Patch, scene: Scene) -> NDArray[np.uint8]:
    """Return (row, col, 4): the first three bands, with one stretch for true colors; invalid pixels are transparent."""
    statistics = scene.statistics()
    if statistics is None:
        return np.zeros((*patch.valid.shape, 4), np.uint8)
    colors = natural_colors(patch.data, min(statistics.low[:3]), max(statistics.high[:3]))
    return np.dstack([*colors, patch.valid.astype(np.uint8) * 255])


def _colored(codes: NDArray[np.uint8], colors: Mapping[int, Color]) -> NDArray[np.uint8]:
    """Return (row, col, 4) in the colors of the codes; nodata is transparent."""
    table = np.zeros((NODATA + 1, 4), np.uint8)
    for code, color in colors.items():
        table[code] = (*color, 255)
    return table[codes]
