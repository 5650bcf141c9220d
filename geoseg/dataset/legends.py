"""Which code of ours a class of somebody's labels gets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from geoseg.errors import SceneError, UsageError
from geoseg.legend import NODATA, LandCover, Legend
from geoseg.raster.legend_file import read_legend_file
from geoseg.raster.nomenclature import Nomenclature, distinct_color

GivenLegend = Legend | Nomenclature | str | os.PathLike[str]

_SHOWN = 6
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)


def given_legend(given: GivenLegend) -> Legend:
    """Return a legend that is given as classes or as a file. UsageError when it cannot be one of ours."""
    match given:
        case Legend():
            return given
        case Nomenclature():
            return Legend(tuple(LandCover(named.code, named.name, named.color) for named in given))
    try:
        return given_legend(read_legend_file(Path(given)))
    except UsageError as error:
        text = str(error)
        raise UsageError(text if text.startswith("--legend") else f"--legend {os.fspath(given)}: {text}") from None


def merged(said: Iterable[tuple[str, Nomenclature]]) -> Nomenclature:
    """Return the classes of all labels in one, by (file, classes). SceneError where two files contradict each other."""
    names: dict[int, str] = {}
    palette: dict[int, tuple[int, int, int]] = {}
    for file, nomenclature in said:
        for named in nomenclature:
            known = names.setdefault(named.code, named.name)
            if _key(known) != _key(named.name):
                raise SceneError(f"{file} calls code {named.code} {named.name!r}, others {known!r}; give a --legend")
            palette.setdefault(named.code, named.color)
    return Nomenclature.from_names(names, palette)


def own_legend(known: Nomenclature) -> tuple[Legend, dict[int, int]]:
    """Return the legend of labels that bring their own, and theirs -> our codes: the same where they fit a byte."""
    codes = [named.code for named in known]
    if len(codes) > NODATA:
        raise UsageError(f"the labels hold {len(codes)} codes, a legend at most {NODATA}; give the classes as --legend")
    fits = all(0 <= code < NODATA for code in codes)
    ours = {code: code if fits else place for place, code in enumerate(codes)}
    names = [named.name for named in known]
    return (
        Legend(
            tuple(
                LandCover(
                    ours[named.code],
                    named.name if names.count(named.name) == 1 else f"{named.name} {named.code}",
                    named.color,
                )
                for named in known
            )
        ),
        ours,
    )


def codes_of(known: Nomenclature, legend: Legend) -> dict[int, int]:
    """Return theirs -> our codes: by name where the labels name classes of the legend; where no name is one, by code.

    `unmatched_note` says so if the labels have names.
    """
    by_name = {_key(land_cover.name): land_cover.code for land_cover in legend}
    named = {theirs.code: by_name[_key(theirs.name)] for theirs in known if _key(theirs.name) in by_name}
    return named or {code: code for code in legend.codes}


def unmatched_note(known: Nomenclature, legend: Legend, where: str) -> str | None:
    """Return a line where labels name their classes, but none as the legend does; None where they have no names."""
    ours = {_key(land_cover.name) for land_cover in legend}
    names = [named.name for named in known if _key(named.name) != f"class {named.code}"]
    if not names or any(_key(named.name) in ours for named in known):
        return None
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{where} names {', '.join(names[:_SHOWN])}{more}, the legend none of them: its classes are matched by code; "
        "rename those of the --legend if that is not meant"
    )


def codes_of_values(values: Sequence[str], legend: Legend | None, where: str) -> tuple[Legend, Mapping[str, int]]:
    """Return the legend and value -> code for the values of a column: names or codes of classes.

    Without a legend, whole numbers are codes, names are numbered in their order. UsageError for a value that is no
    class of the legend.
    """
    if legend is None:
        return _legend_of_values(values, where)
    by_name = {_key(land_cover.name): land_cover.code for land_cover in legend}
    codes = set(legend.codes)
    found = {}
    for value in values:
        code = by_name.get(_key(value), int(value) if _WHOLE.fullmatch(value) else None)
        if code not in codes:
            raise UsageError(
                f"{where}: {value!r:.60} is no class of the legend, which has "
                f"{', '.join(f'{land_cover.name} ({land_cover.code})' for land_cover in legend)}"
            )
        found[value] = code
    return legend, found


def _legend_of_values(values: Sequence[str], where: str) -> tuple[Legend, Mapping[str, int]]:
    if not values:
        raise SceneError(f"{where}: no polygon has a class; fill in the column")
    if len(values) > NODATA:
        raise UsageError(f"{where} holds {len(values)} values, a legend at most {NODATA}; is it the column of classes?")
    if all(_WHOLE.fullmatch(value) for value in values):
        codes = {value: int(value) for value in values}
        legend, ours = own_legend(Nomenclature().completed(codes.values()))
        return legend, {value: ours[code] for value, code in codes.items()}
    found = {value: code for code, value in enumerate(sorted(values))}
    return Legend(tuple(LandCover(code, value, distinct_color(code)) for value, code in found.items())), found


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
