from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from geoseg.atomic import LOCK, claim


def test_a_lock_file_that_another_run_removes_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOCK).touch()
    looked = Path.stat
    removals = [1]

    def look_and_remove(path: Path, **how: Any) -> object:
        found = looked(path, **how)
        if path.name == LOCK and removals:
            removals.pop()
            with suppress(PermissionError):  # Windows cannot remove an open file
                path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "stat", look_and_remove)
    lock = claim(tmp_path, "busy")
    assert lock.is_locked
    assert (tmp_path / LOCK).exists()
    lock.release()
