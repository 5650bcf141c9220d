"""Fixtures for every room."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is; laws hold on slow ones too.
settings.register_profile("geoseg", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geoseg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: what tests start would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


os.environ.pop("GEOSEG_MODEL", None)  # the developer's own default model is no test's


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real imagery beside the checkout; skip where it is absent."""
    folder = Path(os.environ.get("GEOSEG_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real imagery is not here: {folder} (set GEOSEG_SHARED_DATA)")
    return folder
