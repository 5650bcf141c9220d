"""What a training tells while it runs, and to whom; how it is stopped.

On several devices each has a process of its own, and what the first one tells is relayed to this one.
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
from geoseg.progress import Says
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import EpochRow
from geoseg.training.validation import Seen

if TYPE_CHECKING:
    from geoseg.training.loop import Learner


_SMOOTHING = 0.95
"""Of the loss that is shown: the weight of what was."""
_RAISED = re.compile(r"geoseg\.errors\.(\w+): (.*)")

_QUIET = {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""What other processes are told: their advice is for programmers."""


@dataclass(slots=True)
class TrainingState:
    """How far a run is: what a checkpoint holds beside tensors.

    Whatever is added here later needs a default: older checkpoints lack it.
    """

    batches: int = 0
    """Done, of all epochs."""
    batch_size: int = 0
    """Of these; 0: none is done."""
    accumulate: int = 1
    """How many of them a step takes."""
    epoch_batches: int = 0
    """How many of them an epoch has."""
    epochs: int = 0
    """Whole ones, validation included."""
    best: float = -math.inf
    """The best mIoU on validation."""
    best_epoch: int = -1
    loss_sum: float = 0.0
    """Of the batches of the epoch that is not yet whole."""
    epoch_s: float = 0.0
    """What the epoch that is not yet whole has taken, in seconds."""
    shown_loss: float = math.nan
    """The smoothed one."""
    rows: tuple[EpochRow, ...] = ()

    def add_loss(self, value: float) -> None:
        """Count the loss of one more batch."""
        self.loss_sum += value
        first = math.isnan(self.shown_loss)
        self.shown_loss = value if first else _SMOOTHING * self.shown_loss + (1 - _SMOOTHING) * value

    def close_epoch(self, row: EpochRow) -> bool:
        """Count an epoch that is whole; tell whether it is the best so far."""
        self.epochs += 1
        self.loss_sum = self.epoch_s = 0.0
        self.rows = (*self.rows, row)
        better = row.miou > self.best  # no figure is better than none
        if better:
            self.best, self.best_epoch = row.miou, row.epoch
        return better

    def recounted(self, plan: TrainingPlan) -> Self:
        """Return the same state in the batches of a plan whose steps are as large, of more or fewer batches each."""
        if self.epoch_batches in {0, plan.batches} and self.accumulate == plan.recipe.accumulate:
            return self
        within = self.batches - self.epochs * self.epoch_batches
        now_within = within // self.accumulate * plan.recipe.accumulate
        return replace(
            self,
            batches=self.epochs * plan.batches + now_within,
            loss_sum=self.loss_sum * now_within / max(1, within),
        )

    def to_text(self) -> str:
        """Return the state as JSON text, with Python's NaN and Infinity."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the state whose `to_text` this is; older checkpoints have null for NaN."""
        plain = json.loads(text, object_hook=_with_nan)
        return cls(**plain | {"rows": tuple(EpochRow(**row) for row in plain["rows"])})


def _with_nan(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in plain.items()}


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A moment of a training, for a progress bar."""

    batches_done: int
    """Those before a resume included."""
    batches_total: int
    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Smoothed."""
    lr: float
    seconds: float
    """Time since this run began."""
    seconds_left: float
    """At this run's rate."""

    @classmethod
    def of(cls, plan: TrainingPlan, state: TrainingState, lr: float, seconds: float, begun_at: int) -> Self:
        """Return the moment after a batch of a run that began after `begun_at` batches."""
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
    """Functions that the loop calls; every one may do nothing. Called by the first of several devices alone."""

    batch: Callable[[TrainingState, float], None] = _nothing
    """After each batch: the state and the learning rate."""
    epoch: Callable[[EpochRow], None] = _nothing
    keep: Callable[[Learner], None] = _nothing
    """Write a checkpoint."""
    keep_best: Callable[[Learner], None] = _nothing
    due: Callable[[], bool] = _never
    """Whether a checkpoint is due within an epoch."""
    stop: Callable[[], bool] = _never
    """Whether the run is to end after this batch."""
    seen: Seen = _nothing
    """Of validation: a scene, a window, the codes of the reference and of the network."""


class Stop:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def polite_stop(say: Says) -> Iterator[Stop]:
    """Have the first Ctrl-C, or SIGTERM, ask for a stop, and the second raise KeyboardInterrupt at once.

    In another thread than the main one, where Python lets nobody listen to signals, nothing changes.
    """
    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        say("stopping after this batch, with a checkpoint; interrupt again to stop at once")

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
