"""Which codes label rasters hold that do not name their classes, and whether 255 is one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geoseg.counts import codes_in
from geoseg.dataset.found import each
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.raster import Scene, sample_windows, shown, tiles, whole_numbers

_SCAN_PX = 2048
_MOST_CODES = 1000
_SAMPLED = 8
"""Rasters in which 255 is looked for, where their names say which codes are classes."""


def classes_in(rasters: Sequence[Scene]) -> frozenset[int]:
    """Return all codes of rasters that name none of them; all of each is read. SceneError if they hold no classes.

    By habit 255 is no label even where no file declares it nodata. It is a class where else only one would be left, as
    of a mask of 0 and 255, and among codes that do not fit a byte anyway.
    """
    files = list({raster.path: raster for raster in rasters}.values())  # one may hold the labels of many scenes
    found = frozenset(code for codes in each(_codes_in, files) for code in codes)
    others = found - {NODATA}
    if not others:
        raise SceneError(f"{shown(rasters[0].path)} holds no label but 255, which stands for none; look at the labels")
    is_class = len(others) == 1 or not all(0 <= code < NODATA for code in others)
    return found if is_class else others


def undeclared_note(rasters: Sequence[Scene], recodings: Sequence[Mapping[int, int]]) -> str | None:
    """Return a line where a raster holds 255, its file does not declare that nodata, and no class has that code.

    Of a few of the rasters a part is looked at.
    """
    unnamed = [raster for raster, codes in zip(rasters, recodings, strict=True) if NODATA not in codes]
    found = next((raster for raster in unnamed[:: max(1, len(unnamed) // _SAMPLED)] if _holds_nodata(raster)), None)
    if found is None:
        return None
    return (
        f"{shown(found.path)} holds 255 and does not declare it nodata: these pixels count as without label; if they "
        "are a class, give it a code from 0 to 254"
    )


def _codes_in(raster: Scene) -> frozenset[int]:
    found: set[int] = set()
    for window in tiles(*raster.shape, _SCAN_PX, _SCAN_PX):
        patch = whole_numbers(raster.read(window), shown(raster.path))
        found.update(codes_in(patch.data[0], patch.valid).tolist())
        if len(found) > _MOST_CODES:
            raise SceneError(f"{shown(raster.path)} holds more than {_MOST_CODES} values; a map of classes has few")
    if not found:
        raise SceneError(f"{shown(raster.path)} holds no label: all of it is nodata")
    return frozenset(found)


def _holds_nodata(raster: Scene) -> bool:
    if raster.nodata == NODATA or raster.dtype == "int8":
        return False
    patches = (raster.read(window) for window, _ in sample_windows(raster.shape, raster.block_shape))
    return any(bool(((patch.data[0] == NODATA) & patch.valid).any()) for patch in patches)
