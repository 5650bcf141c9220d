"""Where exported networks are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "GEOSEG_CACHE"


def cache_folder() -> Path:
    """Return the folder, GEOSEG_CACHE or the platform's own; it need not exist."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("geoseg", appauthor=False))
