from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.docs.blocks import BLOCKS, Block

PROGRAMS = [block for block in BLOCKS if block.language == "python"]
NOT_RUN = {
    "with Client(cluster)": "it asks a provider for machines",
    "tcp://scheduler": "it needs a cluster",
    "encoder_weights_of(": "it fetches weights",
    "odc.stac.load(": "it asks a server for imagery",
    "geoseg.train(": "a training takes minutes",
}
"""Text that marks a block as compiled only, and the reason."""
LANGUAGES = {"", "sh", "python", "text", "json"}


def unet() -> Any:
    import segmentation_models_pytorch as smp  # noqa: PLC0415 - heavy

    return smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=7)


def prepare(block: Block, folder: Path) -> dict[str, Any]:
    """Return the names that a block takes from the surrounding text, and prepare the files that it reads."""
    import torch  # noqa: PLC0415 - heavy

    names: dict[str, Any] = {}
    for name in ("landcover.tif", "confidence.tif"):
        if "geoseg.predict(" in block.code and "overwrite=True" not in block.code:
            (folder / name).unlink()
    if "save_bundle(" in block.code:
        names["network"] = unet()
    if "weights.pt" in block.code:
        torch.save(unet().state_dict(), "weights.pt")
    if "in batches" in block.code:
        names["batches"] = [(np.array([0, 1, 255]), np.array([0, 1, 1]))]
    if 'geoseg.vectorize("landcover.tif", "landcover.parquet"' in block.code:
        (folder / "landcover.parquet").unlink()
    return names


def dask_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use threads as Dask workers: a process loads geoseg for seconds, and tests/inference/test_cluster.py has some."""
    from dask.distributed import Client  # noqa: PLC0415 - heavy

    here = functools.partial(Client, processes=False, dashboard_address=None)
    monkeypatch.setattr("dask.distributed.Client", here)


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.place)
def test_python_runs(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compile(block.code, block.place, "exec")
    reason = next((reason for mark, reason in NOT_RUN.items() if mark in block.code), None)
    if reason:
        pytest.skip(f"compiled, not run: {reason}")
    if "import Client" in block.code:
        dask_in_threads(monkeypatch)
    before = {path.name for path in folder.iterdir()}
    exec(program, prepare(block, folder))  # noqa: S102 - our own docs
    if "save" in block.code:
        assert {path.name for path in folder.iterdir()} > before


def test_every_block_is_of_a_language_that_is_tested() -> None:
    assert [block.place for block in BLOCKS if block.language not in LANGUAGES] == []


def test_json_is_json() -> None:
    found = [json.loads(block.code) for block in BLOCKS if block.language == "json"]
    assert any("datasets" in each for each in found)


def test_no_command_hides_in_a_block_without_a_language() -> None:
    assert [
        block.place for block in BLOCKS if block.language in {"", "text"} and "\ngeoseg " in "\n" + block.code
    ] == []
