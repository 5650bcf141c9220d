"""The scenes to be examined on, at the labels' resolution and at the one that the model was trained at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from geoseg.dataset import Area, Dataset, PreparedScene, prepare
from geoseg.evaluation.labelled import Labelled, Pixels
from geoseg.model import ModelCard
from geoseg.progress import Progress
from geoseg.raster import BandStatistics, Window, band_statistics, size_factors

_SAMPLED, _SAMPLE_PX = 16, 256
"""Scenes, and pixels along each side of their middle, that tell what the data are like."""

Says = Callable[[str], None]


def prepare_both(  # noqa: PLR0913, PLR0917 - a data set, a model, and how the one is brought to the other
    dataset: Dataset,
    areas: Sequence[Area],
    folder: Path,
    model: ModelCard,
    bands: tuple[int, ...] | None,
    say: Says,
) -> tuple[list[Labelled], list[str]]:
    """Decode the scenes of areas into a folder, twice where their pixels are not of the model's size.

    `bands`: those that the model wants, from 0. Returns them with lines on what was done, which are said too. Raises
    SceneError, OutputError.
    """
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        say(line)

    decoding = _Once(f"decoding scenes into {folder}, once", say)
    native = prepare(dataset, areas, folder, progress=decoding, announce=note)
    seen: dict[str, PreparedScene] = {scene.id: scene for scene in native}
    sizes, wanted = [scene.gsd_m for scene in native], model.gsd_m
    if wanted is None or None in sizes:
        which = model.name if wanted is None else dataset.name
        note(f"{which} does not say how large its pixels are: scenes are mapped pixel by pixel, as they are")
    elif any(size_factors((size, size), wanted) != (1, 1) for size in sizes if size):
        note(f"mapped at {wanted:.3g} m pixels, the model's; counted at those of the labels ({_range(sizes)})")
        seen = {scene.id: scene for scene in prepare(dataset, areas, folder, gsd_m=wanted, progress=decoding)}
    return [Labelled(scene, Pixels(seen[scene.id], bands), seen[scene.id].shape) for scene in native], notes


def statistics_of(scenes: Sequence[Labelled]) -> BandStatistics | None:
    """Measure the middle of some of the scenes; None where nothing is valid there."""
    samples = []
    for scene in scenes[:: max(1, len(scenes) // _SAMPLED)]:
        height, width = (min(side, _SAMPLE_PX) for side in scene.image_shape)
        row, col = (scene.image_shape[0] - height) // 2, (scene.image_shape[1] - width) // 2
        patch = scene.image.read(Window(row, col, height, width))
        samples.append(patch.data[:, patch.valid])
    return band_statistics(np.concatenate(samples, axis=1))


class _Once:
    """Says a line when work turns out to be under way, and never again."""

    def __init__(self, line: str, say: Says) -> None:
        self._line, self._say, self._said = line, say, False

    def __call__(self, seen: Progress) -> None:
        """Take a moment of the work."""
        if seen.pixels_now and not self._said:
            self._say(self._line)
            self._said = True


def _range(sizes: Iterable[float | None]) -> str:
    known = sorted({f"{size:.3g}" for size in sizes if size}, key=float)
    return f"{known[0]} m" if len(known) == 1 else f"{known[0]} to {known[-1]} m"
