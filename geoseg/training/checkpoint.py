"""What a run keeps to go on with: one file, whole or absent."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import torch

from geoseg.atomic import output_error, replace_durably, sync_file
from geoseg.errors import OutputError, ResumeError


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and texts. The file before stays until the new one is whole.

    Raises OutputError, as on a full disk.
    """
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        torch.save(state, temporary)
        sync_file(temporary)
        replace_durably(temporary, path)
    except (OSError, RuntimeError) as fault:  # torch's writer tells of a full disk in its own words
        raise _not_written(path, fault) from fault
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any] | None:
    """Return what `save_state` wrote, on the CPU; None where there is no such file. Nothing in it is run.

    Raises ResumeError for a file that is no state.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # noqa: BLE001 - a damaged archive raises whatever it likes
        raise ResumeError(
            f"{path} is damaged and cannot be gone on from ({type(fault).__name__}); remove {path.parent} to start over"
        ) from None
    return state


def _not_written(path: Path, fault: Exception) -> OutputError:
    if isinstance(fault, OSError):
        return output_error(path, fault)
    return OutputError(
        f"cannot write {path}: the disk is full, or gone; free some space and run the same command again: it goes on "
        "from the checkpoint before"
    )
