"""The card of the demo model: tables of what was measured, and pictures of scenes, their labels and their maps."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Patch as Swatch

import geoseg
from geoseg.legend import NODATA, Legend
from geoseg.model.bundle import ModelBundle
from geoseg.model.engines import Weights, choose_engine
from geoseg.model.network import load
from geoseg.raster.windows import Window

FIRST_NAME = "first_demo.safetensors"
"""What tools/demo_model.py calls the first demo model."""
TEMPLATE = Path(__file__).with_name("demo_card.md")
COMMAND = "make demo-model NAIP=NAIP DEEPGLOBE=DEEPGLOBE WORK=WORK"
WIDTH = 120
EXAMS = {
    "synthetic": "synthetic, other seeds",
    "chesapeake": "Chesapeake, held-out places",
    "deepglobe": "DeepGlobe, nine pairs",
}
PICTURES = {
    "synthetic": "Landscapes of the synthetic exam, at equal steps through its list, not chosen.",
    "naip": "The Chesapeake exam: all of it. Grey has no label. Imagery: NAIP, public domain.",
}
"""Never DeepGlobe: its terms forbid copying."""
DEEPGLOBE_TEXT = """\
- **DeepGlobe, nine pairs**: a foreign exam. The network has never seen a DeepGlobe image or label; the pairs were
  predicted at their own 0.5 m without any adaptation, nor were they looked at when the landscapes were made."""
SHOWN = 4
SIDE_PX = 220
MOST_BYTES = 300_000
Image = npt.NDArray[np.uint8]
"""(row, col, 3)"""


def write_card(  # noqa: PLR0913 - what it tells, and where it goes
    bundle: ModelBundle, data: Path, target: Path, pictures: Path, *, window_s: float, note: str = ""
) -> Path:
    """Write the card of a finished bundle beside it, and its pictures; every figure is one that was measured."""
    shown = [
        draw_exam(bundle, data, chosen(data / f"test_{name}.csv"), pictures / f"demo_{name}.png") for name in PICTURES
    ]
    links = [
        f"![{text}]({Path(os.path.relpath(path, target.parent)).as_posix()})\n\n{text}"
        for path, text in zip(shown, PICTURES.values(), strict=True)
    ]
    text = TEMPLATE.read_text(encoding="utf-8").format(
        command=COMMAND,
        architecture=bundle.architecture,
        encoder=bundle.arguments["encoder_name"],
        parameters=f"{sum(each.numel() for each in load(bundle).parameters()) / 1e6:.2f}",
        megabytes=f"{bundle.weights_bytes / 1e6:.1f}",
        window_px=bundle.window_px,
        overlap_px=bundle.overlap_px,
        window_ms=round(1000 * window_s),
        training_chips=len(rows_of(data / "split_synthetic.csv", "train")),
        evaluation_chips=len(rows_of(data / "test_synthetic.csv", "test")),
        start=fill(start_of(bundle)),
        training=fill(training_of(bundle)),
        note=fill(note),
        table=table_of(bundle),
        deepglobe=DEEPGLOBE_TEXT if "deepglobe" in bundle.metrics else "",
        constant=constant_of(bundle.metrics),
        pictures="\n\n".join(links),
        temperature=f"{bundle.temperature:.2f}",
    )
    while "\n\n\n" in text:  # a note that is not there
        text = text.replace("\n\n\n", "\n\n")
    target.write_text(text, encoding="utf-8")
    return target


def measure_window_s(bundle: ModelBundle) -> float:
    """Return the seconds that geoseg's engine needs for one window on two CPU threads; the best of twenty."""
    side = bundle.window_px
    engine = choose_engine(bundle, "onnx", window_px=side, threads=2).open()
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8)
    footprint = engine.upload(pixels, np.ones((side, side), np.bool_))
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        engine.probabilities(footprint, [Window(0, 0, side, side)], Weights.ones(1, side))
        times.append(time.perf_counter() - begin)
    return min(times)


# --- words and tables ------------------------------------------------------------------------------------------------


def start_of(bundle: ModelBundle) -> str:
    """Return what the training began with."""
    init = bundle.provenance["recipe"]["init"]
    if init is None:
        return "It began with random weights."
    if init != FIRST_NAME:
        return f"It began with the weights of `{init}`."
    return (
        "It began with the weights of the first demo model (8600 batches from random weights, 720 simpler landscapes "
        "and the same NAIP chips). The program that made it, the model and its card are in this repository's history."
    )


def training_of(bundle: ModelBundle) -> str:
    """Return a sentence on the training, from what it recorded."""
    told = bundle.provenance
    recipe = told["recipe"]
    batches, size, crop = told["batches"], told["batch_size"], recipe["crop_px"]
    return (
        f"Recipe `demo` of `geoseg train`: {batches} batches of {size} crops of {crop} x {crop} pixels, "
        f"{recipe['optimizer']} with a rate of up to {told['lr']:g}, {recipe['loss']}; crops are turned, scaled, "
        "recoloured and blurred as another sensor on another day would see them. The weights are a running average, "
        f"those of epoch {told['epoch']} of {recipe['epochs']}, the best on {validated(bundle)}{brought_back(recipe)}."
    )


def brought_back(recipe: dict[str, Any]) -> str:
    """Return how much of what the training began with is in the weights."""
    share = recipe["start_share"] if recipe["init"] is not None else 0
    return f", and {share:.0%} of what it began with (Wortsman et al. 2022, arXiv 2109.01903)" if share else ""


def validated(bundle: ModelBundle) -> str:
    """Return what the validation was, and its figure."""
    miou = bundle.metrics.get("validation", {}).get("miou_without_unknown")
    return "further synthetic landscapes" + (f" (mIoU {miou:.3f})" if miou is not None else "")


def table_of(bundle: ModelBundle) -> str:
    """Return IoU class by class, a column for each exam, and the figures of the whole."""
    columns = [(title, bundle.metrics[name]) for name, title in EXAMS.items() if name in bundle.metrics]
    names = [bundle.legend.by_code(code).name for code in bundle.output_codes]
    rows = [["class", *(title for title, _ in columns)], ["---"] * (len(columns) + 1)]
    rows += [[name, *(figure(scores["iou"].get(name)) for _, scores in columns)] for name in names]
    rows += [
        ["**mean IoU**", *(f"**{s['mean_iou']:.3f}** of {s['classes_in_mean']} classes" for _, s in columns)],
        ["accuracy", *(figure(s["accuracy"]) for _, s in columns)],
        ["mean confidence", *(figure(s["mean_confidence"]) for _, s in columns)],
        ["calibration error", *(figure(s["calibration_error"]) for _, s in columns)],
        ["pixels", *(f"{s['pixels'] / 1e6:.1f} million" for _, s in columns)],
    ]
    return lines_of(rows)


def constant_of(metrics: dict[str, Any]) -> str:
    """Return what a map of one class would get in each exam, and which share of the model's figures that is."""
    rows = [["exam", "best single class", "its mean IoU", "share", "its accuracy", "share"], ["---"] * 6]
    for name, title in EXAMS.items():
        if name in metrics:
            scores = metrics[name]
            constant = scores["constant"]
            pairs = [(constant[key], scores[key]) for key in ("mean_iou", "accuracy")]
            cells = [cell for theirs, ours in pairs for cell in (f"{theirs:.3f}", share(theirs, ours))]
            rows.append([title, constant["class"], *cells])
    intro = (
        "A map that shows one class everywhere, the best one for that exam, has learnt nothing. This is what it would "
        "get, and what share that is of the model's figure; above 100 % the model is worse than that map:"
    )
    return f"{fill(intro)}\n\n{lines_of(rows)}"


def share(theirs: float, ours: float) -> str:
    """Return a share in percent."""
    return f"{100 * theirs / ours:.0f} %" if ours else "no share of 0"


def figure(score: float | None) -> str:
    """Return a figure for a table."""
    return "does not occur" if score is None else f"{score:.3f}"


def lines_of(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def fill(text: str) -> str:
    """Return text in lines."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def rows_of(path: Path, part: str) -> list[str]:
    """Return the ids of a part."""
    with path.open(encoding="utf-8") as file:
        return [row["id"] for row in csv.DictReader(file) if row["part"] == part]


# --- pictures --------------------------------------------------------------------------------------------------------


def chosen(path: Path) -> list[str]:
    """Return a few ids at equal steps through an exam's list."""
    ids = rows_of(path, "test")
    places = np.linspace(0, len(ids) - 1, min(SHOWN, len(ids))).round().astype(int)
    return [ids[place] for place in places]


def draw_exam(bundle: ModelBundle, data: Path, ids: Sequence[str], target: Path) -> Path:
    """Write rows of scene, labels and map, as `predict` maps it, with the legend."""
    figure = Figure(figsize=(3 * SIDE_PX / 100 + 0.3, len(ids) * (SIDE_PX / 100 + 0.05) + 0.8), dpi=100)
    figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02)
    panels = figure.subplots(len(ids), 3, squeeze=False)
    for axes, images in zip(panels, (looks_of(bundle, data, name) for name in ids), strict=True):
        for each, image in zip(axes, images, strict=True):
            each.imshow(image, interpolation="antialiased")
            each.set(xticks=[], yticks=[])
            each.spines[:].set_color("gray")
    for axes, title in zip(panels[0], ("scene", "labels", "map"), strict=True):
        axes.set_title(title, fontsize=10)
    swatches = [
        Swatch(facecolor=f"#{bytes(c.color).hex()}", edgecolor="gray", label=c.name.replace("_", " "))
        for c in bundle.legend
        if c.code in bundle.output_codes
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_small(figure, target)
    return target


def looks_of(bundle: ModelBundle, data: Path, name: str) -> tuple[Image, Image, Image]:
    """Return a scene, its labels and its map as pictures."""
    scene = data / "images" / f"{name}.tif"
    with tempfile.TemporaryDirectory() as folder:
        landcover = geoseg.predict(scene, Path(folder) / "map.tif", model=bundle, device="cpu")
        codes = [read(data / "labels" / f"{name}.tif")[0], read(landcover)[0]]
    labels, mapped = (colored(each, bundle.legend) for each in codes)
    return np.ascontiguousarray(read(scene).transpose(1, 2, 0)), labels, mapped


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Return all bands (band, row, col)."""
    with rasterio.open(path) as file:
        bands: npt.NDArray[np.uint8] = file.read()
    return bands


def colored(codes: npt.NDArray[np.uint8], legend: Legend) -> Image:
    """Return codes in the legend's colours; grey where there is none."""
    table = np.full((NODATA + 1, 3), 128, np.uint8)
    for land_cover in legend:
        table[land_cover.code] = land_cover.color
    image: Image = table[codes]
    return image


def save_small(figure: Figure, target: Path) -> None:
    """Write a PNG of as many colours as fit the size that the repository takes; ValueError if none do."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    image = PIL.Image.open(drawn).convert("RGB")
    for colors in (256, 128, 64):
        image.quantize(colors, dither=PIL.Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size <= MOST_BYTES:
            return
    raise ValueError(f"{target} has {target.stat().st_size} bytes, at most {MOST_BYTES} wanted")
