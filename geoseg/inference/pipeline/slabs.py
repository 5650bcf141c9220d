"""Pixels for a device: several readers decode whole blocks of the file, each once, into slabs that come in order.

A slab is the new pixels of a row of windows, whose edges differ from those of blocks. Readers decode into every slab
that a block touches, while GDAL's cache still holds it. Slabs are a ring of buffers: if none is free, nothing is read,
so memory is bounded. The width of a band and the number of slabs and tiles are planned before any thread starts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.inference.pipeline.mailbox import Crew, Mailbox
from geoseg.inference.tile import SceneMapping, mirrored_beyond
from geoseg.model import HELD_SLABS, Course, Slab
from geoseg.profile import READ, Profile
from geoseg.raster import CACHE_BYTES, Patch, Scene, Window

_CHUNK_PX = 1 << 20
_CHUNK_WIDTH_PX = 2048
_TALLEST_BLOCK_PX = 2048
"""A block with more rows than this is decoded several times: a ring that holds all of it would be too large."""
_TALLEST_CHUNK_PX = 512
_CACHE_SHARE = 0.75
"""Share of GDAL's cache for the chunks of all readers: each must still find its own when it reads on."""

HostArray = Callable[[tuple[int, ...], str], NDArray[Any]]
_WIDEST_PX = 65536
_WIDEST_ON_CORES_PX = 8192
"""Widest band that this machine's cores score: 5 % of windows of 512 px then run twice. Wider bands would cost more
memory than the time they save is worth."""
_MEMORY_SHARE = 0.5
"""Share of the free memory that a pipeline may take; the rest is for other programs."""


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """The part of a scene read at once: whole blocks, about a million pixels."""

    rows: int
    cols: int

    @classmethod
    def of(cls, scene: Scene) -> ChunkShape:
        """Return the chunk shape of a scene; for a file stored in strips, chunks are as wide as the scene."""
        height_px, width_px = scene.block_shape
        cols = min(math.ceil(_CHUNK_WIDTH_PX / width_px) * width_px, scene.shape[1])
        if height_px > _TALLEST_BLOCK_PX:
            return cls(_TALLEST_CHUNK_PX, cols)
        blocks = max(1, min(_CHUNK_PX // cols, _TALLEST_CHUNK_PX) // height_px)
        return cls(blocks * height_px, cols)

    def rows_of(self, course: Course) -> list[range]:
        """Return the rows of each row of chunks of a course, aligned to the chunks of the whole scene."""
        stop = course.row_starts[-1] + course.window_px
        return list(_aligned(course.row_starts[0], stop, self.rows))

    def cols_of(self, course: Course) -> list[range]:
        """Return the columns of each chunk of a row."""
        first = course.col_starts[0]
        return list(_aligned(first, first + course.width_px, self.cols))


def ring_size(chunk: ChunkShape, width_px: int, stride_px: int, readers: int) -> int:
    """Return how many slabs a ring needs for every reader to have a chunk at hand and one waiting."""
    ahead = math.ceil(2 * readers / math.ceil(width_px / chunk.cols)) + 1
    return HELD_SLABS + math.ceil(ahead * chunk.rows / stride_px) + 1


def _least_ring(chunk: ChunkShape, stride_px: int) -> int:
    """Return how many slabs a row of chunks may touch: enough if the cores score far slower than they read."""
    return math.ceil(chunk.rows / stride_px) + 1


def slab_bytes(mapping: SceneMapping[Scene], course_width_px: int) -> int:
    """Return the size in bytes of one buffer of a ring."""
    scene = mapping.scene
    masks = 1 if mapping.area is None else 2
    pixel_bytes = len(scene.band_indexes) * np.dtype(scene.dtype).itemsize + masks
    return mapping.grid.window_px * course_width_px * pixel_bytes


def _aligned(first: int, stop: int, step: int) -> Iterator[range]:
    while first < stop:
        end = min((first // step + 1) * step, stop)
        yield range(first, end)
        first = end


@dataclass(frozen=True, slots=True, eq=False)
class _Buffer:
    """The memory of one slab."""

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    label_mask: NDArray[np.bool_] | None


class _Filling:
    """A slab whose pixels are being read."""

    def __init__(self, buffer: _Buffer, fresh: Window, bands: int) -> None:
        self.buffer = buffer
        self.fresh = fresh
        self.data = buffer.data[: bands * fresh.size].reshape(bands, *fresh.shape)
        self.valid = buffer.valid[: fresh.size].reshape(fresh.shape)
        self.label_mask = None if buffer.label_mask is None else buffer.label_mask[: fresh.size].reshape(fresh.shape)
        self.pixels_left = fresh.size
        self._valid_places: list[Window] = []
        """Places that are entirely valid; not written to `valid` until a slab needs it, which few do."""

    def pixels(self, place: Window) -> NDArray[Any]:
        """Return the buffer's view of a place in the scene, (band, row, col)."""
        inside = place.relative_to(self.fresh)
        return self.data[:, inside.rows, inside.cols]

    def mark(self, place: Window, valid: NDArray[np.bool_] | None, label_mask: NDArray[np.bool_] | None) -> bool:
        """Note which pixels of a place are valid (None for all) and which get a label; return whether all are valid."""
        inside = place.relative_to(self.fresh)
        if self.label_mask is not None:
            self.label_mask[inside.rows, inside.cols] = label_mask
        if valid is None or valid.all():
            return True
        self.valid[inside.rows, inside.cols] = valid
        return False

    def land(self, place: Window, *, all_valid: bool) -> None:
        """Note that the pixels of a place have been read."""
        self.pixels_left -= place.size
        if all_valid:
            self._valid_places.append(place)

    def valid_pixels(self) -> NDArray[np.bool_] | None:
        """Return which pixels (row, col) are valid; None if all are."""
        if sum(place.size for place in self._valid_places) == self.fresh.size:
            return None
        for place in self._valid_places:
            inside = place.relative_to(self.fresh)
            self.valid[inside.rows, inside.cols] = True
        return self.valid


class SlabFeed:
    """The slabs of one course after another, for the owner of a device, whose mailbox it uses.

    Everything but the reading itself happens in the owner's thread.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the arguments are distinct
        self,
        mapping: SceneMapping[Scene],
        mail: Mailbox,
        readers: Crew,
        size: int,
        host_array: HostArray,
        profile: Profile,
    ) -> None:
        self._mapping = mapping
        self._chunk = ChunkShape.of(mapping.scene)
        self._mail = mail
        self._readers = readers
        self._size = size
        self._host_array = host_array
        self._profile = profile
        chunk_bytes = self._chunk.rows * self._chunk.cols * mapping.scene.count * np.dtype(mapping.scene.dtype).itemsize
        self._fits_cache = len(readers.threads) * chunk_bytes <= _CACHE_SHARE * CACHE_BYTES
        """Whether blocks are still in GDAL's cache when the second slab that shares them is read."""
        self._ring: list[_Buffer] = []
        self._free: list[_Buffer] = []
        self._being_read = 0
        self.rewind()

    def rewind(self) -> None:
        """Forget the course, finished or not."""
        self._fresh: Iterator[Window] = iter(())
        self._rows: deque[range] = deque()
        self._cols: list[range] = []
        self._filling: deque[_Filling] = deque()
        """Slabs that have a buffer and were not yet given to the owner, in order."""
        self._opened_to = 0
        """The row of the scene up to which slabs have buffers."""

    def begin(self, course: Course) -> None:
        """Start reading the pixels of a course. The previous course must be finished."""
        self.rewind()
        self._fresh = map(course.fresh, range(len(course.row_starts)))
        self._rows.extend(self._chunk.rows_of(course))
        self._cols = self._chunk.cols_of(course)
        self._opened_to = course.row_starts[0]
        self._make_room(course)
        self._request_chunks()

    def next(self, wait_for: Callable[[Callable[[], bool]], float]) -> Slab:
        """Wait until the next slab is read, and return it."""
        self._request_chunks()
        wait_for(lambda: bool(self._filling) and not self._filling[0].pixels_left)
        filled = self._filling.popleft()
        valid = filled.valid_pixels()
        if valid is not None:  # pixels beyond the scene are invalid
            patch = Patch(filled.data, valid)
            mirrored = mirrored_beyond(self._mapping.grid, patch)
            if mirrored is not patch:
                filled.data[...], valid[...] = mirrored.data, mirrored.valid
        return Slab(
            filled.data, valid, filled.label_mask, partial(self._mail.ask, partial(self._released, filled.buffer))
        )

    def give_up(self) -> None:
        """Abandon the course, and its buffers, which a device may still be reading from."""
        self._mail.wait_for(lambda: not self._being_read)
        self.rewind()
        self._ring, self._free = [], []

    def _make_room(self, course: Course) -> None:
        """Allocate buffers as large as the course needs."""
        bands = len(self._mapping.scene.band_indexes)
        pixels = course.window_px * course.width_px
        if self._ring and self._ring[0].valid.size >= pixels:
            return
        self._ring, self._free = [], []
        for _ in range(self._size):
            data = self._host_array((bands * pixels,), self._mapping.scene.dtype)
            label_mask = None if self._mapping.area is None else np.empty(pixels, np.bool_)
            self._ring.append(_Buffer(data, self._host_array((pixels,), "bool"), label_mask))
        self._free.extend(self._ring)

    def _released(self, buffer: _Buffer) -> None:
        if buffer in self._ring:
            self._free.append(buffer)
            self._request_chunks()

    def _request_chunks(self) -> None:
        """Request as many rows of chunks from the readers as there are buffers for."""
        while self._rows and self._open(self._rows[0].stop):
            rows = self._rows.popleft()
            for cols in self._cols:
                self._being_read += 1
                window = Window(rows.start, cols.start, len(rows), len(cols))
                shared = ((filling, window.intersection(filling.fresh)) for filling in self._filling)
                parts = [(filling, place) for filling, place in shared if place is not None]
                self._readers.ask(partial(self._read, window, parts))

    def _open(self, stop: int) -> bool:
        """Assign buffers to all slabs down to a row; return whether there were enough."""
        while self._opened_to < stop:
            if not self._free:
                return False
            fresh = next(self._fresh)
            self._filling.append(_Filling(self._free.pop(), fresh, len(self._mapping.scene.band_indexes)))
            self._opened_to = fresh.row_stop
        return True

    def _read(self, window: Window, parts: list[tuple[_Filling, Window]]) -> None:
        """Read a chunk into its slabs; runs in a reader."""
        with self._profile.timed(READ):
            masks = self._read_into(window, [(place, filling.pixels(place)) for filling, place in parts])
            all_valid = [
                filling.mark(place, valid, self._label_mask(place, valid))
                for (filling, place), valid in zip(parts, masks, strict=True)
            ]
        self._mail.ask(partial(self._was_read, parts, all_valid))

    def _label_mask(self, place: Window, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Return which pixels of a place get a label; None if all valid ones do."""
        if self._mapping.area is None:
            return None
        return self._mapping.label_mask(place, np.ones(place.shape, np.bool_) if valid is None else valid)

    def _read_into(self, window: Window, parts: list[tuple[Window, NDArray[Any]]]) -> list[NDArray[np.bool_] | None]:
        """Read the parts of a chunk, and return the valid pixels of each; None if all are valid.

        If no window there shares a pixel with the mapped area, nothing is read, and no pixel is valid.
        """
        area, scene = self._mapping.area, self._mapping.scene
        if area is not None and not area.may_touch(window.padded(self._mapping.grid.window_px)):
            for _, pixels in parts:
                pixels[...] = 0
            return [np.zeros(place.shape, np.bool_) for place, _ in parts]
        if self._fits_cache:
            return scene.read_into(parts)
        chunk = scene.read(window)
        parts_in_chunk = [(place.relative_to(window), pixels) for place, pixels in parts]
        for source, pixels in parts_in_chunk:
            pixels[...] = chunk.data[:, source.rows, source.cols]
        return [chunk.valid[source.rows, source.cols] for source, _ in parts_in_chunk]

    def _was_read(self, parts: list[tuple[_Filling, Window]], all_valid: list[bool]) -> None:
        self._being_read -= 1
        for (filling, place), is_valid in zip(parts, all_valid, strict=True):
            filling.land(place, all_valid=is_valid)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one device's part of a pipeline holds in memory."""

    cols: int
    """Width of a band in tiles."""
    ring: int
    """Number of slabs."""
    tiles: int
    """Most tiles started and not yet written."""
    memory_bytes: int
    """Memory of the slabs and tiles, and for writing tiles."""

    @classmethod
    def of(
        cls, mapping: SceneMapping[Scene], tile: tuple[int, int], *, workers: int, devices: int, free_bytes: int
    ) -> Self:
        """Return the widest bands whose slabs and tiles fit in memory, since windows on their borders run twice.

        If `devices` is 0, this machine's cores score.
        """
        most = max(1, (_WIDEST_PX if devices else _WIDEST_ON_CORES_PX) // tile[1])
        most = min(most, math.ceil(mapping.grid.width_px / tile[1]))
        for cols in range(most, 0, -1):
            capacity = cls._with(mapping, tile, cols, workers, fed=devices > 0)
            if max(1, devices) * capacity.memory_bytes <= _MEMORY_SHARE * free_bytes:
                break
        return capacity

    @classmethod
    def _with(cls, mapping: SceneMapping[Scene], tile: tuple[int, int], cols: int, workers: int, *, fed: bool) -> Self:
        grid, scene = mapping.grid, mapping.scene
        width_px = grid.span_px(cols * tile[1])
        chunk, stride_px = ChunkShape.of(scene), grid.stride_px
        ring = ring_size(chunk, width_px, stride_px, workers) if fed else _least_ring(chunk, stride_px)
        tiles = max(2 * cols, cols + workers)
        # while a tile is written, its overviews and encoded bytes are in memory too
        held = mapping.product_bands * tile[0] * min(tile[1], grid.width_px) * (tiles + workers)
        return cls(cols, ring, tiles, ring * slab_bytes(mapping, width_px) + held)
