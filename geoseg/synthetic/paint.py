"""Colors of many pixels, (3, pixel) float32, 0 to 1; and the crowns of trees and bushes painted on them.

A crown is a disc with a ragged rim, lit from one side; each lattice cell has at most one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.synthetic.noise import Floats, Mask, Meters, Words, chance, scramble
from geoseg.synthetic.place import Color, Place

Paint = Floats
"""(3, pixel): red, green, blue, 0 to 1."""


def mix(first: Paint | Color, second: Paint | Color, share: Floats) -> Paint:
    """Interpolate from the first color to the second as the share goes from 0 to 1."""
    low, high = _column(first), _column(second)
    result: Paint = low + (high - low) * share
    return result


def lay(under: Paint | Color, mask: Mask, over: Paint | Color) -> Paint:
    """Lay a color over the pixels of a mask."""
    result: Paint = np.where(mask, _column(over), _column(under))
    return result


def _column(color: Paint | Color) -> Paint:
    return np.array(color, np.float32)[:, None] if isinstance(color, tuple) else color


def lighter(color: Color, factor: float) -> Color:
    """Brighten or darken a color by a factor."""
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def blend(first: Color, second: Color, share: float) -> Color:
    """Return a color between two."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Crowns:
    """The crown over each position, if any."""

    cover: Mask
    height: Floats
    """0 at the rim, 1 at the top."""
    light: Floats
    """-1 on the side away from the sun, 1 towards it."""
    tree: Words


@dataclass(frozen=True, slots=True)
class Stand:
    """How trees stand: at most one per cell, entirely inside it, so that only one cell needs checking."""

    spacing_m: float
    smallest: float
    """Radius of the smallest crown, as a share of the spacing; at most 0.5."""
    largest: float
    share: float
    """Chance of a tree in a cell."""
    jitter: float
    """0: rows, as in a plantation; 1: anywhere in the cell."""
    salt: int


def crowns_at(place: Place, stand: Stand, x_m: Meters, y_m: Meters, share: Floats) -> Crowns:
    """Find the crown over each position; `share` is the stand's density at each pixel."""
    x, y = x_m * (1 / stand.spacing_m), y_m * (1 / stand.spacing_m)
    col, row = np.floor(x), np.floor(y)
    tree = scramble(col.astype(np.int32), row.astype(np.int32), place.salt(stand.salt))
    radius = stand.smallest + (stand.largest - stand.smallest) * chance(tree, 1)
    room = (0.5 - radius) * (2 * stand.jitter)
    across = (x - col).astype(np.float32) - 0.5 - (chance(tree, 2) - 0.5) * room
    down = (y - row).astype(np.float32) - 0.5 - (chance(tree, 3) - 0.5) * room
    # lobes: the rim varies with direction, without an arctangent
    lobes = across * down * (chance(tree, 4) - 0.5) + (across * across - down * down) * (chance(tree, 5) - 0.5)
    reach = (across * across + down * down + lobes) / (radius * radius)
    standing = chance(tree, 6) < share
    light = (across * place.sun[0] + down * place.sun[1]) / radius
    return Crowns(standing & (reach < 1), np.maximum(1 - reach, 0), light, tree)


def shadow_at(place: Place, stand: Stand, x_m: Meters, y_m: Meters, share: Floats) -> Mask:
    """Return which positions lie in the shadow of a crown."""
    reach = stand.spacing_m * (stand.smallest + stand.largest) * 0.6 * min(place.shadow_ratio, 1.4)
    return crowns_at(place, stand, x_m + place.sun[0] * reach, y_m + place.sun[1] * reach, share).cover
