"""Damaged files: truncated, overwritten or with flipped bits, reproducible from a seed."""

from __future__ import annotations

import random


def damaged(content: bytes, seed: int) -> bytes:
    """Return a file with one kind of damage: truncated, bits flipped, a block zeroed, or parts swapped."""
    chance = random.Random(seed)
    broken = bytearray(content)
    kind = chance.choice(("cut", "flips", "head", "tail", "hole", "swap"))
    if kind == "cut":
        return content[: chance.randrange(len(content))]
    if kind == "hole":
        start = chance.randrange(len(content))
        broken[start : start + chance.randrange(1, 600)] = bytes(min(600, len(content) - start))
        return bytes(broken[: len(content)])
    if kind == "swap":
        start = chance.randrange(len(content))
        return content[start:] + content[:start] if chance.random() < 0.2 else content[:start] + content[start // 2 :]
    span = {"flips": (0, len(content)), "head": (0, 600), "tail": (max(0, len(content) - 600), len(content))}[kind]
    for _ in range(chance.choice((1, 1, 2, 8))):
        broken[chance.randrange(span[0], min(span[1], len(content)))] ^= 1 << chance.randrange(8)
    return bytes(broken)
