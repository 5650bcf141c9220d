"""The second round: the model's own confident answers for pixels whose labels leave several classes open.

FLAIR's grassland may be rangeland or a field, and an image of UC Merced has one label for a river and its banks. The
model of the previous round maps them in all symmetries. If it is sure of a class, and the label allows that class, the
pixel gets it. All other pixels keep the classes they had.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from land_data import EXAM_ZONE, FLAIR, FLAIR_BUILT, UCM, UCM_WEIGHTS
from land_patchwork import averaged, read_band, read_rgb
from numpy.typing import NDArray

import geoseg
from geoseg.legend import DEEPGLOBE

SURE_PERCENT = 90
WAYS = 8
"""Symmetries in which each window is seen."""
GSD_M = {"flair": 0.6, "ucm": 2 * 0.3048}
ACROSS = 6
"""UC Merced images per side of a mosaic."""
IMAGES = 2100
SEED = 8000
Pixels = NDArray[np.uint8]
Classes = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Open:
    """A scene whose labels leave classes open."""

    name: str
    pixels: Pixels
    """(row, col, 3)."""
    codes: Pixels
    """(row, col), codes of `legend_of`: the classes allowed before the model answers."""
    gsd_m: float


def answers_members(data: Path, work: Path, model: Path) -> list[dict[str, Any]]:
    """Return FLAIR and UC Merced with the model's confident answers, as data sets of a mixture, without shares."""
    folder = work / "answers"
    kept = json.loads((folder / "about.json").read_text()) if (folder / "about.json").exists() else None
    if kept is None:
        folder.mkdir(parents=True, exist_ok=True)
        sets = {"flair": _flair(data), "ucm": _ucm(data)}
        kept = {name: _answered(scenes, name, folder, model) for name, scenes in sets.items()}
        (folder / "about.json").write_text(json.dumps(kept), encoding="utf-8")
    return [kept["flair"] | {"built_up": ["built"]}, kept["ucm"]]


def sets_of(classes: Iterable[Classes]) -> list[tuple[str, ...]]:
    """Return the distinct sets of several classes, sorted."""
    return sorted({tuple(sorted(each)) for each in classes if each is not None and not isinstance(each, str)})


OPEN_SETS = sets_of([*FLAIR.values(), *UCM.values()])
_FIRST_SET, _BUILT, _UNKNOWN = 10, 9, 6
NAMES = [each.name for each in DEEPGLOBE]


def code_of(classes: Classes) -> int:
    """Return the code of a class, of a set of classes, or of unknown."""
    if classes is None:
        return _UNKNOWN
    return NAMES.index(classes) if isinstance(classes, str) else _FIRST_SET + OPEN_SETS.index(tuple(sorted(classes)))


def _answered(scenes: Iterator[Open], name: str, folder: Path, model: Path) -> dict[str, Any]:
    """Write scenes with their answers; return the data set."""
    rows = []
    for scene in scenes:
        image, labels = folder / f"{scene.name}.tif", folder / f"{scene.name}_labels.tif"
        _write(image, scene.pixels.transpose(2, 0, 1), scene.gsd_m)
        percent = _asked(image, folder, model)
        _write(labels, answered(scene.codes, percent)[None], scene.gsd_m)
        rows.append((str(image.resolve()), str(labels.resolve()), scene.name))
    table = folder / f"{name}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("scene", "labels", "id"), *rows])
    return {
        "name": f"{name}_answers",
        "gsd_m": [0.6, 1.4],
        "path": str(table.resolve()),
        "legend": str(_legend_file(folder).resolve()),
        "classes": {row["name"]: row["means"] for row in _classes()},
        "split": "blocks:0.05" if name == "flair" else "random:0.97",
        "valid_share": 1,
    }


def answered(codes: Pixels, percent: Pixels) -> Pixels:
    """Return codes in which each open pixel has the class that the model is sure of and its set allows.

    `percent`: (class, row, col), for the first six classes; 255 if there is none.
    """
    found = codes.copy()
    best = percent.argmax(0).astype(np.uint8)
    sure = (percent.max(0) >= SURE_PERCENT) & (percent[0] <= 100)
    for number, classes in enumerate(OPEN_SETS):
        allowed = np.isin(best, [NAMES.index(name) for name in classes])
        found[(codes == _FIRST_SET + number) & sure & allowed] = best[(codes == _FIRST_SET + number) & sure & allowed]
    return found


def _asked(image: Path, folder: Path, model: Path) -> Pixels:
    """Return the model's probabilities for a scene in percent (class, row, col)."""
    out, probabilities = folder / "map.tif", folder / "percent.tif"
    geoseg.predict(image, out, model=model, probabilities=probabilities, tta=WAYS, overwrite=True)
    with rasterio.open(probabilities) as opened:
        percent: Pixels = opened.read()
    return percent


def _flair(data: Path) -> Iterator[Open]:
    folder = data / "flair"
    legend = json.loads((folder / "legend.json").read_text(encoding="utf-8"))["classes"]
    table = np.full(256, _UNKNOWN, np.uint8)
    for row in legend:
        table[row["code"]] = _BUILT if row["name"] in FLAIR_BUILT else code_of(FLAIR.get(row["name"]))
    for path in sorted(folder.glob("*_labels.tif")):
        if not path.name.removesuffix("_labels.tif").endswith(EXAM_ZONE):
            pixels = averaged(read_rgb(path.with_name(path.name.replace("_labels", ""))), 3)
            codes = table[read_band(path)[1::3, 1::3]][: pixels.shape[0], : pixels.shape[1]]
            yield Open(path.name.removesuffix("_labels.tif"), pixels, codes, GSD_M["flair"])


def _ucm(data: Path) -> Iterator[Open]:
    """Yield mosaics of images, drawn by the weight of their class."""
    paths = [path for name in UCM for path in sorted((data / "ucm" / name).glob("*.jpg"))]
    weights = np.array([UCM_WEIGHTS[path.parent.name] for path in paths])
    generator = np.random.default_rng(SEED)
    drawn = generator.choice(len(paths), IMAGES, p=weights / weights.sum())
    side = 128
    for number in range(IMAGES // ACROSS**2):
        pixels = np.empty((ACROSS * side, ACROSS * side, 3), np.uint8)
        codes = np.empty(pixels.shape[:2], np.uint8)
        for place, index in enumerate(drawn[number * ACROSS**2 : (number + 1) * ACROSS**2]):
            row, col = side * (place // ACROSS), side * (place % ACROSS)
            image = averaged(read_rgb(paths[index]), 2)[:side, :side]
            if image.shape[:2] != (side, side):
                image = np.pad(image, ((0, side - image.shape[0]), (0, side - image.shape[1]), (0, 0)), mode="reflect")
            pixels[row : row + side, col : col + side] = image
            codes[row : row + side, col : col + side] = code_of(UCM[paths[index].parent.name])
        yield Open(f"ucm_{number}", pixels, codes, GSD_M["ucm"])


def _classes() -> list[dict[str, Any]]:
    one = [(code, name, None if name == "unknown" else name) for code, name in enumerate(NAMES)]
    several = [(_FIRST_SET + n, " or ".join(each), list(each)) for n, each in enumerate(OPEN_SETS)]
    rows = [*one, (_BUILT, "built", "urban_land"), *several]
    return [{"code": code, "name": name, "means": means} for code, name, means in rows]


def _legend_file(folder: Path) -> Path:
    file = folder / "legend.json"
    classes: Sequence[Mapping[str, Any]] = [
        {"code": row["code"], "name": row["name"], "color": f"#{row['code'] * 7:02x}{255 - row['code'] * 9:02x}80"}
        for row in _classes()
    ]
    file.write_text(json.dumps({"classes": classes}), encoding="utf-8")
    return file


def _write(path: Path, bands: Pixels, gsd_m: float) -> None:
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "crs": "EPSG:32631"}
    count, height, width = bands.shape
    transform = rasterio.Affine(gsd_m, 0, 400_000, 0, -gsd_m, 5_000_000)
    with rasterio.open(path, "w", count=count, height=height, width=width, transform=transform, **profile) as opened:
        opened.write(bands)
