"""Weights that are known whole become a bundle in geoseg's own cache, once, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from geoseg.errors import GeosegError, ModelError, UsageError
from geoseg.machine import end_process, is_python, python_command, python_environment
from geoseg.model.bundle import file_hash, one_line
from geoseg.model.engines import cache_folder
from geoseg.version import VERSION


def import_once(weights: Path) -> Path:
    """Return the bundle of a file of weights whose preset is known, made now unless it is kept.

    torch is loaded in another process: it never gives its memory back. GeosegError as `import_weights`.
    """
    bundle = cache_folder() / "imported" / f"{file_hash(weights)[:32]}-{VERSION}" / f"{weights.stem}.safetensors"
    if bundle.is_file():
        return bundle
    if not is_python():  # Python lives inside another program, QGIS for one
        _import(weights, bundle)
        return bundle
    command = python_command("geoseg.model.weights.imported", str(weights), str(bundle))
    environment = python_environment() | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(  # noqa: S603 (our own program)
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        line = one_line(said[-1], 600) if said else f"the import of {weights} ended with {done.returncode}"
        raise UsageError(f"{line} to geoseg import") if done.returncode == UsageError.exit_code else ModelError(line)
    return bundle


def _import(weights: Path, bundle: Path) -> None:
    from geoseg.model.weights.import_weights import import_weights  # noqa: PLC0415 (it loads torch)

    import_weights(weights, bundle, mkdir=True, overwrite=True)


def main(arguments: list[str]) -> int:
    """Import as the command line says: WEIGHTS BUNDLE."""
    try:
        _import(Path(arguments[0]), Path(arguments[1]))
    except GeosegError as fault:
        sys.stderr.write(f"{one_line(fault, 600)}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
