"""What each class of one legend may be of another: one class, several that leave a choice, or none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from geoseg.errors import UsageError
from geoseg.given import json_in, nearest
from geoseg.legend.legend import Nomenclature, name_key

_UNKNOWN = "unknown"
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)

Meaning = tuple[int, ...]
"""Codes of the target that a class may be, ascending; empty for none."""

GivenMapping = Mapping[Any, Any] | str | os.PathLike[str]
"""What is said of classes, as a value or a JSON file."""


class _Class(Protocol):
    """A class of a legend or of a nomenclature."""

    @property
    def code(self) -> int: ...
    @property
    def name(self) -> str: ...


_Classes = Iterable[_Class]


def meanings(said: Mapping[str, Any], own: _Classes, target: _Classes, where: str) -> dict[int, Meaning]:
    """Return the meaning of each own class by its code: what is said of it, else the target's class of the same name.

    `said` holds a name, a list of names, {"not": [names]} or None by own name or code. `where` begins each message.
    UsageError for what cannot be meant, and for a class that nothing is said of.
    """
    own, target = list(own), list(target)
    found: dict[int, Meaning] = {}
    for name, value in said.items():
        code = own_code(name, own, where)
        if code in found:
            raise UsageError(f"{where}: {name!r:.60} is a class that is named twice; leave one of them out")
        found[code] = _meaning(value, target, f"{where}, {name}")
    names: dict[str, set[int]] = {}
    for known in target:
        names.setdefault(name_key(known.name), set()).add(known.code)
    for known in own:
        if known.code not in found and name_key(known.name) in names:
            found[known.code] = tuple(sorted(names[name_key(known.name)]))
    unsaid = [known.name for known in own if known.code not in found]
    if unsaid:
        raise UsageError(
            f"{where} says nothing of {', '.join(unsaid)}; name what each may be of "
            f"{', '.join(_names(target))}, or null for nothing"
        )
    if not any(found.values()):
        raise UsageError(f"{where}: no class means anything; nothing is left")
    return found


def class_code(name: Any, target: _Classes, where: str) -> int:  # noqa: ANN401 - of a file
    """Return the code of a class of the target by its name. UsageError."""
    target = list(target)
    codes = {name_key(known.name): known.code for known in target}
    if not isinstance(name, str) or name_key(name) not in codes:
        raise _no_class(name, _names(target), f"{where}: the legend has no class")
    return codes[name_key(name)]


def own_code(name: str, own: _Classes, where: str) -> int:
    """Return the code of a class by its name, or by its code where no class is called so. UsageError."""
    own = list(own)
    codes = {name_key(known.name): known.code for known in own}
    if name_key(name) in codes:
        return codes[name_key(name)]
    if _WHOLE.fullmatch(name) and int(name) in codes.values():
        return int(name)
    raise _no_class(name, _names(own), f"{where}: the data set has no class")


def given_meanings(given: GivenMapping) -> dict[str, Any]:
    """Return what is said of classes, by name or code as text: as given, or from a JSON file. UsageError."""
    said: Any = given
    if not isinstance(given, Mapping):
        try:
            said = json_in(given)
        except ValueError as error:
            raise UsageError(f"{Path(given)} {error}", "mapping") from None
    if not isinstance(said, Mapping) or not said:
        raise UsageError(
            f'`mapping` says of each class what it may be, as {{"building": "urban_land", "grass": ["rangeland", '
            f'"agriculture_land"], "snow": null}}, got {said!r:.60}',
            "mapping",
        )
    return {str(name): value for name, value in said.items()}


def names_said(said: Mapping[str, Any]) -> Nomenclature:
    """Return the classes that a mapping names: by code where each is a number, else in their order."""
    if all(_WHOLE.fullmatch(name) for name in said):
        return Nomenclature.from_names({int(name): f"class {int(name)}" for name in said}, {})
    return Nomenclature.from_names(dict(enumerate(said)), {})


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
            barred = {class_code(name, target, where) for name in names}
            codes = {known.code for known in target if known.code not in barred and name_key(known.name) != _UNKNOWN}
        case _:
            raise UsageError(
                f'{where}: what a class means is a name, a list of names, {{"not": [names]}} or null, got {value!r:.60}'
            )
    if not codes:
        raise UsageError(f"{where}: it can be of no class; write null for pixels that say nothing")
    return tuple(sorted(codes))


def _no_class(name: object, names: Sequence[str], what: str) -> UsageError:
    near = nearest(str(name), names)
    meant = f" (did you mean {near!r}?)" if near else ""
    return UsageError(f"{what} {name!r:.60}{meant}; it has {', '.join(names)}")


def _names(known: _Classes) -> list[str]:
    return [each.name for each in known]
