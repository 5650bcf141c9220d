"""Land-cover classes: their codes, names and colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import UsageError
from geoseg.given import integer, integers
from geoseg.nearest import nearest

NODATA = 255
"""The value of every pixel without a class. Class 0 is a class."""


@dataclass(frozen=True, slots=True)
class LandCover:
    """One class of a land-cover map."""

    code: int
    """Pixel value, 0 to 254; 255 is nodata."""
    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", integer("code", self.code))
        object.__setattr__(self, "color", integers("color", self.color))
        if not isinstance(self.name, str):
            raise UsageError(f"class name must be text, got {self.name!r:.80} for code {self.code}")
        if not 0 <= self.code < NODATA:
            raise UsageError(f"class code must be 0 to 254 (255 is nodata), got {self.code} for {self.name!r}")
        if not self.name or any(ord(letter) < ord(" ") for letter in self.name):
            raise UsageError(f"class name must be non-empty text on one line, got {self.name!r} for code {self.code}")
        if len(self.color) != 3 or not all(0 <= level <= 255 for level in self.color):
            raise UsageError(f"class color must be three levels 0 to 255, got {self.color} for {self.name!r}")


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of one map, in the order of their codes."""

    classes: tuple[LandCover, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        codes = self.codes
        if not codes:
            raise UsageError("a legend needs at least one class, got none")
        if list(codes) != sorted(set(codes)):
            raise UsageError(f"class codes must be unique and ascending, got {list(codes)}")
        if len(set(self.names)) != len(codes):
            raise UsageError(f"class names must be unique, got {list(self.names)}")

    def __iter__(self) -> Iterator[LandCover]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """Pixel values, ascending."""
        return tuple(land_cover.code for land_cover in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the codes."""
        return tuple(land_cover.name for land_cover in self.classes)

    def by_code(self, code: int) -> LandCover:
        """Return the class of a pixel value; UsageError if there is none."""
        for land_cover in self.classes:
            if land_cover.code == code:
                return land_cover
        raise UsageError(f"no class has code {code}; the legend has {list(self.codes)}")

    def by_name(self, name: str) -> LandCover:
        """Return the class of a name; UsageError, with the name that may be meant, if there is none."""
        for land_cover in self.classes:
            if land_cover.name == name:
                return land_cover
        near = nearest(str(name), self.names)
        meant = "" if near is None else f" (did you mean {near!r}?)"
        raise UsageError(f"no class is called {name!r:.80}{meant}; the legend has {', '.join(self.names)}")

    def to_json(self) -> list[dict[str, object]]:
        """Return plain values, as they stand in a bundle or in a file given to `--legend`."""
        return [{"code": c.code, "name": c.name, "color": list(c.color)} for c in self.classes]

    @classmethod
    def from_json(cls, rows: object) -> Legend:
        """Build a legend from `[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]`, in any order.

        UsageError for all else. The order of the rows is lost: a legend goes by its codes.
        """
        if not isinstance(rows, list):
            raise UsageError(f"a legend is a list of classes, got {type(rows).__name__}")
        return cls(tuple(sorted((_land_cover(row) for row in rows), key=lambda land_cover: land_cover.code)))


def _land_cover(row: object) -> LandCover:
    match row:
        case {"code": int(code), "name": str(name), "color": [int(red), int(green), int(blue)]}:
            return LandCover(code, name, (red, green, blue))
    raise UsageError(f'a class is {{"code": 0, "name": "water", "color": [0, 0, 255]}}, got {row!r:.80}')


DEEPGLOBE = Legend(
    (
        LandCover(0, "urban_land", (0, 255, 255)),
        LandCover(1, "agriculture_land", (255, 255, 0)),
        LandCover(2, "rangeland", (255, 0, 255)),
        LandCover(3, "forest_land", (0, 255, 0)),
        LandCover(4, "water", (0, 0, 255)),
        LandCover(5, "barren_land", (255, 255, 255)),
        LandCover(6, "unknown", (0, 0, 0)),
    )
)
"""The seven classes of the DeepGlobe 2018 land-cover challenge (Demir et al., arXiv 1805.06561), in its colours."""
