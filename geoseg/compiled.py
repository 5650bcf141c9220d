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

from geoseg.errors import UsageError
from geoseg.machine import available_cores, in_every_fork

_Function = TypeVar("_Function", bound=Callable[..., object])

_compile_lock = RLock()
_loading_context: list[Callable[[], AbstractContextManager[None]]] = [nullcontext]

MOST_THREADS = 4
"""Largest number of threads; more would compete for memory bandwidth."""
_VERTICES_PER_THREAD = 100_000
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
    return kernel.dispatcher() if isinstance(kernel, _Kernel) else kernel


def load_within(context: Callable[[], AbstractContextManager[None]]) -> None:
    """Set a context manager in which numba is loaded from now on, for processes that need one."""
    _loading_context[:] = [context]


def load_compiler() -> None:
    """Load everything that numba loads at the first call of any kernel.

    UsageError with NUMBA_DISABLE_JIT: in Python itself, sums of such integers overflow.
    """
    import numba  # noqa: PLC0415 - see above
    from numba.core.registry import cpu_target  # noqa: PLC0415 - see above

    if getattr(numba.config, "DISABLE_JIT", 0):
        raise UsageError("NUMBA_DISABLE_JIT turns off the compiler that geoseg needs; unset this variable")
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


class _Kernel:
    """Placeholder for a kernel until it is called."""

    def __init__(self, function: Callable[..., object], *, cache: bool, **options: Any) -> None:  # noqa: ANN401 - numba's options
        update_wrapper(self, function)
        self._function, self._cache, self._options = function, cache, options
        self._dispatcher: Callable[..., object] | None = None
        self._is_compiling = False

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - any arguments
        return compiler_of(self)(*arguments)

    def dispatcher(self) -> Callable[..., object] | None:
        """Return the numba dispatcher; replace all placeholders in the kernel's module by theirs."""
        with _compile_lock:
            if self._dispatcher is None:
                self.make()
                _replace_placeholders(self._function.__globals__, [*self._function.__globals__])
            return self._dispatcher

    def make(self) -> Callable[..., object] | None:
        """Return the numba dispatcher, made after those of the kernels that this one calls.

        numba does not retry a failed compilation, so other threads must not see a dispatcher too early. Returns None
        while it is being made, since kernels may call each other.
        """
        if self._dispatcher is None and not self._is_compiling:
            self._is_compiling = True
            try:
                _replace_placeholders(self._function.__globals__, _names_in(self._function.__code__))
                self._dispatcher = _compiled(self._function, cache=self._cache, **self._options)
            finally:
                self._is_compiling = False
        return self._dispatcher


def _replace_placeholders(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Replace the placeholders of some kernels in a module by their dispatchers."""
    for name in names:
        if isinstance(kernel := namespace.get(name), _Kernel) and (dispatcher := kernel.make()) is not None:
            namespace[name] = dispatcher


def _names_in(code: CodeType) -> set[str]:
    """Return the names that a function looks up, including those of its comprehensions."""
    inner = (_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names}.union(*inner)


def _compiled(function: Callable[..., object], *, cache: bool, **options: Any) -> Callable[..., object]:  # noqa: ANN401
    """Return the function compiled by `numba.njit`.

    numba raises disk errors during the first call, and RuntimeError if there is no folder for its cache at all.
    """
    with _loading_context[0]():
        import numba  # noqa: PLC0415 - see above

        load_compiler()
    plain: Callable[..., object] = numba.njit(**options)(function)
    if not cache:
        return plain
    try:
        kernel: Callable[..., object] = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return plain
    disk_cache: Any = vars(kernel)["_cache"]
    disk_cache.save_overload = _ignoring_disk_errors(disk_cache.save_overload)
    return kernel


def _ignoring_disk_errors(save: Callable[[object, object], None]) -> Callable[[object, object], None]:
    def save_if_possible(signature: object, result: object) -> None:
        with suppress(OSError):
            save(signature, result)

    return save_if_possible


def run_parallel(*tasks: Callable[[], Any]) -> list[Any]:
    """Run several tasks at once and return their results. This thread runs the last task."""
    futures = [_pool().submit(task) for task in tasks[:-1]]
    last_result = tasks[-1]()
    return [future.result() for future in futures] + [last_result]


def shares(vertices: NDArray[Any]) -> list[slice]:
    """Cut entries into slices of nearly equal numbers of vertices, one per core if that pays off."""
    ends = np.cumsum(vertices)
    total = int(ends[-1]) if len(ends) else 0
    threads = min(MOST_THREADS, total // _VERTICES_PER_THREAD)
    count = min(threads, available_cores()) if threads > 1 else 1
    cuts = np.searchsorted(ends, [total * share // count for share in range(1, count)], side="left").tolist()
    bounds = [0, *cuts, len(vertices)]
    return [slice(begin, end) for begin, end in pairwise(bounds)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_THREADS - 1, thread_name_prefix="geoseg-kernels")


in_every_fork(_pool.cache_clear)
