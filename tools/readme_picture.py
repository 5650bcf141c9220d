"""Make the picture at the top of the README: a scene, its map and its polygons side by side, all by geoseg.

python tools/readme_picture.py            # docs/pictures/readme.webp with the model that is shipped now
python tools/readme_picture.py --palette own --window 512,400,1024,1024
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import matplotlib as mpl
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch
from PIL import Image
from rasterio.windows import Window, bounds

import geoseg
from geoseg.atomic import write_durably
from geoseg.display.palette import check_palette, colors_in
from geoseg.legend import Nomenclature

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 400_000
_WINDOW = Window(1540, 0, 1500, 1500)  # where every class is
_WIDTH_IN, _GAP, _LEGEND_IN = 12.0, 0.008, 0.42
_WIDTH_PX = 1920
_INK, _RIM = "#1f2328", "#8c959f"


@dataclass(frozen=True, slots=True)
class View:
    """The part of the scene to show; classes have the same color in all panels."""

    image: np.ndarray  # (row, col, band) uint8
    codes: np.ndarray  # (row, col) uint8
    polygons: geopandas.GeoDataFrame
    extent: tuple[float, float, float, float]  # left, right, bottom, top, in the CRS
    legend: geoseg.Legend


def main() -> None:
    """Map the scene, make the polygons, draw the picture, and write it if it is small enough."""
    wanted = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        landcover, polygons = Path(folder, "landcover.tif"), Path(folder, "landcover.gpkg")
        geoseg.predict(wanted.scene, landcover)
        geoseg.vectorize(landcover, polygons, min_area=25, simplify=1)
        view = _view(wanted.scene, landcover, polygons, wanted.window, wanted.palette)
    content = _as_webp(_draw(view))
    if len(content) > LARGEST_BYTES:
        raise SystemExit(f"the picture has {len(content)} bytes, {LARGEST_BYTES} at most; choose a smaller --window")
    write_durably(wanted.out, content)
    print(f"{wanted.out}: {len(content) / 1000:.0f} kB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, default=ROOT / "sample_data" / "scene.tif")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "readme.webp")
    parser.add_argument("--window", type=_window, default=_WINDOW, help="what is shown: COL,ROW,WIDTH,HEIGHT in pixels")
    parser.add_argument("--palette", default="soft", help="of geoseg preview")
    return parser.parse_args()


def _window(text: str) -> Window:
    col, row, width, height = (int(part) for part in text.split(","))
    return Window(col, row, width, height)


def _view(scene: Path, landcover: Path, polygons: Path, window: Window, palette: str) -> View:
    with rasterio.open(scene) as file:
        image = np.moveaxis(file.read((1, 2, 3), window=window), 0, -1)
        left, bottom, right, top = bounds(window, file.transform)
    with rasterio.open(landcover) as file:
        codes = file.read(1, window=window)
    own = geoseg.DEEPGLOBE
    colors = colors_in(check_palette(palette), Nomenclature.from_legend(own).classes)
    legend = geoseg.Legend(tuple(replace(known, color=color) for known, color in zip(own, colors, strict=True)))
    layer = geopandas.read_file(polygons, layer="landcover", bbox=(left, bottom, right, top))
    return View(image, codes, layer, (left, right, bottom, top), legend)


def _draw(view: View) -> Figure:
    mpl.rcParams["font.family"] = "sans-serif"
    width = (1 - 2 * _GAP) / 3
    height_in = width * _WIDTH_IN * len(view.codes) / view.codes.shape[1]
    figure = Figure(figsize=(_WIDTH_IN, height_in + _LEGEND_IN), dpi=_WIDTH_PX / _WIDTH_IN, facecolor="white")
    share = height_in / (height_in + _LEGEND_IN)
    for number, (title, panel) in enumerate(_PANELS.items()):
        axes = figure.add_axes((number * (width + _GAP), 1 - share, width, share))
        panel(axes, view)
        _label(axes, title, view)
    _legend(figure, view)
    return figure


def _label(axes: Axes, title: str, view: View) -> None:
    axes.set(xlim=view.extent[:2], ylim=view.extent[2:], xticks=[], yticks=[], xlabel="", ylabel="", aspect="equal")
    axes.spines[:].set_visible(False)
    axes.text(
        0.025, 0.97, title, transform=axes.transAxes, va="top", fontsize=10, color=_INK,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "none", "alpha": 0.88},
    )  # fmt: skip


def _legend(figure: Figure, view: View) -> None:
    present = set(np.unique(view.codes).tolist())
    swatches = [
        Swatch(facecolor=_color(known), edgecolor=_RIM, linewidth=0.6, label=known.name.replace("_", " "))
        for known in view.legend
        if known.code in present
    ]
    figure.legend(
        handles=swatches, loc="lower center", ncols=len(swatches), frameon=False, fontsize=10.5, labelcolor=_INK,
        handlelength=1.3, handleheight=1.0, columnspacing=2.2, bbox_to_anchor=(0.5, -0.01),
    )  # fmt: skip


def _scene(axes: Axes, view: View) -> None:
    axes.imshow(view.image, extent=view.extent, interpolation="antialiased")


def _map(axes: Axes, view: View) -> None:
    table = np.full((geoseg.NODATA + 1, 3), 255, np.uint8)
    for known in view.legend:
        table[known.code] = known.color
    axes.imshow(table[view.codes], extent=view.extent, interpolation="antialiased")


def _polygons(axes: Axes, view: View) -> None:
    _scene(axes, view)
    colors = {known.code: _color(known) for known in view.legend}
    fills = view.polygons["code"].map(colors)
    view.polygons.plot(ax=axes, color=fills, alpha=0.45, linewidth=0)
    view.polygons.boundary.plot(ax=axes, color="white", linewidth=0.9)


_PANELS: dict[str, Callable[[Axes, View], None]] = {"the scene": _scene, "the map": _map, "its polygons": _polygons}


def _color(known: geoseg.LandCover) -> str:
    return "#" + bytes(known.color).hex()


def _as_webp(figure: Figure) -> bytes:
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").save(content, "WEBP", quality=84, method=6)
    return content.getvalue()


if __name__ == "__main__":
    main()
