"""What labels of every kind answer, one label for an image as a whole, and labels read as those of another legend."""

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
"""Of a file larger than three times this, its first, middle and last bytes stand for all."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The labels of a window."""

    codes: NDArray[np.uint8]
    """(row, col); 255 where there is no label, strays among them."""
    strays: Strays
    """How many pixels hold what the legend does not know."""


class Labels(Protocol):
    """Labels of any kind. They hold paths and no pixels, so they travel to other processes."""

    @property
    def path(self) -> str:
        """The file that holds them, or lies where they say; of a GeoDataFrame how messages call it."""
        ...

    @property
    def files(self) -> list[str]:
        """The files that hold them; none where folders say what they are."""
        ...

    @property
    def tolerance(self) -> float | None:
        """Share of stray pixels that is ignored instead of refused; None where no pixel can be one."""
        ...

    @property
    def meaning(self) -> object:
        """What tells two readings of the same files apart."""
        ...

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the legend's codes in a window of a scene's grid. SceneError where a file is damaged."""
        ...

    def stamp(self) -> list[object]:
        """Return what changes whenever the files may have: names, sizes, times."""
        ...

    def content(self) -> list[str]:
        """Return what changes with the bytes of the files, wherever they lie. SceneError where they are gone."""
        ...


@dataclass(frozen=True, slots=True)
class WholeLabel:
    """Every pixel of an image has one class: that of the folder it lies in."""

    path: str
    """The image."""
    code: int

    files: ClassVar[list[str]] = []
    """None: the folder says it."""
    tolerance: ClassVar[None] = None
    """No pixel is a stray."""

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
        """Return nothing: the meaning says all."""
        return []


@dataclass(frozen=True, slots=True)
class BuiltUp:
    """What turns single buildings and roads into the blocks that they stand in.

    A pixel is of the class `code` where the classes `fills` have more than a share of the labeled pixels of a square
    around it: the share that its own class has in `absorbed`. Other classes stay as they are.
    """

    fills: tuple[int, ...]
    """Codes of the labels' own legend."""
    code: int
    """Of the target's legend."""
    around_px: int
    """Edge of the square, odd."""
    absorbed: tuple[tuple[int, float], ...]
    """(code of the labels' own legend, share), ascending by code."""


@dataclass(frozen=True, slots=True)
class MappedLabels:
    """Labels, and which code of another legend, the target, each of theirs becomes."""

    own: Labels
    table: bytes
    """256 codes of the target: classes, sets of classes, or 255."""
    built_up: BuiltUp | None = None

    @property
    def path(self) -> str:
        """That of the labels."""
        return self.own.path

    @property
    def files(self) -> list[str]:
        """Those of the labels."""
        return self.own.files

    @property
    def tolerance(self) -> float | None:
        """That of the labels."""
        return self.own.tolerance

    @property
    def meaning(self) -> object:
        """What the labels mean, and what becomes of it."""
        return self.own.meaning, self.table, self.built_up

    def decode(self, grid: GeoBox, window: Window) -> Decoded:
        """Return the target's codes in a window inside the scene. SceneError as the labels' own."""
        found = self.own.decode(grid, window)
        codes = np.frombuffer(self.table, np.uint8)[found.codes]
        if self.built_up is not None:
            shares = self._shares(self.built_up, grid, window)
            least = np.full(256, np.inf, np.float32)
            for own, share in self.built_up.absorbed:
                least[own] = share
            codes[shares > least[found.codes]] = self.built_up.code
        return Decoded(codes, found.strays)

    def stamp(self) -> list[object]:
        """Return what changes with the labels' files, or with what becomes of them."""
        return [*self.own.stamp(), repr((self.table, self.built_up))]

    def content(self) -> list[str]:
        """Return that of the labels."""
        return self.own.content()

    def _shares(self, built_up: BuiltUp, grid: GeoBox, window: Window) -> NDArray[np.float32]:
        """Return (row, col) how much of the labeled pixels in the square around each is built."""
        half = built_up.around_px // 2
        wide = window.padded(half)
        inside = wide.intersection(Window(0, 0, grid.height_px, grid.width_px))
        if inside is None:
            return np.zeros(window.shape, np.float32)
        codes = self.own.decode(grid, inside).codes
        place = inside.relative_to(wide)
        sums = []
        for there in (np.isin(codes, built_up.fills), codes != NODATA):
            whole = np.zeros(wide.shape, np.bool_)
            whole[place.rows, place.cols] = there
            sums.append(_boxes(whole, built_up.around_px))
        return (sums[0] / np.maximum(sums[1], 1)).astype(np.float32)


def content_of(scene: Scene) -> str:
    """Return hex of the bytes of all files behind a raster; of one on a server what that says of it. SceneError."""
    names = files_behind(scene.path)
    if any(local_file(name) is None for name in names):
        return scene.fingerprint()
    return digest([file_digest(name) for name in names])


def file_digest(name: str) -> str:
    """Return hex of a file's bytes, of an archive's that it is in, or of what its server says. SceneError."""
    file = local_file(name)
    if file is None and "://" not in name and not name.startswith("/vsi"):
        raise SceneError(f"{shown(name)}: no such file; it was there when the data set was opened")
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


def _boxes(there: NDArray[np.bool_], edge_px: int) -> NDArray[np.int32]:
    """Return how many pixels of each square are there: (row - edge + 1, col - edge + 1)."""
    down = np.zeros((there.shape[0] + 1, there.shape[1]), np.int32)
    np.cumsum(there, axis=0, dtype=np.int32, out=down[1:])
    rows = down[edge_px:] - down[:-edge_px]
    across = np.zeros((rows.shape[0], rows.shape[1] + 1), np.int32)
    np.cumsum(rows, axis=1, out=across[:, 1:])
    sums: NDArray[np.int32] = across[:, edge_px:] - across[:, :-edge_px]
    return sums
