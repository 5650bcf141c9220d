"""The pixels under each row of windows, every row of the scene read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from geoseg.raster import Patch, Window


class Readable(Protocol):
    """What can be mapped: a Scene, or a scene that training keeps decoded."""

    @property
    def path(self) -> str:
        """Its name in messages."""
        ...

    def read(self, window: Window) -> Patch:
        """Read a window, which may stick out: outside is invalid."""
        ...


def read_downwards(scene: Readable, footprints: Iterable[Window]) -> Iterator[Patch]:
    """Yield the pixels of footprints of equal columns that follow one another downwards and may overlap.

    What two of them share is kept, not read again: some formats (PNG, JPEG) can only be read from the top. Raises
    SceneError.
    """
    above: tuple[Window, Patch] | None = None
    for footprint in footprints:
        patch = scene.read(footprint) if above is None else _continue(scene, footprint, *above)
        above = footprint, patch
        yield patch


def _continue(scene: Readable, footprint: Window, above: Window, patch: Patch) -> Patch:
    shared_px = above.row_stop - footprint.row
    if shared_px <= 0:
        return scene.read(footprint)
    below = Window(above.row_stop, footprint.col, footprint.row_stop - above.row_stop, footprint.width)
    fresh = scene.read(below)
    return Patch(
        np.concatenate([patch.data[:, -shared_px:], fresh.data], axis=1),
        np.concatenate([patch.valid[-shared_px:], fresh.valid]),
    )
