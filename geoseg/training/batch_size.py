"""How many crops fit: an estimate from what one crop leaves behind for the backward pass."""

from __future__ import annotations

import torch

from geoseg.machine import available_memory_bytes
from geoseg.model import architecture_named
from geoseg.training.faults import batch_too_large
from geoseg.training.plan import TrainingPlan

_SHARE = 0.6
"""Of the free memory: the allocator, gradients and the system want some."""
MOST_CPU, MOST_GPU = 8, 64
"""Larger batches learn no faster a crop; on a CPU a step then only lasts longer."""
_PROBE_PX = 256
"""Larger crops are reckoned from one of about this size: most of what is kept grows with the pixels, or faster."""
_SURELY = 0.5
"""Of that estimate: some of it does not grow, and bf16 keeps half."""


def batch_size(plan: TrainingPlan, network: torch.nn.Module, device: str) -> int:
    """Return how many crops a batch may have, a power of two.

    A small crop is run on the CPU and the tensors that its backward pass would need are summed. (A search that doubles
    the batch until memory ends would, on a CPU, end the machine's memory.)
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
    """Raise TrainingError for a batch that surely does not fit a CPU's memory: the system would end it without a word.

    A GPU says itself when its own is short.
    """
    if device != "cpu":
        return
    crop_bytes, free = _saved_bytes(plan, network), available_memory_bytes()
    if _SURELY * plan.batch_size * crop_bytes > free:
        why = f"it wants about {plan.batch_size * crop_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
        raise batch_too_large(plan, device, why, fitting=int(_SHARE * free // crop_bytes))


def _saved_bytes(plan: TrainingPlan, network: torch.nn.Module) -> int:
    """Return about how many bytes of one crop wait for the backward pass."""
    step_px = architecture_named(plan.architecture).divisor(plan.arguments)
    probe_px = min(plan.recipe.crop_px, -(-_PROBE_PX // step_px) * step_px)
    try:
        saved = _saved_by(network, len(plan.bands), probe_px)
    except (RuntimeError, AssertionError, ValueError):  # a network for one size alone
        probe_px = plan.recipe.crop_px
        saved = _saved_by(network, len(plan.bands), probe_px)
    return max(1, int(saved * (plan.recipe.crop_px / probe_px) ** 2))


def _saved_by(network: torch.nn.Module, bands: int, crop_px: int) -> float:
    """Return how many bytes of one crop wait for the backward pass, by running two."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(2, bands, crop_px, crop_px)  # batch norm wants more than one value a channel
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer = network(images)
        del answer
    finally:
        network.load_state_dict(state)  # its running statistics saw nothing
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights) / 2
