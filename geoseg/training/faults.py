"""What torch says when a step cannot be computed, in words that name a way out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from geoseg.errors import TrainingError
from geoseg.model import SHORT_OF_MEMORY, OutOfMemory, one_line
from geoseg.training.plan import TrainingPlan

_ONE_VALUE = "more than 1 value per channel"
"""Of torch's batch normalization (torch/nn/functional.py, _verify_batch_size)."""


@contextlib.contextmanager
def learning_faults(plan: TrainingPlan, device: str) -> Iterator[None]:
    """Raise TrainingError for a batch that does not fit the memory, or is too small for batch normalization."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as fault:
        if _is_short_of_memory(fault):
            raise batch_too_large(plan, device, one_line(fault, 120)) from None
        if _ONE_VALUE in str(fault):
            raise _batch_too_small(plan) from None
        raise


@contextlib.contextmanager
def judging_faults(plan: TrainingPlan, device: str) -> Iterator[None]:
    """Raise TrainingError where the memory does not hold what validation needs at once."""
    try:
        yield
    except (OutOfMemory, RuntimeError, MemoryError) as fault:
        if not isinstance(fault, OutOfMemory) and not _is_short_of_memory(fault):
            raise
        raise TrainingError(
            f"windows of {plan.window_px} px, which validation maps, do not fit the memory of {device}; stop what else "
            "uses it and run the same command again, which goes on from the last checkpoint, or start over with "
            "`overwrite=True` and a smaller `window`"
        ) from None


def _is_short_of_memory(fault: Exception) -> bool:
    return isinstance(fault, MemoryError) or any(word in str(fault).lower() for word in SHORT_OF_MEMORY)


def batch_too_large(plan: TrainingPlan, device: str, why: str, fitting: int | None = None) -> TrainingError:
    """Return the error that says so, with what to give instead: half as many crops, or so many as are `fitting`."""
    size, accumulate = plan.batch_size, plan.recipe.accumulate
    most = size // 2 if fitting is None else min(fitting, size // 2)
    smaller = next((part for part in range(most, 0, -1) if size % part == 0), None)
    way = "a smaller `crop` (with `overwrite=True`, where the run has begun: it would be another)"
    if smaller is not None:
        times = size // smaller
        way = f"`batch_size={smaller}`, `accumulate={accumulate * times}`"
        way += f", `batches={plan.batches * times}`" if plan.recipe.batches else ""
        way += ": the run goes on from its last checkpoint"
    return TrainingError(
        f"a batch of {size} crops of {plan.recipe.crop_px} px does not fit the memory of {device} ({why}); give {way}"
    )


def _batch_too_small(plan: TrainingPlan) -> TrainingError:
    return TrainingError(
        f"{plan.architecture} has a batch normalization that sees one value a channel in a batch of {plan.batch_size} "
        f"crop{'s' * (plan.batch_size != 1)} of {plan.recipe.crop_px} px, and cannot normalize it; "
        "give `norm='group'`, or `batch_size=2`"
    )
