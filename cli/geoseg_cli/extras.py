"""What an optional part of geoseg needs, said before anything is imported."""

from __future__ import annotations

import importlib.util

from geoseg.errors import UsageError


def needs_training() -> None:
    """Raise UsageError, with the way out, where training's libraries are not installed."""
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"training needs {', '.join(missing)}; pip install 'geoseg[train]'")
