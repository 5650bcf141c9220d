"""Ship a model of real land: evaluate it, store it in half precision with its ONNX file, and write its card.

    python tools/land_ship.py BUNDLE DATA WORK --deepglobe FOLDER [--mean-with BUNDLE ...] [--shift CLASS=VALUE ...]
        [--mixture FILE] [--out geoseg/model]

Writes demo.safetensors, demo.onnx and demo.md; every figure of the card is measured here. DATA and WORK are those of
tools/land_model.py.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from land_data import ATTRIBUTIONS, EXAM_TILE, EXAM_ZONE
from land_model import exams

from geoseg.dataset import Dataset, open_dataset, prepare, split
from geoseg.evaluation.evaluate_model import SceneBands
from geoseg.inference import SceneMapping as Mapped
from geoseg.inference import map_tile
from geoseg.model import ModelBundle, Weights, choose_engine, save_bundle
from geoseg.model.engines.export import export_onnx
from geoseg.model.network import load_network
from geoseg.raster import Patch, Window, WindowGrid
from geoseg.training.validation import calibrated_temperature

TITLES = {
    "deepglobe": "DeepGlobe, nine tiles",
    "flair": f"FLAIR zone {EXAM_ZONE}",
    "dubai": f"Dubai tile {EXAM_TILE}",
    "yinx": "farmland in Ohio",
}
TEMPLATE = Path(__file__).with_name("land_card.md")


def main() -> None:
    """Examine, store, export and describe."""
    parser = argparse.ArgumentParser(description="Ship a model of real land.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="the folder of real imagery")
    parser.add_argument("work", type=Path, help="the folder of tools/land_model.py")
    parser.add_argument("--deepglobe", type=Path, required=True, help="DeepGlobe's tiles, for the exam only")
    parser.add_argument(
        "--mean-with", type=Path, nargs="+", default=[], help="bundles of the same network; the mean of all is shipped"
    )
    parser.add_argument(
        "--shift", type=_shift, nargs="+", default=[], help="CLASS=VALUE, added to the score of a class everywhere"
    )
    parser.add_argument(
        "--mixture",
        type=Path,
        help="fit the temperature on this mixture's validation areas; do so after a mean or a shift",
    )
    parser.add_argument("--out", type=Path, default=Path("geoseg/model"))
    asked = parser.parse_args()
    trained = ModelBundle.open(asked.bundle)
    network = load_network(trained)
    others = [ModelBundle.open(path) for path in asked.mean_with]
    average(network, others)
    shift(network, trained, dict(asked.shift))
    if asked.mixture is not None:
        trained = replace(trained, temperature=temperature(trained, network, asked.mixture, asked.work / "cache"))
    made = {"mean_of": [each.hash for each in (trained, *others)], "shifted": dict(asked.shift)}
    halved = store(trained, network, asked.work / "shipped" / "demo.safetensors", made, {})
    figures = exams(halved.weights_path, asked)
    tiles, cache = open_dataset(asked.deepglobe), asked.work / "cache"
    moved = share_moved(halved, tiles, cache)
    moved_more = share_moved(replace(halved, overlap_px=halved.window_px // 2), tiles, cache)
    metrics = {"exams": figures, "moved_by_the_grid": round(moved, 4)}
    shipped = store(trained, network, asked.out / "demo.safetensors", made, metrics)
    export_onnx(shipped, shipped.window_px, shipped.weights_path.with_suffix(".onnx"))
    card = card_of(shipped, figures, (moved, moved_more), window_seconds(shipped))
    shipped.weights_path.with_suffix(".md").write_text(card, encoding="utf-8")
    print(card)


def average(network: torch.nn.Module, others: Sequence[ModelBundle]) -> None:
    """Set a network's weights to their mean with others', from further steps or trainings with the same start."""
    states = [network.state_dict(), *(load_network(other).state_dict() for other in others)]
    for key, tensor in states[0].items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[key] for state in states]).mean(0))


def shift(network: torch.nn.Module, trained: ModelBundle, by: Mapping[str, float]) -> None:
    """Shift the scores of classes, by name, in the network's last layer."""
    names = [trained.legend.by_code(code).name for code in trained.output_codes]
    with torch.no_grad():
        for name, value in by.items():
            network.segmentation_head[0].bias[names.index(name)] += value


def temperature(trained: ModelBundle, network: torch.nn.Module, mixture: Path, cache: Path) -> float:
    """Return the temperature fitted on the validation part of a mixture."""
    learnt_from = open_dataset(mixture)
    scenes = prepare(learnt_from, split(learnt_from, "mixture").valid, cache, gsd_m=trained.gsd_m)
    plan = SimpleNamespace(
        valid=scenes,
        window_px=trained.window_px,
        output_codes=trained.output_codes,
        normalization=trained.normalization,
    )
    return calibrated_temperature(plan, network.eval())


def _shift(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def store(
    trained: ModelBundle, network: torch.nn.Module, path: Path, made: Mapping[str, Any], metrics: Mapping[str, Any]
) -> ModelBundle:
    """Return the model under the name demo, in half precision; its origin is kept without folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = {name: value for name, value in trained.provenance.get("recipe", {}).items() if name != "init"}
    return save_bundle(
        path,
        network,
        architecture=trained.architecture,
        arguments=trained.arguments,
        legend=trained.legend,
        normalization=trained.normalization,
        output_codes=trained.output_codes,
        bands=trained.bands,
        dtype=trained.dtype,
        statistics=trained.statistics,
        gsd_m=trained.gsd_m,
        window_px=512,
        temperature=trained.temperature,
        name="demo",
        provenance={"recipe": recipe, "data": "tools/land_data.py", "attributions": list(ATTRIBUTIONS), **made},
        metrics=dict(metrics),
        half=True,
    )


def share_moved(bundle: ModelBundle, dataset: Dataset, cache: Path) -> float:
    """Return the share of labels that change when the grid of windows moves by half a stride, over a data set."""
    engine = choose_engine(bundle, "onnx", window_px=bundle.window_px, threads=2).open()
    shift_px = (bundle.window_px - bundle.overlap_px) // 2
    changed = total = 0
    for scene in prepare(dataset, split(dataset, "all").train, cache, gsd_m=bundle.gsd_m):
        patch = SceneBands(scene, None).read(Window(0, 0, *scene.shape))
        maps = [mapped(bundle, engine, patch, margin) for margin in (0, shift_px)]
        changed += int((maps[0] != maps[1]).sum())
        total += maps[0].size
    return changed / total


def mapped(bundle: ModelBundle, engine: Any, patch: Patch, margin_px: int) -> Any:  # noqa: ANN401 - arrays
    """Return the labels of a scene mirrored beyond its edges by a margin, which moves the grid."""
    pad = ((margin_px, margin_px), (margin_px, margin_px))
    data = np.pad(patch.data, ((0, 0), *pad), mode="reflect")
    scene = _Padded(data, np.pad(patch.valid, pad, mode="reflect"))
    grid = WindowGrid(*data.shape[1:], bundle.window_px, bundle.overlap_px)
    found = map_tile(Mapped(scene, grid, "hann", 1, bundle.output_codes), engine, Window(0, 0, *data.shape[1:]))
    stop = -margin_px or None
    return found["labels"][margin_px:stop, margin_px:stop]


class _Padded:
    """Pixels in memory, to map."""

    path = "padded"

    def __init__(self, data: Any, valid: Any) -> None:  # noqa: ANN401 - arrays
        self._data, self._valid = data, valid

    def read(self, window: Window) -> Patch:
        """Return a window, which may extend beyond the bottom and the right edge."""
        data = np.zeros((len(self._data), *window.shape), self._data.dtype)
        valid = np.zeros(window.shape, np.bool_)
        inside = self._data[:, window.rows, window.cols]
        data[:, : inside.shape[1], : inside.shape[2]] = inside
        valid[: inside.shape[1], : inside.shape[2]] = self._valid[window.rows, window.cols]
        return Patch(data, valid)


def window_seconds(bundle: ModelBundle) -> float:
    """Return the time in seconds of one window with ONNX Runtime on two CPU threads, the best of twenty."""
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


def card_of(bundle: ModelBundle, figures: Mapping[str, Any], moved: tuple[float, float], seconds: float) -> str:
    """Return the card, in Markdown; `moved` with the bundle's overlap and with half a window's."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        architecture=bundle.architecture,
        encoder=bundle.arguments["encoder_name"],
        parameters=f"{sum(each.numel() for each in load_network(bundle).parameters()) / 1e6:.2f}",
        megabytes=f"{bundle.weights_bytes / 1e6:.1f}",
        gsd_m=f"{bundle.gsd_m:g}",
        window_px=bundle.window_px,
        overlap_px=bundle.overlap_px,
        window_ms=round(1000 * seconds),
        moved=f"{100 * moved[0]:.1f}",
        moved_more=f"{100 * moved[1]:.1f}",
        table="\n".join(f"| {' | '.join(row)} |" for row in rows_of(bundle, figures)),
        attributions="\n".join(textwrap.fill(f"- {line}", 118, subsequent_indent="  ") for line in ATTRIBUTIONS),
    )


def rows_of(bundle: ModelBundle, figures: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the rows of the table of exams, its heading first."""
    names = [name for name in TITLES if name in figures]
    yield ["class", *(TITLES[name] for name in names)]
    yield ["---"] * (len(names) + 1)
    for code in bundle.output_codes:
        cover = bundle.legend.by_code(code).name
        yield [cover, *(_figure(figures[name]["iou"].get(cover)) for name in names)]
    yield ["**mean IoU**", *(f"**{figures[name]['miou']:.3f}**" for name in names)]
    yield ["accuracy", *(f"{figures[name]['accuracy']:.3f}" for name in names)]


def _figure(iou: float | None) -> str:
    return "does not occur" if iou is None else f"{iou:.3f}"


if __name__ == "__main__":
    main()
