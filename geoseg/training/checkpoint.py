"""What a run keeps: its folder beside the bundle, checkpoints to resume from, the best weights, bundles of them."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoseg.atomic import LOCK, claim, output_error, replace_durably, sync_file, write_durably
from geoseg.errors import OutputError, ResumeError
from geoseg.evaluation import Evaluation
from geoseg.model import ModelBundle, save_bundle
from geoseg.training.loop import Learner
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import ValidationPictures, write_history

_RUN = "run.json"
DEVICES, INIT_WEIGHTS = "devices", "init weights"
"""Of a run's meaning: how many devices, and the hash of the weights of the bundle that it began with."""
ENCODER_WEIGHTS = "encoder_weights"
"""Of a run's meaning, as in its recipe; a file by its name and hash."""
_LATER = (DEVICES, INIT_WEIGHTS)
"""What the first runs did not note of themselves: one that lacks it resumes."""
LAST, BEST = frozenset({"course", "lr", "network", "averaged", "optimizer"}), frozenset({"course", "weights"})
"""What a checkpoint to resume from holds at least, and one of the best weights."""


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write tensors, numbers and texts. The file before stays until the new one is whole.

    Raises OutputError, as on a full disk.
    """
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        torch.save(checkpoint, temporary)
        sync_file(temporary)
        replace_durably(temporary, path)
    except OSError as fault:
        raise output_error(path, fault) from fault
    except RuntimeError as fault:  # torch's writer tells of a full disk in its own words
        raise OutputError(
            f"cannot write {path}: the disk is full, or gone; free some space and run the same command again: it "
            "resumes from the checkpoint before"
        ) from fault
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, holds: frozenset[str] = LAST) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, on the CPU; None where there is no such file. Nothing in it is run.

    Raises ResumeError for a file that is not a checkpoint, or one of another program, which lacks what it `holds`.
    """
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # noqa: BLE001 - a damaged archive raises whatever it likes
        raise ResumeError(
            f"{path} is damaged, cannot resume ({type(fault).__name__}); remove {path.parent} to start over"
        ) from None
    if not isinstance(checkpoint, dict) or not holds <= checkpoint.keys():
        raise ResumeError(f"{path} is no checkpoint of this training; remove {path.parent} to start over")
    return checkpoint


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run lies."""

    path: Path

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "best.ckpt"

    @property
    def best_bundle(self) -> Path:
        """The best epoch as a bundle, to be tried while the run goes on; its confidence is not made honest yet."""
        return self.path / "best.safetensors"

    @property
    def kept(self) -> Path:
        """The bundle of what a run had learned when its loss became NaN; the next run may begin with it."""
        return self.path / "kept.safetensors"

    @property
    def history(self) -> Path:
        """One line an epoch."""
        return self.path / "history.csv"

    @property
    def known(self) -> dict[str, object]:
        """What the run noted of its meaning. Raises ResumeError where that cannot be read."""
        return _read(self.path / _RUN) or {}

    def settle(self, **known: object) -> None:
        """Remember what of the run's meaning was found out after it began. Raises OutputError."""
        before = self.known
        if before | known != before:
            _write(self.path / _RUN, before | known)

    def finish(self) -> None:
        """Remove the checkpoints of a run whose bundle is written; its logs stay. Raises OutputError."""
        try:
            for file in (self.last, self.best, self.best_bundle, self.path / _RUN):
                file.unlink(missing_ok=True)
        except OSError as fault:
            raise output_error(self.path, fault) from fault


def run_folder(output: Path) -> Path:
    """Return the folder of the run of an output."""
    return output.with_name(output.name + ".training")


@contextmanager
def open_folder(
    output: Path, meaning: Mapping[str, object], *, start_over: bool, free: tuple[str, ...] = ()
) -> Iterator[RunFolder]:
    """Hold the lock of an output's run and give its folder: an equal run's, to resume, or an empty one.

    What is named in `free` may be as it was.

    Raises LockedError when another run holds it, ResumeError, naming what differs, when a run with another `meaning`
    lies there (unless `start_over`), OutputError when it cannot be written.
    """
    folder = RunFolder(run_folder(output))
    try:
        lock = claim(folder.path, f"another run is training {output}; wait for it, or choose another `out`")
    except OSError as fault:
        raise output_error(folder.path, fault) from fault
    try:
        _take_up(folder, meaning, start_over=start_over, free=free)
        yield folder
    finally:
        _remove_unused(folder)
        lock.release()


def _remove_unused(folder: RunFolder) -> None:
    """Remove the folder of a run that has kept nothing: what it was to learn could not be read, as a rule."""
    with suppress(OSError):  # as on Windows, where a lock that is held is not removed
        if {entry.name for entry in folder.path.iterdir()} <= {LOCK, _RUN}:
            shutil.rmtree(folder.path)


def _take_up(folder: RunFolder, meaning: Mapping[str, object], *, start_over: bool, free: tuple[str, ...]) -> None:
    before = _read(folder.path / _RUN, start_over=start_over)
    now = json.loads(json.dumps(dict(meaning)))
    if before is not None:
        before |= {name: now[name] for name in _LATER if name in now and name not in before}
    if before is not None and before | {name: now[name] for name in free} == now:
        return
    if before is not None and folder.last.exists() and not start_over:
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        raise ResumeError(
            f"{folder.path} holds an unfinished training with other {', '.join(changed)}; repeat that command to "
            "resume, or add `overwrite=True` to start over"
        )
    _clear(folder)
    _write(folder.path / _RUN, now)


def _write(path: Path, meaning: dict[str, object]) -> None:
    write_durably(path, (json.dumps(meaning, indent=1) + "\n").encode())


def _read(path: Path, *, start_over: bool = False) -> dict[str, object] | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        if start_over:
            return None
        raise ResumeError(f"{path} cannot be read ({fault}); add `overwrite=True` to start over") from None
    return read if isinstance(read, dict) else {}


def _clear(folder: RunFolder) -> None:
    """Remove what runs have left, but the lock, and what was learned: the run that starts over may begin with it."""
    try:
        for entry in folder.path.iterdir():
            if entry.name == LOCK or entry == folder.kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as fault:
        raise OutputError(
            f"{folder.path} cannot be cleared: {fault.strerror}; remove it, or choose another `out`"
        ) from None


class Checkpointer:
    """When checkpoints are written, and what is in them. It goes to the process that has the weights."""

    def __init__(self, plan: TrainingPlan, folder: RunFolder, minutes: float) -> None:
        self._folder = folder
        self._pictures = ValidationPictures(plan)
        self.see = self._pictures.see
        self._every_s = 60 * minutes
        self._kept_s = time.monotonic()

    def due(self) -> bool:
        """Return whether the last checkpoint is so many minutes old."""
        return time.monotonic() - self._kept_s >= self._every_s

    def keep(self, learner: Learner) -> None:
        """Write the checkpoint to resume from. Raises OutputError; the one before is then still there."""
        save_checkpoint(self._folder.last, learner.checkpoint())
        write_history(self._folder.history, learner.state.rows)
        if learner.state.batches % learner.plan.batches == 0:
            self._pictures.log(learner.state.epochs, learner.loggers)
        self._kept_s = time.monotonic()

    def keep_best(self, learner: Learner) -> None:
        """Write the weights that the bundle will have, and a bundle of them at temperature 1. Raises OutputError."""
        weights = {"weights": learner.kept.state_dict(), "course": learner.state.to_text()}
        save_checkpoint(self._folder.best, weights)
        write_bundle(learner, self._folder.best_bundle, self._folder.known)


def write_bundle(
    learner: Learner,
    target: Path,
    known: Mapping[str, object],
    *,
    temperature: float = 1.0,
    found: Evaluation | None = None,
) -> ModelBundle:
    """Write the weights that would be kept now as a bundle. `known`: of the run's meaning. Raises OutputError."""
    plan, state = learner.plan, learner.state
    init_weights = known.get(INIT_WEIGHTS)
    return save_bundle(
        target,
        learner.kept,
        architecture=plan.architecture,
        arguments=plan.arguments,
        legend=plan.legend,
        output_codes=plan.output_codes,
        bands=plan.bands,
        dtype=plan.dtype,
        normalization=plan.normalization,
        statistics=plan.statistics,
        gsd_m=plan.gsd_m,
        window_px=plan.window_px,
        overlap_px=plan.overlap_px,
        temperature=temperature,
        provenance={
            "recipe": recipe_as_run(plan, known),
            "data": plan.data,
            **({} if init_weights is None else {"init_weights_hash": init_weights}),
            "batch_size": plan.batch_size,
            "batches": state.batches,
            "lr": learner.lr,
            "epoch": state.best_epoch + 1 if state.best_epoch >= 0 else state.epochs,
        },
        metrics={} if found is None else {"validation": found.metrics.to_json()},
    )


def recipe_as_run(plan: TrainingPlan, known: Mapping[str, object]) -> dict[str, Any]:
    """Return the recipe as plain values; a file of weights by its name and hash, for its path is this machine's."""
    return plan.recipe.to_json() | {key: known[key] for key in (ENCODER_WEIGHTS,) if key in known}
