"""The split of DeepGlobe's 803 labelled images that figures are published for: 454 train, 207 validate, 142 test.

The lists came with GLNet (Chen et al., arXiv 1905.06368, https://github.com/VITA-Group/GLNet); here are their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Published:
    """The ids of each part."""

    train: frozenset[str]
    valid: frozenset[str]
    test: frozenset[str]

    def part_of(self, pair_id: str) -> str | None:
        """Return train, valid or test; None for an id that is not of the split."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return next((name for name, ids in parts.items() if pair_id in ids), None)


@cache
def published_split() -> Published:
    """Return the split as it stands in the package."""
    return Published(*(_ids(part) for part in ("train", "valid", "test")))


def _ids(part: str) -> frozenset[str]:
    return frozenset(files("geoseg.dataset").joinpath(f"glnet_{part}.txt").read_text(encoding="ascii").split())
