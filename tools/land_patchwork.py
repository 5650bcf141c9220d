"""Synthetic landscapes textured with photographs: open labels for land that real data sets lack.

A synthetic landscape determines where fields, woods, towns and water are. Each of its units (a parcel, or a district of
wild land) is filled with a piece of real imagery of that class: rotated with the parcel, mirrored at its edge, slightly
recolored. So a network sees real fields next to real woods, in landscapes of every kind of place, with known borders.
No piece comes from the exams' imagery.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from land_data import DUBAI_GSD_M, EXAM_TILE, EXAM_ZONE
from numpy.typing import NDArray
from PIL import Image

from geoseg.legend import DEEPGLOBE
from geoseg.raster import Window
from geoseg.synthetic.ground import (
    AGRICULTURE,
    BARREN,
    FOREST,
    RANGELAND,
    URBAN,
    WATER,
    Cover,
    Parcels,
    cover_of,
    parcels_of,
    terrain_of,
)
from geoseg.synthetic.landscape import Landscape
from geoseg.synthetic.noise import chance
from geoseg.synthetic.place import Place, draw_place

SCENES, FIRST_SEED = 126, 7000
SIDE_PX, GSD_M = 640, 0.6
PURE = 0.98
"""Share of one class from which a piece of a labeled scene counts as that class."""
PIECE_M = 64.0
MOST_PIECES = 160
"""Limit for one class from one source."""
REAL = 0.8
"""Share of units filled with photographs; the others stay synthetic."""
UCM_PIECES: Mapping[int, tuple[str, ...]] = {
    AGRICULTURE: ("agricultural",),
    FOREST: ("forest",),
    RANGELAND: ("chaparral",),
    URBAN: ("denseresidential", "mediumresidential", "mobilehomepark", "buildings", "storagetanks", "intersection"),
}
FLAIR_PIECES: Mapping[str, int] = {
    "bare soil": BARREN,
    "pervious surface": BARREN,
    "water": WATER,
    "coniferous": FOREST,
    "deciduous": FOREST,
    "brushwood": RANGELAND,
    "vineyard": AGRICULTURE,
    "agricultural land": AGRICULTURE,
    "plowed land": AGRICULTURE,
}
DUBAI_PIECES: Mapping[str, int] = {"land (unpaved area)": BARREN, "water": WATER}
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Piece:
    """Imagery of one class."""

    pixels: Pixels
    """(row, col, 3)."""
    gsd_m: float


def patchwork_member(data: Path, work: Path) -> dict[str, Any]:
    """Return the landscapes as a data set of a mixture, without its share; make missing ones."""
    folder = work / "patchwork"
    names = [each.name for each in DEEPGLOBE]
    return {
        "name": "patchwork",
        "gsd_m": [0.6, 1.4],
        "path": str(write_patchwork(data, folder, SCENES, FIRST_SEED).resolve()),
        "legend": str(_legend_file(folder).resolve()),
        "classes": {name: None if name == "unknown" else name for name in names},
        "split": "random:0.98",
        "valid_share": 1,
    }


def write_patchwork(data: Path, folder: Path, scenes: int, seed: int) -> Path:
    """Write missing landscapes and their labels into a folder; return the table that lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    pieces: dict[int, list[Piece]] = {}
    for number in range(seed, seed + scenes):
        image, labels = folder / f"{number}.tif", folder / f"{number}_labels.tif"
        if not labels.exists():
            pieces = pieces or pieces_of(data)
            pixels, codes = patchwork(number, pieces)
            _write(image, pixels)
            _write(labels, codes[None])
        rows.append((str(image.resolve()), str(labels.resolve()), str(number)))
    table = folder / f"{seed}_{scenes}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("scene", "labels", "id"), *rows])
    return table


def _legend_file(folder: Path) -> Path:
    """Write the legend of the landscapes, DeepGlobe's; return its file."""
    file = folder / "legend.json"
    classes = [{"code": each.code, "name": each.name, "color": "#" + bytes(each.color).hex()} for each in DEEPGLOBE]
    file.write_text(json.dumps({"classes": classes}), encoding="utf-8")
    return file


def patchwork(seed: int, pieces: Mapping[int, list[Piece]]) -> tuple[Pixels, Pixels]:
    """Return a landscape (3, row, col) and its codes (row, col)."""
    place = draw_place(seed)
    whole = Window(0, 0, SIDE_PX, SIDE_PX)
    y_m, x_m = np.meshgrid(*(np.arange(SIDE_PX) * GSD_M,) * 2, indexing="ij")
    ground = parcels_of(place, x_m, y_m)
    cover = cover_of(place, terrain_of(place, whole, GSD_M), ground)
    image = Landscape(seed, SIDE_PX, SIDE_PX, GSD_M).render()[0].astype(np.float32)
    generator = np.random.default_rng(seed)
    for code, choice in pieces.items():
        for unit in _units(code, cover, ground):
            if generator.random() < REAL:
                image[:, unit] = _laid(ground.where(unit), choice[generator.integers(len(choice))], generator)
    return np.clip(_hazy(place, image) + 0.5, 0, 255).astype(np.uint8), cover.codes


def _units(code: int, cover: Cover, ground: Parcels) -> Iterator[NDArray[np.bool_]]:
    """Yield the pixels of each parcel (of a class that people shape) or district (of a wild one), without its edge."""
    shaped = code in {AGRICULTURE, URBAN}
    word = ground.parcel if shaped else ground.district
    rim_m = np.where(chance(ground.district, 71) < np.float32(0.5), np.float32(1.2), np.float32(0)) if shaped else 0
    inside = (cover.codes == code) & ~cover.road & (ground.edge_m >= rim_m)
    for each in np.unique(word[inside]):
        yield inside & (word == each)


def _laid(ground: Parcels, piece: Piece, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a piece as placed on the ground, (3, pixel): along the parcel's axes, mirrored beyond its edge."""
    scale = piece.gsd_m * float(np.exp(generator.uniform(-0.2, 0.35)))
    along, across = ground.u_m, ground.v_m
    if generator.random() < 0.5:
        along, across = across, along
    at = [
        _mirrored((axis / scale + generator.integers(4 * side)).astype(np.int64), side)
        for axis, side in zip((across, along), piece.pixels.shape[:2], strict=True)
    ]
    light = np.exp(generator.normal(0, 0.12)) * np.exp(generator.normal(0, 0.03, 3))
    return (piece.pixels[at[0], at[1]].astype(np.float32) * light.astype(np.float32)).T


def _mirrored(index: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    index = index % (2 * side)
    return np.where(index < side, index, 2 * side - 1 - index)


def _hazy(place: Place, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a landscape with the haze of its place; the pieces already contain the camera's effects."""
    haze = np.array(place.haze_color, np.float32)[:, None, None] * np.float32(255)
    hazy: NDArray[np.float32] = image + (haze - image) * np.float32(0.7 * place.haze)
    return hazy


def pieces_of(data: Path) -> dict[int, list[Piece]]:
    """Return the pieces of each class, at about the resolution at which they are used."""
    found: dict[int, list[Piece]] = {code: [] for code in (URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN)}
    for code, folders in UCM_PIECES.items():
        for path in sorted(path for name in folders for path in (data / "ucm" / name).glob("*.jpg")):
            found[code].append(Piece(_halved(read_rgb(path)), 2 * 0.3048))
    for path in sorted((data / "neon" / "HARV").glob("*.tif")):
        found[FOREST].append(Piece(read_rgb(path), 0.5))
    generator = np.random.default_rng(0)
    for code, piece in [*_of_flair(data / "flair", generator), *_of_dubai(data / "dubai", generator)]:
        found[code].append(piece)
    return found


def _of_flair(folder: Path, generator: np.random.Generator) -> Iterator[tuple[int, Piece]]:
    names = _codes(folder / "legend.json")
    for path in sorted(folder.glob("*_labels.tif")):
        if path.name.removesuffix("_labels.tif").endswith(EXAM_ZONE):
            continue
        codes = read_band(path)[1::3, 1::3]
        pixels = averaged(read_rgb(path.with_name(path.name.replace("_labels", ""))), 3)
        yield from _pure(pixels, codes, {names[name]: code for name, code in FLAIR_PIECES.items()}, 0.6, generator)


def _of_dubai(folder: Path, generator: np.random.Generator) -> Iterator[tuple[int, Piece]]:
    names = _codes(folder / "legend.json")
    wanted = {names[name]: code for name, code in DUBAI_PIECES.items()}
    for tile, gsd_m in DUBAI_GSD_M.items():
        for path in sorted((folder / f"tile_{tile}" / "masks").glob("*.png")) if tile != EXAM_TILE else ():
            image = path.parent.parent / "images" / f"{path.stem}.jpg"
            yield from _pure(read_rgb(image), np.asarray(Image.open(path)), wanted, gsd_m, generator)


def _pure(
    pixels: Pixels, codes: Pixels, wanted: Mapping[int, int], gsd_m: float, generator: np.random.Generator
) -> Iterator[tuple[int, Piece]]:
    """Yield single-class pieces of a scene, some of each class."""
    side = round(PIECE_M / gsd_m)
    rows, cols = (np.arange(0, size - side + 1, side // 2) for size in codes.shape)
    for theirs, ours in wanted.items():
        places = [
            (row, col)
            for row in rows
            for col in cols
            if (codes[row : row + side, col : col + side] == theirs).mean() >= PURE
        ]
        for place in generator.permutation(len(places))[: MOST_PIECES // 4]:
            row, col = places[place]
            yield ours, Piece(pixels[row : row + side, col : col + side].copy(), gsd_m)


def _codes(legend: Path) -> dict[str, int]:
    return {row["name"]: row["code"] for row in json.loads(legend.read_text(encoding="utf-8"))["classes"]}


def read_rgb(path: Path) -> Pixels:
    """Return an image (row, col, 3)."""
    return np.asarray(Image.open(path).convert("RGB")) if path.suffix != ".tif" else _read_bands(path)


def _read_bands(path: Path) -> Pixels:
    with rasterio.open(path) as opened:
        bands: Pixels = opened.read((1, 2, 3))
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def read_band(path: Path) -> Pixels:
    """Return the first band (row, col)."""
    with rasterio.open(path) as opened:
        band: Pixels = opened.read(1)
    return band


def _halved(pixels: Pixels) -> Pixels:
    return averaged(pixels, 2)


def averaged(pixels: Pixels, factor: int) -> Pixels:
    """Return the means of whole squares of an image; a remainder at its edge is dropped."""
    height, width = (side // factor * factor for side in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    return blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)


def _write(path: Path, bands: Pixels) -> None:
    part = path.with_name(f".{path.name}")
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "crs": "EPSG:32631"}
    count, height, width = bands.shape
    transform = rasterio.Affine(GSD_M, 0, 400_000, 0, -GSD_M, 5_000_000)
    with rasterio.open(part, "w", count=count, height=height, width=width, transform=transform, **profile) as opened:
        opened.write(bands)
    part.replace(path)
