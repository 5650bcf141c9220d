"""The folder of a run, beside the bundle it will become: its lock, what it stands for, its checkpoints and logs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.atomic import output_error, write_durably
from geoseg.errors import LockedError, OutputError, ResumeError

_RUN = "run.json"
_LOCK = "lock"
DEVICES, INIT_WEIGHTS = "devices", "init weights"
"""Of a run's meaning: how many devices, and the hash of the weights of the bundle that it began with."""
ENCODER_WEIGHTS = "encoder_weights"
"""Of a run's meaning, as in its recipe; a file by its name and hash."""
_LATER = (DEVICES, INIT_WEIGHTS)
"""What the first runs did not note of themselves: one that lacks it goes on."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run lies."""

    path: Path

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
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
        """The bundle of what a run had learnt when its loss was no number; the next run may begin with it."""
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
    """Hold the lock of an output's run and give its folder: an equal run's, to go on in, or an empty one.

    What is named in `free` may be as it was.

    Raises LockedError when another run holds it, ResumeError, naming what differs, when a run with another `meaning`
    lies there (unless `start_over`), OutputError when it cannot be written.
    """
    folder = RunFolder(run_folder(output))
    lock = FileLock(folder.path / _LOCK)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(f"another run is training {output}; wait for it, or choose another `out`") from None
    except OSError as fault:
        raise output_error(folder.path, fault) from fault
    try:
        _take_up(folder, meaning, start_over=start_over, free=free)
        yield folder
    finally:
        lock.release()


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
            f"{folder.path} holds an unfinished training with other {', '.join(changed)}; repeat that command to go "
            "on, or add `overwrite=True` to start over"
        )
    _clear(folder)
    _write(folder.path / _RUN, now)


def _write(path: Path, meaning: dict[str, object]) -> None:
    write_durably(path, (json.dumps(meaning, indent=1) + "\n").encode())


def _read(path: Path, *, start_over: bool = False) -> dict[str, object] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        if start_over:
            return None
        raise ResumeError(f"{path} cannot be read ({fault}); add `overwrite=True` to start over") from None
    return told if isinstance(told, dict) else {}


def _clear(folder: RunFolder) -> None:
    """Remove what runs have left, but the lock, and what was learnt: the run that starts over may begin with it."""
    try:
        for entry in folder.path.iterdir():
            if entry.name == _LOCK or entry == folder.kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as fault:
        raise OutputError(
            f"{folder.path} cannot be cleared: {fault.strerror}; remove it, or choose another `out`"
        ) from None
