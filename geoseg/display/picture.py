"""A scene beside its map, with the legend: one PNG to look at."""

from __future__ import annotations

import importlib.util
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.atomic import make_folders, probe_writable, same_file, write_durably
from geoseg.display.code_table import CodeTable
from geoseg.display.features import open_features
from geoseg.display.overview_source import plain_codes
from geoseg.display.palette import check_palette, color_blind_colors
from geoseg.display.placement import natural_scene, read_beside
from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.given import plain_arguments
from geoseg.legend import NODATA, Color, Legend, NamedClass, Nomenclature, given_names
from geoseg.progress import announcer
from geoseg.raster import ClassRaster, Patch, Scene, shown

if TYPE_CHECKING:
    import geopandas

StrPath = str | os.PathLike[str]
PICTURE_PX = 1000
"""The long side of each of the two images."""
_DPI = 100
_MOST_ENTRIES, _MOST_COLUMNS, _LETTERS = 41, 7, 30
"""Of the legend."""
_ROW_IN, _SWATCH_IN, _LETTER_IN = 0.22, 0.55, 0.085
"""About how large its parts are."""
_AIR_IN = 0.25
_WIDEST_IN, _HIGHEST_IN = 12.0, 11.0
"""Of the two images side by side."""
Entry = tuple[str, Color | None]
"""A line of the legend, and its color if it is a class."""


@plain_arguments()
def picture(  # noqa: PLR0913 - what is shown, how, and where
    scene: str | os.PathLike[str] | Scene,
    landcover: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    legend: str | os.PathLike[str] | None = None,
    palette: str | None = None,
    mkdir: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Path:
    """Write a PNG of a scene beside its land-cover map, with the legend, and return its path.

    Parameters
    ----------
    scene : path or Scene
        The imagery; of a larger scene the map's part is shown.
    landcover : path
        A raster of classes. Both are read decimated, so their size does not matter.
    out : path
        The picture (.png); an existing one is replaced.
    legend : path, optional
        A file of names and colors. Default: the map's own, else its codes.
    palette : str, optional
        "own" or "color-blind".
    mkdir : bool
        Make the folder of `out`.
    announce : callable, optional
        Called with lines for people: how colors were read as classes.

    Raises
    ------
    SceneError
        A raster cannot be read, the map is no map of classes, or the scene is not the map's.
    UsageError
        An unknown palette, or a legend that cannot be right.
    OutputError
        The picture cannot be written.
    GeosegError
        matplotlib is not installed.

    """
    _need_matplotlib()
    safe = check_palette(palette) == "color-blind"
    if mkdir:
        make_folders(out)
    probe_writable(out)
    source = scene if isinstance(scene, Scene) else natural_scene(scene)
    given = given_names(legend)
    raster = ClassRaster.open(landcover, given)
    if raster.note:
        announcer(announce)(raster.note)
    known, landcover_map = raster.names if given is None else given, raster.scene
    with plain_codes(raster) as plain:
        patch, table = plain.overview(PICTURE_PX), CodeTable(shown(landcover_map.path))
    codes = table.of(patch.data[0], patch.valid)
    classes = _classes(known.completed(table.codes), safe=safe)
    colored = _colored(codes, {table[named.code]: named.color for named in classes})
    pixels = np.bincount(codes.ravel(), minlength=NODATA + 1)
    entries = _entries(classes, {named.code: int(pixels[table[named.code]]) for named in classes})
    target = Path(out)
    _draw(_natural(read_beside(source, landcover_map, PICTURE_PX), source), colored, entries, target)
    return target


@plain_arguments()
def draw_polygons(  # noqa: PLR0913 - what is drawn, how, and where
    polygons: StrPath | geopandas.GeoDataFrame,
    out: StrPath,
    *,
    legend: StrPath | Legend | Nomenclature | None = None,
    landcover: StrPath | None = None,
    title: str | None = None,
    layer: str | None = None,
) -> Path:
    """Draw polygons as `vectorize` makes them, of any number, as a map in a PNG of about 2000 pixels.

    Parameters
    ----------
    polygons : path or GeoDataFrame
        With the columns of `vectorize`: code, name and area_m2 or area_px.
    out : path
        The picture (.png); an existing one is replaced.
    legend : path, Legend or Nomenclature, optional
        The colors. Default: the map's, else those of the style inside a GeoPackage, else the DeepGlobe legend's for
        its names, else some that differ.
    landcover : path, optional
        The map that the polygons were made from, for its colors.
    title : str, optional
        Default: the file's name.
    layer : str, optional
        The layer of the polygons, where several could be meant. Default: the one with the map's name.

    Raises
    ------
    GeosegError
        matplotlib is not installed, or the file holds no polygons.
    UsageError
        The polygons lack the columns of `vectorize`.
    OutputError
        The picture cannot be written.

    Notes
    -----
    Each pixel shows the mix of the classes in it. Borders are drawn around what is large enough to be seen.

    Examples
    --------
    >>> geoseg.draw_polygons("landcover.gpkg", "landcover.png")  # doctest: +SKIP

    """
    _need_matplotlib()
    target = probe_writable(out)
    from geoseg.display.polygon_page import draw_page  # noqa: PLC0415 - matplotlib is an extra

    source = open_features(polygons, layer, None if landcover is None else Path(landcover).stem)
    names = given_names(legend)
    if names is None and landcover is not None:
        names = ClassRaster.open(landcover).names
    write_durably(target, draw_page(title or source.title, source, names))
    return target


def check_picture(out: StrPath, *, overwrite: bool, others: Iterable[str] = ()) -> Path:
    """Return the target of a picture if it can be drawn there, before any work is done.

    GeosegError without matplotlib; UsageError for another extension than .png, or for one of the `others`, which the
    run reads or writes; OutputError where no file can be made, or one exists and may not be replaced.
    """
    _need_matplotlib()
    path = probe_writable(out)
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a picture of polygons must end in .png", "png")
    if any(same_file(path, Path(name)) for name in others):
        raise UsageError(
            f"{path} is read or written by this run and would be replaced by the picture; choose another `png`",
            "png",
        )
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; add `overwrite=True` to replace it, or choose another `png`")
    return path


def _need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise GeosegError("pictures need matplotlib, which is not installed; pip install matplotlib")


def _classes(found: Nomenclature, *, safe: bool) -> list[NamedClass]:
    """Return the classes of a map by code, in their own colors or in those that all people tell apart."""
    if not safe:
        return list(found)
    colors = color_blind_colors([named.name for named in found])
    return [replace(named, color=color) for named, color in zip(found, colors, strict=True)]


def _entries(classes: Sequence[NamedClass], pixels: Mapping[int, int]) -> list[Entry]:
    """Return what the legend says, by code; where classes are many, the largest and how many others there are."""
    most = sorted(classes, key=lambda named: -pixels[named.code])[:_MOST_ENTRIES]
    entries: list[Entry] = [(_fitting(named.name), named.color) for named in sorted(most, key=lambda named: named.code)]
    others = len(classes) - len(most)
    return [*entries, (f"and {others} more", None)] if others else entries


def _fitting(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1].rstrip()}…"


def _columns(entries: Sequence[Entry], wide_in: float) -> int:
    longest = max((len(text) for text, _ in entries), default=0)
    fitting = int(wide_in / (_SWATCH_IN + _LETTER_IN * longest))
    return max(1, min(len(entries), _MOST_COLUMNS, fitting))


def _natural(patch: Patch, scene: Scene) -> NDArray[np.uint8]:
    """Return (row, col, 4): the first three bands, stretched alike so that colors stay; invalid is transparent."""
    bands = patch.data[:3] if len(patch.data) >= 3 else patch.data[[0, 0, 0]]
    statistics = scene.statistics()
    if statistics is None:
        return np.zeros((*patch.valid.shape, 4), np.uint8)
    lows, highs = min(statistics.low[:3]), max(statistics.high[:3])
    light = np.clip((bands.astype(np.float32) - lows) / max(highs - lows, 1e-9), 0, 1)
    return np.dstack([*(light * 255).astype(np.uint8), patch.valid.astype(np.uint8) * 255])


def _colored(codes: NDArray[np.uint8], colors: Mapping[int, Color]) -> NDArray[np.uint8]:
    """Return (row, col, 4) in the colors of the codes; nodata is transparent."""
    table = np.zeros((NODATA + 1, 4), np.uint8)
    for code, color in colors.items():
        table[code] = (*color, 255)
    return table[codes]


def _draw(natural: NDArray[np.uint8], colored: NDArray[np.uint8], entries: Sequence[Entry], target: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - the extra [plot]
    from matplotlib.patches import Patch as Swatch  # noqa: PLC0415 - the extra [plot]

    height, width = natural.shape[:2]
    high_in = min(_HIGHEST_IN, _WIDEST_IN / 2 * height / width)
    longest = max((len(text) for text, _ in entries), default=0)
    wide_in = max(2 * high_in * width / height, _SWATCH_IN + _LETTER_IN * longest)
    columns = _columns(entries, wide_in)
    legend_in = _ROW_IN * math.ceil(len(entries) / columns) + _AIR_IN
    figure = Figure(figsize=(wide_in, high_in + legend_in), dpi=_DPI, layout="constrained")
    for axes, image in zip(figure.subplots(1, 2), (natural, colored), strict=True):
        axes.imshow(image, interpolation="nearest" if image is colored else "antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("gray")  # the edge of a white class on a white page
    swatches = [
        Swatch(label="class", fill=False, linewidth=0)
        if color is None
        else Swatch(label="class", facecolor="#" + bytes(color).hex(), edgecolor="gray")
        for _, color in entries
    ]
    if swatches:
        legend = figure.legend(handles=swatches, loc="outside lower center", ncols=columns, frameon=False)
        for text, (name, _) in zip(legend.get_texts(), entries, strict=True):
            text.set(text=name, parse_math=False)  # a dollar sign is one; a label with a leading _ would be left out
    content = io.BytesIO()
    try:
        figure.savefig(content, format=target.suffix[1:].lower() or "png")
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {target}: {error}; choose another place for the picture") from None
    write_durably(target, content.getvalue())
