"""Messages that the pages quote are those of the code."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT

_CODE = "".join(
    re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8")) for file in sorted((ROOT / "geoseg").rglob("*.py"))
)
"""The text of all modules, with the parts of long strings joined."""
_TABLE = re.findall(r"^\| `(.*?)` \|", (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_messages() -> None:
    assert len(_TABLE) >= 6


@pytest.mark.parametrize("message", _TABLE)
def test_messages_of_a_cluster_are_the_codes(message: str) -> None:
    parts = [part.strip() for part in re.split(r"\.\.\.|\d+|: ", message)]
    assert [part for part in parts if part not in _CODE] == []
