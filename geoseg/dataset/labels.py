"""The protocol of all labels, a single label for a whole image, and labels mapped to another legend."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import GeoBox, Scene, Strays, Window, digest, files_behind, local_file, shown, stamps

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
class WholeLabel:
    """One class for every pixel of an image, as its folder or a table says."""

    path: str
    """The image."""
    code: int

    files: ClassVar[list[str]] = []
    """Empty: no file holds the label."""
    tolerance: ClassVar[None] = None
    """There are no strays."""

    @property
    def meaning(self) -> object:
        """The code."""
        return self.code

    def decode(self, _grid: GeoBox, window: Window) -> Decoded:
        """Return the code everywhere in a window."""
        return Decoded(np.full(window.shape, self.code, np.uint8), Strays(0, window.size))

    def stamp(self) -> list[object]:
        """Return the code."""
        return [repr(self.meaning)]

    def content(self) -> list[str]:
        """Return nothing: the code says it all."""
        return []


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
