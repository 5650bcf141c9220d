"""A training on several devices: each has a process of its own, and what the first one tells arrives in this one."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

import geoseg.errors
from geoseg.errors import GeosegError, TrainingError
from geoseg.model import one_line
from geoseg.training.callbacks import Callbacks

_RAISED = re.compile(r"geoseg\.errors\.(\w+): (.*)")

_QUIET = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""What other processes are told: their advice is for programmers."""


@contextmanager
def relayed(callbacks: Callbacks) -> Iterator[Callbacks]:
    """Give callbacks that can go to other processes and call those of this one.

    Checkpoints are written where the weights are, so all but `batch`, `epoch` and `stop` has to be picklable. Raises
    what was raised in a process, KeyboardInterrupt when a callback asked for a stop.
    """
    context = torch.multiprocessing.get_context("spawn")
    queue, stop = context.Queue(), context.Event()
    failures: list[BaseException] = []
    thread = threading.Thread(target=_deliver, args=(queue.get, callbacks, stop.set, failures), daemon=True)
    thread.start()
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        yield replace(callbacks, batch=_Relay(queue, "batch"), epoch=_Relay(queue, "epoch"), stop=stop.is_set)
    except ProcessException as fault:
        raise _cause(fault, stopped=callbacks.stop()) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})
        queue.put(None)
        thread.join()
        if failures:
            raise failures[0]


@dataclass(frozen=True)
class _Relay:
    """Puts what it is called with into a queue."""

    queue: Any
    name: str

    def __call__(self, *told: object) -> None:
        self.queue.put((self.name, told))


def _deliver(
    get: Callable[[], Any], callbacks: Callbacks, stop: Callable[[], None], failures: list[BaseException]
) -> None:
    while (message := get()) is not None:
        name, told = message
        try:
            if not failures:
                getattr(callbacks, name)(*told)
        except BaseException as fault:  # noqa: BLE001 - raised again in the main thread
            failures.append(fault)
        if failures or callbacks.stop():
            stop()


def _cause(fault: ProcessException, *, stopped: bool) -> BaseException:
    """Return what ended a process, of which only the text has come here."""
    if stopped:
        return KeyboardInterrupt()
    raised = _RAISED.search(str(fault))
    kind = getattr(geoseg.errors, raised[1], None) if raised else None
    if raised and isinstance(kind, type) and issubclass(kind, GeosegError):
        return kind(raised[2])
    if isinstance(fault, ProcessExitedException):
        return TrainingError(
            f"the process of device {fault.error_index} ended ({one_line(str(fault), 120)}); the same command resumes "
            "from the last checkpoint"
        )
    return RuntimeError(str(fault).strip().splitlines()[-1])
