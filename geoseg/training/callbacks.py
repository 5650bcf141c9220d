"""Reports of a training while it runs, and ways to stop it.

With several devices each has its own process, and the reports of the first one are relayed to this process.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

import geoseg.errors
from geoseg.errors import GeosegError, TrainingError, one_line
from geoseg.progress import Announce
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import EpochRow
from geoseg.training.validation import Seen

if TYPE_CHECKING:
    from geoseg.training.loop import Learner


_SMOOTHING = 0.95
"""Weight of the previous value in the smoothed loss."""
_RAISED = re.compile(r"geoseg\.errors\.(\w+): (.*)")

_QUIET = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Environment of other processes; hides their warnings, which are meant for programmers."""


@dataclass(slots=True)
class TrainingState:
    """The progress of a run, stored in checkpoints besides tensors."""

    batches: int = 0
    """Batches done in all epochs."""
    batch_size: int = 0
    """Size of these batches; 0 if none is done."""
    accumulate: int = 1
    """Batches per optimizer step."""
    epoch_batches: int = 0
    """Batches per epoch."""
    epochs: int = 0
    """Epochs completed, including validation."""
    best: float = -math.inf
    """The best mIoU on validation."""
    best_epoch: int = -1
    loss_sum: float = 0.0
    """Sum over the batches of the current epoch."""
    epoch_s: float = 0.0
    """Seconds spent on the current epoch."""
    shown_loss: float = math.nan
    """The smoothed loss."""
    rows: tuple[EpochRow, ...] = ()

    def add_loss(self, value: float) -> None:
        """Add the loss of one more batch."""
        self.loss_sum += value
        first = math.isnan(self.shown_loss)
        self.shown_loss = value if first else _SMOOTHING * self.shown_loss + (1 - _SMOOTHING) * value

    def close_epoch(self, row: EpochRow) -> bool:
        """Record a completed epoch; return whether it is the best so far."""
        self.epochs += 1
        self.loss_sum = self.epoch_s = 0.0
        self.rows = (*self.rows, row)
        better = row.miou > self.best  # false for nan
        if better:
            self.best, self.best_epoch = row.miou, row.epoch
        return better

    def recounted(self, plan: TrainingPlan) -> Self:
        """Return the state converted to a plan with steps of equal size, split into more or fewer batches."""
        if self.epoch_batches in {0, plan.batches} and self.accumulate == plan.recipe.accumulate:
            return self
        within = self.batches - self.epochs * self.epoch_batches
        rescaled = within // self.accumulate * plan.recipe.accumulate
        return replace(
            self,
            batches=self.epochs * plan.batches + rescaled,
            loss_sum=self.loss_sum * rescaled / max(1, within),
        )

    def to_text(self) -> str:
        """Return the state as JSON text, with Python's NaN and Infinity."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the state from the text of `to_text`."""
        plain = json.loads(text)
        return cls(**plain | {"rows": tuple(EpochRow(**row) for row in plain["rows"])})


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The progress of a training, for a progress bar."""

    batches_done: int
    """Including those before a resume."""
    batches_total: int
    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Smoothed."""
    lr: float
    seconds: float
    """Time since this run started."""
    seconds_left: float
    """At this run's rate."""

    @classmethod
    def of(cls, plan: TrainingPlan, state: TrainingState, lr: float, seconds: float, begun_at: int) -> Self:
        """Return the progress after a batch, for a run that started after `begun_at` batches."""
        done, total = state.batches, plan.total_batches
        rate = (done - begun_at) / seconds if seconds > 0 else 0.0
        left = (total - done) / rate if rate > 0 else 0.0
        return cls(done, total, state.epochs + 1, plan.recipe.epochs, state.shown_loss, lr, seconds, left)


def _nothing(*_: object) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Functions that the loop calls; each may do nothing. Only the first of several devices calls them."""

    batch: Callable[[TrainingState, float], None] = _nothing
    """After each batch: the state and the learning rate."""
    epoch: Callable[[EpochRow], None] = _nothing
    keep: Callable[[Learner], None] = _nothing
    """Write a checkpoint."""
    keep_best: Callable[[Learner], None] = _nothing
    due: Callable[[], bool] = _never
    """Return whether a checkpoint is due within an epoch."""
    stop: Callable[[], bool] = _never
    """Return whether the run should end after this batch."""
    seen: Seen = _nothing
    """During validation: a scene, a window, the codes of the reference and of the network."""


class Stop:
    """Whether a stop of the run was requested."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def polite_stop(announce: Announce) -> Iterator[Stop]:
    """Make the first Ctrl-C, or SIGTERM, request a stop, and the second raise KeyboardInterrupt at once.

    Has no effect outside the main thread, where Python does not allow signal handlers.
    """
    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        announce("stopping after this batch, with a checkpoint; interrupt again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def relayed(callbacks: Callbacks) -> Iterator[Callbacks]:
    """Yield callbacks that can be sent to other processes and call those of this one.

    Checkpoints are written where the weights are, so all but `batch`, `epoch` and `stop` must be picklable. Raises the
    exception of a process, or KeyboardInterrupt if a callback requested a stop.
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
        raise _rebuilt_cause(fault, stopped=callbacks.stop()) from None
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
    """Puts the arguments of each call into a queue."""

    queue: Any
    name: str

    def __call__(self, *arguments: object) -> None:
        self.queue.put((self.name, arguments))


def _deliver(
    get: Callable[[], Any], callbacks: Callbacks, stop: Callable[[], None], failures: list[BaseException]
) -> None:
    while (message := get()) is not None:
        name, arguments = message
        try:
            if not failures:
                getattr(callbacks, name)(*arguments)
        except BaseException as fault:  # noqa: BLE001 - reraised in the main thread
            failures.append(fault)
        if failures or callbacks.stop():
            stop()


def _rebuilt_cause(fault: ProcessException, *, stopped: bool) -> BaseException:
    """Return the exception that ended a process, reconstructed from its text."""
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
