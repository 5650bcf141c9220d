"""One small data set for all trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of three scenes to train on and one to validate."""
    return write_data(tmp_path_factory.mktemp("training") / "data")
