"""The TIFF directories of a map of any size: block positions, and the memory needed to find them."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from geoseg.legend import LandCover, Legend
from geoseg.raster import GeoBox
from geoseg.raster.landcover import creation_options, labels, tiff
from geoseg.raster.landcover.cog import CogHead

MOST_BYTES = 24
"""Per block: the file has four bytes for its size and eight for its offset; work on a million blocks takes the rest."""


@pytest.fixture
def head(tmp_path: Path) -> CogHead:
    product = labels(Legend((LandCover(0, "all", (1, 2, 3)),)))
    return CogHead.of(product, GeoBox(64, 64, Affine.scale(1, -1)), {}, creation_options({}), tmp_path / "map.tif")


def block_sizes(rows: int, cols: int) -> list[NDArray[np.uint32]]:
    """Return the byte sizes of blocks (row, col) for each level, down to a single block."""
    rng, found = np.random.default_rng(7), []
    while True:
        found.append(rng.integers(9, 3000, (rows, cols), np.uint32))
        if rows == cols == 1:
            return found
        rows, cols = -(-rows // 2), -(-cols // 2)


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (50, 61)])
def test_blocks_stand_one_after_the_other_behind_the_directories(
    head: CogHead, monkeypatch: pytest.MonkeyPatch, bigtiff: str, shape: tuple[int, int]
) -> None:
    """The expected offsets come from walking the file: smallest level first, four bytes before and after each block."""
    monkeypatch.setattr("geoseg.raster.landcover.cog._AT_ONCE", 7)
    sizes = block_sizes(*shape)
    layout = head.laid_out((shape[0] * 512, shape[1] * 512), 512, sizes, bigtiff)
    file = io.BytesIO()
    layout.write_head(file)
    at, expected = len(file.getvalue()), []
    for level in reversed(sizes):
        places = []
        for size in level.ravel().tolist():
            places.append(at + 4)
            at += size + 8
        expected.append(places)
    assert at == layout.total_bytes
    written = tiff.read_tiff(file.getvalue())
    for directory, places, level in zip(written.directories, reversed(expected), sizes, strict=True):
        assert numbers(directory, tiff.TILE_OFFSETS) == places
        assert numbers(directory, tiff.TILE_SIZES) == level.ravel().tolist()


def numbers(directory: tiff.Directory, tag: int) -> Sequence[int]:
    found: list[int] = tiff.integers(directory[tag], "<").tolist()
    return found


class _Nowhere(io.RawIOBase):
    def write(self, content: Any) -> int:
        return len(content)

    def seek(self, *_: int) -> int:
        return 0


def test_a_huge_map_takes_little_memory_for_each_block(head: CogHead) -> None:
    sizes = block_sizes(2500, 2500)
    blocks = sum(level.size for level in sizes)
    before = sum(level.nbytes for level in sizes)
    tracemalloc.start()
    try:
        layout = head.laid_out((2500 * 512, 2500 * 512), 512, sizes, "IF_SAFER")
        layout.write_head(_Nowhere())  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (before + peak) / blocks < MOST_BYTES
