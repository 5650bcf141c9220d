"""The ONNX file of a bundle: shipped, cached by an earlier run, or exported now by another process."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import tempfile
from functools import cache, lru_cache
from pathlib import Path

import filelock
import platformdirs

from geoseg.errors import ModelError, one_line
from geoseg.machine import is_python, python_command, python_environment
from geoseg.model.bundle import METADATA_KEY, ModelBundle, parse_json
from geoseg.model.onnx_files import read_metadata
from geoseg.progress import Announce

EXPORT_FORMAT = 6
"""Version of the graph format; files of another version are exported again."""
ALIGNED_KEY = "align_corners"
"""The metadata that tell how to interpolate a file's scores: true or false, as in torch."""
_EXTRA_BYTES = 32 * 2**20
_TIMEOUT_S = 900
_scratch: list[tempfile.TemporaryDirectory[str]] = []
"""Folders for exports if the cache cannot be written; removed when the process ends."""


def export_stamp(bundle: ModelBundle, window_px: int | None) -> dict[str, object]:
    """Return the stamp of a bundle's ONNX file for a window, or for any window if None."""
    return {"bundle": bundle.hash, "window_px": window_px, "format": EXPORT_FORMAT}


def find_export(bundle: ModelBundle, window_px: int) -> Path | None:
    """Return the ONNX file next to the bundle or in the cache, if it is for this bundle and window."""
    shipped = bundle.weights_path.with_suffix(".onnx")
    current = (export_stamp(bundle, None), export_stamp(bundle, window_px))
    paths = (shipped, _cached_path(bundle, None), _cached_path(bundle, window_px))
    return next((path for path in paths if _stamp_of(path, bundle) in current), None)


def accepts_any_window(path: Path, bundle: ModelBundle) -> bool:
    """Return whether a file is this bundle's, for windows of any suitable size."""
    return _stamp_of(path, bundle) == export_stamp(bundle, None)


def make_export(bundle: ModelBundle, window_px: int, announce: Announce) -> Path:
    """Export now, unless another process just did, and return the file.

    ModelError if the network cannot be exported.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{_cached_path(bundle, None)}.lock")
        lock.acquire()
    except OSError:
        _scratch.append(tempfile.TemporaryDirectory(prefix="geoseg-"))
        return _export_into(Path(_scratch[-1].name), bundle, window_px, announce)
    try:
        return find_export(bundle, window_px) or _export_into(folder, bundle, window_px, announce)
    finally:
        lock.release()


def discard_export(path: Path) -> None:
    """Remove a cached file that turned out to be broken; a shipped one is left alone."""
    if path.parent == cache_folder():
        path.unlink(missing_ok=True)


def _cached_path(bundle: ModelBundle, window_px: int | None) -> Path:
    return cache_folder() / f"{bundle.hash[:32]}-{window_px or 'any'}-{EXPORT_FORMAT}-{_versions()}.onnx"


@cache
def _versions() -> str:
    """Return the versions of the packages that an export depends on."""
    versions = "-".join(importlib.metadata.version(package) for package in ("torch", "segmentation-models-pytorch"))
    return versions.replace("+", ".")


def _stamp_of(path: Path, bundle: ModelBundle) -> object:
    """Return the stamp in a file, None if the file cannot be the bundle's.

    Anyone able to forge a stamp could forge the bundle as well.
    """
    try:
        status = path.stat()
        if status.st_size > bundle.weights_bytes + _EXTRA_BYTES:
            return None
        return parse_json(_cached_stamp(path, status.st_size, status.st_mtime_ns), str(path))
    except (OSError, ValueError, ModelError):
        return None


@lru_cache(maxsize=16)
def _cached_stamp(path: Path, _bytes: int, _mtime_ns: int) -> str:
    """Return the stamp in a file of that size and time; cached, since reading it takes reading the whole file."""
    return read_metadata(path).get(METADATA_KEY, "null")


def _export_into(folder: Path, bundle: ModelBundle, window_px: int, announce: Announce) -> Path:
    announce(f"exporting {bundle.name} to ONNX, once per model: 5 to 20 s, a large network a minute or two")
    handle, temporary = tempfile.mkstemp(suffix=".onnx", prefix=".export-", dir=folder)
    os.close(handle)
    try:
        if is_python():
            _run(bundle, window_px, temporary)
        else:  # Python is embedded in another program, such as QGIS
            importlib.import_module("geoseg.model.engines.export").export_onnx(bundle, window_px, temporary)
        any_window = accepts_any_window(Path(temporary), bundle)
        path = folder / _cached_path(bundle, None if any_window else window_px).name
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _run(bundle: ModelBundle, window_px: int, path: str) -> None:
    command = python_command("geoseg.model.engines.export", "-", str(window_px), path)
    environment = python_environment() | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            input=bundle.to_text(),
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise ModelError(f"{bundle.name} cannot be exported to ONNX: {one_line(fault)}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelError(
            one_line(lines[-1], 600) if lines else f"the export of {bundle.name} ended with {done.returncode}"
        )


CACHE_VARIABLE = "GEOSEG_CACHE"


def cache_folder() -> Path:
    """Return the cache folder, GEOSEG_CACHE or the platform's own; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("geoseg", appauthor=False))
