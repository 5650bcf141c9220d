"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real imagery beside the checkout; skip where it is absent."""
    folder = Path(os.environ.get("GEOSEG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real imagery is not here: {folder} (set GEOSEG_SHARED_DATA)")
    return folder
