from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import geoseg
from tests.docs.blocks import PAGES, ROOT

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return a page without its code."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


LINKS = [
    (page.relative_to(ROOT).as_posix(), link)
    for page in PAGES
    for link in _LINK.findall(prose(page))
    if not link.startswith(("http:", "https:"))
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target)


def test_pages_of_the_site_do_not_link_out_of_it() -> None:
    assert [(page, link) for page, link in LINKS if page.startswith("docs/") and link.startswith("..")] == []


def test_every_page_stands_in_the_navigation() -> None:
    named = set(
        re.findall(r"^\s+- (?:[\w ]+: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_the_reference_has_every_public_name() -> None:
    told = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(f"geoseg.{name}" for name in geoseg.__all__ if not name.startswith("__"))


def test_the_citation_is_of_this_version() -> None:
    told = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert told
    assert told[1] == geoseg.__version__


def test_the_picture_of_the_readme_is_light() -> None:
    assert (ROOT / "docs" / "pictures" / "readme.webp").stat().st_size < 400_000


def test_drawings_are_those_of_their_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = importlib.util.spec_from_file_location("drawings", ROOT / "tools" / "drawings.py")
    assert place is not None
    assert place.loader is not None
    drawings = importlib.util.module_from_spec(place)
    place.loader.exec_module(drawings)
    shutil.copytree(ROOT / "docs" / "pictures", tmp_path / "pictures")
    before = {path.name: path.read_bytes() for path in (tmp_path / "pictures").glob("*.svg")}
    monkeypatch.setattr(drawings, "PICTURES", tmp_path / "pictures")
    drawings.main()
    assert {path.name: path.read_bytes() for path in (tmp_path / "pictures").glob("*.svg")} == before


def test_ci_has_the_tools_of_the_site_before_the_tests_that_need_them() -> None:
    steps = re.findall(r"^step make (\w+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert steps.index("docs") < steps.index("test")


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs is in the dependency group docs")
def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    headings = re.findall(r'<h3 id="(geoseg\.[^"]+)"', (tmp_path / "site" / "api.html").read_text(encoding="utf-8"))
    assert {"geoseg.predict", "geoseg.train", "geoseg.Scene"} <= set(headings)  # verbs and classes, not their modules
    assert [name for name in headings if name.count(".") > 1 and not name.startswith("geoseg.errors.")] == []
    for page in (tmp_path / "site").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(?:https?:)?//[^\s>]+", text) == []
