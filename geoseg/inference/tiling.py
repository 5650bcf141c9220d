"""The size of the tiles: labels do not depend on it, so memory, file layout and the number of workers decide."""

from __future__ import annotations

import math

from geoseg.raster import WindowGrid, axis_starts

TILE_WIDTH_PX = 4096
"""A tile's rows are held in float32 for every class, so its width is what costs memory."""
TILE_HEIGHT_PX = 4096
"""A tile's height costs its result only, but a kill loses the tiles in work."""
_WIDEST_PX = 32768
"""A striped file is read in tiles as wide as itself up to here; beyond, each strip is decoded more than once."""
_ROUNDS = 4
"""With fewer tiles a worker than this, one worker's last tile would leave the others idle for long."""


def choose_tile(grid: WindowGrid, block_width_px: int, workers: int, align_px: int) -> tuple[int, int]:
    """Return the height and width of the tiles.

    All tiles are about alike, a multiple of `align_px` (overviews are made tile by tile); a file stored in full-width
    strips is read in full-width tiles; there is work for every worker where the scene is tall enough.
    """
    height_px, width_px = grid.height_px, grid.width_px
    striped = block_width_px >= width_px
    cols = math.ceil(width_px / (_WIDEST_PX if striped else TILE_WIDTH_PX))
    tallest_px = max(TILE_HEIGHT_PX * TILE_WIDTH_PX // math.ceil(width_px / cols), 4 * grid.window_px)
    rows = math.ceil(height_px / tallest_px)
    most_rows = max(rows, height_px // (2 * grid.window_px))
    while cols * rows < _ROUNDS * workers and (cols * rows) % workers and rows < most_rows:
        rows += 1
    return _even(height_px, rows, align_px), _even(width_px, cols, align_px)


def round_tile(tile_px: int, align_px: int) -> int:
    """Return the tile edge a user asked for, rounded up to what overviews made tile by tile need."""
    return math.ceil(tile_px / align_px) * align_px


def repeated_windows(length_px: int, window_px: int, stride_px: int, tile_px: int) -> int:
    """Return how many window rows (or columns) are run along one axis, those that touch two tiles counted twice."""
    starts = axis_starts(length_px, window_px, stride_px)
    return sum((min(start + window_px, length_px) - 1) // tile_px - start // tile_px + 1 for start in starts)


def _even(length_px: int, count: int, align_px: int) -> int:
    return math.ceil(length_px / count / align_px) * align_px
