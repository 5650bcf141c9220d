"""Code blocks of Markdown: fenced, or indented by four spaces."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "sample_data" / "README.md", *(ROOT / "docs").glob("*.md")]
)
_FENCE = re.compile(r"^(`{3,}|~{3,})(\w*)\s*$")
_PROGRAMS = re.compile(r"^(geoseg|make|pip|python|py|rio|cd|git|source|ogr2ogr|\.ci/run|\.venv\S*) ")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code with its page, relative to the root, and the number of its first line."""

    page: str
    line: int
    language: str  # as stated by the fence, or ""
    code: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order; an indented block that begins with a program's name is shell code."""
    name, found = page.relative_to(ROOT).as_posix(), []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence:
            end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == fence[1])
            found.append(Block(name, number + 2, fence[2], "\n".join(lines[number + 1 : end]) + "\n"))
            number = end
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            code = "\n".join(line[4:] for line in lines[number:end]).rstrip() + "\n"
            found.append(Block(name, number + 1, "sh" if _PROGRAMS.match(code) else "", code))
            number = end - 1
        number += 1
    return found


def commands_of(block: Block) -> list[list[str]]:
    """Return the words of each command in a shell block, without comments; a backslash joins lines."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(_posix(line), comments=True))]


def _posix(line: str) -> str:
    return line.replace(".venv\\Scripts\\", ".venv/Scripts/")  # commands for Windows


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
