"""Kernels that numba compiles and keeps on the disk for the next process; where it cannot, that one compiles again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def njit(
    *, cache: bool = False, nogil: bool = False, inline: Literal["never", "always"] = "never"
) -> Callable[[Kernel], Kernel]:
    """Compile as `numba.njit` does; a cache that is full, or may not be written, costs time and nothing else.

    numba raises what the disk says in the middle of the first call, and RuntimeError where it finds no folder at all.
    """

    def compiled(function: Kernel) -> Kernel:
        plain = numba.njit(nogil=nogil, inline=inline)
        if not cache:
            return cast("Kernel", plain(function))
        try:
            kernel = numba.njit(cache=True, nogil=nogil, inline=inline)(function)
        except RuntimeError:
            return cast("Kernel", plain(function))
        kept = getattr(kernel, "_cache", None)  # none where NUMBA_DISABLE_JIT leaves the function as it is
        if kept is not None:
            kept.save_overload = _in_any_case(kept.save_overload)
        return cast("Kernel", kernel)

    return compiled


def _in_any_case(save: Callable[[object, object], None]) -> Callable[[object, object], None]:
    def tried(signature: object, result: object) -> None:
        with suppress(OSError):
            save(signature, result)

    return tried
