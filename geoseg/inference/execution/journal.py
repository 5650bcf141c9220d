"""The record of an unfinished map's finished tiles: a folder of parts next to the output, its lock and its journal.

`landcover.tif.parts/journal.jsonl` holds one line of JSON for the run (its fingerprint and the settings behind it),
then one line per finished tile. A line is written once the tile's parts are complete on disk, so a kill at any moment
costs at most the tiles in progress.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from geoseg.atomic import LOCK, append_durably, claim, output_error, release, sync_folder
from geoseg.errors import LockedError, OutputError, ResumeError, UsageError

_JOURNAL = "journal.jsonl"
_BEGUN = -1
_OPEN_TRIES, _RETRY_S = 240, 0.25
"""How often, and at what interval, a shard tries to open the journal while other shards hold it."""
_SHORT = 40
"""Longest value shown in a message."""
_TAGS = {"geoseg": "GEOSEG_VERSION", "model": "GEOSEG_MODEL_SHA256", "scene": "GEOSEG_SCENE_FINGERPRINT"}
_SCENE = "scene"
"""Key of a run's meaning that holds the state of its scene: files with their sizes and times."""
_Placing = dict[str, Mapping[str, str] | None]


def fingerprint(meaning: Mapping[str, object]) -> str:
    """Return the SHA-256 of a run's meaning in hex."""
    return hashlib.sha256(json.dumps(dict(meaning), sort_keys=True).encode()).hexdigest()


def as_tags(meaning: Mapping[str, object]) -> dict[str, str]:
    """Return a run's meaning as the tags that its rasters carry."""
    tags = {_TAGS.get(name, f"GEOSEG_{name.upper()}"): value for name, value in meaning.items() if name != "products"}
    return {tag: value if isinstance(value, str) else json.dumps(value) for tag, value in tags.items()}


def parts_folder(output: Path) -> Path:
    """Return the folder that holds the unfinished map of an output path."""
    return output.with_name(output.name + ".parts")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal shares of a map's tiles, each mapped by an independent process."""

    number: int
    """From 1."""
    count: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a shard such as `3/8`; UsageError for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UsageError(f"`shard` must be I/N, share I of N, such as 3/8; got {text!r:.40}", "shard")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        """Return the shard as text, such as 3/8."""
        return f"{self.number}/{self.count}"

    def indexes(self, tiles: int, name: str) -> range:
        """Return the indexes of its tiles, which are consecutive, for a map of that name.

        The name rotates the shares, so that each shard gets some tiles of many small maps.
        """
        share = (self.number - 1 + zlib.crc32(name.encode())) % self.count
        return range(tiles * share // self.count, tiles * (share + 1) // self.count)

    @property
    def journal_name(self) -> str:
        """Name of the file that records its tiles."""
        return f"journal.{self.number}-of-{self.count}.jsonl"

    @property
    def lock_name(self) -> str:
        """Name of its lock file."""
        return f"{LOCK}.{self.number}-of-{self.count}"


class Journal:
    """The record of one run's finished tiles and products."""

    def __init__(
        self, folder: Path, fingerprint: str, finished: set[int], placing: _Placing, name: str = _JOURNAL
    ) -> None:
        self.folder = folder
        self._file = folder / name
        self.parts = folder / fingerprint[:16]
        """The folder of the parts; late tasks of an earlier run with other parameters cannot write to it."""
        self.finished = finished
        """Indexes of the tiles whose parts are complete."""
        self.placing = placing
        """Names of the complete products that were about to be moved to their final place, or URLs of their objects;
        the URL with the version of an object that was uploaded. Each with the creation options that it was made with,
        None if they are unknown."""

    def add(self, tile: int) -> None:
        """Record a finished tile; the record is on disk when this returns."""
        _append(self._file, {"tile": tile})
        self.finished.add(tile)

    def place(self, product: str, storage: Mapping[str, str]) -> None:
        """Record that a product with these creation options is about to be moved to its final place, or to a URL."""
        if self.placing.get(product) != storage:
            _append(self._file, {"placing": product, "storage": dict(storage)})
            self.placing[product] = dict(storage)

    def has_placed(self, product: str, storage: Mapping[str, str]) -> bool:
        """Return whether a product with these creation options was about to be moved to its place, or uploaded."""
        return product in self.placing and self.placing[product] in (None, storage)


def header(fingerprint: str, meaning: Mapping[str, object]) -> dict[str, object]:
    """Return the first entry of a run's journal."""
    return {"fingerprint": fingerprint, "meaning": dict(meaning)}


def write_journal(
    folder: Path, header: Mapping[str, object], finished: Iterable[int], placing: Iterable[str] = ()
) -> None:
    """Write the journal of a run whose parts were fetched from elsewhere."""
    lines = itertools.chain([header], ({"tile": tile} for tile in finished), ({"placing": name} for name in placing))
    with (folder / _JOURNAL).open("w", encoding="utf-8") as journal:
        journal.writelines(f"{json.dumps(dict(line))}\n" for line in lines)


def being_placed(output: Path) -> Collection[str]:
    """Return the products and objects that an unfinished run next to an output was about to put in their place."""
    return _read(parts_folder(output) / _JOURNAL)[2]


def unfinished(output: Path) -> Mapping[str, object]:
    """Return the meaning of an unfinished run next to an output; empty if there is none."""
    before, _, _ = _read(parts_folder(output) / _JOURNAL)
    meaning = before.get("meaning")
    return meaning if isinstance(meaning, dict) else {}


@contextmanager
def open_journal(
    output: Path, fingerprint: str, meaning: Mapping[str, object], *, start_over: bool, shown: str | None = None
) -> Iterator[Journal]:
    """Hold the output's lock and yield its journal: the one an equal run left, or a new one.

    `shown` is the folder's name in messages, if its parts are kept elsewhere.

    Raises LockedError if another run holds the lock, ResumeError if the parts belong to a run with another fingerprint
    (unless `start_over`), OutputError if the folder cannot be written. On exit, a folder without finished tiles is
    removed.
    """
    folder = parts_folder(output)
    if folder.is_dir() and not _is_parts_folder(folder):
        raise OutputError(f"{folder} does not hold an unfinished map; move it, or choose another `out`", "out")
    lock = _claim(folder, output)
    try:
        _change_folder(_drop_partial_line, folder / _JOURNAL)
        journal = _resume(folder, fingerprint, meaning, start_over=start_over, shown=shown)
        _change_folder(journal.parts.mkdir, exist_ok=True)
        for synced in (folder, folder.parent):  # so that the journal is still found after a power failure
            _change_folder(sync_folder, synced)
        try:
            yield journal
        finally:
            if not journal.finished and folder.is_dir():  # unless somebody removed it
                _clear(folder)
    finally:
        release(lock)


@contextmanager
def open_shard(
    output: Path, fingerprint: str, meaning: Mapping[str, object], shard: Shard, *, start_over: bool
) -> Iterator[Journal]:
    """Hold the lock of a shard and yield its journal, which lists the tiles of all shards; see `open_journal`.

    The output's lock is held only while the folder is inspected, so all shards may start at once. Nothing is removed on
    exit. Raises LockedError if the same shard is running elsewhere.
    """
    folder = parts_folder(output)
    with _opened_with_retries(lambda: open_journal(output, fingerprint, meaning, start_over=start_over)) as shared:
        lock = FileLock(folder / shard.lock_name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(f"shard {shard} of {output} is already running; give each job its own", "shard") from None
        _change_folder(_drop_partial_line, folder / shard.journal_name)
        journal = Journal(folder, fingerprint, shared.finished, shared.placing, shard.journal_name)
        shared.finished = shared.finished | {_BEGUN}  # a folder in use must not be removed
    try:
        yield journal
    finally:
        lock.release()


@contextmanager
def _opened_with_retries(open_it: Callable[[], AbstractContextManager[Journal]]) -> Iterator[Journal]:
    """Open a journal, waiting while other shards inspect it."""
    with ExitStack() as stack:
        for tries_left in reversed(range(_OPEN_TRIES)):
            try:
                journal = stack.enter_context(open_it())
                break
            except LockedError:
                if not tries_left:
                    raise
                time.sleep(_RETRY_S)
        yield journal


def finished_by_all(output: Path) -> set[int]:
    """Return the tiles finished by any shard, or by a run without shards."""
    return _read(parts_folder(output) / _JOURNAL)[1] | _finished_by_shards(parts_folder(output))


def _finished_by_shards(folder: Path) -> set[int]:
    tiles: set[int] = set()
    for path in folder.glob("journal.*-of-*.jsonl"):
        with suppress(OSError, ValueError, KeyError):
            text = path.read_bytes()
            tiles |= {int(json.loads(line)["tile"]) for line in text[: text.rfind(b"\n") + 1].splitlines()}
    return tiles


@contextmanager
def parts_going(journal: Journal) -> Iterator[None]:
    """Remove the parts in the background of the body: every map is built, so no one reads them again."""

    def remove() -> None:
        for path in journal.parts.glob("*.zip"):
            with suppress(OSError):  # `clear_parts` reports it
                path.unlink(missing_ok=True)

    with ThreadPoolExecutor(1, "geoseg-clear") as pool:
        pool.submit(remove)
        yield


def clear_parts(journal: Journal) -> None:
    """Remove the parts and the journal of a finished map; the lock is removed when the journal is closed."""
    _clear(journal.folder)
    journal.finished.clear()


def _is_parts_folder(folder: Path) -> bool:
    """Return whether a folder may be cleared: the first files a run creates in it are the lock, then the journal."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:  # another run has just removed it
        return True
    return not names or LOCK in names or _JOURNAL in names


def _claim(folder: Path, output: Path) -> FileLock:
    try:
        return claim(folder, f"another run is writing {output}; wait for it, or choose another `out`")
    except OSError as error:
        raise OutputError(
            f"cannot write next to {output}: {error.strerror}; choose another folder for `out`", "out"
        ) from error


def _resume(
    folder: Path, fingerprint: str, meaning: Mapping[str, object], *, start_over: bool, shown: str | None
) -> Journal:
    before, finished, placing = _read(folder / _JOURNAL)
    if before.get("fingerprint") == fingerprint:
        return Journal(folder, fingerprint, finished | _finished_by_shards(folder), placing)
    if before and not start_over:
        raise _other_run_error(str(shown or folder), before.get("meaning"), meaning, placing)
    _clear(folder)
    _append(folder / _JOURNAL, header(fingerprint, meaning))
    return Journal(folder, fingerprint, set(), {})


def _other_run_error(folder: str, before: object, now: Mapping[str, object], placing: _Placing) -> ResumeError:
    products = before.get("products", []) if isinstance(before, dict) else []
    what = "a map whose polygons are missing," if products and placing.keys() >= set(products) else "an unfinished map"
    changed = _changed(before, now)
    if changed == _SCENE:
        message = (
            f"{folder} holds {what} of another scene, or of this one before its files changed; add `overwrite=True` to "
            "start over, or choose another `out`"
        )
    else:
        message = (
            f"{folder} holds {what} with different settings: {changed}; repeat that command to finish it, or add "
            "`overwrite=True` to start over"
        )
    return ResumeError(message, "overwrite")


def _changed(before: object, now: Mapping[str, object]) -> str:
    old = before if isinstance(before, dict) else {}
    plain = json.loads(json.dumps(dict(now)))
    changes = [_change_text(name, old.get(name), value) for name, value in plain.items() if old.get(name) != value]
    return ", ".join(changes) or "parameters"


def _change_text(name: str, before: object, now: object) -> str:
    """Return a parameter's name, with its values if they are short; hashes would not help."""
    values = [f"{value:.4g}" if isinstance(value, float) else json.dumps(value) for value in (before, now)]
    return name if max(map(len, values)) > _SHORT else f"{name} ({values[0]} before, {values[1]} now)"


def _read(path: Path) -> tuple[dict[str, object], set[int], _Placing]:
    """Return the header, the finished tiles, and the products being placed; ignores a line cut short by a kill."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}, set(), {}
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}; choose another `out`", "out") from error
    try:
        lines = map(json.loads, text[: text.rfind(b"\n") + 1].splitlines())
        before, tiles, placing = dict(next(lines, {})), set[int](), _Placing()
        for line in lines:
            if "placing" in line:
                placing[str(line["placing"])] = line.get("storage")
            else:
                tiles.add(int(line["tile"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"fingerprint": None}, set(), {}
    return before, tiles, placing


def _drop_partial_line(path: Path) -> None:
    """Cut off a partial line left by a kill, so that the next entry starts on a new line."""
    if path.exists():
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)


def _append(path: Path, line: Mapping[str, object]) -> None:
    try:
        append_durably(path, json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"{output_error(path, error)}; the finished tiles are kept") from error


def _clear(folder: Path) -> None:
    """Remove everything but the lock; the journal last, so that a folder left by a kill is still recognized."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _JOURNAL):
        if path.is_dir():
            _change_folder(shutil.rmtree, path)
        elif path.name.startswith(f"{LOCK}."):  # the lock of a shard that is about to exit
            with suppress(OSError):
                path.unlink(missing_ok=True)
        elif path.name != LOCK:
            _change_folder(path.unlink, missing_ok=True)


def _change_folder(change: Callable[..., object], *arguments: object, **settings: object) -> None:
    """Call a function that changes the folder; OutputError if the system refuses."""
    try:
        change(*arguments, **settings)
    except OSError as error:
        raise OutputError(
            f"cannot modify {error.filename}: {error.strerror}; check its permissions, or choose another `out`", "out"
        ) from error
