"""A model examined on a data set: mapped as `predict` maps, counted in one matrix over the whole set."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from geoseg.dataset import Area, Dataset
from geoseg.errors import GeosegWarning, SceneError, UsageError
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.labelled import Counter, Found, Labelled
from geoseg.evaluation.matching import Matching
from geoseg.evaluation.metrics import constant_map
from geoseg.evaluation.origin import Origin, overlap_note
from geoseg.evaluation.parts import DEFAULT_PART, check_part, choose_areas
from geoseg.evaluation.resolutions import prepare_both, statistics_of
from geoseg.evaluation.shared_codes import SharedCodes
from geoseg.evaluation.suits import (
    check_not_normalized,
    check_type,
    choose_bands,
    match_legends,
    normalization_note,
)
from geoseg.evaluation.tabulate import confusion, left_out
from geoseg.evaluation.tally import NONE
from geoseg.inference import (
    CPU_BATCH,
    DEFAULT_BLEND,
    GPU_BATCH,
    Blend,
    check_blend,
    check_symmetries,
    checkpoint,
    stoppable,
    symmetric,
)
from geoseg.machine import available_cores
from geoseg.model import (
    EngineChoice,
    ModelBundle,
    Scale,
    cache_folder,
    check_window,
    choose_device,
    choose_engine,
    default_overlap,
)
from geoseg.progress import Progress
from geoseg.raster import Window, WindowGrid

Says = Callable[[str], None]

_WORKERS = 4


class Manner(TypedDict):
    """The arguments of `examine` that can be judged before the data set is looked for."""

    rule: str | None
    device: str
    batch_size: int | None
    window: int | None
    overlap: int | None
    blend: str | None
    tta: int
    scale: Scale | None


def examine(  # noqa: PLR0913 - the knobs of the verb
    bundle: ModelBundle | str | os.PathLike[str],
    dataset: Dataset,
    part: str | Sequence[Area] = DEFAULT_PART,
    *,
    rule: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    window: int | None = None,
    overlap: int | None = None,
    blend: str | None = None,
    tta: int = 1,
    scale: Scale | None = None,
    ignore: str | Sequence[str | int] | None = None,
    cache: str | os.PathLike[str] | None = None,
    worst: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Says | None = None,
) -> Evaluation:
    """Map the scenes of a part with a model and compare them with their labels, all in one matrix.

    `part`: train, valid, test, all, or areas; which scenes that is, `rule` says, else the split recorded in the
    model, else the one that training would make. Each scene is seen by the network at the model's own resolution,
    in windows that are blended, as `predict` does; then its map is brought to the pixels of the labels by nearest
    neighbour and counted there. Classes are matched by name. `tta`: mean over 1, 2, 4 or 8 symmetries of the square.
    `cache`: where decoded scenes are kept. `worst`: the crops that the model gets most wrong are gathered too, class by
    class. The other knobs are those of `plan`.

    Warns where the model has learnt from these scenes. Raises UsageError for options that cannot be right and legends
    that share no class, SceneError for data that do not suit the model or cannot be read, ModelError for a model that
    cannot be opened.
    """
    say = announce or (lambda _line: None)
    model = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(Path(bundle))
    check_manner(
        model,
        part,
        rule=rule,
        device=device,
        batch_size=batch_size,
        window=window,
        overlap=overlap,
        blend=blend,
        tta=tta,
        scale=scale,
    )
    several = frozenset(code for code, _ in dataset.sets)
    matching = replace(match_legends(model, dataset.legend, dataset.name, ignore), several=several)
    bands = choose_bands(model, dataset.bands, dataset.name)
    check_type(model, dataset.dtype, dataset.name, scale)
    origin = Origin.of(model).on(dataset, rule)
    areas, how = _areas(origin, dataset, part, rule)
    notes = [how, *_notes(model, overlap_note(origin, dataset, areas, model.name), part, matching)]
    for line in notes:
        say(line)
    counter = _counter(model, matching, window, overlap, blend)
    if worst:
        counter = replace(counter, shared=SharedCodes.between(dataset.legend, model.legend, matching))
    folder = Path(cache) if cache else cache_folder() / "scenes"
    scenes, lines = prepare_both(dataset, areas, folder, model, bands, say)
    notes += lines
    if scale is None:
        _check_values(scenes, model, dataset.name)
    tiles = [(scene, tile) for scene in scenes for tile in scene.tiles()]
    choice, workers = _engine(model, counter.window_px, device, scale, say, len(tiles))
    size = batch_size or (CPU_BATCH if choice.on_cpu else GPU_BATCH)
    found = _count_all(tiles, counter.with_batch(size), choice, tta, workers, progress)
    return _evaluation(model, dataset, found, matching, part, len(scenes), notes)


def check_manner(model: ModelBundle, part: str | Sequence[Area], **manner: Unpack[Manner]) -> None:
    """Raise UsageError for what cannot be right with this model, whatever the data set: before that is looked for."""
    if isinstance(part, str) or not isinstance(part, Sequence):
        check_part(part, manner["rule"])
    check_symmetries(manner["tta"])
    batch_size = manner["batch_size"]
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch-size must be at least 1, got {batch_size}")
    _windows(model, manner["window"], manner["overlap"], manner["blend"])
    model.normalization.gain_bias(manner["scale"])
    choose_device(manner["device"])


def _areas(
    origin: Origin, dataset: Dataset, part: str | Sequence[Area], rule: str | None
) -> tuple[tuple[Area, ...], str]:
    if isinstance(part, str):
        areas, how = choose_areas(origin, dataset, part, rule)
    else:
        areas, how = tuple(part), "areas as given"
    scenes = len({area.pair_id for area in areas})
    return areas, f"examined on {scenes} scene{'s' * (scenes != 1)} of {dataset.name}: {how}"


def _notes(model: ModelBundle, spoilt: str | None, part: str | Sequence[Area], matching: Matching) -> Iterator[str]:
    """Yield what a reader of the figures should know beforehand; what spoils them is warned of."""
    for line, is_wanted in ((spoilt, part in ("train", "valid")), (normalization_note(model), False)):
        if line:
            yield line
            if not is_wanted:
                warnings.warn(line, GeosegWarning, stacklevel=4)
    if matching.note:
        yield matching.note
    unlearnt = [named.name for named in matching.map_names if named.code not in model.output_codes]
    if unlearnt:
        yield f"{model.name} never says {', '.join(unlearnt)}: it has no channel for it"


def _windows(model: ModelBundle, window: int | None, overlap: int | None, blend: str | None) -> tuple[int, int, Blend]:
    """Return the window, the overlap and the blend; UsageError where they cannot be right."""
    window_px = model.window_px if window is None else window
    check_window(window_px, model.divisor)
    usual = model.overlap_px if window is None else default_overlap(window_px)
    grid = WindowGrid(window_px, window_px, window_px, usual if overlap is None else overlap)
    return grid.window_px, grid.overlap_px, check_blend(blend or DEFAULT_BLEND)


def _counter(
    model: ModelBundle, matching: Matching, window: int | None, overlap: int | None, blend: str | None
) -> Counter:
    how = _windows(model, window, overlap, blend)
    return Counter(*how, CPU_BATCH, model.output_codes, matching, model.name)


def _check_values(scenes: Sequence[Labelled], model: ModelBundle, name: str) -> None:
    found = statistics_of(scenes)
    if found is None:
        raise SceneError(f"{name}: no pixel of these scenes is valid; nothing can be mapped")
    check_not_normalized(found, model, name)


def _engine(  # noqa: PLR0913, PLR0917 - one step of the verb
    model: ModelBundle, window_px: int, device: str, scale: Scale | None, say: Says, tiles: int
) -> tuple[EngineChoice, int]:
    """Return the engine and how many tiles are worked on at once; on a CPU they share the cores."""
    cores = available_cores()
    sketch = choose_engine(model, device, window_px=window_px, scale=scale, export=False)
    workers = max(1, min(_WORKERS, cores, tiles))
    threads = max(1, cores // workers)
    if sketch.device == "torch-cpu":  # torch has one number of threads for the whole process
        workers, threads = 1, cores
    choice = choose_engine(model, device, window_px=window_px, scale=scale, threads=threads, report=say)
    say(f"scoring with {model.name} on {choice.describe()}")
    return choice, workers


def _count_all(  # noqa: PLR0913, PLR0917 - one step of the verb
    tiles: Sequence[tuple[Labelled, Window]],
    counter: Counter,
    choice: EngineChoice,
    tta: int,
    workers: int,
    progress: Callable[[Progress], None] | None,
) -> Found:
    """Count every tile of every scene, a few at a time."""
    opened = choice.open()
    engine = symmetric(opened, tta)
    total, done_px, began = Found(), 0, time.perf_counter()
    all_px = sum(tile.size for _, tile in tiles)
    with ThreadPoolExecutor(workers, "geoseg-examine") as pool, stoppable() as run:
        check = checkpoint(run)
        try:
            found = pool.map(lambda one: counter.count(one[0], engine, one[1], check), tiles)
            for done, ((_, tile), counted) in enumerate(zip(tiles, found, strict=True), start=1):
                total, done_px = total.merge(counted), done_px + tile.size
                if progress is not None:
                    progress(
                        Progress(
                            done, len(tiles), done_px, all_px, done_px, time.perf_counter() - began, stage="evaluate"
                        )
                    )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return total


def _evaluation(  # noqa: PLR0913, PLR0917 - one step of the verb
    model: ModelBundle,
    dataset: Dataset,
    found: Found,
    matching: Matching,
    part: str | Sequence[Area],
    scenes: int,
    notes: Sequence[str],
) -> Evaluation:
    matrix = confusion(found.tally, matching, matching.classes(found.tally))
    if not matrix.total_px:
        raise SceneError(f"no pixel of these scenes of {dataset.name} has a label that counts; nothing can be judged")
    name = part if isinstance(part, str) else "areas"
    return Evaluation.of(
        model.name,
        f"{dataset.name}, {name} ({scenes} scene{'s' * (scenes != 1)})",
        matrix,
        left_out=left_out(found.tally, matching),
        calibration=found.calibration,
        notes=(*notes, *_open_to_several(found, dataset, matching), *_missing(matrix)),
        worst=found.worst,
    )


def _open_to_several(found: Found, dataset: Dataset, matching: Matching) -> Iterator[str]:
    """Yield a line on pixels whose label leaves several classes open, which do not count."""
    sets = dict(dataset.sets)
    pixels = {pair: count for pair, count in found.tally.pixels.items() if pair[0] in sets and pair[1] != NONE}
    total = sum(pixels.values())
    if total:
        one_of_them = sum(
            count for (theirs, ours), count in pixels.items() if any(matching.same(each, ours) for each in sets[theirs])
        )
        yield (
            f"{total} pixels may be of several classes and are not counted; the map says one of these in "
            f"{one_of_them / total:.1%} of them"
        )


def _missing(matrix: ConfusionMatrix) -> Iterator[str]:
    """Yield lines on classes that the labels lack but the map has, and on what no skill at all would get."""
    pairs = zip(matrix.names, matrix.reference_px, matrix.map_px, strict=True)
    lacking = [name for name, theirs, ours in pairs if ours and not theirs]
    if lacking:
        verb = "has" if len(lacking) == 1 else "have"
        yield f"{', '.join(lacking)} {verb} no pixel in these labels: an IoU of 0 says nothing of how well it is found"
    constant = constant_map(matrix)
    if constant is not None:
        yield f"a map that says {constant[0]} everywhere would get {constant[1]:.4f} by the published protocol"
