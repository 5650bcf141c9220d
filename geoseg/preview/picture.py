"""A scene beside its map, with the legend: one PNG to look at."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, OutputError, SceneError
from geoseg.legend import NODATA, LandCover, Legend
from geoseg.preview.colour_blind import check_palette, colour_blind_legend
from geoseg.raster.classes import read_legend
from geoseg.raster.durable import write_durably
from geoseg.raster.legend_file import read_legend_file
from geoseg.raster.scene import Patch, Scene

PICTURE_PX = 1000
"""The long side of each of the two images."""
_DPI = 100
_UNNAMED = (128, 128, 128)


def picture(
    scene: str | os.PathLike[str] | Scene,
    landcover: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    legend: str | os.PathLike[str] | None = None,
    palette: str | None = None,
) -> Path:
    """Write a PNG of a scene beside its land-cover map and the legend; return its path.

    Both are read decimated, so the size of the scene does not matter. `legend` is a file of names and colours;
    `palette` is "own" or "colour-blind". Raises SceneError when a raster cannot be read or the map is not of uint8,
    UsageError for an unknown palette or a legend that cannot be right, OutputError when the picture cannot be written,
    GeosegError without matplotlib.
    """
    safe = check_palette(palette) == "colour-blind"
    source = scene if isinstance(scene, Scene) else Scene.open(scene)
    landcover_map = Scene.open(landcover)
    if landcover_map.dtype != "uint8":
        raise SceneError(
            f"{landcover_map.path} holds {landcover_map.dtype}, a map holds codes 0 to 254 as uint8; "
            "give one that geoseg predict wrote"
        )
    codes = landcover_map.overview(PICTURE_PX)
    classes = _legend(landcover_map, np.unique(codes.data[0][codes.valid]).tolist(), legend)
    if safe and classes is not None:
        classes = colour_blind_legend(classes)
    target = Path(out)
    _draw(_natural(source.overview(PICTURE_PX), source), _colored(codes, classes), classes, target)
    return target


def _legend(landcover: Scene, found: list[int], file: str | os.PathLike[str] | None) -> Legend | None:
    if file is None:
        return read_legend(landcover, found)
    named = [known for known in read_legend_file(file).completed(found) if 0 <= known.code < NODATA]
    return Legend(tuple(LandCover(known.code, known.name, known.color) for known in named)) if named else None


def _natural(patch: Patch, scene: Scene) -> NDArray[np.uint8]:
    """Return (row, col, 4): the first three bands, stretched alike so that colours stay; invalid is transparent."""
    bands = patch.data[:3] if len(patch.data) >= 3 else patch.data[[0, 0, 0]]
    statistics = scene.statistics()
    if statistics is None:
        return np.zeros((*patch.valid.shape, 4), np.uint8)
    lows, highs = min(statistics.low[:3]), max(statistics.high[:3])
    light = np.clip((bands.astype(np.float32) - lows) / max(highs - lows, 1e-9), 0, 1)
    return np.dstack([*(light * 255).astype(np.uint8), patch.valid.astype(np.uint8) * 255])


def _colored(codes: Patch, legend: Legend | None) -> NDArray[np.uint8]:
    """Return (row, col, 4) in the legend's colours; nodata is transparent."""
    table = np.full((NODATA + 1, 4), (*_UNNAMED, 255), np.uint8)
    for land_cover in legend or ():
        table[land_cover.code, :3] = land_cover.color
    table[NODATA] = 0
    return np.where(codes.valid[..., None], table[codes.data[0]], 0).astype(np.uint8)


def _draw(natural: NDArray[np.uint8], colored: NDArray[np.uint8], legend: Legend | None, target: Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra [plot]
        from matplotlib.patches import Patch as Swatch  # noqa: PLC0415
    except ImportError:
        raise GeosegError("pictures need matplotlib; pip install matplotlib") from None
    height, width = natural.shape[:2]
    across = 2 * width / height > 1.5
    size = (12, 12 * height / width / 2 + 1) if across else (12 * width / height + 1, 12)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    for axes, image in zip(figure.subplots(1, 2), (natural, colored), strict=True):
        axes.imshow(image, interpolation="nearest" if image is colored else "antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("gray")  # the edge of a white class on a white page
    swatches = [
        Swatch(facecolor="#" + bytes(c.color).hex(), edgecolor="gray", label=c.name.replace("_", " "))
        for c in legend or ()
    ]
    if swatches:
        figure.legend(handles=swatches, loc="outside lower center", ncols=min(len(swatches), 7), frameon=False)
    content = io.BytesIO()
    try:
        figure.savefig(content, format=target.suffix[1:].lower() or "png")
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {target}: {error}; choose another place for the picture") from None
    write_durably(target, content.getvalue())
