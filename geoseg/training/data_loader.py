"""Crops of the training scenes in batches, read ahead so that the network never waits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from geoseg.dataset import Crop, CropSampler, CropSource, Member, PreparedScene, square_around
from geoseg.errors import SceneError
from geoseg.legend import NODATA
from geoseg.prefetch import prefetch_map
from geoseg.raster import Patch, Window
from geoseg.training.plan import TrainingPlan

_THREADS = 2
_AHEAD = 4
"""Batches ready or being read: more would only take memory, since reading is faster than learning."""
_CUT = 0.25
"""Images side by side divide a crop anywhere except in its outer quarters."""


class CropBatch(NamedTuple):
    """Crops in their stored dtype."""

    image: torch.Tensor
    """(n, band, row, col)"""
    valid: torch.Tensor
    """(n, row, col) bool"""
    codes: torch.Tensor
    """(n, row, col) uint8, 255 = ignore"""
    places: tuple[str, ...]
    """(n,) scene and window of each, for messages."""
    number: int
    """Counted from the first batch of the training."""


class CropLoader:
    """The batches first .. stop - 1 of a training; each depends only on the seed and its number.

    So a resumed run sees the same batches, and each of several devices (`rank`) sees its own. Crops are read with a
    margin on all sides.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a batch
        self, plan: TrainingPlan, source: CropSource, margin_px: int, first: int, stop: int, rank: int = 0
    ) -> None:
        self._plan = plan
        self._source = source
        self._margin_px = margin_px
        self._numbers = range(first, stop)
        self._rank = rank
        self.waited_s = 0.0
        """Seconds that the loop waited for batches."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[CropBatch]:
        """Yield the batches in order, a few read ahead in threads: copying from a mapped file does not hold the GIL."""
        batches = prefetch_map(self.draw, self._numbers, _THREADS, _AHEAD)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def draw(self, number: int) -> CropBatch:
        """Return one batch. Raises SceneError if a scene's cache is gone."""
        draw = np.random.default_rng([self._plan.recipe.seed, self._rank, number])
        crops = [self._source.take(draw, self._margin_px) for _ in range(self._plan.batch_size)]
        image, valid, codes = (torch.from_numpy(np.stack([crop[part] for crop in crops])) for part in range(3))
        return CropBatch(image, valid, codes, tuple(crop.place for crop in crops), number)


def crops_of(plan: TrainingPlan) -> CropSource:
    """Return the source of a training's crops. Raises SceneError if no pixel can be learned from."""
    recipe = plan.recipe
    codes = {*plan.output_codes, *(code for code, _ in plan.sets)}
    if not plan.members:
        return CropSampler(plan.train, recipe.crop_px, recipe.rare, codes, alike=plan.output_codes)
    sources = []
    for member in plan.members:
        scenes = [scene for scene in plan.train if member.has(scene.id)]
        if scenes:
            by_id = dict(member.weights)
            weights = [by_id.get(scene.id, 1.0) for scene in scenes] if by_id else None
            rare = 0.0 if by_id else recipe.rare
            try:
                sampler = CropSampler(scenes, recipe.crop_px, rare, codes, weights, plan.output_codes)
            except SceneError:
                raise SceneError(
                    f"data set {member.name} has no training pixel with a class to learn; check its labels, split and "
                    "weights, or leave it out",
                    "data",
                ) from None
            sources.append(_MemberSource(member, sampler, plan.gsd_m or 1.0))
    return MixedCrops(sources, recipe.crop_px)


@dataclass(frozen=True, slots=True)
class _MemberSource:
    """A data set of a mixture, and the sampler of its crops."""

    member: Member
    sampler: CropSampler
    usual_m: float
    """Pixel size if the member gives none."""

    def draw_size_m(self, generator: np.random.Generator) -> float:
        """Return a pixel size from the range, uniform on a logarithmic scale."""
        finest, coarsest = self.member.shown_m or (self.usual_m, self.usual_m)
        return float(finest * (coarsest / finest) ** generator.random())

    def draw_pixel(self, size_m: float, generator: np.random.Generator) -> tuple[PreparedScene, int, int, float]:
        """Return a scene, the row and column of a labeled pixel in it, and how many of its pixels are `size_m` long."""
        place, row, col = self.sampler.pixel(generator)
        scene = self.sampler.scenes[place]
        return scene, row, col, size_m / (scene.gsd_m or size_m)


class MixedCrops:
    """Crops of several data sets, in proportion to their shares, at pixel sizes from their ranges."""

    def __init__(self, sources: Sequence[_MemberSource], crop_px: int) -> None:
        self._sources = tuple(sources)
        self._crop_px = crop_px
        self._shares = np.cumsum([source.member.share for source in sources])

    def take(self, generator: np.random.Generator, margin_px: int) -> Crop:
        """Return a crop, with a margin on all sides. SceneError if a scene's cache is gone."""
        at = np.searchsorted(self._shares, generator.random() * self._shares[-1], side="right")
        source = self._sources[int(at)]
        size_m = source.draw_size_m(generator)
        if source.member.images_a_crop > 1:
            return self._side_by_side(source, size_m, generator, margin_px)
        return self._single_image(source, size_m, generator, margin_px)

    def _single_image(
        self, source: _MemberSource, size_m: float, generator: np.random.Generator, margin_px: int
    ) -> Crop:
        scene, row, col, factor = source.draw_pixel(size_m, generator)
        inner, margin = max(1, round(self._crop_px * factor)), round(margin_px * factor)
        window = square_around(scene.shape, row, col, inner).padded(margin)
        out_px = self._crop_px + 2 * margin_px
        patch, codes = resampled(scene.read(window), scene.codes(window), (out_px, out_px))
        return Crop(patch.data, patch.valid, codes, f"{scene.id} at row {window.row}, col {window.col}")

    def _side_by_side(
        self, source: _MemberSource, size_m: float, generator: np.random.Generator, margin_px: int
    ) -> Crop:
        """Return a crop of cells, each a piece of another image: at least as many as wanted, and enough to fill it."""
        edge_px = self._crop_px + 2 * margin_px
        first = source.sampler.scenes[0]
        image_px = min(first.shape) * (first.gsd_m or size_m) / size_m
        across = max(math.ceil(math.sqrt(source.member.images_a_crop)), math.ceil(edge_px / image_px))
        data = np.zeros((first.band_count, edge_px, edge_px), first.dtype)
        valid = np.zeros((edge_px, edge_px), np.bool_)
        codes = np.full((edge_px, edge_px), NODATA, np.uint8)
        rows, cols = (_cuts(edge_px, across, generator) for _ in range(2))
        places = []
        for top, bottom in pairwise(rows):
            for left, right in pairwise(cols):
                at = np.s_[top:bottom, left:right]
                scene, patch, cell_codes = _piece(source, size_m, (bottom - top, right - left), generator)
                data[:, *at], valid[at], codes[at] = patch.data, patch.valid, cell_codes
                places.append(scene.id)
        return Crop(data, valid, codes, f"{', '.join(places[:2])} and {len(places) - 2} more, side by side")


def _cuts(edge_px: int, cells: int, generator: np.random.Generator) -> list[int]:
    """Return the edges of cells along a side: two cells meet anywhere but near the border, more are equal."""
    if cells == 2:
        return [0, round(edge_px * generator.uniform(_CUT, 1 - _CUT)), edge_px]
    return [edge_px * cell // cells for cell in range(cells + 1)]


def _piece(
    source: _MemberSource, size_m: float, shape: tuple[int, int], generator: np.random.Generator
) -> tuple[PreparedScene, Patch, NDArray[np.uint8]]:
    """Return a scene and a piece of it, anywhere inside; a scene that is too small is padded with invalid pixels."""
    scene, row, col, factor = source.draw_pixel(size_m, generator)
    height, width = (max(1, round(side * factor)) for side in shape)
    window = Window(
        square_around(scene.shape, row, col, height).row, square_around(scene.shape, row, col, width).col, height, width
    )
    return scene, *resampled(scene.read(window), scene.codes(window), shape)


def resampled(patch: Patch, codes: NDArray[np.uint8], shape: tuple[int, int]) -> tuple[Patch, NDArray[np.uint8]]:
    """Return pixels and codes on another grid: pixels averaged if it is coarser, interpolated if finer; codes nearest.

    Only valid pixels count; a new pixel is valid if at least half of it was.
    """
    if codes.shape == shape:
        return patch, codes
    rows, cols = (((2 * np.arange(new) + 1) * old) // (2 * new) for old, new in zip(codes.shape, shape, strict=True))
    nearest = codes[np.ix_(rows, cols)]
    if patch.data.dtype == np.uint8 and patch.valid.all():
        data = interpolate(
            torch.from_numpy(patch.data)[None], shape, mode="bilinear", antialias=True, align_corners=False
        )[0].numpy()
        return Patch(data, np.ones(shape, np.bool_)), nearest
    weights = torch.from_numpy(patch.valid.astype(np.float32))
    image = torch.from_numpy(patch.data.astype(np.float32)).masked_fill(weights == 0, 0)
    stack = torch.cat([image * weights, weights[None]])
    sums = interpolate(stack[None], shape, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
    valid = sums[-1] >= 0.5 - 1e-4
    mean = sums[:-1] / np.where(sums[-1] > 0, sums[-1], 1)
    rounded = np.rint(mean) if np.issubdtype(patch.data.dtype, np.integer) else mean
    nearest[~valid] = NODATA
    return Patch(rounded.astype(patch.data.dtype), valid), nearest
