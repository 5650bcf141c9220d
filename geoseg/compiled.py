"""Kernels that numba compiles when they are called, keeps on the disk where it can, and runs side by side.

numba takes half a second and 100 MB. So it is loaded when the first kernel is called, and a module may hold the quick
way beside the small one. Kernels leave Python's lock, so threads are enough to run several at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache, update_wrapper
from itertools import pairwise
from threading import RLock
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.machine import available_cores, in_every_fork

_Function = TypeVar("_Function", bound=Callable[..., object])

_making = RLock()
_around: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]

MOST = 4
"""More threads wait for the same memory."""
_SHARE = 100_000
"""Vertices for which a thread pays."""


def njit(
    *, cache: bool = False, nogil: bool = False, inline: Literal["never", "always"] = "never"
) -> Callable[[_Function], _Function]:
    """Compile as `numba.njit` does, when the kernel is called; a cache that cannot be written costs time, nothing else.

    What stands in a module under a kernel's name is numba's own from the first call of one of its kernels on.
    """

    def kernel(function: _Function) -> _Function:
        return cast("_Function", _Kernel(function, cache=cache, nogil=nogil, inline=inline))

    return kernel


def compiler_of(kernel: object) -> Any:  # noqa: ANN401 - numba's Dispatcher
    """Return numba's own of a kernel, which compiles it for each set of types."""
    return kernel.made() if isinstance(kernel, _Kernel) else kernel


def load_within(context: Callable[[], AbstractContextManager[None]]) -> None:
    """Have a context around what loads numba from now on, as a process of its own may want one."""
    _around[:] = [context]


def load_compiler() -> None:
    """Load what numba loads when the first kernel is called, whichever that is."""
    from numba.core.registry import cpu_target  # noqa: PLC0415 - see above

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


class _Kernel:
    """Stands for a kernel until it is called."""

    def __init__(self, function: Callable[..., object], *, cache: bool, **how: Any) -> None:  # noqa: ANN401 - numba's options
        update_wrapper(self, function)
        self._function, self._cache, self._how = function, cache, how
        self._made: Callable[..., object] | None = None

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - whatever the kernel takes
        return self.made()(*arguments)

    def made(self) -> Callable[..., object]:
        """Return numba's own; put it, and those of all kernels that its module knows, where the modules look."""
        with _making:
            if self._made is None:
                self._made = _compiled(self._function, cache=self._cache, **self._how)
                known = self._function.__globals__
                for name, value in list(known.items()):
                    if isinstance(value, _Kernel):
                        known[name] = value.made()
            return self._made


def _compiled(function: Callable[..., object], *, cache: bool, **how: Any) -> Callable[..., object]:  # noqa: ANN401
    """Return what `numba.njit` makes of a function.

    numba raises what the disk says in the middle of the first call, and RuntimeError where it finds no folder at all.
    """
    with _around[0]():
        import numba  # noqa: PLC0415 - see above

        load_compiler()
    plain: Callable[..., object] = numba.njit(**how)(function)
    if not cache:
        return plain
    try:
        kernel: Callable[..., object] = numba.njit(cache=True, **how)(function)
    except RuntimeError:
        return plain
    kept = getattr(kernel, "_cache", None)  # none where NUMBA_DISABLE_JIT leaves the function as it is
    if kept is not None:
        kept.save_overload = _in_any_case(kept.save_overload)
    return kernel


def _in_any_case(save: Callable[[object, object], None]) -> Callable[[object, object], None]:
    def tried(signature: object, result: object) -> None:
        with suppress(OSError):
            save(signature, result)

    return tried


def run_parallel(*tasks: Callable[[], Any]) -> list[Any]:
    """Do several things at once; return what each returns. The last is done by this thread."""
    waiting = [_pool().submit(task) for task in tasks[:-1]]
    last = tasks[-1]()
    return [future.result() for future in waiting] + [last]


def shares(vertices: NDArray[Any]) -> list[slice]:
    """Cut entries into stretches of about as many vertices, one for each core where they are worth it."""
    ends = np.cumsum(vertices)
    total = int(ends[-1]) if len(ends) else 0
    wanted = min(MOST, total // _SHARE)
    count = min(wanted, available_cores()) if wanted > 1 else 1
    cuts = np.searchsorted(ends, [total * share // count for share in range(1, count)], side="left").tolist()
    bounds = [0, *cuts, len(vertices)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, thread_name_prefix="geoseg-kernels")


in_every_fork(_pool.cache_clear)
