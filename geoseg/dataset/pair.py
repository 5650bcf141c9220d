"""A scene and its labels: one example to learn from or to be judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geoseg.dataset.labels import Decoded, Labels, MappedLabels, content_of, file_digest
from geoseg.legend import Legend
from geoseg.raster import Scene, Strays, Window, digest, files_behind, shown
from geoseg.typed import checked

_STRIP_PX = 4 * 1024**2
_SIDECARS = (".aux.xml", ".ovr", ".msk")


@dataclass(frozen=True, slots=True)
@checked
class Pair:
    """Imagery and labels. Both are paths, so it travels to other processes."""

    id: str
    scene: Scene
    labels: Labels
    gsd_m: float | None
    """Meters a pixel, as `SearchOptions.gsd_of` tells them; the scene itself may say none, or others."""
    part: str | None = None
    """train, valid or test where the layout says so."""

    @property
    def whole(self) -> Window:
        """The window of the whole scene."""
        return Window(0, 0, *self.scene.shape)

    @property
    def files(self) -> list[str]:
        """The files of imagery and labels, the imagery's first."""
        return [self.scene.path, *self.labels.files]

    @property
    def own_labels(self) -> Labels:
        """The labels as their files have them, before they are mapped to another legend."""
        return self.labels.own if isinstance(self.labels, MappedLabels) else self.labels

    def decode(self, window: Window) -> Decoded:
        """Return the labels in a window inside the scene, whether the scene is valid there or not. SceneError."""
        return self.labels.decode(self.scene.geobox, window)

    def strips(self) -> list[Window]:
        """Return windows that cover the scene from its top, whole rows of its blocks, a few megapixels each."""
        height, width = self.scene.shape
        block = self.scene.block_shape[0]
        rows = max(1, _STRIP_PX // width)
        rows = rows if block * width > 4 * _STRIP_PX else max(1, rows // block) * block
        return [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]

    def judge(self, strays: Strays) -> str | None:
        """Return a line about pixels that the legend does not know, if any; SceneError when they are too many."""
        tolerance = self.labels.tolerance
        return strays.judge(shown(self.labels.path), 1.0 if tolerance is None else tolerance)

    def stamp(self) -> str:
        """Return hex that changes whenever imagery or labels may have: by name, size and time of all files behind."""
        return digest([self.scene.fingerprint(), self.labels.stamp()])

    def image_digest(self) -> str:
        """Return hex of the bytes of the imagery alone: the same whatever its labels, and however it is opened.

        Of a VRT its text and its sources; sidecars, which GDAL may write at any time, do not count. SceneError.
        """
        path = self.scene.path
        files = files_behind(path) if path.lower().endswith(".vrt") else [path]
        return digest([file_digest(name) for name in files if not name.lower().endswith(_SIDECARS)])

    def content(self) -> str:
        """Return hex of what the files hold, wherever and whenever they were copied. SceneError if they are gone."""
        scene = [content_of(self.scene), repr(self.scene.band_indexes)]
        return digest([self.id, *scene, repr(self.labels.meaning), *self.labels.content()])


@dataclass(frozen=True, slots=True)
@checked
class Member:
    """A data set among others that one network learns from."""

    name: str
    """What its ids begin with, before a slash."""
    share: float
    """Of the crops, more than 0; the shares of a mixture may have any sum."""
    shown_m: tuple[float, float] | None = None
    """Between these sizes, in meters a pixel, the size of a crop is drawn, alike on a logarithmic scale. None: the
    training's."""
    images_a_crop: int = 1
    """So many images at least are shown side by side in one crop."""
    weights: tuple[tuple[str, float], ...] = ()
    """(id, weight) of images that are drawn more or less often than others, ascending by id."""
    rule: str | None = None
    """How it is divided; None: as its folders or its table say, else all of it trains."""
    valid_share: float | None = None
    """Of what its rule holds out, the share that validates; None: that of the whole mixture."""

    def has(self, pair_id: str) -> bool:
        """Return whether a scene is of this data set."""
        return pair_id.startswith(f"{self.name}/")


@dataclass(frozen=True, slots=True)
class FoundPairs:
    """What a layout holds; more of it says `Dataset`."""

    pairs: tuple[Pair, ...]
    legend: Legend
    notes: tuple[str, ...]
    kind: Literal["deepglobe", "pairs", "mixture"] = "pairs"
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    members: tuple[Member, ...] = ()


def shown_range(members: Sequence[Member]) -> tuple[float, float] | None:
    """Return the finest and the coarsest pixel size that members say; None where none does."""
    sizes = [size for member in members if member.shown_m is not None for size in member.shown_m]
    return (min(sizes), max(sizes)) if sizes else None


def middle_size_m(finest_m: float, coarsest_m: float) -> float:
    """Return the size in the middle of a range, on the logarithmic scale that sizes are drawn by."""
    return math.sqrt(finest_m * coarsest_m)
