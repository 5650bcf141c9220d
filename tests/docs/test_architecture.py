"""docs/architecture.md lists every file, folder by folder, and no others."""

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


def test_the_way_of_a_pixel_names_what_is_there() -> None:
    way = PAGE.read_text(encoding="utf-8").partition("## The way of a pixel")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [\w ]+ \| (`.+`) \| (`.+`) \|$", way, re.MULTILINE)
    assert len(rows) > 9
    for names, files in rows:
        text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files.strip("`").split("`, `"))
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), f"{name} is not in {files}"


def test_the_drawing_of_that_way_does_too() -> None:
    drawn = (PAGE.parent / "pictures" / "pixel.svg").read_text(encoding="utf-8")
    names = re.findall(r'font-size="12" font-weight="600">(\w+)<', drawn)
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "geoseg").rglob("*.py"))
    assert len(names) > 5
    assert [name for name in names if not re.search(rf"^(def|class) {name}\b", code, re.MULTILINE)] == []


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", PAGE.read_text(encoding="utf-8"))
    assert pictures
    assert all((PAGE.parent / name).is_file() for name in pictures)
