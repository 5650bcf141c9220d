"""Make the data set that the demo model is trained on: made-up landscapes, and a few real NAIP chips.

    python tools/demo_dataset.py FOLDER --naip NAIP_FOLDER [--chips N] [--size-px S] [--processes P]

Writes georeferenced pairs, `images/NAME.tif` and `labels/NAME.tif`, of 0.5 m: DeepGlobe's classes, 255 where none is
known. `split.csv` (id,part) says what trains, validates and tests, `split_synthetic.csv` the same without NAIP;
`test_synthetic.csv` and `test_naip.csv` hold the two exams apart. Files that are there are kept, so a stopped run goes
on with the same command. DeepGlobe imagery has no part in it. Where the chips lie on Earth is made up: each has a
square of its own, so that none overlaps another.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import Resampling, reproject

from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.raster.landcover import LEGEND_TAG
from geoseg.raster.windows import Window
from geoseg.synthetic import Landscape

GSD_M = 0.5
KNOWN = 6
"""Classes learned; "unknown" is not: a cloud has no land cover to know."""
FIRST_SEEDS = {"train": 10_000, "valid": 500_000, "test": 950_000}
"""Ranges that do not meet."""
COUNTS = {"train": 1000, "valid": 60, "test": 120}
"""Landscapes of each part."""
SIZE_PX = 640
"""Side of a landscape's chip."""
PLACE_PX = 8000
"""A chip is cut somewhere in a square of this size."""
LOOKS = 3
"""Squares looked at for each training chip: the one with most classes is rendered."""
COARSE_SHARE = 0.25
"""Of the training chips: seen by a coarser camera, 0.6 to 1.2 m, and brought to 0.5 m."""
QUALITIES = (60, 96)
"""JPEG, as most imagery that people have."""
HELD_OUT_PLACES = ("-0_", "-5_")
"""Of the eight Chesapeake chips; both dates of a place go together."""
NAIP_GSD_M = 1.0
Bytes = npt.NDArray[np.uint8]
"""An image (band, row, col) or codes (row, col)."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One pair to be made."""

    name: str
    part: str
    number: int
    """Among all chips; says which square of the Earth is its own."""
    seed: int
    size_px: int
    naip: Path | None = None
    """The real image; None for a landscape."""
    scale: float = 1.0
    """How many pixels a pixel of the real image becomes."""


def plan(naip: Path, counts: dict[str, int], size_px: int) -> list[Chip]:
    """Return all pairs: landscapes first, then NAIP."""
    chips: list[Chip] = []
    for part, count in counts.items():
        for seed in range(FIRST_SEEDS[part], FIRST_SEEDS[part] + count):
            chips.append(Chip(f"{part}_{seed}", part, len(chips), seed, size_px))
    for seed, path in enumerate(sorted((naip / "chesapeake_wv").glob("*_sat.png"))):
        held_out = any(place in path.name for place in HELD_OUT_PLACES)
        # at its true scale; and pixel for pixel, as a place of half the size: then trees are as small as at 1 m
        for scale in (2.0,) if held_out else (2.0, 1.0):
            name = f"naip_{path.stem.removesuffix('_sat')}_x{scale:.0f}"
            chips.append(Chip(name, "test" if held_out else "train", len(chips), seed, 0, path, scale))
    return chips


def make(chip: Chip, folder: Path) -> None:
    """Write a pair, unless it is there."""
    image_path, labels_path = folder / "images" / f"{chip.name}.tif", folder / "labels" / f"{chip.name}.tif"
    if image_path.exists() and labels_path.exists():
        return
    image, codes = naip_pair(chip) if chip.naip else landscape_pair(chip)
    codes = np.where(codes < KNOWN, codes, NODATA).astype(np.uint8)
    write(labels_path, codes[None], chip, {"compress": "deflate"})
    quality = int(np.random.default_rng([chip.seed, 7]).integers(*QUALITIES))
    jpeg = {"compress": "jpeg", "jpeg_quality": quality, "photometric": "YCBCR", "interleave": "pixel"}
    write(image_path, image, chip, jpeg)


def landscape_pair(chip: Chip) -> tuple[Bytes, Bytes]:
    """Render a landscape; training chips where it is varied, and some through a coarser camera."""
    draw = np.random.default_rng(chip.seed)
    row, col = (int(corner) for corner in draw.integers(0, PLACE_PX, 2))
    if chip.part != "train":
        return Landscape(chip.seed, 1, 1, GSD_M).render(Window(row, col, chip.size_px, chip.size_px))
    places = [(row, col), *((int(r), int(c)) for r, c in draw.integers(0, PLACE_PX, (LOOKS - 1, 2)))]
    row, col = max(places, key=lambda place: variety(chip, *place))
    if draw.random() >= COARSE_SHARE:
        return Landscape(chip.seed, 1, 1, GSD_M).render(Window(row, col, chip.size_px, chip.size_px))
    gsd_m = float(np.exp(draw.uniform(np.log(0.6), np.log(1.2))))
    shrunk = GSD_M / gsd_m
    side = int(np.ceil(chip.size_px * shrunk)) + 1
    image, codes = Landscape(chip.seed, 1, 1, gsd_m).render(Window(int(row * shrunk), int(col * shrunk), side, side))
    return enlarge(image, codes, 1 / shrunk, chip.size_px)


def variety(chip: Chip, row: int, col: int) -> float:
    """Return the entropy of the classes in a chip, at a glance: every 16th pixel."""
    step = 16
    glance = Window(row // step, col // step, chip.size_px // step, chip.size_px // step)
    _, codes = Landscape(chip.seed, 1, 1, GSD_M * step).render(glance)
    shares = np.bincount(codes[codes < KNOWN], minlength=KNOWN) / codes.size
    return float(-(shares * np.log(shares + 1e-9)).sum())


def naip_pair(chip: Chip) -> tuple[Bytes, Bytes]:
    """Read a labelled NAIP chip; for training beside its mirror images, twice as wide: large enough for any crop."""
    labels = str(chip.naip).replace("_sat.png", "_idx.png")
    with rasterio.open(chip.naip) as source, rasterio.open(labels) as truth:
        image, codes = source.read([1, 2, 3]), truth.read(1)
    if chip.part == "train":
        pad = (0, codes.shape[0])
        image, codes = np.pad(image, ((0, 0), pad, pad), "symmetric"), np.pad(codes, (pad, pad), "symmetric")
    return enlarge(image, codes, chip.scale, round(codes.shape[0] * chip.scale))


def enlarge(image: Bytes, codes: Bytes, factor: float, size_px: int) -> tuple[Bytes, Bytes]:
    """Bring an image and its codes to more pixels: the image smoothly, the codes as they are."""
    crs: dict[str, Any] = {"src_crs": "EPSG:32631", "dst_crs": "EPSG:32631"}
    grids = {"src_transform": Affine.scale(factor), "dst_transform": Affine.identity()}
    larger, larger_codes = np.empty((3, size_px, size_px), np.uint8), np.empty((size_px, size_px), np.uint8)
    reproject(image, larger, resampling=Resampling.bilinear, **crs, **grids)
    reproject(codes, larger_codes, resampling=Resampling.nearest, init_dest_nodata=False, **crs, **grids)
    return larger, larger_codes


def write(path: Path, bands: Bytes, chip: Chip, compression: dict[str, Any]) -> None:
    """Write a GeoTIFF in the square of the Earth that is the chip's own; never half a file."""
    count, height, width = bands.shape
    north, east = divmod(chip.number, 40)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": count,
        "height": height,
        "width": width,
        "crs": "EPSG:32631",
        "transform": Affine(GSD_M, 0, 300_000 + 2000 * east, 0, -GSD_M, 5_000_000 + 2000 * north),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    unfinished = path.with_name(f"{path.name}.part")
    with rasterio.open(unfinished, "w", **profile, **compression) as file:
        if count == 1:
            file.nodata = NODATA
            file.write_colormap(1, {land_cover.code: land_cover.color for land_cover in DEEPGLOBE})
            file.update_tags(**{LEGEND_TAG: json.dumps(DEEPGLOBE.to_json())})
        file.write(bands)
    unfinished.replace(path)


def write_splits(folder: Path, chips: list[Chip]) -> None:
    """Write which chip takes which part."""
    chosen = {
        "split.csv": chips,
        "split_synthetic.csv": [chip for chip in chips if not chip.naip],
        "test_synthetic.csv": [chip for chip in chips if chip.part == "test" and not chip.naip],
        "test_naip.csv": [chip for chip in chips if chip.part == "test" and chip.naip],
    }
    for name, rows in chosen.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "part"])
            writer.writerows((chip.name, chip.part) for chip in rows)


def _make(job: tuple[Chip, Path]) -> None:
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # NAIP's PNG chips have no place
    make(*job)


def make_dataset(
    folder: Path, naip: Path, counts: dict[str, int] = COUNTS, size_px: int = SIZE_PX, processes: int = 2
) -> None:
    """Write the splits, and every pair that is not there; `counts`: landscapes of each part."""
    chips = plan(naip, counts, size_px)
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    write_splits(folder, chips)
    begin = time.monotonic()
    # the exams first: a run that was stopped can still be trained on
    chips.sort(key=lambda chip: chip.part == "train" and chip.naip is None)
    with Pool(processes) as pool:
        for done, _ in enumerate(pool.imap(_make, [(chip, folder) for chip in chips], chunksize=4), 1):
            if done % 100 == 0 or done == len(chips):
                print(f"{done} of {len(chips)} pairs, {time.monotonic() - begin:.0f} s", flush=True)


def main() -> None:
    """Make the data set as the command line says."""
    parser = argparse.ArgumentParser(description="Make the data set of geoseg's demo model.")
    parser.add_argument("folder", type=Path, help="where the data set shall lie; outside the repository")
    parser.add_argument("--naip", type=Path, required=True, help="folder with chesapeake_wv")
    for option, part, purpose in (
        ("--chips", "train", "train on"),
        ("--valid-chips", "valid", "validate on"),
        ("--test-chips", "test", "be examined on"),
    ):
        count = COUNTS[part]
        parser.add_argument(option, type=int, default=count, help=f"landscapes to {purpose} [default: {count}]")
    parser.add_argument("--size-px", type=int, default=SIZE_PX, help=f"side of a landscape [default: {SIZE_PX}]")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    counts = {"train": given.chips, "valid": given.valid_chips, "test": given.test_chips}
    make_dataset(given.folder, given.naip, counts, given.size_px, given.processes)


if __name__ == "__main__":
    main()
