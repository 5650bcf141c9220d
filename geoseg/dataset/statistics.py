"""What all prepared scenes together hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from geoseg.dataset.prepared_scene import PreparedScene
from geoseg.errors import SceneError
from geoseg.raster import BandStatistics, band_statistics, tiles

_SAMPLES = 4_000_000
_TILE_PX = 256


def band_statistics_of(scenes: Sequence[PreparedScene]) -> BandStatistics:
    """Measure the valid pixels in the areas; of many, every n-th row and column. SceneError if none is valid."""
    total = sum(area.size for scene in scenes for area in scene.areas)
    step = max(1, round((total / _SAMPLES) ** 0.5))
    samples = []
    for scene in scenes:
        for area in scene.areas:
            for tile in tiles(area.height, area.width, _TILE_PX * step, area.width):
                patch = scene.read(type(tile)(area.row + tile.row, area.col + tile.col, tile.height, tile.width))
                thin = patch.valid[::step, ::step]
                samples.append(patch.data[:, ::step, ::step][:, thin])
    found = band_statistics(np.concatenate(samples, axis=1)) if samples else None
    if found is None:
        raise SceneError("no pixel of the scenes is valid; check their nodata values and masks with geoseg info")
    return found


def class_px_of(scenes: Sequence[PreparedScene]) -> dict[int, int]:
    """Return code -> pixels inside the areas of all scenes, ascending."""
    counts: Counter[int] = Counter()
    for scene in scenes:
        counts.update(scene.class_px)
    return dict(sorted(counts.items()))
