"""The crops that a network gets most wrong, class by class, collected during an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.legend import NODATA, Legend
from geoseg.raster import Patch, Window, natural_colors, tiles

_KEPT = 6
_CROP_PX = 256
_LEAST_SHARE = 0.08
"""Share of a crop: a class with fewer pixels in it is no example of how the class looks."""
_SHOWN_BANDS = 3
_GRAY = 225
"""The gray of pixels that are invalid or have no class."""


class _CropScene(Protocol):
    """A scene that crops are cut from, such as a `PreparedScene`."""

    @property
    def id(self) -> str:
        """Its name."""

    def read(self, window: Window) -> Patch:
        """Read a window."""


@dataclass(frozen=True, slots=True, eq=False)
class WorstCrop:
    """A crop in which many pixels of one class are mapped as another."""

    scene: str
    window: Window
    code: int
    """The class."""
    class_px: int
    """Its pixels in the reference."""
    wrong_px: int
    """Those that the network maps as another class."""
    mostly: int
    """The class that most of the wrong pixels are mapped as."""
    image: NDArray[Any]
    """(band, row, col): the first three bands, or the first alone, as stored."""
    valid: NDArray[np.bool_]
    """(row, col), True = valid."""
    reference: NDArray[np.uint8]
    """(row, col) codes, 255 = none."""
    predicted: NDArray[np.uint8]
    """(row, col) codes."""

    @property
    def share(self) -> float:
        """The share of the class that is wrong in this crop."""
        return self.wrong_px / self.class_px


class WorstCrops:
    """The few worst crops of each class so far; no others are held."""

    def __init__(self, legend: Legend, *, stretch: tuple[float, float] | None = None) -> None:
        """Begin without crops. `stretch`: the darkest and lightest stored value of the imagery, for its pictures."""
        self.legend = legend
        self.stretch = stretch
        self._worst: dict[int, list[WorstCrop]] = {code: [] for code in legend.codes}

    def see(
        self, scene: _CropScene, window: Window, reference: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> None:
        """Examine a window of a scene: codes of the reference, 255 = none, and of the network, each (row, col).

        The window is cut into crops. The image of a crop is read only if it is among the worst.
        """
        for cell in _cells(window.shape):
            reference_crop, predicted_crop = reference[cell.rows, cell.cols], predicted[cell.rows, cell.cols]
            counts = np.bincount(
                reference_crop.ravel().astype(np.intp) * 256 + predicted_crop.ravel(), minlength=256**2
            )
            counts = counts.reshape(256, 256)
            least_px = max(1, round(_LEAST_SHARE * cell.size))
            for code in np.flatnonzero(counts.sum(axis=1) >= least_px).tolist():
                if code in self._worst:
                    place = cell.shifted(window.row, window.col)
                    self._consider(scene, place, code, counts[code], reference_crop, predicted_crop)

    def take(self, crop: WorstCrop) -> None:
        """Keep a crop if it is among the worst of its class; among equals the earlier one wins."""
        kept = self._worst[crop.code]
        kept.append(crop)
        kept.sort(key=_rank, reverse=True)
        del kept[_KEPT:]

    def of(self, code: int) -> tuple[WorstCrop, ...]:
        """Return the crops of a class, the worst first; none if every pixel of it is right."""
        return tuple(self._worst[code])

    def merge(self, other: WorstCrops) -> Self:
        """Return the worst crops of two collections with the same legend; among equals the first one's win."""
        both = type(self)(self.legend, stretch=self.stretch)
        for _, crops in (*self, *other):
            for crop in crops:
                both.take(crop)
        return both

    def __iter__(self) -> Iterator[tuple[int, tuple[WorstCrop, ...]]]:
        """Yield the code and the crops of each class that has any."""
        return ((code, tuple(crops)) for code, crops in self._worst.items() if crops)

    def _consider(  # noqa: PLR0913, PLR0917 - the parts of one crop
        self,
        scene: _CropScene,
        place: Window,
        code: int,
        counts: NDArray[np.int64],
        reference: NDArray[np.uint8],
        predicted: NDArray[np.uint8],
    ) -> None:
        """Keep a crop whose class was given the codes (256,) if it is among the worst."""
        class_px = int(counts.sum())
        wrong = counts.copy()
        wrong[code] = 0
        wrong_px = int(wrong.sum())
        kept = self._worst[code]
        if not wrong_px or (len(kept) == _KEPT and (wrong_px / class_px, wrong_px) <= _rank(kept[-1])):
            return
        patch = scene.read(place)
        bands = _SHOWN_BANDS if len(patch.data) >= _SHOWN_BANDS else 1
        self.take(
            WorstCrop(
                scene.id, place, code, class_px, wrong_px, int(wrong.argmax()),
                patch.data[:bands].copy(), patch.valid.copy(), reference.copy(), predicted.copy(),
            )
        )  # fmt: skip


def _cells(shape: tuple[int, int]) -> list[Window]:
    """Cut a window evenly into crops of at most `_CROP_PX`."""
    height, width = (math.ceil(side / math.ceil(side / _CROP_PX)) for side in shape)
    return tiles(shape[0], shape[1], height, width)


def _rank(crop: WorstCrop) -> tuple[float, int]:
    return crop.share, crop.wrong_px


def paint_codes(codes: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """Return codes (row, col) in the legend's colors (row, col, 3); codes without a class are gray."""
    table = np.full((NODATA + 1, 3), _GRAY, np.uint8)
    for land_cover in legend:
        table[land_cover.code] = land_cover.color
    pixels: NDArray[np.uint8] = table[codes]
    return pixels


def paint_bands(data: NDArray[Any], valid: NDArray[np.bool_], stretch: tuple[float, float]) -> NDArray[np.uint8]:
    """Return imagery (band, row, col) as a picture (row, col, 3): its first three bands, or the first alone as gray.

    `stretch`: the darkest and the lightest stored value. Invalid pixels, (row, col), are gray.
    """
    pixels = natural_colors(data, *stretch).transpose(1, 2, 0)
    pixels[~valid] = _GRAY
    return pixels
