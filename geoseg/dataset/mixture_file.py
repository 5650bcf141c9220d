"""Mixture files: JSON or a table of data sets, checked entry by entry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoseg.dataset.area import RULES
from geoseg.dataset.search import beside_table, part_lists, table_rows, table_titles
from geoseg.errors import GeosegError, UsageError, spelled
from geoseg.given import json_in, nearest
from geoseg.legend import Legend, given_legend

_MOST_IMAGES = 64
_GSD_M = (1e-3, 1e5)


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Synthetic landscapes with the legend DEEPGLOBE."""

    scenes: int = 40
    size_px: int = 512
    gsd_m: float = 0.5
    seed: int = 0
    """Seed of the first scene; each further scene has the next number."""


@dataclass(frozen=True, slots=True)
class BuiltUpEntry:
    """The classes that fill built-up land, by name."""

    classes: tuple[str, ...]
    target: str | None = None
    around_m: float = 60.0
    """Edge of the square around a pixel."""
    absorbs: Mapping[str | None, float] | None = None
    """Share of the square, by class of the target; None stands for pixels without a class."""


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """One data set of a mixture as written in its file; names are not yet looked up, paths not yet opened."""

    where: str
    """The file and the entry, for messages."""
    name: str
    share: float
    path: str | None
    """None for synthetic landscapes."""
    synthetic: Synthetic | None = None
    shown_m: tuple[float, float] | None = None
    classes: Mapping[str, Any] = field(default_factory=dict)
    built_up: BuiltUpEntry | None = None
    mosaic: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    split: str | None = None
    valid_share: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `open_dataset`."""


_OPTIONS = ("legend", "labels", "column", "layer", "bands", "tolerance", "data_gsd_m")
_TEXTS = ("name", "path", "labels", "column", "split")
"""Entries that are text even if they look like numbers, as a folder named after a year."""
_ENTRIES = (
    *("name", "path", "synthetic", "share", "gsd_m", "classes", "built_up", "mosaic", "weights", "split"),
    "valid_share",
)


def is_mixture_file(root: str) -> bool:
    """Return whether a file names data sets: a JSON file, or a table with the columns path and share."""
    file = Path(root)
    if file.suffix.casefold() == ".json":
        return file.is_file()
    titles = table_titles(file)
    return titles >= {"path", "share"} or ("path" in titles and not titles & {"scene", "labels"})


def of_entry(error: GeosegError, where: str) -> GeosegError:
    """Return an error that names the entry of a mixture, with its parameters spelled as keys of the entry."""

    def as_word(name: str, value: str | None) -> str:
        name = "data_gsd_m" if name == "gsd_m" else name
        return name if value is None else f"{name} {value}"

    return type(error)(f"{where}: {spelled(str(error), as_word)}", error.parameter)


def read_mixture(path: str) -> tuple[Legend | str | None, tuple[MemberEntry, ...]]:
    """Return the legend of a mixture (deepglobe, a file or classes; None if not given) and its data sets.

    UsageError, which names the entry, if one is invalid.
    """
    file = Path(path)
    value: Any = _json(file) if file.suffix.casefold() == ".json" else {"datasets": list(_rows(file))}
    if not isinstance(value, dict) or not isinstance(value.get("datasets"), list):
        raise UsageError(f'{file}: a mixture is {{"legend": ..., "datasets": [{{"path": ..., "share": ...}}, ...]}}')
    _check_keys(value, ("legend", "datasets"), str(file))
    members = tuple(_member(entry, file, place) for place, entry in enumerate(value["datasets"], start=1))
    if not members:
        raise UsageError(f"{file} names no data set")
    names = [member.name for member in members]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{file}: two data sets are named {repeated[0]!r}; give each its own name")
    return _legend(value.get("legend"), file, str(file)), members


def _json(file: Path) -> Any:  # noqa: ANN401 - whatever it holds
    try:
        return json_in(file)
    except ValueError as error:
        raise UsageError(f"{file} {error}") from None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table. Cells that are not valid JSON are text; a mapping may be in a file of its own."""
    for _, cells in table_rows(file):
        entry = {title: _cell(value, title) for title, value in cells.items() if value}
        for title in ("classes", "built_up", "weights"):
            if isinstance(entry.get(title), str):
                entry[title] = _json(file.parent / entry[title])
        yield entry


def _cell(value: str, title: str) -> Any:  # noqa: ANN401 - whatever it holds
    parts = value.split()
    if title in _TEXTS and value[0] != '"':
        return value
    try:
        if len(parts) > 1 and value[0] not in '[{"':
            return [int(part) if part.isdecimal() else float(part) for part in parts]
        return json.loads(value)
    except ValueError:
        return value


def _member(entry: Any, file: Path, place: int) -> MemberEntry:  # noqa: ANN401 - of a file
    where = f"{file}, data set {place}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: give an object with path and share, got {entry!r:.60}")
    path, synthetic = entry.get("path"), entry.get("synthetic")
    if (path is None) == (synthetic is None):
        raise UsageError(f"{where}: give a path, or synthetic for made-up landscapes")
    if path is not None and not _typed(path, str, "path", where).strip():
        raise UsageError(f"{where}: path is empty; name a folder or a file")
    name = _name(entry, file, where)
    where = f"{file}, data set {name}"
    _check_keys(entry, (*_ENTRIES, *_OPTIONS), where)
    split, valid_share = entry.get("split"), entry.get("valid_share")
    return MemberEntry(
        where=where,
        name=name,
        share=_share(entry, where),
        path=None if path is None else _relative_to_file(file, path),
        synthetic=None if synthetic is None else _synthetic(synthetic, where),
        shown_m=_shown_range(entry.get("gsd_m"), where),
        classes=_typed(entry.get("classes", {}), dict, "classes", where),
        built_up=None if entry.get("built_up") is None else _built_up(entry["built_up"], where),
        mosaic=_whole(entry.get("mosaic", 1), 1, _MOST_IMAGES, "mosaic", where),
        weights=_weights(entry.get("weights", {}), where),
        split=None if split is None else _rule(file, _typed(split, str, "split", where)),
        valid_share=None if valid_share is None else _number(valid_share, 0.01, 1, "valid_share", where),
        options=_options(entry, file, where),
    )


def _options(entry: Mapping[str, Any], file: Path, where: str) -> dict[str, Any]:
    """Return the options for opening a data set, after checking their types."""
    options = {key: entry[key] for key in _OPTIONS if entry.get(key) is not None}
    for key, value in options.items():
        match key:
            case "legend":
                options[key] = _legend(value, file, where)
            case "labels":
                options[key] = _relative_to_file(file, _typed(value, str, key, where))
            case "column":
                options[key] = str(value)
            case "tolerance":
                options[key] = _number(value, 0, 1, key, where)
            case "data_gsd_m":
                options[key] = _number(value, 1e-6, 1e6, key, where)
            case _:  # layer and bands: names, or numbers
                options[key] = _names(value, key, where)
    return options


def _names(value: object, name: str, where: str) -> Any:  # noqa: ANN401 - one or several
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in several):
        raise UsageError(f"{where}: {name} must be names or numbers, got {value!r:.60}")
    return several if name == "bands" else value


def _legend(value: object, file: Path, where: str) -> Legend | str | None:
    if value is None:
        return None
    if not isinstance(value, list | dict):
        return _relative_to_file(file, _typed(value, str, "legend", where))
    try:
        rows: Any = {"classes": value} if isinstance(value, list) else value
        return given_legend(rows)  # as in a legend file
    except UsageError as error:
        raise of_entry(error, where) from None


def _name(entry: Mapping[str, Any], file: Path, where: str) -> str:
    # of the absolute path: "." is the mixture's folder, and takes its name
    path = None if entry.get("path") is None else _relative_to_file(file, entry["path"])
    usual = "synthetic" if path is None else Path(os.path.abspath(path)).stem  # noqa: PTH100 - resolve() would follow links, which changes ids
    name: str = _typed(entry.get("name", usual), str, "name", where).strip()
    if not name or "/" in name or any(ord(letter) < ord(" ") for letter in name):
        raise UsageError(f"{where}: a name must be one line without a slash, got {name!r:.60}")
    return name


def _share(entry: Mapping[str, Any], where: str) -> float:
    if "share" not in entry:
        raise UsageError(f"{where} has no share; say what share of the crops it gets, such as 0.25")
    return _number(entry["share"], 1e-6, 1e6, "share", where)


def _shown_range(value: object, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    sizes = value if isinstance(value, list) else [value, value]
    if len(sizes) != 2:
        raise UsageError(
            f"{where}: gsd_m must be one pixel size in meters, or the finest and the coarsest, got {value!r:.60}"
        )
    finest, coarsest = (_number(size, *_GSD_M, "gsd_m", where) for size in sizes)
    if finest > coarsest:
        raise UsageError(
            f"{where}: gsd_m must be the finest, then the coarsest pixel size, got {finest:g} and {coarsest:g}"
        )
    return finest, coarsest


def _synthetic(value: object, where: str) -> Synthetic:
    value = {} if value is True else value
    settings = _typed(value, dict, "synthetic", where)
    defaults = Synthetic()
    _check_keys(settings, ("scenes", "size_px", "gsd_m", "seed"), f"{where}, synthetic")
    return Synthetic(
        _whole(settings.get("scenes", defaults.scenes), 1, 100_000, "scenes", where),
        _whole(settings.get("size_px", defaults.size_px), 64, 16_384, "size_px", where),
        _number(settings.get("gsd_m", defaults.gsd_m), 0.05, 100, "gsd_m", where),
        _whole(settings.get("seed", defaults.seed), 0, 2**31 - 1, "seed", where),
    )


def _built_up(value: object, where: str) -> BuiltUpEntry:
    settings = {"classes": value} if isinstance(value, list | str) else _typed(value, dict, "built_up", where)
    where = f"{where}, built_up"
    _check_keys(settings, ("classes", "target", "around_m", "absorbs"), where)
    classes = settings.get("classes")
    classes = [classes] if isinstance(classes, str) else classes
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise UsageError(f'{where}: name the classes that fill built-up land, such as ["building", "road"]')
    absorbs = settings.get("absorbs")
    return BuiltUpEntry(
        tuple(classes),
        None if settings.get("target") is None else _typed(settings["target"], str, "target", where),
        _number(settings.get("around_m", BuiltUpEntry(()).around_m), 1e-3, 1e5, "around_m", where),
        None if absorbs is None else _absorbs(_typed(absorbs, dict, "absorbs", where), where),
    )


def _absorbs(shares: Mapping[str, Any], where: str) -> dict[str | None, float]:
    return {None if name == "null" else name: _number(share, 0, 1, name, where) for name, share in shares.items()}


def _weights(value: object, where: str) -> dict[str, float]:
    weights = _typed(value, dict, "weights", where)
    return {name: _number(weight, 0, 1e6, f"the weight of {name}", where) for name, weight in weights.items()}


def _rule(file: Path, rule: str) -> str:
    """Return a rule; for a file of ids or a folder of lists, its path."""
    path = file.parent / rule
    return str(path) if rule not in ("", *RULES) and (path.is_file() or part_lists(path)) else rule


def _relative_to_file(file: Path, name: str) -> str:
    """Return a path written in a file, relative to that file's folder. `deepglobe` is no path and stays unchanged."""
    return name if name == "deepglobe" else beside_table(file, name)


def _check_keys(settings: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in settings:
        if name not in names:
            near = nearest(str(name), names)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise UsageError(f"{where} has an unknown key {name!r:.40}{hint}; the keys are {', '.join(names)}")


def _typed(value: object, kind: type[str | dict[str, Any]], name: str, where: str) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        expected = "text" if kind is str else "an object"
        raise UsageError(f"{where}: {name} must be {expected}, got {value!r:.60}")
    return value


def _number(value: object, low: float, high: float, name: str, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:  # also refuses nan
        raise UsageError(f"{where}: {name} must be a number {low:g} to {high:g}, got {value!r:.40}")
    return float(value)


def _whole(value: object, low: int, high: int, name: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{where}: {name} must be a whole number {low} to {high}, got {value!r:.40}")
    return value
