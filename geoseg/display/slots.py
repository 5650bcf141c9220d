"""Classes of any integers as bytes: a page holds one byte a pixel, whatever codes the map has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.legend import NODATA

MOST_CLASSES = NODATA
_INT32 = np.iinfo(np.int32)
_TABLE_BYTES = 2
"""Codes of so many bytes are looked up in a table, larger ones by search."""


class Slots:
    """Gives each code a byte, 0 to 254, when it is first seen: its own number where that is free."""

    def __init__(self, name: str) -> None:
        """Begin with no code. `name` is the map's, for errors."""
        self._name = name
        self._slot_of: dict[int, int] = {}

    @property
    def codes(self) -> set[int]:
        """All codes seen."""
        return set(self._slot_of)

    def __getitem__(self, code: int) -> int:
        """Return the byte of a code that was seen, or is the newest. SceneError where no byte is left, or no int32."""
        slot = self._slot_of.get(code)
        return self._new(code) if slot is None else slot

    def of(self, codes: NDArray[np.integer], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the bytes of codes, any shape; 255 where they are not valid. SceneError as above."""
        if codes.dtype.itemsize <= _TABLE_BYTES:
            unsigned = codes.view(f"u{codes.dtype.itemsize}")
            found = np.flatnonzero(np.bincount(unsigned[valid])).astype(unsigned.dtype)
            table = np.full(np.iinfo(unsigned.dtype).max + 1, NODATA, np.uint8)
            table[found] = self._bytes(found.view(codes.dtype))
            return np.where(valid, table[unsigned], np.uint8(NODATA))
        found = np.unique(codes[valid])
        slots = self._bytes(found)
        if not len(found):
            return np.full(codes.shape, NODATA, np.uint8)
        place = np.minimum(np.searchsorted(found, codes), len(found) - 1)
        return np.where(valid, slots[place], np.uint8(NODATA))

    def _bytes(self, found: NDArray[np.integer]) -> NDArray[np.uint8]:
        if len(found) > MOST_CLASSES:
            raise self._too_many()
        return np.array([self[code] for code in found.tolist()], np.uint8)

    def _new(self, code: int) -> int:
        if len(self._slot_of) == MOST_CLASSES:
            raise self._too_many()
        if not _INT32.min <= code <= _INT32.max:
            raise SceneError(
                f"{self._name} holds the code {code}, codes are integers from {_INT32.min} to {_INT32.max}; "
                "renumber its classes"
            )
        taken = set(self._slot_of.values())
        is_free = 0 <= code < NODATA and code not in taken
        slot = code if is_free else next(slot for slot in range(NODATA) if slot not in taken)
        self._slot_of[code] = slot
        return slot

    def _too_many(self) -> SceneError:
        return SceneError(
            f"{self._name} holds more than {MOST_CLASSES} codes, which is more than can be told apart; "
            "is it a map of classes? give one, or one with fewer of them"
        )
