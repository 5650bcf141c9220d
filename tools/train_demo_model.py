"""Train the demo model: a plain program, from made-up landscapes to the bundle that geoseg ships.

    python tools/train_demo_model.py WORK_FOLDER --naip NAIP_FOLDER [--deepglobe DEEPGLOBE_FOLDER]

It renders chips, trains, evaluates, and writes `demo.safetensors`, `demo.onnx` and the card `demo.md`. Every stage
leaves its result in the work folder and is skipped when that is there; training goes on from its last checkpoint.
DeepGlobe is never trained on: with `--deepglobe` its pairs are one exam at the very end.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from geoseg.legend import DEEPGLOBE, NODATA
from geoseg.model.bundle import ModelBundle
from geoseg.model.engines import Weights, choose_engine
from geoseg.model.export import export_onnx
from geoseg.model.network import build
from geoseg.model.normalization import Normalization
from geoseg.model.save import save_bundle
from geoseg.raster.statistics import BandStatistics, band_statistics
from geoseg.raster.windows import Window, WindowGrid
from geoseg.synthetic import Landscape

CLASSES = 6  # "unknown" is not learned: a cloud has no land cover to know
CHIP_PX = 640
CROPS = ((0.0, 288, 8), (0.3, 416, 4))  # from this share of the steps: pixels, crops in a batch
WINDOW_PX, OVERLAP_PX = 512, 128
GSD_M = 0.5
ARCHITECTURE = "FPN"
ARGUMENTS = {
    "encoder_name": "timm-mobilenetv3_small_100",
    "decoder_pyramid_channels": 64,
    "decoder_segmentation_channels": 32,
    "in_channels": 3,
    "classes": CLASSES,
}
TRAINING_SEED, CALIBRATION_SEED, EVALUATION_SEED = 10_000, 500_000, 950_000  # first seeds; the ranges do not meet
HELD_OUT_PLACES = ("-0_", "-5_")  # of the eight Chesapeake chips; both dates of a place go together

Bytes = npt.NDArray[np.uint8]
"""A chip (red green blue code, row, col), chips (chip, ...), an image (3, row, col) or codes (row, col)."""
Network = Any
"""smp's FPN; torch has no type for a module whose parts are called one by one."""
Confusion = npt.NDArray[np.int64]
"""(truth, prediction) pixels."""


@dataclass(frozen=True)
class Knobs:
    """What one may want to turn."""

    steps: int = 8600
    peak_rate: float = 3e-3
    weight_decay: float = 0.02
    training_chips: int = 720
    evaluation_chips: int = 150
    real_share: float = 0.1  # of a batch: labelled NAIP crops
    ema_decay: float = 0.997
    seed: int = 1


def build_network() -> Network:
    """Return the network, untrained."""
    return build(ARCHITECTURE, ARGUMENTS)


# --- imagery ---------------------------------------------------------------------------------------------------------


def render_chips(path: Path, first_seed: int, count: int, size_px: int, processes: int) -> Bytes:
    """Render one chip from each of `count` places, (chip, red green blue code, row, col); keep them in a file."""
    if not path.exists():
        print(f"rendering {count} chips of {size_px} px to {path}", flush=True)
        unfinished = path.with_suffix(".part")
        chips = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (count, 4, size_px, size_px))
        with Pool(processes) as pool:
            jobs = [(seed, size_px) for seed in range(first_seed, first_seed + count)]
            for index, chip in enumerate(pool.imap(_chip, jobs, chunksize=4)):
                chips[index] = chip
        chips.flush()
        unfinished.rename(path)
    finished: Bytes = np.load(path, mmap_mode="r")
    return finished


def _chip(job: tuple[int, int]) -> Bytes:
    seed, size_px = job
    row, col = np.random.default_rng(seed).integers(0, 8000, 2)
    image, codes = Landscape(seed, size_px, size_px).render(Window(int(row), int(col), size_px, size_px))
    return np.concatenate([image, np.where(codes < CLASSES, codes, NODATA)[None]])


def read_chesapeake(folder: Path) -> tuple[list[Bytes], list[Bytes]]:
    """Return the labelled NAIP chips, brought from 1 m to 0.5 m: (training, held out)."""
    training: list[Bytes] = []
    held_out: list[Bytes] = []
    for image_path in sorted((folder / "chesapeake_wv").glob("*_sat.png")):
        with rasterio.open(image_path) as image, rasterio.open(str(image_path).replace("_sat", "_idx")) as labels:
            fine = functional.interpolate(
                torch.from_numpy(image.read([1, 2, 3])[None].astype(np.float32)), scale_factor=2, mode="bilinear"
            )
            codes = labels.read(1).repeat(2, axis=0).repeat(2, axis=1)
            chip = np.concatenate([fine[0].round().numpy().astype(np.uint8), codes[None]])
        (held_out if any(place in image_path.name for place in HELD_OUT_PLACES) else training).append(chip)
    return training, held_out


def read_real_colors(folder: Path, chesapeake: list[Bytes]) -> npt.NDArray[np.float32]:
    """Return (patch, mean or std, band) of real imagery: what colours it has, labels or not."""
    images = [chip[:3] for chip in chesapeake]
    for path in sorted((folder / "north_dakota").glob("*.tif")):
        with rasterio.open(path) as scene:
            images.append(scene.read([1, 2, 3]))
    patches = []
    for image in images:
        for window in (
            Window(r, c, 128, 128)
            for r in range(0, image.shape[1] - 127, 128)
            for c in range(0, image.shape[2] - 127, 128)
        ):
            patch = image[:, window.rows, window.cols]
            if patch.min() > 0:
                patches.append([patch.mean(axis=(1, 2)), patch.std(axis=(1, 2))])
    return np.array(patches, np.float32)


# --- augmentation: geometry by crops, colour by plain arithmetic -----------------------------------------------------


@dataclass(frozen=True)
class Crops(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches for ever: images (n, 3, row, col) float32 0..255 and codes (n, row, col)."""

    chips: Bytes
    real: list[Bytes]
    colors: npt.NDArray[np.float32]
    knobs: Knobs
    first_step: int

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Cut and recolour; runs in a process of its own, beside the training."""
        torch.set_num_threads(1)
        draw = np.random.default_rng([self.knobs.seed, self.first_step])
        for step in count(self.first_step):
            strength = color_strength(step, self.knobs)
            size_px, batch = [(size, batch) for share, size, batch in CROPS if share * self.knobs.steps <= step][-1]
            images, labels = [], []
            for _ in range(batch):
                chips = self.real if draw.random() < self.knobs.real_share else self.chips
                image, codes = _crop(np.asarray(chips[draw.integers(len(chips))]), size_px, draw)
                images.append(_recolor(image, self.colors, draw, strength))
                labels.append(codes)
            yield torch.stack(images), torch.stack(labels)


def _crop(chip: Bytes, size_px: int, draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a square of random side and bring it to size_px: the ground sampling distance varies from 0.35 to 0.75 m."""
    side = int(size_px * np.exp(draw.uniform(np.log(0.7), np.log(min(1.5, chip.shape[1] / size_px)))))
    row, col = draw.integers(0, chip.shape[1] - side + 1, 2)
    cut = np.rot90(chip[:, row : row + side, col : col + side], int(draw.integers(4)), axes=(1, 2))
    tensor = torch.from_numpy(np.ascontiguousarray(cut[:, :, :: draw.choice([-1, 1])])).float()[None]
    size = (size_px, size_px)
    image = functional.interpolate(tensor[:, :3], size=size, mode="bilinear", antialias=side > size_px)[0]
    codes = functional.interpolate(tensor[:, 3:], size=size, mode="nearest-exact")[0, 0]
    return image, codes.long()


def color_strength(step: int, knobs: Knobs) -> float:
    """Return how much colours are changed: wholly at first, less towards the end, so that the network settles."""
    return 1 - 0.6 * min(max((step / knobs.steps - 0.5) / 0.4, 0), 1)


def _recolor(
    image: torch.Tensor, colors: npt.NDArray[np.float32], draw: np.random.Generator, strength: float
) -> torch.Tensor:
    """Change light, cast, contrast, saturation and sharpness, as another sensor on another day would."""
    if draw.random() < 0.25 * strength:
        image = _borrow_colors(image, colors[draw.integers(len(colors))], draw.uniform(0.3, 1.0))

    def factor(spread: float) -> float:
        return float(np.exp(draw.uniform(-spread, spread) * strength))

    grey = image.mean(dim=0, keepdim=True)
    image = grey + (image - grey) * factor(0.45)
    middle = image.mean()
    image = (image - middle) * factor(0.3) + middle * factor(0.3)
    cast = np.exp(draw.uniform(-0.08, 0.08, (3, 1, 1)) * strength).astype(np.float32)
    image = image * torch.from_numpy(cast) + draw.uniform(-12, 12) * strength
    image = 255 * (image.clamp(0, 255) / 255) ** factor(0.22)
    if draw.random() < 0.35 * strength:
        image = _blurred(image, draw.uniform(0.4, 1.6))
    if draw.random() < 0.5 * strength:
        image = image + torch.from_numpy(draw.normal(0, draw.uniform(0.5, 7), image.shape).astype(np.float32))
    return image.clamp(0, 255)


def _borrow_colors(image: torch.Tensor, real: npt.NDArray[np.float32], share: float) -> torch.Tensor:
    """Bring mean and spread of each band towards those of a patch of real imagery (mean or std, band)."""
    mean, std = torch.from_numpy(real)
    own_mean, own_std = image.mean(dim=(1, 2)), image.std(dim=(1, 2))
    gain = 1 + share * ((std + 4) / (own_std + 4) - 1).clamp(-0.6, 1.2)
    shift = own_mean + share * (mean - own_mean)
    borrowed: torch.Tensor = (image - own_mean[:, None, None]) * gain[:, None, None] + shift[:, None, None]
    return borrowed


def _blurred(image: torch.Tensor, sigma_px: float) -> torch.Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-4, 5) / sigma_px) ** 2)
    taps = (taps / taps.sum()).expand(3, 1, 1, 9)
    padded = functional.pad(image[None], (4, 4, 4, 4), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, taps, groups=3), taps.mT, groups=3)[0]


# --- training --------------------------------------------------------------------------------------------------------


def measure_bands(chips: Bytes) -> BandStatistics:
    """Measure the training imagery, in stored units."""
    pixels = np.asarray(chips[::3, :3, ::7, ::7]).transpose(1, 0, 2, 3).reshape(3, -1)
    statistics = band_statistics(pixels)
    if statistics is None:
        raise SystemExit("no training chips: give --training-chips at least 1")
    return statistics


def standardize(image: torch.Tensor, statistics: BandStatistics) -> torch.Tensor:
    """Return the image (n, 3, row, col) as the network wants it."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (statistics.mean, statistics.std))
    return (image - mean) / std


def train(
    work: Path,
    network: Network,
    statistics: BandStatistics,
    knobs: Knobs,
    imagery: tuple[Bytes, list[Bytes], npt.NDArray[np.float32]],
) -> Network:
    """Train to the last step, from the last checkpoint if there is one; return the averaged network."""
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=knobs.peak_rate, weight_decay=knobs.weight_decay)
    step = 0
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    batches = iter(DataLoader(Crops(*imagery, knobs, step), batch_size=None, num_workers=1, prefetch_factor=4))
    balance = torch.tensor([1.0, 0.75, 1.4, 1.0, 1.2, 1.7])  # rarer classes count a little more
    dice = smp.losses.DiceLoss("multiclass", ignore_index=NODATA)
    network.train()
    begin, losses = time.monotonic(), []
    while step < knobs.steps:
        image, codes = next(batches)
        codes = codes[:, 2::4, 2::4]  # the network decides for every fourth pixel, and interpolates between
        features = network.decoder(
            network.encoder(standardize(image.contiguous(memory_format=torch.channels_last), statistics))
        )
        logits = network.segmentation_head[0](features)  # (n, class, row / 4, col / 4)
        loss = functional.cross_entropy(logits, codes, balance, ignore_index=NODATA, label_smoothing=0.03)
        loss = loss + 0.4 * dice(logits, codes)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, knobs)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        step += 1
        _average(averaged, network, min(knobs.ema_decay, step / (step + 20)))
        losses.append(loss.item())
        if step % 50 == 0 or step == knobs.steps:
            print(
                f"step {step} loss {np.mean(losses):.3f}, {(time.monotonic() - begin) / len(losses):.2f} s a step",
                flush=True,
            )
            begin, losses = time.monotonic(), []
        if step % 100 == 0 or step == knobs.steps:
            state = {
                "network": network.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state | {"step": step}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    return averaged.eval()


def rate_at(step: int, knobs: Knobs) -> float:
    """Return the learning rate: a short rise, then half a cosine down to nothing."""
    share = step / knobs.steps
    return knobs.peak_rate * min(1.0, 0.04 + share / 0.12) * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def _average(averaged: torch.nn.Module, network: Network, decay: float) -> None:
    for kept, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


# --- evaluation: one confusion matrix over a whole set ----------------------------------------------------------------


@torch.inference_mode()
def predict_logits(network: Network, image: Bytes, statistics: BandStatistics) -> torch.Tensor:
    """Return logits (class, row, col) of an image at least one window large, windows blended by their mean."""
    grid = WindowGrid(image.shape[1], image.shape[2], WINDOW_PX, OVERLAP_PX)
    total = torch.zeros(CLASSES, *image.shape[1:])
    weight = torch.zeros(image.shape[1:])
    for window in grid.windows_touching(Window(0, 0, *image.shape[1:])):
        part = torch.from_numpy(image[:, window.rows, window.cols].astype(np.float32))[None]
        total[:, window.rows, window.cols] += network(standardize(part, statistics))[0]
        weight[window.rows, window.cols] += 1
    return total / weight


def confusion_of(truth: Bytes, predicted: Bytes) -> Confusion:
    """Count (truth, prediction) pairs where the truth is one of the six classes."""
    known = truth < CLASSES
    pairs = truth[known].astype(np.int64) * CLASSES + predicted[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def scores_of(confusion: Confusion) -> dict[str, Any]:
    """Return intersection over union of each class that occurs, their mean, and the overall accuracy."""
    hit = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hit
    occurs = confusion.sum(axis=1) > 0
    iou = {DEEPGLOBE.names[c]: round(float(hit[c] / union[c]), 4) if occurs[c] else None for c in range(CLASSES)}
    return {
        "mean_iou": round(float(np.mean([hit[c] / union[c] for c in range(CLASSES) if occurs[c]])), 4),
        "classes_in_mean": int(occurs.sum()),
        "accuracy": round(float(hit.sum() / confusion.sum()), 4),
        "iou": iou,
        "pixels": int(confusion.sum()),
        "confusion": confusion.tolist(),
    }


def evaluate_chips(network: Network, chips: Bytes | list[Bytes], statistics: BandStatistics) -> dict[str, Any]:
    """Score chips of (red green blue code, row, col)."""
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for chip in chips:
        codes = predict_logits(network, np.asarray(chip[:3]), statistics).argmax(dim=0).numpy()
        confusion += confusion_of(np.asarray(chip[3]), codes.astype(np.uint8))
    return scores_of(confusion)


def evaluate_deepglobe(network: Network, folder: Path, statistics: BandStatistics) -> dict[str, Any]:
    """Score the DeepGlobe pairs at their own 0.5 m; "unknown" is left out."""
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for image_path in sorted(folder.glob("*_sat.jpg")):
        with (
            rasterio.open(image_path) as image,
            rasterio.open(str(image_path).replace("_sat.jpg", "_mask.png")) as mask,
        ):
            codes = predict_logits(network, image.read([1, 2, 3]), statistics).argmax(dim=0).numpy()
            colors = mask.read([1, 2, 3]) > 127
        truth = np.full(codes.shape, NODATA, np.uint8)
        for land_cover in DEEPGLOBE:
            truth[(colors == (np.array(land_cover.color) > 127)[:, None, None]).all(axis=0)] = land_cover.code
        confusion += confusion_of(truth, codes.astype(np.uint8))
    return scores_of(confusion)


def calibrate(network: Network, chips: Bytes, statistics: BandStatistics) -> float:
    """Return the temperature that makes the confidence right on average (Guo et al. 2017, arXiv 1706.04599)."""
    logits, codes = [], []
    for chip in chips:
        logits.append(predict_logits(network, np.asarray(chip[:3]), statistics)[:, ::8, ::8].flatten(1))
        codes.append(torch.from_numpy(np.asarray(chip[3, ::8, ::8])).long().flatten())
    scored, truth = torch.cat(logits, dim=1).T, torch.cat(codes)

    temperatures = [round(float(temperature), 3) for temperature in np.geomspace(0.4, 2.5, 60)]
    losses = [
        functional.cross_entropy(scored / temperature, truth, ignore_index=NODATA).item()
        for temperature in temperatures
    ]
    return temperatures[int(np.argmin(losses))]


# --- the bundle and its card -----------------------------------------------------------------------------------------


def measure_window_s(bundle: ModelBundle) -> float:
    """Return the seconds that geoseg's engine needs for one window on two CPU threads; the best of twenty."""
    engine = choose_engine(bundle, "onnx", window_px=WINDOW_PX, threads=2).open()
    pixels = np.random.default_rng(0).integers(0, 256, (3, WINDOW_PX, WINDOW_PX), np.uint8)
    footprint = engine.upload(pixels, np.ones((WINDOW_PX, WINDOW_PX), np.bool_))
    even = np.ones((1, WINDOW_PX), np.float32)
    times = []
    for _ in range(20):
        begin = time.monotonic()
        engine.probabilities(footprint, [Window(0, 0, WINDOW_PX, WINDOW_PX)], Weights(even, even))
        times.append(time.monotonic() - begin)
    return round(min(times), 4)


@dataclass(frozen=True)
class Trained:
    """The network and what was measured."""

    network: Network
    statistics: BandStatistics
    temperature: float
    metrics: dict[str, Any]
    """Scores by exam: synthetic, chesapeake, deepglobe."""
    knobs: Knobs
    note: str
    """How this very run differed from the plain one, for the card; may be empty."""


def save(folder: Path, trained: Trained) -> None:
    """Write demo.safetensors and demo.onnx, and the card demo.md from the measured figures."""
    statistics, knobs = trained.statistics, trained.knobs
    bundle = save_bundle(
        folder / "demo.safetensors",
        trained.network,
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        legend=DEEPGLOBE,
        output_codes=tuple(range(CLASSES)),
        normalization=Normalization(statistics.mean, statistics.std),
        statistics=statistics,
        gsd_m=GSD_M,
        window_px=WINDOW_PX,
        overlap_px=OVERLAP_PX,
        temperature=trained.temperature,
        name="demo",
        provenance={
            "program": "tools/train_demo_model.py",
            "knobs": asdict(knobs),
            "trained_on": [
                f"synthetic landscapes of geoseg, seeds {TRAINING_SEED} to {TRAINING_SEED + knobs.training_chips - 1}",
                "NAIP chips of West Virginia with Chesapeake Conservancy labels (public domain imagery, open labels)",
                "NAIP of North Dakota, its colours only (public domain)",
            ],
            "never_trained_on": ["DeepGlobe 2018"],
        },
        metrics={
            name: {key: value for key, value in scores.items() if key != "confusion"}
            for name, scores in trained.metrics.items()
        },
    )
    export_onnx(bundle, WINDOW_PX, folder / "demo.onnx")
    facts = {
        "window_s": measure_window_s(bundle),
        "megabytes": round((folder / "demo.safetensors").stat().st_size / 1e6, 1),
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
    }
    (folder / "demo.md").write_text(card_text(trained, facts), encoding="utf-8")
    print(f"wrote {bundle.name}: {facts}", flush=True)


def card_text(trained: Trained, facts: dict[str, Any]) -> str:
    """Return the model card; every figure in it was measured."""
    metrics, knobs = trained.metrics, trained.knobs
    named = {
        "synthetic": "synthetic, other seeds",
        "chesapeake": "Chesapeake, held-out places",
        "deepglobe": "DeepGlobe, nine pairs",
    }
    columns = [(title, metrics[name]) for name, title in named.items() if name in metrics]
    rows = [["class", *(title for title, _ in columns)], ["---"] * (len(columns) + 1)]
    for index in range(CLASSES):
        name = DEEPGLOBE.names[index]
        rows.append([name, *(_figure(scores["iou"][name]) for _, scores in columns)])
    rows.append(
        [
            "**mean IoU**",
            *(f"**{_figure(scores['mean_iou'])}** of {scores['classes_in_mean']} classes" for _, scores in columns),
        ]
    )
    rows.append(["accuracy", *(_figure(scores["accuracy"]) for _, scores in columns)])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        Path(__file__)
        .with_name("demo_card.md")
        .read_text(encoding="utf-8")
        .format(
            table=table,
            temperature=trained.temperature,
            training_chips=knobs.training_chips,
            evaluation_chips=knobs.evaluation_chips,
            steps=knobs.steps,
            crops=" and then ".join(f"{batch} crops of {size} x {size}" for _, size, batch in CROPS),
            note=textwrap.fill(trained.note, 120),
            window_ms=round(1000 * facts["window_s"]),
            megabytes=facts["megabytes"],
            parameters=f"{facts['parameters'] / 1e6:.2f}",
            encoder=ARGUMENTS["encoder_name"],
            real_percent=round(100 * knobs.real_share),
            first=TRAINING_SEED,
            evaluation_first=EVALUATION_SEED,
        )
    )


def _figure(score: float | None) -> str:
    return "does not occur" if score is None else f"{score:.3f}"


# --- all of it -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Run every stage that has not been run."""
    parser = argparse.ArgumentParser(description="Train geoseg's demo model.")
    parser.add_argument("work", type=Path, help="folder for chips, checkpoint and metrics; outside the repository")
    parser.add_argument("--naip", type=Path, required=True, help="folder with chesapeake_wv and north_dakota")
    parser.add_argument("--deepglobe", type=Path, help="folder of NNN_sat.jpg and NNN_mask.png, for the exam only")
    parser.add_argument("--out", type=Path, help="folder of the finished model [default: the work folder]")
    parser.add_argument("--steps", type=int, default=Knobs.steps)
    parser.add_argument("--training-chips", type=int, default=Knobs.training_chips)
    parser.add_argument("--evaluation-chips", type=int, default=Knobs.evaluation_chips)
    parser.add_argument("--note", default="", help="a sentence for the card, about this very run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    knobs = Knobs(steps=given.steps, training_chips=given.training_chips, evaluation_chips=given.evaluation_chips)
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    torch.manual_seed(knobs.seed)
    evaluation = render_chips(
        work / "evaluation.npy", EVALUATION_SEED, knobs.evaluation_chips, WINDOW_PX, given.threads
    )
    calibration = render_chips(work / "calibration.npy", CALIBRATION_SEED, 24, WINDOW_PX, given.threads)
    chips = render_chips(work / "training.npy", TRAINING_SEED, knobs.training_chips, CHIP_PX, given.threads)
    real, held_out = read_chesapeake(given.naip)
    colors = read_real_colors(given.naip, real)
    statistics = measure_bands(chips)
    network = build_network().to(memory_format=torch.channels_last)
    network = train(work, network, statistics, knobs, (chips, real, colors))
    temperature = calibrate(network, calibration, statistics)
    metrics = read_or_measure(work / "metrics.json", network, statistics, (evaluation, held_out, given.deepglobe))
    save(given.out or work, Trained(network, statistics, temperature, metrics, knobs, given.note))


def read_or_measure(
    path: Path, network: Network, statistics: BandStatistics, exams: tuple[Bytes, list[Bytes], Path | None]
) -> dict[str, Any]:
    """Return the scores of all exams; they stand in a file once they are known."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    evaluation, held_out, deepglobe = exams
    metrics = {
        "synthetic": evaluate_chips(network, evaluation, statistics),
        "chesapeake": evaluate_chips(network, held_out, statistics),
    }
    if deepglobe:
        metrics["deepglobe"] = evaluate_deepglobe(network, deepglobe, statistics)
    print({name: scores["mean_iou"] for name, scores in metrics.items()}, flush=True)
    path.write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return metrics


if __name__ == "__main__":
    main()
