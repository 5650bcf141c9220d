"""How close a GPU in `geoseg predict` comes to its limit: the network alone, or the file read at full speed.

    python benchmarks/gpu.py --work FOLDER [--device cuda] [--model NAME ...] [--rounds 3] [--json PATH] [--quick]

ways     the network alone in each precision and memory layout, and its batch as one CUDA graph: what pays off
bare     the network on windows that are already on the device, batch after batch, nothing else
read     the scene decoded by as many threads as a run has readers
predict  geoseg.predict, from the file to the finished map, in a warm process
labels   the share of half-precision labels that equal float32's, on the same device

The scene of half a gigapixel is one landscape of 4096 x 4096, repeated in a VRT. Scene and networks are made once: run
it with `--prepare` first, on any machine. Then it takes at most 8 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from report import Report
from scenes import scene

import geoseg
from geoseg.errors import UnlikeTrainingWarning
from geoseg.inference import Plan, map_tile
from geoseg.model import ModelBundle, Normalization, Scale, TorchEngine
from geoseg.raster import Scene, Window

SHARE, EQUAL = 0.9, 0.999
"""Promised in half precision: the share of the lower of the two rates; the share of equal labels."""
_SOURCE_PX, _ACROSS, _DOWN = 4096, 4, 8
_LABELS_PX = 2048
_CHUNK_PX = 2048
_DEMO = "demo"
_NETWORKS = ("unet", _DEMO)


def main() -> int:
    """Measure, print, and return 1 if a figure was missed."""
    arguments = _arguments()
    warnings.simplefilter("ignore", UnlikeTrainingWarning)  # a drawn landscape
    source, across, down = (128, 2, 2) if arguments.quick else (_SOURCE_PX, _ACROSS, _DOWN)
    window_px = 128 if arguments.quick else None
    path = _repeated(scene(arguments.work, source, source), across, down)
    bundles = {name: _bundle(arguments.work, name) for name in arguments.model}
    if arguments.prepare:
        return 0
    report = Report("A GPU in geoseg predict beside its bare network", _conditions(path, arguments.device))
    began = time.perf_counter()
    for name, bundle in bundles.items():
        plan = geoseg.plan(path, model=bundle, device=arguments.device, network_resolution="scene", window=window_px)
        _ways(report, name, plan, quick=arguments.quick)
        _measure(report, name, plan, arguments)
    report.add(network="all", minutes=(time.perf_counter() - began) / 60)
    return report.publish(arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for scenes, networks and maps, kept")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", nargs="+", choices=_NETWORKS, default=_NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="only make what is needed; this takes no GPU")
    parser.add_argument("--quick", action="store_true", help="a small scene and one round, to see that all works")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    return parser.parse_args()


def _bundle(work: Path, name: str) -> ModelBundle:
    return ModelBundle.open(None if name == _DEMO else models.bundle(work, name))


def _repeated(source: Path, across: int, down: int) -> Path:
    """Return a VRT that repeats a scene, with the blocks of the file."""
    import rasterio

    with rasterio.open(source) as dataset:
        height, width = dataset.shape
        rows, cols = dataset.block_shapes[0]
        places = [(row * height, col * width) for row in range(down) for col in range(across)]
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="{cols}" blockYSize="{rows}">'
            f"<ColorInterp>{dataset.colorinterp[band - 1].name.title()}</ColorInterp>"
            + "".join(
                f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
                f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
                f'<DstRect xOff="{col}" yOff="{row}" xSize="{width}" ySize="{height}"/></SimpleSource>'
                for row, col in places
            )
            + "</VRTRasterBand>"
            for band in dataset.indexes
        )
        transform = ", ".join(str(number) for number in dataset.transform.to_gdal())
        path = source.with_name(f"{source.stem}-{down}x{across}.vrt")
        path.write_text(
            f'<VRTDataset rasterXSize="{across * width}" rasterYSize="{down * height}">'
            f"<SRS>{dataset.crs.to_wkt()}</SRS><GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>",
            encoding="utf-8",
        )
    return path


def _conditions(path: Path, device: str) -> str:
    height, width = Scene.open(path).shape
    return f"Scene {height} x {width} (a landscape, repeated in a VRT), uint8 x 3, deflate; device {device}; {_card()}."


def _card() -> str:
    if not torch.cuda.is_available():
        return "no GPU"
    properties = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, cuDNN {cudnn}"


def _measure(report: Report, name: str, plan: Plan, arguments: argparse.Namespace) -> None:
    engine: Any = plan.engine.open()
    megapixels = plan.grid.height_px * plan.grid.width_px / 1e6
    seconds = 0.5 if arguments.quick else 5.0
    windows_s, _ = _bare(engine, _batch(engine, plan), seconds)
    bare = windows_s * megapixels / len(plan.grid)
    read = _read(plan, seconds)
    _predict(plan, arguments.work)  # the first one tunes cuDNN and compiles
    shares = []
    for number in range(1 if arguments.quick else arguments.rounds):
        took = _predict(plan, arguments.work)
        rate, limit = megapixels / took, min(bare, read)
        shares.append(rate / limit)
        report.add(
            network=name,
            precision=engine.precision,
            batch=plan.mapping.batch_size,
            round=number + 1,
            bare_mpx_s=bare,
            read_mpx_s=read,
            predict_mpx_s=rate,
            share=rate / limit,
        )
    wanted = 0.0 if arguments.quick else SHARE
    what = f"{name}: predict, of the lesser of bare and read, median"
    report.figure(what, statistics.median(shares), wanted=wanted, at_least=True)
    equal = _equal(plan)
    if name == _DEMO:  # random weights have no clear winner
        report.figure(f"{name}: labels that are float32's", equal, wanted=EQUAL, at_least=True)
    else:
        report.add(network=name, labels_equal=equal)


class _BandByBand(TorchEngine):
    """The same network, without channels_last."""

    def _set_up(
        self, device: torch.device, normalization: Normalization, scale: Scale | None, precision: str | None = None
    ) -> None:
        super()._set_up(device, normalization, scale, precision)
        self._layout = torch.contiguous_format


def _ways(report: Report, name: str, plan: Plan, *, quick: bool) -> None:
    """Report the bare network's windows per second in every way it could run, and the time of its first batch."""
    ways = itertools.product(("fp16", "bf16", "float32"), (TorchEngine, _BandByBand))
    for precision, kind in list(ways)[:: 5 if quick else 1]:
        engine = kind(plan.bundle, plan.engine.device, plan.engine.scale, plan.engine.threads, precision=precision)
        image = _batch(engine, plan)[: 1 if quick else None]
        seconds = 0.1 if quick else 2.0
        windows_s, first_s = _bare(engine, image, seconds)
        layout = "channels_last" if kind is TorchEngine else "contiguous"
        row = {"network": name, "precision": precision, "layout": layout}
        report.add(**row, windows_s=windows_s, first_s=first_s)
        if image.device.type == "cuda":
            report.add(**row, **_as_graph(engine, image, seconds))


def _as_graph(engine: TorchEngine, image: torch.Tensor, seconds: float) -> dict[str, object]:
    """Return windows per second of a batch replayed as a CUDA graph, and the memory that the graph holds."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(image.device)
    began = time.perf_counter()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(image.device), torch.cuda.graph(graph):
            logits, _ = engine.logits(image)
        torch.cuda.synchronize(image.device)
    except RuntimeError as error:
        return {"graph": f"not captured: {str(error).splitlines()[0]}"}
    first_s = time.perf_counter() - began
    kept = free - torch.cuda.mem_get_info(image.device)[0]
    windows_s, _ = _rate(graph.replay, lambda: engine.download(logits[:1, :1, :1, :1].float()), len(image), seconds)
    return {"graph": "replayed", "windows_s": windows_s, "first_s": first_s, "graph_mb": kept / 2**20}


def _batch(engine: TorchEngine, plan: Plan) -> torch.Tensor:
    """Return a batch of noise on the device, in the form of the network's input."""
    side, bands = plan.engine.window_px, len(plan.bundle.bands)
    random = np.random.default_rng(0)
    return engine.placed(random.standard_normal((plan.mapping.batch_size, bands, side, side), np.float32))


def _bare(engine: TorchEngine, image: torch.Tensor, seconds: float) -> tuple[float, float]:
    """Return windows per second of the network alone, and the seconds of its first batches."""
    logits = image

    def batch() -> None:
        nonlocal logits
        logits, _ = engine.logits(image)

    with torch.no_grad():
        return _rate(batch, lambda: engine.download(logits[:1, :1, :1, :1].float()), len(image), seconds)


def _rate(batch: Callable[[], None], wait: Callable[[], object], size: int, seconds: float) -> tuple[float, float]:
    """Return windows per second of successive batches, and the seconds of the first two, which tune cuDNN."""

    def run(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            batch()
        wait()
        return time.perf_counter() - began

    first_s = run(2)
    count = max(1, round(seconds / max(run(1), 1e-6)))
    return count * size / run(count), first_s


def _read(plan: Plan, seconds: float) -> float:
    """Return megapixels per second of reading the scene in whole blocks with as many threads as a run has."""
    height, width = plan.scene.shape
    rows = min(512, height)
    chunks = [
        Window(row, col, min(rows, height - row), min(_CHUNK_PX, width - col))
        for row in range(0, height, rows)
        for col in range(0, width, _CHUNK_PX)
    ]
    began, pixels = time.perf_counter(), 0
    with ThreadPoolExecutor(plan.workers) as pool:
        while time.perf_counter() - began < seconds:
            pixels += sum(pool.map(lambda chunk: plan.scene.read(chunk).valid.size, chunks[: 8 * plan.workers]))
            chunks = chunks[8 * plan.workers :] + chunks[: 8 * plan.workers]
    return pixels / 1e6 / (time.perf_counter() - began)


def _predict(plan: Plan, work: Path) -> float:
    out = work / "gpu-map.tif"
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    plan.run(out)
    return time.perf_counter() - began


def _equal(plan: Plan) -> float:
    """Return the share of labels that are equal in half precision and float32."""
    tile = Window(0, 0, *(min(length, _LABELS_PX) for length in plan.scene.shape))
    engines = [
        TorchEngine(plan.bundle, plan.engine.device, plan.engine.scale, plan.engine.threads, precision=precision)
        for precision in ("fp16", "float32")
    ]
    half, full = (map_tile(plan.mapping, engine, tile)["labels"] for engine in engines)
    return float((half == full).mean())


if __name__ == "__main__":
    raise SystemExit(main())
