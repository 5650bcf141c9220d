"""Which code of a legend a class of somebody's labels gets: by name where it has one, else by code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from geoseg.errors import SceneError, UsageError, listed
from geoseg.legend.legend import NODATA, LandCover, Legend, NamedClass, Nomenclature, distinct_color, name_key

_SHOWN = 6
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)


def merged(said: Iterable[tuple[str, Nomenclature]]) -> Nomenclature:
    """Return the classes of all labels in one, by (file, classes). SceneError where two files contradict each other."""
    names: dict[int, str] = {}
    palette: dict[int, tuple[int, int, int]] = {}
    for file, nomenclature in said:
        for named in nomenclature:
            known = names.setdefault(named.code, named.name)
            if name_key(known) != name_key(named.name):
                raise SceneError(
                    f"{file} calls code {named.code} {named.name!r}, others {known!r}; give a `legend`", "legend"
                )
            palette.setdefault(named.code, named.color)
    return Nomenclature.from_names(names, palette)


def own_legend(known: Nomenclature) -> tuple[Legend, dict[int, int]]:
    """Return the legend of labels that bring their own, and theirs -> our codes: the same where they fit a byte.

    Codes whose names are one but for their spelling are one class, the first of them: `alike_note` says so.
    """
    first = _first_of_name(known)
    codes = sorted(named.code for named in first.values())
    if len(codes) > NODATA:
        raise UsageError(f"the labels hold {len(codes)} codes, a legend at most {NODATA}; give a `legend`", "legend")
    fits = all(0 <= code < NODATA for code in codes)
    ours = {code: code if fits else place for place, code in enumerate(codes)}
    classes = sorted(first.values(), key=lambda named: named.code)
    return (
        Legend(tuple(LandCover(ours[named.code], named.name, named.color) for named in classes)),
        {named.code: ours[first[name_key(named.name)].code] for named in known},
    )


def alike_note(spellings: Iterable[str]) -> str | None:
    """Return a line where several of a labels' own names are one class; None where each is one of its own."""
    groups: dict[str, list[str]] = {}
    for name in spellings:
        groups.setdefault(name_key(name), []).append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    shown = "; ".join(" = ".join(group[:_SHOWN]) for group in alike[:_SHOWN])
    return f"names that differ only in case, spaces, _ or - are one class: {shown}"


def _first_of_name(known: Nomenclature) -> dict[str, NamedClass]:
    """Return the class of the lowest code that has each name."""
    first: dict[str, NamedClass] = {}
    for named in known:
        first.setdefault(name_key(named.name), named)
    return first


def codes_of(known: Nomenclature, legend: Legend) -> dict[int, int]:
    """Return theirs -> our codes: by name where the labels name classes of the legend; where no name is one, by code.

    `unmatched_note` says so if the labels have names.
    """
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in legend}
    named = {theirs.code: by_name[name_key(theirs.name)] for theirs in known if name_key(theirs.name) in by_name}
    return named or {code: code for code in legend.codes}


def unmatched_note(known: Nomenclature, legend: Legend, where: str) -> str | None:
    """Return a line where labels name their classes, but none as the legend does; None where they have no names."""
    ours = {name_key(land_cover.name) for land_cover in legend}
    names = [named.name for named in known if name_key(named.name) != f"class {named.code}"]
    if not names or any(name_key(named.name) in ours for named in known):
        return None
    return (
        f"{where} names {listed(names, _SHOWN)}, the legend none of them: its classes are matched by code; "
        "rename those of the `legend` if that is not meant"
    )


def codes_of_values(values: Sequence[str], legend: Legend | None, where: str) -> tuple[Legend, Mapping[str, int]]:
    """Return the legend and value -> code for the values of a column: names or codes of classes.

    Without a legend, whole numbers are codes, names are numbered in their order. UsageError for a value that is no
    class of the legend.
    """
    if legend is None:
        return _legend_of_values(values, where)
    by_name = {name_key(land_cover.name): land_cover.code for land_cover in legend}
    codes = set(legend.codes)
    found = {}
    for value in values:
        code = by_name.get(name_key(value), int(value) if _WHOLE.fullmatch(value) else None)
        if code not in codes:
            raise UsageError(
                f"{where}: {value!r:.60} is not a class of the legend, which has "
                f"{', '.join(f'{land_cover.name} ({land_cover.code})' for land_cover in legend)}"
            )
        found[value] = code
    return legend, found


def _legend_of_values(values: Sequence[str], where: str) -> tuple[Legend, Mapping[str, int]]:
    if not values:
        raise SceneError(f"{where}: no polygon has a class; fill in the column")
    if len(values) > NODATA:
        raise UsageError(
            f"{where} holds {len(values)} values, a legend at most {NODATA}; is `column` the one of classes?", "column"
        )
    if all(_WHOLE.fullmatch(value) for value in values):
        codes = {value: int(value) for value in values}
        legend, ours = own_legend(Nomenclature().completed(codes.values()))
        return legend, {value: ours[code] for value, code in codes.items()}
    spelled: dict[str, str] = {}
    for value in sorted(values):
        spelled.setdefault(name_key(value), value)
    codes = {name: code for code, name in enumerate(spelled)}
    classes = tuple(LandCover(codes[name], value, distinct_color(codes[name])) for name, value in spelled.items())
    return Legend(classes), {value: codes[name_key(value)] for value in values}
