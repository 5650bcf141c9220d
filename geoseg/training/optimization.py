"""Optimizers, learning rates and weight averages; the automatic rate and batch size; readable torch errors."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import get_ema_multi_avg_fn

from geoseg.errors import TrainingError, numbered, one_line
from geoseg.machine import available_memory_bytes
from geoseg.model import OutOfMemory, architecture_named, is_short_of_memory
from geoseg.training.plan import TrainingPlan
from geoseg.training.recipe import Recipe

_MATRIX = 2
"""Least number of dimensions of parameters with weight decay."""
_SOON = 20
"""In the first steps, the average of a randomly initialized network adapts faster, so that it forgets its start."""

SWEEP_STEPS = 60
LOWEST_LR, HIGHEST_LR = 1e-6, 1.0
_SWEEP_SMOOTHING = 0.8
_DIVERGED = 3.0
"""Multiple of the lowest loss at which the sweep ends: nothing is learned beyond."""
_FALLBACK_LR = 1e-3

_SHARE = 0.6
"""Share of the free memory to use; the allocator, gradients and the system need the rest."""
MOST_CPU, MOST_GPU = 8, 64
"""Largest automatic batches; larger ones learn no faster per crop, and on a CPU only make steps longer."""
_PROBE_PX = 256
"""Larger crops are extrapolated from one of about this size: most of their memory grows with the pixels, or faster."""
_SURELY = 0.5
"""Share of the estimate that is certainly needed: some of it does not grow, and bf16 halves it."""
_ONE_VALUE = "more than 1 value per channel"
"""Part of the error of torch's batch normalization (torch/nn/functional.py, _verify_batch_size)."""


def optimizer_of(recipe: Recipe, network: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return an optimizer of the trainable parameters; biases and norm scales have no weight decay."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learned if parameter.ndim >= _MATRIX]},
        {"params": [parameter for parameter in learned if parameter.ndim < _MATRIX], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop(
                groups, lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, eps=recipe.eps
            )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(
        groups, lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay, amsgrad=recipe.amsgrad
    )


# --- the learning rate


def rate(recipe: Recipe, lr: float, step: int, steps: int, epoch_steps: int) -> float:
    """Return the learning rate of a step (0 .. steps - 1), with `epoch_steps` steps per epoch.

    A pure function of the step, so that a resumed run needs no scheduler state, unlike torch's schedulers.
    constant; step, multi-step (He et al. 2016, arXiv 1512.03385): times gamma every `step_epochs`, or at each of the
    `milestones`; cyclic (Smith 2017, arXiv 1506.01186): a triangle from the floor to lr and back; exp-range: the same,
    with each cycle's height times gamma; one-cycle (Smith and Topin 2019, arXiv 1708.07120): up and down by cosines;
    cosine (Loshchilov and Hutter 2017, arXiv 1608.03983): a linear rise, then half a cosine.
    """
    low = recipe.floor * lr
    match recipe.schedule:
        case "step":
            return lr * float(recipe.gamma ** (step // (recipe.step_epochs * epoch_steps)))
        case "multi-step":
            return lr * float(recipe.gamma ** sum(step >= epoch * epoch_steps for epoch in recipe.milestones))
        case "cyclic" | "exp-range":
            half = recipe.step_epochs * epoch_steps
            shrinkage = recipe.gamma ** (step // (2 * half)) if recipe.schedule == "exp-range" else 1.0
            return low + (lr - low) * float(shrinkage) * (1 - abs(step % (2 * half) / half - 1))
        case "one-cycle" | "cosine":
            return _warmup_and_decay(recipe, lr, low, step, steps)
    return lr


def _warmup_and_decay(recipe: Recipe, lr: float, low: float, step: int, steps: int) -> float:
    rising = round(recipe.warmup * steps)
    if step < rising:
        share = (step + 1) / (rising + 1)
        return low + (lr - low) * (share if recipe.schedule == "cosine" else 0.5 * (1 - math.cos(math.pi * share)))
    share = (step - rising) / max(1, steps - rising)
    return low + (lr - low) * 0.5 * (1 + math.cos(math.pi * share))


def find_lr(
    recipe: Recipe,
    network: torch.nn.Module,
    batch_of: Callable[[int], tuple[torch.Tensor, torch.Tensor]],
    loss_of: Callable[[Any, torch.Tensor], torch.Tensor],
    step_batches: int = 1,
) -> float:
    """Return the rate at which the smoothed loss falls fastest (Smith 2017, arXiv 1506.01186, section 3.3).

    A copy of the network learns for at most SWEEP_STEPS steps while the rate rises geometrically. From each loss that
    of the untrained copy is subtracted, since batches differ more than a step changes them. `batch_of` returns the
    image and the targets of a batch by its number, `loss_of` the loss of the network's output; `step_batches` batches
    make a step. (Lightning's finder would train the network itself, and draw different batches each time.)
    """
    untrained, network = (copy.deepcopy(network).train() for _ in range(2))
    optimizer = optimizer_of(recipe, network, LOWEST_LR)
    rates = np.geomspace(LOWEST_LR, HIGHEST_LR, SWEEP_STEPS)
    before: list[float] = []
    changes: list[float] = []
    for number, lr in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        optimizer.zero_grad()
        loss = untrained_loss = 0.0
        for batch in range(number * step_batches, (number + 1) * step_batches):
            image, targets = batch_of(batch)
            torch.manual_seed(recipe.seed + batch)
            with torch.no_grad():
                untrained_loss += float(loss_of(untrained(image), targets)) / step_batches
            torch.manual_seed(recipe.seed + batch)  # the same dropout
            share = loss_of(network(image), targets) / step_batches
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        before.append(untrained_loss)
        change = loss - untrained_loss
        smoothed = _SWEEP_SMOOTHING * changes[-1] + (1 - _SWEEP_SMOOTHING) * change if changes else change
        start = sum(before) / len(before)
        if not math.isfinite(smoothed) or start + smoothed > _DIVERGED * (start + min(changes, default=0.0)):
            break
        changes.append(smoothed)
    return steepest(rates[: len(changes)], changes)


def steepest(rates: NDArray[np.float64], losses: list[float]) -> float:
    """Return the rate with the steepest fall of the loss over the logarithm of the rate; a usual one without a fall.

    After a rise, only a fall below the lowest loss before it counts.
    """
    lowest = np.minimum.accumulate(losses)
    if len(losses) < 4 or lowest[-1] == lowest[0]:
        return _FALLBACK_LR
    slopes = np.gradient(lowest, np.log(rates))
    return float(f"{rates[int(np.argmin(slopes))]:.1e}")


# --- the running average of the weights, less noisy than each of them (Polyak and Juditsky 1992; arXiv 1803.05407)


def average_of(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy that is not trained itself."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def average_into(
    averaged: torch.nn.Module, network: torch.nn.Module, decay: float, step: int, *, began_well: bool = False
) -> None:
    """Move an average toward the weights and norm statistics after a step, counted from 1.

    Initial weights from a bundle are part of the average like any others: weights between those and the last ones do
    better on imagery that neither has seen (Wortsman et al. 2022, arXiv 2109.01903).
    """
    decay = decay if began_well else min(decay, step / (step + _SOON))
    averages, current = averaged.state_dict(), network.state_dict()
    floats = [name for name, tensor in averages.items() if tensor.is_floating_point()]
    get_ema_multi_avg_fn(decay)([averages[name] for name in floats], [current[name] for name in floats], step)  # type: ignore[no-untyped-call]
    for name in averages.keys() - floats:
        averages[name].copy_(current[name])


# --- how many crops fit in memory


def batch_size(plan: TrainingPlan, network: torch.nn.Module, device: str) -> int:
    """Return how many crops fit in a batch, a power of two.

    A small crop is run on the CPU, and the tensors that its backward pass would need are summed. (Lightning doubles the
    batch until memory runs out; on a CPU that would exhaust the machine's memory.)
    """
    crop_bytes = _saved_bytes(plan, network)
    if device.startswith("cuda"):
        free, most = torch.cuda.mem_get_info(torch.device(device if ":" in device else "cuda:0"))[0], MOST_GPU
    else:
        free, most = available_memory_bytes(), MOST_CPU
    fixed = 4 * sum(parameter.nbytes for parameter in network.parameters())  # gradients, two moments, the average
    fitting = max(1, min(most, int((_SHARE * free - fixed) // crop_bytes)))
    return 1 << (fitting.bit_length() - 1)


def check_fits(plan: TrainingPlan, network: torch.nn.Module, device: str) -> None:
    """Raise TrainingError for a batch that certainly exceeds main memory: the system would kill the run silently.

    A GPU reports when its memory runs out.
    """
    if device != "cpu":
        return
    crop_bytes, free = _saved_bytes(plan, network), available_memory_bytes()
    if _SURELY * plan.batch_size * crop_bytes > free:
        why = f"it needs about {plan.batch_size * crop_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
        raise _batch_too_large(plan, device, why, fitting=int(_SHARE * free // crop_bytes))


def _saved_bytes(plan: TrainingPlan, network: torch.nn.Module) -> int:
    """Estimate the bytes that one crop keeps for the backward pass."""
    step_px = architecture_named(plan.architecture).divisor(plan.arguments)
    probe_px = min(plan.recipe.crop_px, -(-_PROBE_PX // step_px) * step_px)
    try:
        saved = _measured_saved_bytes(network, len(plan.bands), probe_px)
    except (RuntimeError, AssertionError, ValueError):  # a network for a single size
        probe_px = plan.recipe.crop_px
        saved = _measured_saved_bytes(network, len(plan.bands), probe_px)
    return max(1, int(saved * (plan.recipe.crop_px / probe_px) ** 2))


def _measured_saved_bytes(network: torch.nn.Module, bands: int, crop_px: int) -> float:
    """Return the bytes that one crop keeps for the backward pass, measured by running two."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(2, bands, crop_px, crop_px)  # batch norm needs more than one value per channel
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer = network(images)
        del answer
    finally:
        network.load_state_dict(state)  # restores the running statistics
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights) / 2


# --- torch's errors, with a way out


@contextlib.contextmanager
def learning_errors(plan: TrainingPlan, device: str) -> Iterator[None]:
    """Raise TrainingError for a batch that does not fit in memory, or is too small for batch normalization."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as fault:
        if is_short_of_memory(fault):
            raise _batch_too_large(plan, device, one_line(fault, 120)) from None
        if _ONE_VALUE in str(fault):
            raise _batch_too_small(plan) from None
        raise


@contextlib.contextmanager
def validation_errors(plan: TrainingPlan, device: str) -> Iterator[None]:
    """Raise TrainingError if validation does not fit in memory."""
    try:
        yield
    except (OutOfMemory, RuntimeError, MemoryError) as fault:
        if not isinstance(fault, OutOfMemory) and not is_short_of_memory(fault):
            raise
        raise TrainingError(
            f"validation windows of {plan.window_px} px do not fit in the memory of {device}; stop whatever else "
            "uses it and run the same command again, which resumes from the last checkpoint, or start over with "
            "`overwrite=True` and a smaller `window_px`",
            "window_px",
        ) from None


def _batch_too_large(plan: TrainingPlan, device: str, why: str, fitting: int | None = None) -> TrainingError:
    """Return the error, with a batch size to use instead: half as many crops, or at most `fitting`."""
    size, accumulate = plan.batch_size, plan.recipe.accumulate
    most = size // 2 if fitting is None else min(fitting, size // 2)
    smaller = next((part for part in range(most, 0, -1) if size % part == 0), None)
    way = "a smaller `crop_px` (with `overwrite=True` if the run has started, since it would be another run)"
    if smaller is not None:
        times = size // smaller
        way = f"`batch_size={smaller}`, `accumulate={accumulate * times}`"
        way += f", `batches={plan.batches * times}`" if plan.recipe.batches else ""
        way += ": the run resumes from its last checkpoint"
    return TrainingError(
        f"a batch of {numbered(size, 'crop')} of {plan.recipe.crop_px} px does not fit in the memory of {device} "
        f"({why}); give {way}",
        "batch_size",
    )


def _batch_too_small(plan: TrainingPlan) -> TrainingError:
    return TrainingError(
        f"{plan.architecture} has a batch normalization that sees one value per channel in a batch of "
        f"{numbered(plan.batch_size, 'crop')} of {plan.recipe.crop_px} px, and cannot normalize it; "
        "give `norm='group'`, or `batch_size=2`",
        "batch_size",
    )
