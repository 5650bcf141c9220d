"""What chance decides: which crops have which operations, and how strong; kept on the CPU."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from geoseg.training.augmentation import Augmentation
from geoseg.training.color import Tint
from geoseg.training.dihedral import compose
from geoseg.training.warp import Warp

Chosen: TypeAlias = dict[str, Tensor]
"""For each operation that may happen, which samples have it: bool (n,) on the CPU."""

ELASTIC_LIMIT = 2.5
"""Displacements are normal, cut at so many standard deviations: none reads far outside."""


def choose(how: Augmentation, count: int, generator: torch.Generator) -> Chosen:
    """Return which of `count` samples have which operation: each step for itself, then one of its operations."""
    chosen: Chosen = {}
    for step in how.steps:
        done = uniform(generator, (count,)) < step.probability
        which = (uniform(generator, (count,)) * len(step.operations)).long()
        chosen |= {operation.name: done & (which == place) for place, operation in enumerate(step.operations)}
    return chosen


def draw_elements(chosen: Chosen, count: int, generator: torch.Generator) -> Tensor:
    """Return the symmetry of the square of each sample, int64 (count,); a rot90 is one of the four quarter turns."""
    never = torch.zeros(count, dtype=torch.bool)
    rows, columns, swaps = (chosen.get(name, never) for name in ("vflip", "hflip", "transpose"))
    quarters = (uniform(generator, (count,)) * 4).long() * chosen.get("rot90", never)
    return compose(rows, columns, quarters, swaps)


def draw_warp(how: Augmentation, chosen: Chosen, generator: torch.Generator) -> Warp:
    """Return a warp for each sample of `chosen`; sides and lengths are halved, as `Warp` counts them."""
    count = len(next(iter(chosen.values())))

    def drawn(operation: str, setting: str, shape: tuple[int, ...] = ()) -> Tensor:
        strength = how.setting(operation, setting) * _where(chosen, operation, count)
        return strength.view(count, *[1 for _ in shape]) * symmetric(generator, (count, *shape))

    place = "shift-scale-rotate"
    knots = int(how.setting("elastic-distortion", "knots", 2))
    cells = int(how.setting("grid-distortion", "cells", 1))
    bumps = normal(generator, (count, 2, knots, knots)).clamp(-ELASTIC_LIMIT, ELASTIC_LIMIT)
    moved = how.setting("elastic-distortion", "displacement") * _where(chosen, "elastic-distortion", count)
    return Warp(
        shift=2 * drawn(place, "shift", (2,)),
        scale=(1 + how.setting(place, "scale")) ** (symmetric(generator, (count,)) * _where(chosen, place, count)),
        radians=drawn(place, "degrees") * (math.pi / 180),
        bend=drawn("optical-distortion", "bend"),
        elastic=2 * moved.view(count, 1, 1, 1) * bumps,
        grid=1 + drawn("grid-distortion", "stretch", (2, cells)),
    )


def draw_tint(how: Augmentation, count: int, bands: int, generator: torch.Generator) -> Tint:
    """Return a change of colour for each of `count` samples: a setting of 0.2 is a factor of 1 / 1.2 to 1.2."""

    def factor(setting: str, shape: tuple[int, ...] = ()) -> Tensor:
        return (1 + how.setting("color", setting)) ** symmetric(generator, (count, *shape))

    return Tint(
        brightness=factor("brightness"),
        contrast=factor("contrast"),
        gamma=factor("gamma"),
        saturation=factor("saturation"),
        hue=symmetric(generator, (count,)) * math.radians(how.setting("color", "hue_degrees")),
        gains=factor("gain", (bands,)),
    )


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float = 0, high: float = 1) -> Tensor:
    """Return float32 numbers from low (included) to high."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device).cpu()


def symmetric(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Return float32 numbers from -1 to 1."""
    return uniform(generator, shape, -1, 1)


def normal(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Return float32 numbers of mean 0 and standard deviation 1."""
    return torch.randn(shape, generator=generator, device=generator.device).cpu()


def own_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return a generator on a device, seeded by the next number of another: for many numbers, where they are used."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return torch.Generator(device).manual_seed(int(seed))


def _where(chosen: Chosen, operation: str, count: int) -> Tensor:
    return chosen[operation].float() if operation in chosen else torch.zeros(count)
