"""The style of pages and notebooks: short lines, US spelling, visible outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

FOLDERS = ("docs", "benchmarks", "sample_data", "tools", "geoseg")
MARKDOWN = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST, LARGEST_BYTES = 120, 1_000_000
_CODE = re.compile(r"^(`{3,}|~{3,})")
_BRITISH = re.compile(
    r"\b\w*(?:colour|neighbour|metre[s ]|centimetre|licence|learnt|labelled|honour|favour)\w*", re.IGNORECASE
)


def prose(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines of a page that are not code, tables or pictures."""
    found, fence = [], None
    for number, line in enumerate(text.splitlines(), 1):
        mark = _CODE.match(line.strip())
        if mark and (fence is None or mark[1].startswith(fence)):
            fence = mark[1] if fence is None else None
        elif fence is None and not line.startswith(("    ", "|", "![")):
            found.append((number, line))
    return found


def words(notebook: Path) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    lines = prose(page.read_text(encoding="utf-8"))
    assert [number for number, line in lines if len(line) > LONGEST] == []


@pytest.mark.parametrize("page", [*MARKDOWN, *NOTEBOOKS], ids=lambda page: page.name)
def test_spelling_is_american(page: Path) -> None:
    text = words(page) if page.suffix == ".ipynb" else page.read_text(encoding="utf-8")
    plain = re.sub(r"`[^`\n]*`|Open Licence", "", "\n".join(line for _, line in prose(text)))
    assert _BRITISH.findall(plain) == []


def test_the_readme_comes_to_the_tasks_within_two_screens() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines.index("## The main tasks") <= 90


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_shows_what_it_does_and_a_picture(notebook: Path) -> None:
    assert notebook.stat().st_size <= LARGEST_BYTES
    outputs = [
        output
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
