"""Windows and tiles as plain integers: no raster, no CRS, no pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

from geoseg.errors import UsageError
from geoseg.typed import checked, integer

if TYPE_CHECKING:
    import rasterio.windows

_WHOLE = 1e-6
"""Tolerance in pixels: edges that rasterio computes from coordinates are whole except for rounding."""
_SAMPLES_A_SIDE = 8
_SAMPLE_PX = 64
"""A raster is sampled in this many blocks per side, each thinned to about this many pixels per side."""
_SCAN_PX, _LARGEST_PX = 2048, 16 * 1024**2
"""Edge of a tile in which a raster is scanned, and pixels of the largest block that is read as a whole."""
TILE_WIDTH_PX = 4096
"""Rows of a tile are held in float32 for every class, so its width determines memory."""
TILE_HEIGHT_PX = 4096
"""A tile's height adds only its result to memory, but a kill loses the tiles in progress."""
_WIDEST_PX = 32768
"""Files in strips are read in full-width tiles up to this width; beyond it, each strip is decoded more than once."""
BLOCKS_PX = (4096, 2048, 1024, 512)
"""Pixels of the map that a block covers on the fourth, third, second and first level, with the default creation
options."""
_ALIKE = 1.05
"""Limit on the ratio of a tile's edge to an even share when there are few tiles."""
_ROUNDS = 4
"""With fewer tiles per worker, one worker's last tile would leave the others idle for long."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels; rows before columns.

    Integers only, unlike rasterio's: a window never cuts a pixel.

    Raises
    ------
    UsageError
        If height or width is not positive, or a number is not whole.

    Examples
    --------
    >>> geoseg.Window(row=0, col=512, height=256, width=256).intersection(geoseg.Window(100, 600, 512, 512))
    Window(row=100, col=600, height=156, width=168)
    """

    row: int
    """First row; negative if the window starts above the raster."""
    col: int
    """First column; negative if the window starts left of the raster."""
    height: int
    width: int

    def __post_init__(self) -> None:
        for name in ("row", "col", "height", "width"):
            if type(getattr(self, name)) is not int:
                object.__setattr__(self, name, integer(name, getattr(self, name)))
        if self.height <= 0 or self.width <= 0:
            raise UsageError(f"window height and width must be positive, got {self.height} x {self.width}")

    @property
    def row_stop(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The column after the last."""
        return self.col + self.width

    @property
    def rows(self) -> slice:
        """Rows as a slice, for windows inside the raster."""
        return slice(self.row, self.row_stop)

    @property
    def cols(self) -> slice:
        """Columns as a slice, for windows inside the raster."""
        return slice(self.col, self.col_stop)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @classmethod
    @checked
    def from_rasterio(cls, window: rasterio.windows.Window) -> Window:
        """Convert a rasterio window; UsageError if it cuts a pixel."""
        edges = window.row_off, window.col_off, window.height, window.width
        whole = [round(edge) for edge in edges]
        if any(abs(edge - near) > _WHOLE for edge, near in zip(edges, whole, strict=True)):
            raise UsageError(
                f"a window must hold whole pixels, got {window}; give window.round_offsets().round_lengths()", "window"
            )
        return cls(*whole)

    def to_rasterio(self) -> rasterio.windows.Window:
        """Return a rasterio window."""
        from rasterio.windows import Window as RasterioWindow  # noqa: PLC0415 - windows need no GDAL

        return RasterioWindow(self.col, self.row, self.width, self.height)

    @checked
    def intersection(self, other: Window) -> Window | None:
        """Return the pixels in both windows, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.row_stop, other.row_stop) - row
        width = min(self.col_stop, other.col_stop) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    @checked
    def relative_to(self, other: Window) -> Window:
        """Return the same pixels, counted from the first pixel of `other`."""
        return self.shifted(-other.row, -other.col)

    def shifted(self, rows: int, cols: int) -> Window:
        """Return the window moved down by `rows` and right by `cols`."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def padded(self, margin_px: int) -> Window:
        """Return the window with a margin on all sides."""
        return Window(
            self.row - margin_px, self.col - margin_px, self.height + 2 * margin_px, self.width + 2 * margin_px
        )

    def tiles(self, height_px: int, width_px: int) -> list[Window]:
        """Cut the window into tiles, row by row; the last of each row and column may be smaller."""
        return [tile.shifted(self.row, self.col) for tile in Tiling(*self.shape, height_px, width_px)]


def axis_starts(length_px: int, window_px: int, stride_px: int) -> tuple[int, ...]:
    """Return the first pixel of each window along one axis.

    Windows start at 0 and step by the stride; the last is pushed inward so that it ends with the axis. 110 pixels,
    window 64, stride 32 give 0, 32, 46. An axis shorter than a window has one window, which extends beyond its end.
    """
    last = max(length_px - window_px, 0)
    return (*range(0, last, stride_px), last)


@dataclass(frozen=True)
class WindowGrid:
    """The windows a network sees: anchored at the scene's origin, independent of the tiles.

    Raises UsageError unless 0 <= overlap_px < window_px and all lengths are positive.
    """

    height_px: int
    width_px: int
    window_px: int
    overlap_px: int

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px, self.window_px) <= 0:
            raise UsageError(
                f"a grid needs positive sizes, got {self.height_px} x {self.width_px} and windows of {self.window_px}"
            )
        if not 0 <= self.overlap_px < self.window_px:
            raise UsageError(
                f"`overlap` must be at least 0 and less than the window {self.window_px}, got {self.overlap_px}",
                "overlap",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the scene."""
        return self.height_px, self.width_px

    @property
    def stride_px(self) -> int:
        """Pixels from the start of one window to the next."""
        return self.window_px - self.overlap_px

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        """First row of each row of windows."""
        return axis_starts(self.height_px, self.window_px, self.stride_px)

    @cached_property
    def col_starts(self) -> tuple[int, ...]:
        """First column of each column of windows."""
        return axis_starts(self.width_px, self.window_px, self.stride_px)

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.col_starts)

    def span_px(self, width_px: int) -> int:
        """Return the most columns that the windows span which touch `width_px` columns of the scene."""
        return min(width_px + 2 * self.window_px, max(self.width_px, self.window_px))

    @property
    def pending_px(self) -> int:
        """The most rows that the windows above and below any row of windows share with it.

        It may be more than twice the overlap, since the last row of windows is pushed inward.
        """
        last = self.row_starts[-4:]
        shared = [0, *(start + self.window_px - below for start, below in itertools.pairwise(last)), 0]
        return max(map(sum, itertools.pairwise(shared)))

    def window(self, row: int, col: int) -> Window:
        """Return a window by its indexes into row_starts and col_starts."""
        return Window(self.row_starts[row], self.col_starts[col], self.window_px, self.window_px)

    def rows_touching(self, tile: Window) -> tuple[int, ...]:
        """Return the indexes into row_starts of the windows that overlap the tile's rows."""
        return _touching(self.row_starts, self.window_px, tile.row, tile.row_stop)

    def cols_touching(self, tile: Window) -> tuple[int, ...]:
        """Return the indexes into col_starts of the windows that overlap the tile's columns."""
        return _touching(self.col_starts, self.window_px, tile.col, tile.col_stop)

    def windows_touching(self, tile: Window) -> list[Window]:
        """Return every window that shares a pixel with the tile, row by row."""
        return [self.window(row, col) for row in self.rows_touching(tile) for col in self.cols_touching(tile)]


def _touching(starts: tuple[int, ...], window_px: int, first: int, stop: int) -> tuple[int, ...]:
    return tuple(i for i, start in enumerate(starts) if start < stop and start + window_px > first)


@dataclass(frozen=True, slots=True)
class Tiling(Sequence[Window]):
    """A raster cut into tiles, row by row; the last of each row and column may be smaller.

    Tiles are created on access: a map may have millions.
    """

    height_px: int
    width_px: int
    tile_height_px: int
    tile_width_px: int

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return math.ceil(self.height_px / self.tile_height_px)

    @property
    def cols(self) -> int:
        """Number of columns of tiles."""
        return math.ceil(self.width_px / self.tile_width_px)

    def __len__(self) -> int:
        return self.rows * self.cols

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        """Return a tile by its index, or a list of tiles by a slice."""
        places = range(len(self))[index]
        return self._tile(places) if isinstance(places, int) else [self._tile(place) for place in places]

    def _tile(self, index: int) -> Window:
        row = index // self.cols * self.tile_height_px
        col = index % self.cols * self.tile_width_px
        height_px, width_px = self.height_px - row, self.width_px - col
        return Window(row, col, min(self.tile_height_px, height_px), min(self.tile_width_px, width_px))


def tiles(height_px: int, width_px: int, tile_height_px: int, tile_width_px: int) -> list[Window]:
    """Cut a scene into tiles, row by row; the last of each row and column may be smaller."""
    return list(Tiling(height_px, width_px, tile_height_px, tile_width_px))


def block_tiles(shape: tuple[int, int], block_shape: tuple[int, int]) -> Tiling:
    """Cut a raster into tiles of about 2048 x 2048 pixels that decode each of its blocks once.

    They are whole blocks; strips as wide as the raster are read in parts, from the top: GDAL keeps the latest. Other
    blocks of more than 16 Mpx are cut into squares, and are decoded again where GDAL's cache does not hold them.
    """
    rows, cols = block_shape
    if cols >= shape[1]:
        return Tiling(*shape, max(1, _SCAN_PX**2 // shape[1]), shape[1])
    if rows * cols > _LARGEST_PX:
        return Tiling(*shape, _SCAN_PX, _SCAN_PX)
    cols *= max(1, min(_SCAN_PX, _SCAN_PX**2 // rows) // cols)
    return Tiling(*shape, max(1, _SCAN_PX**2 // cols // rows) * rows, cols)


def strip_rows(width: int, block_shape: tuple[int, int], target_px: int, most_px: int) -> int:
    """Return the rows of full-width strips of about `target_px` pixels for a raster that is read once, from the top.

    They are whole rows of blocks if these have at most `most_px`. Otherwise strips are as high as that allows, since
    each decodes the whole row; a block as wide as the raster is decoded once anyway, because GDAL keeps the latest.
    """
    rows, block = max(1, target_px // width), block_shape[0]
    if block * width <= most_px:
        return max(1, rows // block) * block
    return rows if block_shape[1] >= width else max(1, most_px // width)


def choose_tile(grid: WindowGrid, block_width_px: int, workers: int, align_px: int) -> tuple[int, int]:
    """Return the height and width of the tiles.

    They are multiples of `align_px` (overviews are made tile by tile). If there are many tiles, they start on blocks of
    the map, which are then compressed only once; if there are few, they are about equal, so that no worker waits for
    long. A file stored in full-width strips is read in full-width tiles.
    """
    height_px, width_px = grid.height_px, grid.width_px
    striped = block_width_px >= width_px
    cols = math.ceil(width_px / (_WIDEST_PX if striped else TILE_WIDTH_PX))
    width = width_px if cols == 1 else _on_blocks(math.ceil(width_px / cols) if striped else TILE_WIDTH_PX)
    height = _on_blocks(_tallest_px(grid, width))
    if math.ceil(height_px / height) * math.ceil(width_px / width) >= _ROUNDS * workers:
        return round_tile(min(height, height_px), align_px), round_tile(width, align_px)
    rows = math.ceil(height_px / _tallest_px(grid, math.ceil(width_px / cols)))
    most_rows = max(rows, height_px // (2 * grid.window_px))
    while cols * rows < _ROUNDS * workers and (cols * rows) % workers and rows < most_rows:
        rows += 1
    return _alike(height_px, rows, align_px), _alike(width_px, cols, align_px)


def _tallest_px(grid: WindowGrid, tile_width_px: int) -> int:
    return max(TILE_HEIGHT_PX * TILE_WIDTH_PX // tile_width_px, 4 * grid.window_px)


def _on_blocks(most_px: int) -> int:
    """Return the longest edge up to `most_px` that is a multiple of the blocks of as many levels as fit in it."""
    step_px = next((step_px for step_px in BLOCKS_PX if step_px <= most_px), 1)
    return most_px // step_px * step_px


def _alike(length_px: int, count: int, align_px: int) -> int:
    """Return the edge of `count` tiles along an axis: a multiple of blocks if tiles remain about equal."""
    shortest_px = math.ceil(length_px / count)
    if count > 1:
        for step_px in BLOCKS_PX:
            edge_px = round_tile(shortest_px, max(step_px, align_px))
            if edge_px <= _ALIKE * shortest_px and math.ceil(length_px / edge_px) == count:
                return edge_px
    return round_tile(shortest_px, align_px)


def round_tile(tile_px: int, align_px: int) -> int:
    """Return the edge of a tile, rounded up so that overviews can be made tile by tile."""
    return math.ceil(tile_px / align_px) * align_px


def repeated_windows(length_px: int, window_px: int, stride_px: int, tile_px: int) -> int:
    """Return the number of window rows (or columns) run along one axis; those that touch two tiles count twice."""
    starts = axis_starts(length_px, window_px, stride_px)
    return sum((min(start + window_px, length_px) - 1) // tile_px - start // tile_px + 1 for start in starts)


def sample_windows(shape: tuple[int, int], block_shape: tuple[int, int]) -> Iterator[tuple[Window, int]]:
    """Yield up to 64 stored blocks spread over a raster, each with the step that thins it to about 64 x 64 pixels.

    Of a huge block only the rows that remain are yielded. It is for files without overviews, where a decimated read
    would decode every block.
    """
    for row in _spread(shape[0], block_shape[0]):
        for col in _spread(shape[1], block_shape[1]):
            height, width = min(block_shape[0], shape[0] - row), min(block_shape[1], shape[1] - col)
            step = max(1, round((height * width / _SAMPLE_PX**2) ** 0.5))
            if height * width <= _LARGEST_PX:
                yield Window(row, col, height, width), step
            else:
                yield from ((Window(taken, col, 1, width), step) for taken in range(row, row + height, step))


def _spread(length_px: int, block_px: int) -> list[int]:
    blocks = -(-length_px // block_px)
    samples = min(blocks, _SAMPLES_A_SIDE if block_px > 1 else _SAMPLES_A_SIDE**2)
    return [round((step + 0.5) * blocks / samples - 0.5) * block_px for step in range(samples)]
