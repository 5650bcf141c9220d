"""The files of a run: its folder next to the bundle, checkpoints to resume from, the best weights, and bundles."""

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

from geoseg.atomic import LOCK, claim, output_error, release, replace_durably, sync_file, write_durably
from geoseg.errors import OutputError, ResumeError
from geoseg.evaluation import Evaluation
from geoseg.model import ModelBundle, save_bundle
from geoseg.training.loop import Learner
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import ValidationPictures, write_history

_RUN = "run.json"
DEVICES, INIT_WEIGHTS = "devices", "init weights"
"""Keys of a run's meaning: the number of devices, and the hash of the initial bundle's weights."""
ENCODER_WEIGHTS = "encoder_weights"
"""Key of a run's meaning, as in its recipe; a file is recorded by its name and hash."""
LAST = frozenset({"course", "lr", "network", "averaged", "optimizer", "scaler"})
BEST = frozenset({"course", "weights"})
"""Keys required in a checkpoint to resume from, and in one of the best weights."""


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write tensors, numbers and texts. The previous file stays until the new one is complete.

    Raises OutputError, for example if the disk is full.
    """
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        torch.save(checkpoint, temporary)
        sync_file(temporary)
        replace_durably(temporary, path)
    except OSError as fault:
        raise output_error(path, fault) from fault
    except RuntimeError as fault:  # how torch's writer reports a full disk
        raise OutputError(
            f"cannot write {path}: the disk is full, or gone; free some space and run the same command again: it "
            "resumes from the last complete checkpoint, or starts over if there is none"
        ) from fault
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, holds: frozenset[str] = LAST) -> dict[str, Any] | None:
    """Return the content written by `save_checkpoint`, on the CPU; None if there is no file. Executes nothing in it.

    Raises ResumeError for a file that is not a checkpoint, or lacks the keys in `holds`, as one of another program.
    """
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # noqa: BLE001 - a damaged archive may raise anything
        raise ResumeError(
            f"{path} is damaged, cannot resume ({type(fault).__name__}); remove {path.parent} to start over"
        ) from None
    if not isinstance(checkpoint, dict) or not holds <= checkpoint.keys():
        raise ResumeError(f"{path} is not a checkpoint of this training; remove {path.parent} to start over")
    return checkpoint


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run."""

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
        """The best epoch as a bundle, to try during the run; its confidence is not calibrated yet."""
        return self.path / "best.safetensors"

    @property
    def kept(self) -> Path:
        """The bundle saved when the loss became NaN; the next run may start from it."""
        return self.path / "kept.safetensors"

    @property
    def history(self) -> Path:
        """A CSV file with one line per epoch."""
        return self.path / "history.csv"

    @property
    def known(self) -> dict[str, object]:
        """The recorded meaning of the run. Raises ResumeError if it cannot be read."""
        return _read(self.path / _RUN) or {}

    def settle(self, **settled: object) -> None:
        """Record parts of the run's meaning that were determined after it started. Raises OutputError."""
        before = self.known
        if before | settled != before:
            _write(self.path / _RUN, before | settled)

    def finish(self) -> None:
        """Remove the checkpoints once the bundle is written; the logs stay. Raises OutputError."""
        try:
            for file in (self.last, self.best, self.best_bundle, self.path / _RUN):
                file.unlink(missing_ok=True)
        except OSError as fault:
            raise output_error(self.path, fault) from fault


def run_folder(output: Path) -> Path:
    """Return the folder of the run that writes an output."""
    return output.with_name(output.name + ".training")


@contextmanager
def open_folder(
    output: Path, meaning: Mapping[str, object], *, start_over: bool, free: tuple[str, ...] = ()
) -> Iterator[RunFolder]:
    """Hold the lock of an output's run and yield its folder: an equal run's, to resume, or an empty one.

    Keys named in `free` may differ from `meaning`.

    Raises LockedError if another run holds the lock; ResumeError, naming the differences, if there is a run with
    another `meaning` (unless `start_over`); OutputError if the folder cannot be written.
    """
    folder = RunFolder(run_folder(output))
    try:
        lock = claim(folder.path, f"another run is training {output}; wait for it, or choose another `out`")
    except OSError as fault:
        raise output_error(folder.path, fault) from fault
    try:
        for left in folder.path.glob("*.tmp"):  # by a run killed in a checkpoint
            with suppress(OSError):
                left.unlink()
        _prepare(folder, meaning, start_over=start_over, free=free)
        yield folder
    finally:
        with suppress(OSError):  # a run that kept nothing, usually because its data could not be read
            if {entry.name for entry in folder.path.iterdir()} <= {LOCK, _RUN}:
                (folder.path / _RUN).unlink(missing_ok=True)
        release(lock)


def _prepare(folder: RunFolder, meaning: Mapping[str, object], *, start_over: bool, free: tuple[str, ...]) -> None:
    before = _read(folder.path / _RUN, start_over=start_over)
    current = json.loads(json.dumps(dict(meaning)))
    if before is not None and before | {name: current[name] for name in free} == current:
        return
    if before is not None and folder.last.exists() and not start_over:
        changed = sorted(name for name in {*before, *current} if before.get(name) != current.get(name))
        raise ResumeError(
            f"{folder.path} holds an unfinished training with different {', '.join(changed)}; repeat that command to "
            "resume, or add `overwrite=True` to start over"
        )
    _clear_folder(folder)
    _write(folder.path / _RUN, current)


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


def _clear_folder(folder: RunFolder) -> None:
    """Remove everything but the lock and the kept bundle, which the new run may start from."""
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
    """Decides when to write checkpoints, and writes them. Sent to the process that has the weights."""

    def __init__(self, plan: TrainingPlan, folder: RunFolder, minutes: float) -> None:
        self._folder = folder
        self._pictures = ValidationPictures(plan)
        self.see = self._pictures.see
        self._every_s = 60 * minutes
        self._last_kept_s = time.monotonic()

    def due(self) -> bool:
        """Return whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self._last_kept_s >= self._every_s

    def keep(self, learner: Learner) -> None:
        """Write the checkpoint to resume from. Raises OutputError; the previous one then still exists."""
        save_checkpoint(self._folder.last, learner.checkpoint())
        write_history(self._folder.history, learner.state.rows)
        if learner.state.batches % learner.plan.batches == 0:
            self._pictures.log(learner.state.epochs, learner.loggers)
        self._last_kept_s = time.monotonic()

    def keep_best(self, learner: Learner) -> None:
        """Write the best weights, and a bundle of them at temperature 1. Raises OutputError."""
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
    """Write the learner's current weights as a bundle. `known`: the run's recorded meaning. Raises OutputError."""
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
    """Return the recipe as plain values; a file of weights by name and hash, since its path is only valid here."""
    return plan.recipe.to_json() | {key: known[key] for key in (ENCODER_WEIGHTS,) if key in known}
