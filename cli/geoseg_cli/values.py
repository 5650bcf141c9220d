"""What people type for bands, scales and lists of numbers, turned into values at the edge."""

from __future__ import annotations

import click


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of `0.485,0.456,0.406`."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas such as 0.5,0.4,0.3, got {text!r}") from None


def scale(text: str) -> tuple[float, float]:
    """Return (low, high) of `LOW,HIGH`, or of `HIGH` alone, which means `0,HIGH`."""
    match numbers(text):
        case (low, high):
            return low, high
        case (high,):
            return 0.0, high
    raise click.BadParameter(f"expected LOW,HIGH or HIGH, such as 200,3000 or 3000, got {text!r}")


def resolution(text: str) -> str | float:
    """Return `scene` or `model` as it is, and `0.5` as a number of metres."""
    try:
        return text if text in {"scene", "model"} else float(text)
    except ValueError:
        raise click.BadParameter(f"expected scene, model or metres such as 0.5, got {text!r}") from None


def bands(text: str) -> tuple[int | str, ...]:
    """Return the bands of `4,3,2` or `nir,red,green`: numbers from 1 on, or names, in the order given."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"expected bands with commas such as 4,3,2 or nir,red,green, got {text!r}")
    return tuple(int(name) if name.isdecimal() else name for name in names)
