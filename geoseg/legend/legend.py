"""What the codes of a map mean: the classes of geoseg's own maps (Legend), and of any other map (Nomenclature)."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from geoseg.errors import UsageError, listed
from geoseg.given import nearest
from geoseg.html import swatches
from geoseg.typed import checked

NODATA = 255
"""The value of every pixel without a class. Class 0 is a class."""
_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Control characters, and those that UTF-8 or the XML next to a map cannot hold."""


def _check(code: int, name: str, color: tuple[int, ...]) -> None:
    """Raise UsageError for an invalid class name or color."""
    if not name.strip() or _NO_TEXT.search(name):
        raise UsageError(f"class name must be text on one line, got {name!r:.80} for code {code}", "name")
    if len(color) != 3 or not all(0 <= level <= 255 for level in color):
        raise UsageError(f"class color must be three levels 0 to 255, got {color} for {name!r:.80}", "color")


@dataclass(frozen=True, slots=True)
@checked
class LandCover:
    """One class of a land-cover map.

    Raises
    ------
    UsageError
        If the code, name or color is invalid.
    """

    code: int
    """Pixel value, 0 to 254; 255 is nodata."""
    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0 to 255."""

    def __post_init__(self) -> None:
        if not 0 <= self.code < NODATA:
            raise UsageError(
                f"class code must be 0 to 254 (255 is nodata, not a class: leave it out), got {self.code} "
                f"for {self.name!r}"
            )
        _check(self.code, self.name, self.color)


@dataclass(frozen=True, slots=True)
@checked
class Legend:
    """The classes of a map, in the order of their codes.

    Raises
    ------
    UsageError
        If there is no class, if codes are not ascending, or if a code or a name occurs twice.

    Examples
    --------
    >>> legend = Legend((LandCover(0, "water", (0, 0, 255)), LandCover(1, "forest", (0, 128, 0))))
    >>> legend.by_name("forest").code
    1
    """

    classes: tuple[LandCover, ...]

    def __post_init__(self) -> None:
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

    def _repr_html_(self) -> str:
        return swatches((f"{land_cover.code} {land_cover.name}", land_cover.color) for land_cover in self)

    @property
    def codes(self) -> tuple[int, ...]:
        """Pixel values, ascending."""
        return tuple(land_cover.code for land_cover in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the codes."""
        return tuple(land_cover.name for land_cover in self.classes)

    @checked
    def by_code(self, code: int) -> LandCover:
        """Return the class with a pixel value; UsageError if there is none."""
        for land_cover in self.classes:
            if land_cover.code == code:
                return land_cover
        raise UsageError(f"no class has code {code}; the legend has {list(self.codes)}")

    def by_name(self, name: str) -> LandCover:
        """Return the class with a name; UsageError, with a suggestion, if there is none."""
        for land_cover in self.classes:
            if isinstance(name, str) and land_cover.name == name:
                return land_cover
        closest = nearest(str(name), self.names)
        hint = "" if closest is None else f" (did you mean {closest!r}?)"
        raise UsageError(f"no class is called {name!r:.80}{hint}; the legend has {', '.join(self.names)}")

    def to_json(self) -> list[dict[str, object]]:
        """Return plain values, as stored in a bundle or in a legend file."""
        return [{"code": c.code, "name": c.name, "color": list(c.color)} for c in self.classes]

    @classmethod
    def from_json(cls, rows: object) -> Legend:
        """Build a legend from `[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...]`, in any order.

        UsageError for anything else. The order of the rows is lost: a legend is sorted by code.
        """
        if not isinstance(rows, list):
            raise UsageError(f"a legend is a list of classes, got {type(rows).__name__}")
        return cls(tuple(sorted((_land_cover(row) for row in rows), key=lambda land_cover: land_cover.code)))


def _land_cover(row: object) -> LandCover:
    match row:
        case {"code": int(code), "name": str(name), "color": [int(red), int(green), int(blue)]}:
            return LandCover(code, name, (red, green, blue))
    raise UsageError(f'a class should be like {{"code": 0, "name": "water", "color": [0, 0, 255]}}, got {row!r:.80}')


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
"""The seven classes of the DeepGlobe 2018 land-cover challenge (Demir et al., arXiv 1805.06561), in its colors."""


Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

_NAMES_SHOWN = 30
"""Classes listed for the user to choose from ..."""
_CLASSES_SHOWN = 12
"""... and classes listed only to identify a legend."""
_BETWEEN_WORDS = re.compile(r"_|-(?!\d)|(?<=[^\s_])-")
"""Separators between the words of a name; a dash before a number is its sign."""
_SHORT_LETTERS = 30
_GOLDEN = 0.618033988749895
"""Hues stepped by this share of the circle stay distinct for any number of them."""
_UNNAMED = re.compile(r"class ([-+]?\d+)")


@dataclass(frozen=True, slots=True)
@checked
class NamedClass:
    """One class of any map. A LandCover is a class whose code fits geoseg's own maps."""

    code: int
    """Pixel value, any int32."""
    name: str
    color: Color

    def __post_init__(self) -> None:
        if not -(2**31) <= self.code < 2**31:
            raise UsageError(f"class code must fit into 32 bits, got {self.code} for {self.name!r:.80}")
        _check(self.code, self.name, self.color)


@dataclass(frozen=True, slots=True)
@checked
class Nomenclature:
    """What is known about a map's classes; a code without a name is `class 17`. Codes may share a name."""

    classes: tuple[NamedClass, ...] = ()
    """Ascending by code."""
    palette: Mapping[int, Color] = field(default_factory=dict, hash=False)
    """Colors by code, also of codes without a name: a color table holds 256, however many the map uses."""

    def __post_init__(self) -> None:
        codes = [named.code for named in self.classes]
        if codes != sorted(set(codes)):
            duplicate = next((code for code in codes if codes.count(code) > 1), None)
            fault = f"code {duplicate} occurs twice" if duplicate is not None else f"got {codes!s:.80}"
            raise UsageError(f"class codes must be unique and ascending; {fault}")

    def __iter__(self) -> Iterator[NamedClass]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def of(self, code: int) -> NamedClass:
        """Return the class with a pixel value; without a name, `class 17` in the palette's or a distinct color."""
        index = bisect_left(self.classes, code, key=lambda named: named.code)
        if index < len(self.classes) and self.classes[index].code == code:
            return self.classes[index]
        return NamedClass(code, f"class {code}", self.palette.get(code) or distinct_color(code))

    def completed(self, codes: Iterable[int]) -> Nomenclature:
        """Return exactly the classes with those codes, which may have no name yet."""
        return Nomenclature(tuple(self.of(code) for code in sorted(set(codes))), self.palette)

    @classmethod
    def from_legend(cls, legend: Legend) -> Nomenclature:
        """Return the classes of one of geoseg's own maps."""
        return cls(tuple(NamedClass(land_cover.code, land_cover.name, land_cover.color) for land_cover in legend))

    @classmethod
    def from_names(cls, names: Mapping[int, str], palette: Mapping[int, Color]) -> Nomenclature:
        """Return classes from names by code, in the palette's colors."""
        named = sorted(names.items())
        return cls(
            tuple(NamedClass(code, name, palette.get(code) or distinct_color(code)) for code, name in named), palette
        )


def name_key(name: str) -> str:
    """Return a key that is equal for all spellings of a name: `Urban land`, `urban_land` and `URBAN-LAND`.

    The sign of a number counts: `class -1` is not `class 1`. An accent may be a separate character, as in file names on
    macOS.
    """
    return " ".join(_BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFC", name).casefold()).split())


def short_name(name: str) -> str:
    """Return a class name for a picture, in at most 30 letters."""
    return name if len(name) <= _SHORT_LETTERS else f"{name[: _SHORT_LETTERS - 1].rstrip()}…"


def distinct_color(code: int) -> Color:
    """Return a color that differs from those of nearby codes."""
    red, green, blue = colorsys.hsv_to_rgb(code * _GOLDEN % 1, 0.5 + 0.15 * (code % 3), 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def choose_classes(known: Nomenclature, wanted: str | Sequence[str | int]) -> frozenset[int]:
    """Return the codes of classes given by name (in any spelling) or code; text may hold several, between commas.

    In a map without names any code is accepted; in others a code without a name is called `class 17`. UsageError for a
    name or code that the map lacks; it suggests the nearest name and lists those known.
    """
    items = [wanted] if isinstance(wanted, str) else wanted
    codes = [code for word in items for code in _codes(known, word)]
    if not codes:
        raise UsageError(f"`classes` names no class; {_available_classes(known)}", "classes")
    return frozenset(codes)


def _codes(nomenclature: Nomenclature, word: str | int) -> Iterator[int]:
    if isinstance(word, int):  # a code, even where a class has this number as its name
        if nomenclature.classes and all(named.code != word for named in nomenclature):
            raise UsageError(f"`classes`: no class has code {word}; {_available_classes(nomenclature)}", "classes")
        yield word
        return
    parts = word.split(",")
    while parts:
        # Names may hold commas: the longest run of parts that is a name wins.
        for stop in range(len(parts), 0, -1):
            codes = _matches(nomenclature, ",".join(parts[:stop]).strip())
            if codes or stop == 1:
                break
        if not codes and parts[0].strip():
            raise _unknown_class(nomenclature, parts[0].strip())
        yield from codes
        parts = parts[stop:]


def _matches(nomenclature: Nomenclature, text: str) -> list[int]:
    exact = [named.code for named in nomenclature if named.name == text]
    codes = exact or [named.code for named in nomenclature if name_key(named.name) == name_key(text)]
    if codes:
        return codes
    unnamed = _UNNAMED.fullmatch(text.casefold())
    if unnamed:
        return [int(unnamed[1])]
    if re.fullmatch(r"[-+]?\d+", text) and (
        not nomenclature.classes or int(text) in {named.code for named in nomenclature}
    ):
        return [int(text)]
    return []


def _unknown_class(nomenclature: Nomenclature, word: str) -> UsageError:
    closest = nearest(word, (named.name for named in nomenclature))
    hint = "" if closest is None else f"; did you mean {closest!r}"
    return UsageError(
        f"`classes`: no class is called {word!r:.80}{hint}; {_available_classes(nomenclature)}", "classes"
    )


def _available_classes(nomenclature: Nomenclature) -> str:
    if not nomenclature.classes:
        return "the map has no names, give codes such as 10,20"
    return f"the map has {class_list(nomenclature, _NAMES_SHOWN)}"


def class_list(known: Nomenclature, most: int = _CLASSES_SHOWN) -> str:
    """List the first classes of a nomenclature with their codes, and how many more there are, for a message."""
    return listed((f"{named.name} ({named.code})" for named in known), most) or "no names"
