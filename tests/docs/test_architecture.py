"""docs/architecture.md lists every file, folder by folder, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"


def listed() -> set[str]:
    files, folder = set(), ""
    for line in PAGE.read_text(encoding="utf-8").partition("## Every file")[2].splitlines():
        if heading := re.match(r"#+ .*`([\w/]+)/`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(\w+\.py)` \| \S", line):
            files.add(f"{folder}/{row[1]}")
    return files


def test_every_file_is_listed_in_its_folder() -> None:
    modules = [each for room in ("geoseg", "cli", "qgis") for each in ROOT.glob(f"{room}/**/*.py")]
    assert listed() == {path.relative_to(ROOT).as_posix() for path in modules if not path.name.startswith("__")}


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", PAGE.read_text(encoding="utf-8"))
    assert pictures
    assert all((PAGE.parent / name).is_file() for name in pictures)
