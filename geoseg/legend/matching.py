"""Matching the classes of one legend to those of another: by name, code or a mapping; to one, several or none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from geoseg.errors import SceneError, UsageError, listed
from geoseg.given import json_in, nearest
from geoseg.legend.legend import NODATA, LandCover, Legend, NamedClass, Nomenclature, distinct_color, name_key
from geoseg.legend.legend_file import GivenLegend, given_legend, given_names

_SHOWN = 6
_UNKNOWN = "unknown"
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)

Meaning = tuple[int, ...]
"""Codes of the target that a class may mean, ascending; empty for none."""

GivenMapping = Mapping[Any, Any] | str | os.PathLike[str]
"""The meanings of classes, as a value or a JSON file."""


def merged(
    classes_by_file: Iterable[tuple[str, Nomenclature]], advice: str = "give a `legend`", parameter: str = "legend"
) -> Nomenclature:
    """Merge the classes of several rasters, given as (file, classes).

    SceneError, with the `advice`, if two files give a code different names.
    """
    names: dict[int, str] = {}
    palette: dict[int, tuple[int, int, int]] = {}
    for file, nomenclature in classes_by_file:
        for named in nomenclature:
            earlier_name = names.setdefault(named.code, named.name)
            if name_key(earlier_name) != name_key(named.name):
                raise SceneError(
                    f"code {named.code} is {named.name!r} in {file}, but {earlier_name!r} in others; {advice}",
                    parameter,
                )
            palette.setdefault(named.code, named.color)
    return Nomenclature.from_names(names, palette)


def own_legend(nomenclature: Nomenclature) -> tuple[Legend, dict[int, int]]:
    """Return the legend of labels that describe their own classes, and their codes -> ours: equal if they fit a byte.

    Codes whose names differ only in spelling are one class, the first of them; `alike_note` reports it.
    """
    first = _first_class_by_name(nomenclature)
    codes = sorted(named.code for named in first.values())
    if len(codes) > NODATA:
        raise UsageError(
            f"the labels hold {len(codes)} codes, a legend holds at most {NODATA}; give a `legend`", "legend"
        )
    fit_bytes = all(0 <= code < NODATA for code in codes)
    new_codes = {code: code if fit_bytes else index for index, code in enumerate(codes)}
    classes = sorted(first.values(), key=lambda named: named.code)
    return (
        Legend(tuple(LandCover(new_codes[named.code], named.name, named.color) for named in classes)),
        {named.code: new_codes[first[name_key(named.name)].code] for named in nomenclature},
    )


def legend_of_labels(given: GivenLegend) -> tuple[Legend, dict[int, int]]:
    """Return the legend given for labels, and their codes -> ours, in their order, if they do not fit a byte.

    CORINE has such codes, and so does a mask of 0 and 255; if more classes are bytes, 255 is no label. The codes are
    empty if all fit. UsageError as in `given_legend`.
    """
    nomenclature = given_names(given)
    codes = sorted(named.code for named in nomenclature or ())
    beyond = [code for code in codes if not 0 <= code < NODATA]
    if not beyond or (beyond == [NODATA] and len(codes) > 2):
        return given_legend(given), {}
    new_codes = {code: index for index, code in enumerate(codes)}
    classes = tuple(replace(named, code=new_codes[named.code]) for named in nomenclature or ())
    return given_legend(Nomenclature(classes)), new_codes


def alike_note(spellings: Iterable[str]) -> str | None:
    """Return a note if several of the labels' own names are one class; None if each is its own class."""
    groups: dict[str, list[str]] = {}
    for name in spellings:
        groups.setdefault(name_key(name), []).append(name)
    duplicates = [group for group in groups.values() if len(group) > 1]
    if not duplicates:
        return None
    shown = "; ".join(" = ".join(group[:_SHOWN]) for group in duplicates[:_SHOWN])
    return f"names that differ only in case, spaces, _ or - are one class: {shown}"


def _first_class_by_name(nomenclature: Nomenclature) -> dict[str, NamedClass]:
    """Return, for each name, the class with the lowest code."""
    first: dict[str, NamedClass] = {}
    for named in nomenclature:
        first.setdefault(name_key(named.name), named)
    return first


def codes_of(known: Nomenclature, legend: Legend) -> dict[int, int]:
    """Return their codes -> ours: by name if any label class is named as in the legend, else by code.

    `unmatched_note` reports the latter if the labels have names.
    """
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in legend}
    named = {
        label_class.code: by_name[name_key(label_class.name)]
        for label_class in known
        if name_key(label_class.name) in by_name
    }
    return named or {code: code for code in legend.codes}


def unmatched_note(known: Nomenclature, legend: Legend, where: str) -> str | None:
    """Return a note if labels name their classes, but none as the legend does; else None."""
    legend_keys = {name_key(land_cover.name) for land_cover in legend}
    names = [named.name for named in known if name_key(named.name) != f"class {named.code}"]
    if not names or any(name_key(named.name) in legend_keys for named in known):
        return None
    return (
        f"{where} names {listed(names, _SHOWN)}, the legend has none of them: its classes are matched by "
        "code; to match by name, rename those of the `legend`"
    )


def codes_of_values(
    values: Sequence[str], legend: Legend | None, where: str, renumbered: Mapping[int, int] | None = None
) -> tuple[Legend, Mapping[str, int]]:
    """Return the legend and value -> code for the values of a column: names or codes of classes.

    `renumbered`: their codes -> ours, as `legend_of_labels` returns them.

    Without a legend, whole numbers are codes, and names are numbered in order. UsageError for a value that is not a
    class of the legend.
    """
    if legend is None:
        return _legend_of_values(values, where)
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in legend}
    by_code = renumbered or {code: code for code in legend.codes}
    codes_by_value = {}
    for value in values:
        code = by_name.get(name_key(value), by_code.get(int(value)) if _WHOLE.fullmatch(value) else None)
        if code is None:
            raise UsageError(
                f"{where}: {value!r:.60} is not a class of the legend, which has "
                f"{', '.join(f'{land_cover.name} ({land_cover.code})' for land_cover in legend)}"
            )
        codes_by_value[value] = code
    return legend, codes_by_value


def _legend_of_values(values: Sequence[str], where: str) -> tuple[Legend, Mapping[str, int]]:
    if not values:
        raise SceneError(f"{where}: no polygon has a class; fill in the column")
    if len(values) > NODATA:
        raise UsageError(
            f"{where} holds {len(values)} values, a legend holds at most {NODATA}; is `column` the column of classes?",
            "column",
        )
    if all(_WHOLE.fullmatch(value) for value in values):
        codes = {value: int(value) for value in values}
        legend, new_codes = own_legend(Nomenclature().completed(codes.values()))
        return legend, {value: new_codes[code] for value, code in codes.items()}
    spelled: dict[str, str] = {}
    for value in sorted(values):
        spelled.setdefault(name_key(value), value)
    codes = {name: code for code, name in enumerate(spelled)}
    classes = tuple(LandCover(codes[name], value, distinct_color(codes[name])) for name, value in spelled.items())
    return Legend(classes), {value: codes[name_key(value)] for value in values}


class _Class(Protocol):
    """A class of a legend or of a nomenclature."""

    @property
    def code(self) -> int: ...
    @property
    def name(self) -> str: ...


_Classes = Iterable[_Class]


def meanings(said: Mapping[str, Any], own: _Classes, target: _Classes, where: str) -> dict[int, Meaning]:
    """Return the meaning of each own class by its code: as given in `said`, else the target's class of that name.

    `said` holds a name, a list of names, {"not": [names]} or None by own name or code. `where` starts each message.
    UsageError for an invalid meaning, and for a class without one.
    """
    own, target = list(own), list(target)
    result: dict[int, Meaning] = {}
    for name, value in said.items():
        code = own_code(name, own, where)
        if code in result:
            raise UsageError(f"{where}: class {name!r:.60} is listed twice; remove one")
        result[code] = _meaning(value, target, f"{where}, {name}")
    codes_by_name: dict[str, set[int]] = {}
    for named in target:
        codes_by_name.setdefault(name_key(named.name), set()).add(named.code)
    for named in own:
        if named.code not in result and name_key(named.name) in codes_by_name:
            result[named.code] = tuple(sorted(codes_by_name[name_key(named.name)]))
    missing = [named.name for named in own if named.code not in result]
    if missing:
        raise UsageError(
            f"{where}: nothing is given for {', '.join(missing)}; map each to one or several of "
            f"{', '.join(_names(target))}, or to null"
        )
    if not any(result.values()):
        raise UsageError(f"{where}: every class maps to null; map at least one to a class")
    return result


def class_code(name: Any, target: _Classes, where: str) -> int:  # noqa: ANN401 - of a file
    """Return the code of a target class by its name. UsageError if there is none."""
    target = list(target)
    codes = {name_key(named.name): named.code for named in target}
    if not isinstance(name, str) or name_key(name) not in codes:
        raise _no_class(name, _names(target), f"{where}: the legend has no class")
    return codes[name_key(name)]


def own_code(name: str, own: _Classes, where: str) -> int:
    """Return the code of a class by its name, or by its code if no class has that name. UsageError if neither fits."""
    own = list(own)
    codes = {name_key(named.name): named.code for named in own}
    if name_key(name) in codes:
        return codes[name_key(name)]
    if _WHOLE.fullmatch(name) and int(name) in codes.values():
        return int(name)
    raise _no_class(name, _names(own), f"{where}: the labels have no class")


def given_meanings(given: GivenMapping) -> dict[str, Any]:
    """Return the given meanings by name or code as text, from a value or a JSON file. UsageError if invalid."""
    mapping: Any = given
    if not isinstance(given, Mapping):
        try:
            mapping = json_in(given)
        except ValueError as error:
            raise UsageError(f"{Path(given)} {error}", "mapping") from None
    if not isinstance(mapping, Mapping) or not mapping:
        raise UsageError(
            f'`mapping` must map each class to what it may be, such as {{"building": "urban_land", "grass": '
            f'["rangeland", "agriculture_land"], "snow": null}}, got {mapping!r:.60}',
            "mapping",
        )
    return {str(name): value for name, value in mapping.items()}


def names_said(said: Mapping[str, Any], others: _Classes = ()) -> Nomenclature:
    """Return the classes that a mapping names: by code if all are codes, else numbered in order, before the others.

    `class 17`, as reports call a code without a name, is a code too. The others are the classes of the target: one that
    the labels call by its own name may be left out of the mapping.
    """
    keys = [name_key(name) for name in said]
    numbers = [key.removeprefix("class ") for key in keys]
    if all(_WHOLE.fullmatch(number) for number in numbers):
        return Nomenclature.from_names({int(number): f"class {int(number)}" for number in numbers}, {})
    names = [*said, *(named.name for named in others if name_key(named.name) not in keys)]
    return Nomenclature.from_names(dict(enumerate(names)), {})


def _meaning(value: Any, target: _Classes, where: str) -> Meaning:  # noqa: ANN401 - of a file
    match value:
        case None:
            return ()
        case str(name):
            return (class_code(name, target, where),)
        case [*names] if all(isinstance(name, str) for name in names):
            codes = {class_code(name, target, where) for name in names}
        case {"not": names, **others} if not others and isinstance(names, str | list):
            names = [names] if isinstance(names, str) else names
            excluded = {class_code(name, target, where) for name in names}
            codes = {named.code for named in target if named.code not in excluded and name_key(named.name) != _UNKNOWN}
        case _:
            raise UsageError(
                f'{where}: a class maps to a name, a list of names, {{"not": [names]}} or null, got {value!r:.60}'
            )
    if not codes:
        raise UsageError(f"{where}: this leaves no class; write null for pixels that do not count")
    return tuple(sorted(codes))


def _no_class(name: object, names: Sequence[str], what: str) -> UsageError:
    closest = nearest(str(name), names)
    hint = f" (did you mean {closest!r}?)" if closest else ""
    return UsageError(f"{what} {name!r:.60}{hint}; the classes are {', '.join(names)}")


def _names(classes: _Classes) -> list[str]:
    return [named.name for named in classes]
