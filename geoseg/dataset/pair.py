"""A scene and its labels: one example for training or evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from geoseg.dataset.labels import Decoded, Labels, MappedLabels, content_of, file_digest
from geoseg.legend import Legend
from geoseg.raster import Scene, Strays, Window, digest, files_behind, shown, strip_rows, tiles
from geoseg.typed import checked

_STRIP_PX = 4 * 1024**2
_SIDECARS = (".aux.xml", ".ovr", ".msk")


@dataclass(frozen=True, slots=True)
@checked
class Pair:
    """Imagery and labels. Both are held as paths, so a pair can be sent to other processes."""

    id: str
    scene: Scene
    labels: Labels
    gsd_m: float | None
    """Meters per pixel, from `SearchOptions.gsd_of`; the scene may state no size, or another one."""
    part: str | None = None
    """train, valid or test, if the layout says so."""

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
        """The labels as stored in their files, before they are mapped to another legend."""
        return self.labels.own if isinstance(self.labels, MappedLabels) else self.labels

    def decode(self, window: Window) -> Decoded:
        """Return the labels in a window inside the scene, whether the scene is valid there or not. SceneError."""
        return self.labels.decode(self.scene.geobox, window)

    def strips(self) -> list[Window]:
        """Return windows that cover the scene from the top: whole rows of blocks, a few megapixels each."""
        height, width = self.scene.shape
        rows = strip_rows(width, self.scene.block_shape, _STRIP_PX, 4 * _STRIP_PX)
        return tiles(height, width, rows, width)

    def judge(self, strays: Strays) -> str | None:
        """Return a note about pixels that are not in the legend, if any. SceneError if there are too many."""
        tolerance = self.labels.tolerance
        return strays.judge(shown(self.labels.path), 1.0 if tolerance is None else tolerance)

    def stamp(self) -> str:
        """Return a hex digest of the files' names, sizes and times, which changes when imagery or labels may have."""
        return digest([self.scene.fingerprint(), self.labels.stamp()])

    def image_digest(self) -> str:
        """Return a hex digest of the imagery's bytes alone, whatever its labels are and however it is opened.

        For a VRT: its text and its sources. Sidecars do not count, since GDAL may write them at any time. SceneError.
        """
        path = self.scene.path
        files = files_behind(path) if path.lower().endswith(".vrt") else [path]
        return digest([file_digest(name) for name in files if not name.lower().endswith(_SIDECARS)])

    def content(self) -> str:
        """Return a hex digest of the files' content; copies have the same. SceneError if the files are gone."""
        scene = [content_of(self.scene), repr(self.scene.band_indexes)]
        return digest([self.id, *scene, repr(self.labels.meaning), *self.labels.content()])


@dataclass(frozen=True, slots=True)
@checked
class Member:
    """One of several data sets that a network learns from."""

    name: str
    """The start of its ids, before a slash."""
    share: float
    """Share of the crops, more than 0; the shares of a mixture need not add up to 1."""
    shown_m: tuple[float, float] | None = None
    """Range of pixel sizes of a crop, in meters, drawn uniformly on a logarithmic scale. None: the training's range."""
    images_a_crop: int = 1
    """Minimum number of images side by side in one crop."""
    weights: tuple[tuple[str, float], ...] = ()
    """(id, weight) of images that are drawn more or less often than others, ascending by id."""
    rule: str | None = None
    """The rule of its split; None: as its folders or its table say, else all of it is for training."""
    valid_share: float | None = None
    """Share of its held-out part for validation; None: the share of the whole mixture."""
    kind: Literal["deepglobe", "pairs", "mixture"] = field(default="pairs", repr=False)
    """Its `Dataset.kind`; hidden, since the digest of a mixture is made of this text."""

    def has(self, pair_id: str) -> bool:
        """Return whether a scene belongs to this data set."""
        return pair_id.startswith(f"{self.name}/")


@dataclass(frozen=True, slots=True)
class FoundPairs:
    """The pairs found in a layout; `Dataset` explains the other fields."""

    pairs: tuple[Pair, ...]
    legend: Legend
    notes: tuple[str, ...]
    kind: Literal["deepglobe", "pairs", "mixture"] = "pairs"
    sets: tuple[tuple[int, tuple[int, ...]], ...] = ()
    members: tuple[Member, ...] = ()


def shown_range(members: Sequence[Member]) -> tuple[float, float] | None:
    """Return the finest and the coarsest pixel size that any member states; None if none does."""
    sizes = [size for member in members if member.shown_m is not None for size in member.shown_m]
    return (min(sizes), max(sizes)) if sizes else None


def middle_size_m(finest_m: float, coarsest_m: float) -> float:
    """Return the middle of a range of sizes, on the logarithmic scale that they are drawn on."""
    return math.sqrt(finest_m * coarsest_m)
