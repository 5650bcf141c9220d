"""The public names of a package, each loaded on its first use (SPEC 1)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import lazy_loader


class _Face(ModuleType):
    """A package whose public names stay those of its stub.

    A verb and its module may share a name, and Python binds a submodule to its package when it is loaded. Without this
    class, the one loaded last would get the name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in self.__dict__.get("__all__", ()):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for the package whose stub, `__init__.pyi`, is next to a file."""
    sys.modules[package].__class__ = _Face
    get, names, exported = lazy_loader.attach_stub(package, file)
    return get, names, exported
