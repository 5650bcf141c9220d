"""Kernels that numba compiles when called, and caches on disk if it can; and threads that run several at once.

Loading numba takes half a second and 100 MB. So it is loaded when the first kernel is called, and a module may offer
both a fast and a lightweight version. Kernels release the GIL, so threads suffice to run several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache, update_wrapper
from itertools import pairwise
from threading import RLock
from types import CodeType
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.machine import available_cores, in_every_fork

_Function = TypeVar("_Function", bound=Callable[..., object])

_making = RLock()
_around: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]

MOST = 4
"""Largest number of threads; more would compete for memory bandwidth."""
_SHARE = 100_000
"""Vertices per thread for which another thread pays off."""


def njit(
    *, cache: bool = False, nogil: bool = False, inline: Literal["never", "always"] = "never"
) -> Callable[[_Function], _Function]:
    """Compile like `numba.njit`, when the kernel is first called; without a writable cache it only takes longer.

    The first call of any kernel in a module replaces all of the module's kernels by numba's own dispatchers.
    """

    def kernel(function: _Function) -> _Function:
        return cast("_Function", _Kernel(function, cache=cache, nogil=nogil, inline=inline))

    return kernel


def compiler_of(kernel: object) -> Any:  # noqa: ANN401 - numba's Dispatcher
    """Return a kernel's numba dispatcher, which compiles it for each set of types."""
    return kernel.made() if isinstance(kernel, _Kernel) else kernel


def load_within(context: Callable[[], AbstractContextManager[None]]) -> None:
    """Set a context manager in which numba is loaded from now on, for processes that need one."""
    _around[:] = [context]


def load_compiler() -> None:
    """Load everything that numba loads at the first call of any kernel."""
    from numba.core.registry import cpu_target  # noqa: PLC0415 - see above

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


class _Kernel:
    """Placeholder for a kernel until it is called."""

    def __init__(self, function: Callable[..., object], *, cache: bool, **how: Any) -> None:  # noqa: ANN401 - numba's options
        update_wrapper(self, function)
        self._function, self._cache, self._how = function, cache, how
        self._made: Callable[..., object] | None = None
        self._in_work = False

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - any arguments
        return compiler_of(self)(*arguments)

    def made(self) -> Callable[..., object] | None:
        """Return the numba dispatcher; replace all placeholders in the kernel's module by theirs."""
        with _making:
            if self._made is None:
                self.make()
                _place(self._function.__globals__, [*self._function.__globals__])
            return self._made

    def make(self) -> Callable[..., object] | None:
        """Return the numba dispatcher, made after those of the kernels that this one calls.

        numba does not retry a failed compilation, so other threads must not see a dispatcher too early. Returns None
        while it is being made, since kernels may call each other.
        """
        if self._made is None and not self._in_work:
            self._in_work = True
            try:
                _place(self._function.__globals__, _names_in(self._function.__code__))
                self._made = _compiled(self._function, cache=self._cache, **self._how)
            finally:
                self._in_work = False
        return self._made


def _place(known: dict[str, Any], names: Iterable[str]) -> None:
    """Replace the placeholders of some kernels in a module by their dispatchers."""
    for name in names:
        if isinstance(kernel := known.get(name), _Kernel) and (made := kernel.make()) is not None:
            known[name] = made


def _names_in(code: CodeType) -> set[str]:
    """Return the names that a function looks up, including those of its comprehensions."""
    inner = (_names_in(each) for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names}.union(*inner)


def _compiled(function: Callable[..., object], *, cache: bool, **how: Any) -> Callable[..., object]:  # noqa: ANN401
    """Return the function compiled by `numba.njit`.

    numba raises disk errors during the first call, and RuntimeError if there is no folder for its cache at all.
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
    kept = getattr(kernel, "_cache", None)  # none if NUMBA_DISABLE_JIT leaves the function unchanged
    if kept is not None:
        kept.save_overload = _in_any_case(kept.save_overload)
    return kernel


def _in_any_case(save: Callable[[object, object], None]) -> Callable[[object, object], None]:
    def tried(signature: object, result: object) -> None:
        with suppress(OSError):
            save(signature, result)

    return tried


def run_parallel(*tasks: Callable[[], Any]) -> list[Any]:
    """Run several tasks at once and return their results. This thread runs the last task."""
    waiting = [_pool().submit(task) for task in tasks[:-1]]
    last = tasks[-1]()
    return [future.result() for future in waiting] + [last]


def shares(vertices: NDArray[Any]) -> list[slice]:
    """Cut entries into slices of nearly equal numbers of vertices, one per core if that pays off."""
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
