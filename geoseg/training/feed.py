"""Crops of the training scenes in batches, read ahead, so that the network never waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from geoseg.dataset import CropSource
from geoseg.training.plan import TrainingPlan

_THREADS = 2
_AHEAD = 4
"""Batches that are ready or being read: more would only fill memory, for reading is quicker than learning."""


class Batch(NamedTuple):
    """Crops as they are stored."""

    image: torch.Tensor
    """(n, band, row, col)"""
    valid: torch.Tensor
    """(n, row, col) bool"""
    codes: torch.Tensor
    """(n, row, col) uint8, 255 = ignore"""
    places: tuple[str, ...]
    """(n,) scene and window of each, for messages."""
    number: int
    """Counted from the first of the training."""


class Feed:
    """The batches first .. stop - 1 of a training; each depends on the seed and its number alone.

    So a run that goes on sees what it would have seen, and each of several devices (`rank`) sees its own. Crops are
    read with a margin all round.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a batch is made of
        self, plan: TrainingPlan, source: CropSource, margin_px: int, first: int, stop: int, rank: int = 0
    ) -> None:
        self._plan = plan
        self._source = source
        self._margin_px = margin_px
        self._numbers = range(first, stop)
        self._rank = rank
        self.waited_s = 0.0
        """How long whoever asked for a batch waited for it."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order, a few read ahead in threads: copying out of a mapped file holds no lock."""
        numbers = iter(self._numbers)
        with ThreadPoolExecutor(_THREADS, "crops") as pool:
            ahead: deque[Future[Batch]] = deque(pool.submit(self.draw, number) for number in islice(numbers, _AHEAD))
            while ahead:
                begin = time.perf_counter()
                batch = ahead.popleft().result()
                self.waited_s += time.perf_counter() - begin
                ahead.extend(pool.submit(self.draw, number) for number in islice(numbers, 1))
                yield batch

    def draw(self, number: int) -> Batch:
        """Return one batch. Raises SceneError where a scene's cache is gone."""
        draw = np.random.default_rng([self._plan.recipe.seed, self._rank, number])
        crops = [self._source.take(draw, self._margin_px) for _ in range(self._plan.batch_size)]
        image, valid, codes = (torch.from_numpy(np.stack([crop[part] for crop in crops])) for part in range(3))
        return Batch(image, valid, codes, tuple(crop.place for crop in crops), number)
