"""A run whose outputs are objects in a store: staged on a local disk, with its finished parts kept in the store.

`s3://bucket/landcover.tif.parts/` holds what a folder next to a local map would: the header of the run and one object
per finished part. Objects appear only when complete, so the listing is the journal: any machine that reaches the store
can continue the run, and workers need no shared disk. The outputs are uploaded one after another, the map last; then
the parts are removed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from geoseg.atomic import LOCK
from geoseg.errors import GeosegError, OutputError, UsageError
from geoseg.inference.execution.journal import being_placed, parts_folder, write_journal
from geoseg.inference.execution.map_item import is_map_item
from geoseg.inference.execution.outputs import OutputOptions, foreign_error, item_place
from geoseg.progress import Announce
from geoseg.raster import close_kept
from geoseg.raster.landcover import ProductName, files_beside, foreign_beside
from geoseg.store import Key, check_free, check_unchanged, claimed, is_store, upload_with_sidecars

_HEADER, _PLACING = "run.json", "placing"
_NAMES = ("polygons", "probabilities", "confidence", "stac", "out")
"""The parameters that name outputs, in the order of upload: the map is last."""
_PRODUCTS = ("probabilities", "confidence", "out")
_MOST_SIDECAR_BYTES = 1 << 20
"""A larger file next to a map is not geoseg's."""
_TRANSFERS = 8
"""Parts fetched at once."""
_MOST_WAITING = 256
"""Most tiles waiting to be fetched; beyond that the run waits."""


@dataclass(frozen=True, slots=True)
class PartsStore:
    """The parts of an unfinished map in a store; picklable, so that workers upload their parts themselves."""

    folder: Key

    def begin(self, header: Mapping[str, object]) -> None:
        """Record the run that the parts belong to; parts of another run are removed."""
        content = json.dumps(dict(header)).encode()
        header_key = self.folder.inside(_HEADER)
        if header_key.read() != content:
            self.clear()
            header_key.write(content)

    def keep(self, part: Path) -> None:
        """Upload a finished part."""
        self._key(part).upload(part)

    def have(self, parts: Sequence[Path]) -> list[bool]:
        """Return for each part whether it is in the store."""
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            return list(pool.map(lambda part: self._key(part).exists(), parts))

    def _key(self, part: Path) -> Key:
        return self.folder.inside(f"{part.parent.name}/{part.name}")

    @contextmanager
    def fetching(self) -> Iterator[Callable[[Sequence[Path]], None]]:
        """Yield a function that fetches parts, several at once, while others are made; on exit all are here.

        If a fetch fails, a later call or the exit raises the error.
        """
        fetches: deque[Future[None]] = deque()
        with ThreadPoolExecutor(_TRANSFERS, "geoseg-parts") as pool:

            def fetch(parts: Sequence[Path]) -> None:
                fetches.append(pool.submit(self._fetch, parts))
                while len(fetches) > _MOST_WAITING:
                    fetches.popleft().result()

            try:
                yield fetch
                while fetches:
                    fetches.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _fetch(self, parts: Sequence[Path]) -> None:
        """Fetch the parts that workers on other machines have uploaded; skip those that are here already."""
        for part in parts:
            if not part.exists():
                self._key(part).download(part)

    def restore(self, labels: Path, placing: Collection[str] = (), *, fetch_parts: bool = True) -> None:
        """Create the folder of parts and the journal that a local run would have left next to `labels`.

        `placing` are the products that the run may have put on this machine's disk.
        """
        try:
            header = json.loads(self.folder.inside(_HEADER).read() or b"{}")
            meaning = header.get("meaning", {})
            run, products = str(header.get("fingerprint", ""))[:16], set(meaning.get("products", ()))
        except (ValueError, AttributeError, TypeError):
            raise OutputError(
                f"{self.folder} does not hold an unfinished map; move it, or choose another `out`", "out"
            ) from None
        if not run:
            return
        folder = parts_folder(labels) / run
        folder.mkdir(parents=True)
        names_by_tile: defaultdict[int, list[str]] = defaultdict(list)
        for name in self.folder.names() if fetch_parts else ():
            product, _, number = name.removeprefix(f"{run}/").removesuffix(".zip").rpartition("_")
            if product in products and number.isdecimal():
                names_by_tile[int(number)].append(name)
        complete = [tile for tile, names in sorted(names_by_tile.items()) if len(names) == len(products)]
        with self.fetching() as fetch:
            for tile in complete:
                fetch([parts_folder(labels) / name for name in names_by_tile[tile]])
        write_journal(parts_folder(labels), header, complete, placing)

    def clear(self) -> None:
        """Remove everything but the lock; what identifies the run goes last, so that a failure can be mended."""
        names = set(self.folder.names()) - {LOCK}
        for group in (names - {_HEADER, _PLACING}, names & {_HEADER, _PLACING}):
            if group:
                self.folder.remove(sorted(group))

    def begin_placing(self, urls: Iterable[str]) -> None:
        """Record the objects and files that the run is about to write; if it is interrupted, it may replace them."""
        known = self.placing()
        if added := set(urls) - set(known):
            self.folder.inside(_PLACING).write(json.dumps([*known, *sorted(added)]).encode())

    def placing(self) -> list[str]:
        """Return the URLs of the objects and files that an interrupted run may have written."""
        try:
            urls = json.loads(self.folder.inside(_PLACING).read() or b"[]")
        except ValueError:
            return []
        return [str(url) for url in urls] if isinstance(urls, list) else []

    def forget_if_empty(self) -> None:
        """Remove the header of a run that has not finished a part."""
        if set(self.folder.names()) <= {LOCK, _HEADER}:
            self.clear()


@dataclass(frozen=True, slots=True)
class Staged:
    """Local paths that stand in for the outputs of a run, and the objects to upload them to."""

    out: str | os.PathLike[str]
    options: OutputOptions
    keys: Mapping[str, Key]
    """The objects, by parameter; empty if all outputs are local."""
    parts: PartsStore | None
    """Where the parts are kept; None if the map itself is local."""
    versions: dict[str, str | None] = field(default_factory=dict)
    """The version of each object when the run began or uploaded it, by parameter; None if there was none."""

    @property
    def labels(self) -> Path | str:
        """The path or URL of the map that the user gave."""
        return str(self.keys["out"]) if "out" in self.keys else Path(self.out).absolute()

    def path(self, name: str) -> Path:
        """Return the local path of the output that a parameter names."""
        return Path(str(self.out if name == "out" else self.options.get(name)))

    def address(self, path: Path) -> str:
        """Return the final place of a file written at a path: for a staged file, its URL."""
        return next((str(key) for name, key in self.keys.items() if self.path(name) == path), str(path))

    def begin_placing(self, products: Mapping[ProductName, Path]) -> None:
        """Record the files of a map in a store that are about to be placed on this machine's disk, by product."""
        local = [path.as_uri() for name, path in products.items() if name not in self.keys and name != "labels"]
        if self.parts is not None and local:
            self.parts.begin_placing(local)

    def put(self, announce: Announce, without: Collection[str] = ()) -> None:
        """Upload the staged files of a map in a store, except those of some parameters, and remove its parts."""
        if self.parts is None:
            return
        names = [name for name in _NAMES if name in self.keys and name not in without]
        for name in names:
            self.check_unchanged(name)
        self.parts.begin_placing(str(self.keys[name]) for name in names)
        for name in names:
            self._upload(name)
        try:
            self.parts.clear()
        except GeosegError as error:
            announce(f"the map is finished; remove {self.parts.folder}, which geoseg could not: {error}")

    def put_one(self, name: str) -> None:
        """Upload the staged file of a parameter, if there is one; for a map on the disk."""
        if self.parts is None and name in self.keys:
            self.check_unchanged(name)
            self._upload(name)

    def uploaded(self, name: str) -> str:
        """Return what the journal of a map on the disk records of the upload of a product: the object's version."""
        return f"{self.keys[name]} {self.versions[name]}"

    def fetch(self, products: Mapping[ProductName, Path]) -> None:
        """Download the products of a map on the disk that an earlier run uploaded; its polygons and item need them."""
        for name, path in products.items():
            if self.parts is None and name in self.keys and not path.exists():
                self.keys[name].download(path)

    def check_unchanged(self, name: str) -> None:
        """Raise OutputError if another program has written the object of a parameter since the run began."""
        if name in self.keys:
            check_unchanged(self.keys[name], self.versions[name], name)

    def _upload(self, name: str) -> None:
        path, key = self.path(name), self.keys[name]
        if name == "polygons":
            from geoseg.vector import spare_style  # noqa: PLC0415 - a map alone needs no compiler

            spare_style(path, key)
        if name in _PRODUCTS:  # those of an old map
            for beside in files_beside(path):
                if not beside.exists() and (old := key.beside(beside.name)).exists():
                    old.remove()
        upload_with_sidecars(path, key)
        self.versions[name] = key.version()


@contextmanager
def staged(
    out: str | os.PathLike[str], options: OutputOptions, *, dry: bool = False, finished: bool = False
) -> Iterator[Staged]:
    """Yield local paths for the outputs of a run; local outputs keep their paths.

    Holds the lock of a map in a store, and fetches the parts of an unfinished run, unless `dry`. Existing objects are
    an error, unless they belong to a `finished` map or `overwrite` is set; a GeoPackage with other layers always is.
    Raises UsageError for a URL that names no object, OutputError if one exists or the store refuses, LockedError.
    """
    options = {**options, "stac": item_place(out, options.get("stac"))}
    outputs: dict[str, Any] = {"out": out, **{name: options.get(name) for name in _NAMES if name != "out"}}
    keys = {name: Key.of(path, name) for name, path in outputs.items() if path is not None and is_store(path)}
    if not keys:
        yield Staged(out, options, {}, None)
        return
    if options.get("shard") is not None:
        raise UsageError(
            f"`shard` needs its outputs on a disk that all jobs share, got {next(iter(keys.values()))}; use a Dask "
            "cluster to write to a store",
            "shard",
        )
    with tempfile.TemporaryDirectory(prefix="geoseg-") as scratch, ExitStack() as before_removal:
        before_removal.callback(close_kept)  # Windows removes no open file
        local = {name: Path(scratch) / name / key.name for name, key in keys.items()}
        for path in local.values():
            path.parent.mkdir()
        target = local.pop("out", out)
        staged_options = cast("OutputOptions", {**options, **local})
        if finished:
            for name, key in keys.items():
                check_free(key, name, overwrite=True)
            yield Staged(target, staged_options, keys, None)
            return
        parts = PartsStore(keys["out"].beside(f"{keys['out'].name}.parts")) if "out" in keys else None
        if parts is None or dry:
            versions = {name: key.version() for name, key in keys.items()}
            _check_free(keys, target, options, being_placed(Path(target)) if parts is None else parts.placing())
            if parts is not None:
                parts.restore(Path(target), fetch_parts=False)
            yield Staged(target, staged_options, keys, None, versions)
            return
        busy = f"another run is writing {keys['out']}; wait for it, or choose another `out`"
        with claimed(parts.folder.inside(LOCK), busy):
            versions = {name: key.version() for name, key in keys.items()}
            placing = parts.placing()
            _check_free(keys, target, options, placing)
            here = {name: Path(outputs[name]).absolute() for name in _PRODUCTS if name not in keys and outputs[name]}
            parts.restore(Path(target), [name for name, path in here.items() if path.as_uri() in placing])
            try:
                yield Staged(target, staged_options, keys, parts, versions)
            finally:
                with suppress(GeosegError):  # the run has ended
                    parts.forget_if_empty()


def _check_free(
    keys: Mapping[str, Key], labels: str | os.PathLike[str], options: OutputOptions, placing: Collection[str] = ()
) -> None:
    """Raise OutputError for objects that may not be replaced; those at URLs in `placing` are of this same run."""
    for name, key in sorted(keys.items(), key=lambda item: item[0] == "polygons"):  # these may be read whole
        is_own = str(key) in placing or (name == "stac" and is_map_item(key.read() or b""))
        if name == "polygons":
            _check_layers(key, labels, options.get("layer"))
        may_replace = options.get("overwrite", False) or is_own
        check_free(key, name, overwrite=may_replace)
        if name in _PRODUCTS and not may_replace:
            _check_beside(key, name)


def _check_beside(key: Key, parameter: str) -> None:
    """Raise OutputError for an object next to a map that its upload would replace and geoseg did not write."""
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        copy = Path(folder) / key.name
        for path in files_beside(copy):
            beside = key.beside(path.name)
            if (size := beside.size()) is not None:
                path.write_bytes((beside.read() or b"") if size < _MOST_SIDECAR_BYTES else b"")
        for path in foreign_beside(copy):
            raise foreign_error(key.beside(path.name), parameter)


def _check_layers(key: Key, labels: str | os.PathLike[str], layer: str | None) -> None:
    """Raise OutputError for a GeoPackage that holds more than the polygons of the map."""
    from geoseg.vector import check_stored, has_layers, layer_name  # noqa: PLC0415 - a map alone needs no compiler

    if has_layers(Path(key.name)):
        check_stored(key, layer_name(labels, key.name, layer), "polygons")
