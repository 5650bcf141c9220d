"""The verb that makes a plan: every check that needs no pixel of the result happens here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from geoseg.errors import UsageError
from geoseg.given import plain_arguments
from geoseg.inference.blend import DEFAULT_BLEND, check_blend
from geoseg.inference.fit import check_bands, check_scale, warn_if_unlike
from geoseg.inference.plans import Plan
from geoseg.inference.resolution import (
    DEFAULT_NETWORK_RESOLUTION,
    DEFAULT_RESOLUTION,
    NetworkResolution,
    Resolution,
    at_resolution,
    network_factor,
    network_window,
)
from geoseg.inference.symmetries import check_symmetries
from geoseg.inference.tile import Mapping
from geoseg.inference.tiling import choose_tile, round_tile
from geoseg.machine import available_cores, available_memory_bytes, size_text
from geoseg.model import EngineChoice, ModelBundle, choose_engine, default_overlap, takes_window
from geoseg.progress import Progress
from geoseg.raster import Box, Scene, WindowGrid, crop
from geoseg.raster.landcover import ProductName, overview_levels

CPU_BATCH, GPU_BATCH = 1, 16
"""On a CPU four windows at once took as long a window as one, and 170 MB more (measured); a GPU is idle with few."""
_CPU_WORKERS = 8  # more cores than this work together on a window: each worker holds a tile's rows in memory
_GPU_WORKERS = 4  # one scores, the others read, decode, encode and write


class Knobs(TypedDict, total=False):
    """The arguments of `plan` that say how a scene is mapped; `predict` and `labels` pass them on."""

    model: str | os.PathLike[str] | ModelBundle | None
    bands: Sequence[int | str] | None
    bbox: Box | None
    bbox_crs: str | None
    scale: tuple[float, float] | None
    window: int | None
    overlap: int | None
    blend: str
    tta: int
    resolution: Resolution
    network_resolution: NetworkResolution
    tile: int | None
    batch_size: int | None
    device: str
    workers: int | None


@plain_arguments(flags=("confidence", "probabilities"))
def plan(  # noqa: PLR0913 - each keyword is a knob of the command line
    scene: str | os.PathLike[str] | Scene,
    *,
    model: str | os.PathLike[str] | ModelBundle | None = None,
    bands: Sequence[int | str] | None = None,
    bbox: Box | None = None,
    bbox_crs: str | None = None,
    scale: tuple[float, float] | None = None,
    window: int | None = None,
    overlap: int | None = None,
    blend: str = DEFAULT_BLEND,
    tta: int = 1,
    resolution: Resolution = DEFAULT_RESOLUTION,
    network_resolution: NetworkResolution = DEFAULT_NETWORK_RESOLUTION,
    tile: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    confidence: bool = False,
    probabilities: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Plan:
    """Plan the map of a scene; no tile is computed, nothing is written beside the output.

    model: a bundle or its path (default: what the environment variable GEOSEG_MODEL names, else the demo model).
    bands: 1-based numbers or names. bbox: west, south, east, north, in the scene's CRS or in `bbox_crs`: only the
    pixels that this box touches, as `geoseg.crop` cuts them.
    scale: the range of stored values that is stretched over the model's. window, overlap, tile: edges in pixels. blend:
    hann, linear, gaussian, mean or crop. tta: the mean over 1, 2, 4 or 8 symmetries of the square, in as many times the
    time. resolution: "scene" for a map on the scene's own grid, "model" for one of the pixel size that the model was
    trained on, or metres a pixel; the scene is resampled as it is read. network_resolution: "auto" shows the network
    means of pixels that are finer than the model's by more than a third, and interpolates its probabilities back;
    "scene" shows it the map's own pixels, metres a pixel others that are larger. Windows and overlaps are counted in
    the pixels that it sees. batch_size: windows the network sees at once. device: auto, cpu, cuda, cuda:1, mps, onnx or
    torch-cpu. workers: tiles worked on at once. confidence, probabilities: whether these are wanted. announce: told
    when something takes long. What is left out comes from the model, the scene and the machine.

    Raises UsageError, SceneError or ModelError when the scene cannot be mapped so; warns when it looks unlike the
    training imagery.
    """
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.open(None if model is None else Path(model))
    source = _open_scene(_part(scene, bbox, bbox_crs), bands, bundle)
    check_bands(source, bundle)
    check_scale(source, bundle, scale)
    seen = at_resolution(source, bundle, resolution)
    factor = network_factor(seen, bundle, network_resolution)
    window_px, overlap_px = _windows(bundle, window, overlap, factor)
    grid = WindowGrid(*seen.geobox.shape, round(window_px * factor), round(overlap_px * factor))
    engine = choose_engine(bundle, device, window_px=window_px, scale=scale, export=False)
    usual = CPU_BATCH if engine.on_cpu else GPU_BATCH
    size = usual if batch_size is None else _positive("batch-size", batch_size)
    keep = _products(confidence=confidence, probabilities=probabilities)
    mapping = Mapping(seen, grid, check_blend(blend), size, bundle.output_codes, keep)
    sketch = Plan(source, bundle, engine, mapping, 0, 0, 0, check_symmetries(tta), tile is not None)
    made = _share_out(sketch, tile, workers)
    warn_if_unlike(seen, bundle, scale, factor)
    threads = made.engine.threads  # only a plan that fits is worth an export
    with _export_told(engine, progress):
        engine = choose_engine(bundle, device, window_px=window_px, scale=scale, threads=threads, report=announce)
    return replace(made, engine=engine)


@contextmanager
def _export_told(engine: EngineChoice, progress: Callable[[Progress], None] | None) -> Iterator[None]:
    """Report that a network is exported, where it is to be: before, and after it."""
    if progress is None or engine.device != "onnx" or engine.onnx_path is not None:
        yield
        return
    began = time.monotonic()
    progress(Progress(0, 1, 0, 0, 0, 0.0, stage="export"))
    yield
    progress(Progress(1, 1, 0, 0, 0, time.monotonic() - began, stage="export"))


def _part(scene: str | os.PathLike[str] | Scene, bbox: Box | None, crs: str | None) -> str | os.PathLike[str] | Scene:
    if bbox is not None:
        return crop(scene, bbox, crs)
    if crs is not None:
        raise UsageError("`bbox_crs` is about a box; add `bbox=(W, S, E, N)`, or leave it out")
    return scene


def _open_scene(scene: str | os.PathLike[str] | Scene, bands: Sequence[int | str] | None, bundle: ModelBundle) -> Scene:
    """Return the scene with the model's bands; one whose bands the caller chose is taken as it is."""
    if isinstance(scene, Scene) and scene.chosen and bands is None:
        return scene
    path = scene.path if isinstance(scene, Scene) else os.fspath(scene)
    if os.path.exists(path):  # noqa: PTH110 - Path raises for the text of a VRT in place of a name
        path = str(Path(path).absolute())  # a worker may run in another folder
    return Scene.open(path, bands=bands, wanted_bands=bundle.bands)


def _share_out(sketch: Plan, tile: int | None, workers: int | None) -> Plan:
    """Return the plan with its tiles, workers and threads, as many workers as the memory allows; UsageError if none.

    On a CPU each worker scores its own tile with its share of the cores, so reading and writing hide behind scoring;
    a GPU is fed by a few.
    """
    cores = available_cores()
    usual = _CPU_WORKERS if sketch.engine.on_cpu else 1 if sketch.engine.device == "mps" else _GPU_WORKERS
    crews = list(range(min(usual, cores), 0, -1)) if workers is None else [_positive("workers", workers)]
    # the tile does not follow the memory that is free just now: a run could not be resumed with another
    height_px, width_px = _tile(sketch.scene, sketch.grid, tile, crews[0])
    for crew in crews:
        made = replace(sketch, tile_height_px=height_px, tile_width_px=width_px, workers=crew)
        busy = min(crew, made.tile_count)
        made = replace(made, workers=busy, engine=made.engine.with_threads(max(1, cores // busy)))
        if made.memory_bytes <= available_memory_bytes():
            return made
    raise UsageError(_too_large(made))


def _products(*, confidence: bool, probabilities: bool) -> tuple[ProductName, ...]:
    wanted: dict[ProductName, bool] = {"labels": True, "confidence": confidence, "probabilities": probabilities}
    return tuple(name for name, keep in wanted.items() if keep)


def _windows(bundle: ModelBundle, window: int | None, overlap: int | None, factor: float) -> tuple[int, int]:
    """Return the window and the overlap in pixels that the network sees, `factor` of the map's along each."""
    if window is None:
        window_px = network_window(bundle.window_px, bundle.divisor, factor)
        window_px = window_px if takes_window(bundle, window_px) else bundle.window_px
    else:
        window_px = _positive("window", window)
    if overlap is not None:
        return window_px, WindowGrid(window_px, window_px, window_px, overlap).overlap_px  # which refuses a bad one
    usual = bundle.overlap_px if window_px == bundle.window_px and window is None else default_overlap(window_px)
    return window_px, usual


def _tile(scene: Scene, grid: WindowGrid, tile: int | None, crew: int) -> tuple[int, int]:
    align_px = 2 ** overview_levels(grid.height_px, grid.width_px)
    if tile is None:
        return choose_tile(grid, scene.block_shape[1], crew, align_px)
    edge_px = _positive("tile", tile)
    height_px, width_px = (round_tile(min(edge_px, length_px), align_px) for length_px in scene.geobox.shape)
    return height_px, width_px


def _too_large(made: Plan) -> str:
    free = available_memory_bytes()
    return (
        f"this plan needs about {size_text(made.memory_bytes)} of memory, {size_text(free)} are free; "
        f"take a smaller `window` (now {made.grid.window_px}), `tile` ({made.tile_width_px}), "
        f"`batch_size` ({made.mapping.batch_size}) or `workers` ({made.workers})"
    )


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}")
    return value
