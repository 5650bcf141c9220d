"""A scene and its labels: one example for training or evaluation; and labels mapped to another legend."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.legend import NODATA, Legend
from geoseg.raster import (
    GeoBox,
    Scene,
    Strays,
    Window,
    digest,
    files_behind,
    local_file,
    shown,
    stamps,
    strip_rows,
    tiles,
)
from geoseg.typed import checked

_STRIP_PX = 4 * 1024**2
_SIDECARS = (".aux.xml", ".ovr", ".msk")
_SAMPLE_BYTES = 16 * 1024**2
"""Of a file larger than three times this, only this many bytes at its start, middle and end are hashed."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The labels of a window."""

    codes: NDArray[np.uint8]
    """(row, col); 255 where there is no label, including strays."""
    strays: Strays
    """Pixels whose code or color is not in the legend."""


class Labels(Protocol):
    """Labels of any kind. They hold paths, not pixels, so they can be sent to other processes."""

    @property
    def path(self) -> str:
        """The file of the labels, or the image that has them; for a GeoDataFrame, its name in messages."""

    @property
    def files(self) -> list[str]:
        """The files that hold the labels; none if folders name the classes."""

    @property
    def tolerance(self) -> float | None:
        """Share of stray pixels that is ignored instead of refused; None if there can be no strays."""

    @property
    def meaning(self) -> object:
        """A value that differs between two readings of the same files."""

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the legend's codes in a window of a scene's grid. SceneError if a file is damaged."""

    def stamp(self) -> list[object]:
        """Return values that change whenever the files may have changed: names, sizes, times."""

    def content(self) -> list[str]:
        """Return values that change with the files' content, not with their path. SceneError if files are gone."""


@dataclass(frozen=True, slots=True)
class BuiltUp:
    """A rule that merges single buildings and roads into built-up blocks.

    A pixel gets the class `code` if the classes `fills` make up more than a given share of the labeled pixels in a
    square around it. `absorbed` holds this share for each class; other classes are unchanged.
    """

    fills: tuple[int, ...]
    """Codes of the labels' own legend."""
    code: int
    """A code of the target's legend."""
    around_px: int
    """Edge of the square; an odd number."""
    absorbed: tuple[tuple[int, float], ...]
    """(code of the labels' own legend, share), ascending by code."""


@dataclass(frozen=True, slots=True)
class MappedLabels:
    """Labels with a table that maps their codes to those of another legend, the target."""

    own: Labels
    table: bytes
    """The target's code for each of 256 own codes: a class, a set of classes, or 255."""
    built_up: BuiltUp | None = None

    @property
    def path(self) -> str:
        """The path of the own labels."""
        return self.own.path

    @property
    def files(self) -> list[str]:
        """The files of the own labels."""
        return self.own.files

    @property
    def tolerance(self) -> float | None:
        """The tolerance of the own labels."""
        return self.own.tolerance

    @property
    def meaning(self) -> object:
        """The meaning of the own labels, and how they are mapped."""
        return self.own.meaning, self.table, self.built_up

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the target's codes in a window inside the scene. Raises SceneError as the own labels do."""
        decoded = self.own.decode(grid, window)
        codes = np.frombuffer(self.table, np.uint8)[decoded.codes]
        if self.built_up is not None:
            shares = self._shares(self.built_up, grid, window)
            least = np.full(256, np.inf, np.float32)
            for own_code, share in self.built_up.absorbed:
                least[own_code] = share
            codes[shares > least[decoded.codes]] = self.built_up.code
        return Decoded(codes, decoded.strays)

    def stamp(self) -> list[object]:
        """Return values that change with the labels' files or with the mapping."""
        return [*self.own.stamp(), repr((self.table, self.built_up))]

    def content(self) -> list[str]:
        """Return the content of the own labels."""
        return self.own.content()

    def _shares(self, built_up: BuiltUp, grid: GeoBox, window: Window) -> NDArray[np.float32]:
        """Return (row, col): the built-up share of the labeled pixels in the square around each pixel."""
        half = built_up.around_px // 2
        wide = window.padded(half)
        inside = wide.intersection(Window(0, 0, grid.height_px, grid.width_px))
        if inside is None:
            return np.zeros(window.shape, np.float32)
        codes = self.own.decode(grid, inside).codes
        place = inside.relative_to(wide)
        sums = []
        for mask in (np.isin(codes, built_up.fills), codes != NODATA):
            whole = np.zeros(wide.shape, np.bool_)
            whole[place.rows, place.cols] = mask
            sums.append(_box_counts(whole, built_up.around_px))
        return (sums[0] / np.maximum(sums[1], 1)).astype(np.float32)


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


def reference_codes(pair: Pair, window: Window) -> NDArray[np.uint8]:
    """Return the class codes (row, col) in a window of the scene's grid, decoded from the files; it may reach beyond.

    They are 255 where there is no label, where the scene is not valid, and outside the scene. Raises SceneError if a
    file is damaged or too large a share of its colors or codes is not in the legend.
    """
    check_labels(pair)
    codes = np.full(window.shape, NODATA, np.uint8)
    inside = window.intersection(pair.whole)
    if inside is not None:
        found = pair.decode(inside).codes
        found[~pair.scene.valid(inside)] = NODATA
        place = inside.relative_to(window)
        codes[place.rows, place.cols] = found
    return codes


def check_labels(pair: Pair) -> str | None:
    """Scan all labels of a pair; return a note if some are ignored, raise SceneError if too many are."""
    if pair.labels.tolerance is None:
        return None
    return pair.judge(sum((pair.decode(window).strays for window in pair.strips()), Strays()))


def content_of(scene: Scene) -> str:
    """Return a hex digest of all files behind a raster; for a remote one, of what its server reports. SceneError."""
    names = files_behind(scene.path)
    if any(local_file(name) is None for name in names):
        return scene.fingerprint()
    return digest([file_digest(name) for name in names])


def file_digest(name: str) -> str:
    """Return a hex digest of a file, of the archive that holds it, or of what its server reports. SceneError."""
    file = local_file(name)
    if file is None and "://" not in name and not name.startswith("/vsi"):
        raise SceneError(f"{shown(name)}: no such file; it existed when the data set was opened")
    try:
        return digest(stamps([name])) if file is None else _hashed(file)
    except OSError as error:
        raise SceneError(f"cannot read {shown(name)}: {error.strerror or error}") from None


def _hashed(file: Path) -> str:
    size = file.stat().st_size
    hashed = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        if size <= 3 * _SAMPLE_BYTES:
            hashed.update(opened.read())
        else:
            for start in (0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES):
                opened.seek(start)
                hashed.update(opened.read(_SAMPLE_BYTES))
    return hashed.hexdigest()


def _box_counts(mask: NDArray[np.bool_], edge_px: int) -> NDArray[np.int32]:
    """Return how many pixels of each square are True: (row - edge + 1, col - edge + 1)."""
    down = np.zeros((mask.shape[0] + 1, mask.shape[1]), np.int32)
    np.cumsum(mask, axis=0, dtype=np.int32, out=down[1:])
    rows = down[edge_px:] - down[:-edge_px]
    across = np.zeros((rows.shape[0], rows.shape[1] + 1), np.int32)
    np.cumsum(rows, axis=1, out=across[:, 1:])
    sums: NDArray[np.int32] = across[:, edge_px:] - across[:, :-edge_px]
    return sums
