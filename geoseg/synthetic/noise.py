"""Noise tied to a place: every value is a pure function of a salt and an absolute position.

All arithmetic is elementwise, on absolute coordinates: no sum over an axis, no sine or exponential on whole arrays
(their last bit may change with memory layout). So a pixel has the same bits in any rectangle it is rendered in. Plain
numbers take the float32 of the array beside them; where NumPy or its type hints would make float64, they say float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
"""Values of pixels, any shape."""
Meters = npt.NDArray[np.float64]
"""Absolute positions in meters; double precision, so that a scene may be thousands of kilometers wide."""
Words = npt.NDArray[np.uint32]
"""Scrambled bits."""
Cells = npt.NDArray[np.int32]
"""Indexes of lattice cells."""
Mask = npt.NDArray[np.bool_]

_TURNS = 64
_ANGLES = np.arange(_TURNS) * (2 * np.pi / _TURNS)
COSINES = np.cos(_ANGLES)
SINES = np.sin(_ANGLES)


def scramble(first: Cells | Words, second: Cells | Words, salt: int) -> Words:
    """Hash two integers and a salt to 32 bits (multiply and xorshift; constants of C. Wellons' hash-prospector)."""
    bits = first.view(np.uint32) * np.uint32(0x9E3779B1)
    bits ^= second.view(np.uint32) * np.uint32(0x85EBCA77) + _offset(salt)
    return _stir(bits)


def _offset(salt: int) -> np.uint32:
    return np.uint32((salt * 0xC2B2AE3D + 0x27D4EB2F) & 0xFFFFFFFF)


def _stir(bits: Words) -> Words:
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x7FEB352D)
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(0x846CA68B)
    bits ^= bits >> np.uint32(16)
    return bits


def chance(words: Words, salt: int) -> Floats:
    """Return a number in [0, 1) for each word; a different salt gives an independent number."""
    bits = words ^ np.uint32((salt * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)
    bits *= np.uint32(0x21F0AAAD)
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(0x735A2D97)
    bits ^= bits >> np.uint32(15)
    bits >>= np.uint32(8)
    level = bits.view(np.int32).astype(np.float32)
    level *= np.float32(2.0**-24)
    return level


def smooth(low: float, high: float, value: Floats) -> Floats:
    """Rise from 0 to 1 between two values, without a kink."""
    ratio = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    eased: Floats = ratio * ratio * (np.float32(3) - np.float32(2) * ratio)
    return eased


def value_noise(x_m: Meters, y_m: Meters, size_m: float, salt: int) -> Floats:
    """Return smooth noise in [-1, 1] whose hills are about `size_m` wide."""
    col, across = _cell(x_m, size_m, salt)
    row, down = _cell(y_m, size_m, salt + 7)
    left = col.view(np.uint32) * np.uint32(0x9E3779B1)
    right = left + np.uint32(0x9E3779B1)
    upper = row.view(np.uint32) * np.uint32(0x85EBCA77) + _offset(salt)
    lower = upper + np.uint32(0x85EBCA77)
    top = _mix(_corner(left ^ upper), _corner(right ^ upper), across)
    bottom = _mix(_corner(left ^ lower), _corner(right ^ lower), across)
    return _mix(top, bottom, down)


def fractal_noise(x_m: Meters, y_m: Meters, size_m: float, octaves: int, salt: int) -> Floats:
    """Return the sum of noises, each half as wide and strong as the previous; standard deviation about 0.4."""
    total = value_noise(x_m, y_m, size_m, salt)
    for octave in range(1, octaves):
        total = total + np.float32(0.5**octave) * value_noise(x_m, y_m, size_m * 0.5**octave, salt + 101 * octave)
    return total


def _cell(position_m: Meters, size_m: float, salt: int) -> tuple[Cells, Floats]:
    """Return the lattice cell of a position, and the eased fraction of the way through it."""
    # the shift keeps the lattices of different salts from sharing their lines
    scaled = position_m * (1 / size_m)
    scaled += salt * 0.618 % 1
    index = np.floor(scaled)
    scaled -= index
    share = scaled.astype(np.float32)
    eased = share * np.float32(-2)
    eased += np.float32(3)
    eased *= share
    eased *= share
    return index.astype(np.int32), eased


def _corner(bits: Words) -> Floats:
    level = (_stir(bits) >> np.uint32(8)).view(np.int32).astype(np.float32)
    level *= np.float32(2.0**-23)
    level -= np.float32(1)
    return level


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    second -= first
    second *= share
    second += first
    return second
