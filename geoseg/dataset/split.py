"""The split of a data set: parts for training, for choosing the model and for testing."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from geoseg.dataset.area import DEFAULT_SEED, PARTS, RULES, Area
from geoseg.dataset.blocks import hold_out_blocks
from geoseg.dataset.dataset import Dataset
from geoseg.dataset.mixture_file import of_entry
from geoseg.dataset.pair import Member
from geoseg.dataset.search import PART_NAMES, part_lists
from geoseg.errors import UsageError, listed, numbered
from geoseg.given import delimiter_in, json_of, nearest, plain_arguments, rows_of, text_in
from geoseg.html import table
from geoseg.raster import Window, digest
from geoseg.typed import checked

DEFAULT_VALID_SHARE = 0.5
"""Share of the held-out part for validation; the rest is for testing."""
_RANDOM, _BLOCKS = "random:0.8", "blocks:0.2"
_SHARES = {"random": _RANDOM, "blocks": _BLOCKS}
"""Rules that take a share, each with its usual share."""
_ENDS = [re.compile(rf"{kind}\.[A-Za-z][A-Za-z0-9]{{1,3}}$") for kind in ("", "(_(sat|mask|image|img|label|labels))?")]
"""What the file name of a scene or mask may have after its id."""
_HEADINGS = {"id", "image_id", "pair_id", "scene", "image"}
_PART_HEADINGS = {"part", "split", "set", "subset"}


@dataclass(frozen=True, slots=True)
@checked
class Split:
    """Three parts that share no pixel. The model is chosen on `valid` and judged on `test`.

    UsageError if two parts overlap, or all are empty.
    """

    name: str
    """The rule, or the path of the file."""
    train: tuple[Area, ...]
    """Scenes, or windows of scenes, that the network learns from."""
    valid: tuple[Area, ...]
    """Areas that the best epoch is chosen on."""
    test: tuple[Area, ...]
    """Areas that the chosen model is judged on."""
    seed: int | None = None
    """Seed of the rule; None if no rule made the split."""
    valid_share: float | None = None
    """Share of the held-out part for validation; None if no rule made the split."""

    def __post_init__(self) -> None:
        if not (self.train or self.valid or self.test):
            raise UsageError(f"the split {self.name} is empty")
        _check_disjoint(self)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {', '.join(f'{part}: {self.size_of(part)}' for part in PARTS)})"

    def _repr_html_(self) -> str:
        seed = [] if self.seed is None else [("seed", str(self.seed))]
        return table([("split", self.name), *((part, self.size_of(part)) for part in PARTS), *seed])

    @checked
    def size_of(self, name: str) -> str:
        """Return the size of a part in words."""
        whole = [area.pair_id for area in self.part(name) if area.window is None]
        cut = [area.pair_id for area in self.part(name) if area.window is not None]
        sizes = [numbered(len(whole), "scene")] if whole else []
        sizes += [f"{numbered(len(cut), 'window')} of {numbered(len(set(cut)), 'scene')}"] if cut else []
        return " and ".join(sizes) or "nothing"

    @property
    def digest(self) -> str:
        """Hex digest of the areas of all parts."""
        return digest([self.part_json(part) for part in PARTS])

    @checked
    def part(self, name: str) -> tuple[Area, ...]:
        """Return a part: train, valid or test. UsageError for another name."""
        if name not in PARTS:
            raise UsageError(f"a split has the parts {', '.join(PARTS)}, got {name!r}")
        areas: tuple[Area, ...] = getattr(self, name)
        return areas

    @checked
    def part_json(self, name: str) -> list[Any]:
        """Return a part as plain values: ids, or [id, row, col, height, width]."""
        return [
            area.pair_id
            if (window := area.window) is None
            else [area.pair_id, window.row, window.col, window.height, window.width]
            for area in self.part(name)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values. Written to a .json file, they are a rule for `split`."""
        return {"name": self.name, **{part: self.part_json(part) for part in PARTS}}


def default_rule(dataset: Dataset) -> tuple[str, str]:
    """Return the rule for a data set if the caller gives none, and the reason on one line."""
    if dataset.members:
        return "mixture", "each data set by its own rule"
    if _has_folders(dataset):
        has_valid = any(pair.part == "valid" for pair in dataset.pairs)
        parts = "train, validate and test" if has_valid else "train and test; a share of those of train/ validates"
        return "folders", f"its folders or its table say which scenes {parts}"
    if dataset.published_split is not None:
        complaint = _published_split_fault(dataset)
        if complaint is None:
            return "published", "all parts of the published split are present"
        return _RANDOM if len(dataset.pairs) > 1 else _BLOCKS, f"not the published split: {complaint}"
    if any(pair.scene.geobox.has_place for pair in dataset.pairs) or len(dataset.pairs) == 1:
        return _BLOCKS, "blocks separated in space, so that neighbors do not leak"
    return _RANDOM, "scenes that are not georeferenced, drawn at random"


@plain_arguments()
def split(
    dataset: Dataset, rule: str | None = None, *, seed: int = DEFAULT_SEED, valid_share: float = DEFAULT_VALID_SHARE
) -> Split:
    """Divide a data set into parts for training, validation and testing.

    Parameters
    ----------
    dataset : Dataset
        The data set, from `open_dataset`.
    rule : str, optional
        By default the published split of DeepGlobe if all its parts are present, folders if they name the parts,
        blocks for scenes with a place, else random.

        - `published`: DeepGlobe's 454, 207 and 142 images;
        - `random:0.8`: 80 % of the scenes are for training;
        - `blocks:0.2`: blocks with 20 % of the labeled pixels are held out, with a margin that no part uses;
        - `folders`: as train/, valid/ and test/, or the table's column split, say;
        - `all`: all scenes are for training;
        - `mixture`: each data set of a mixture by its own rule;
        - a file of ids: .txt or .csv with `id,part` on each line, or .json with the values of `Split.to_json`;
        - a folder with `train.txt`, `val.txt` and `test.txt`, each with an id on each line, as CamVid or
          LandCover.ai's output/ has.
    seed : int, default 21
        The same seed and scenes give the same split, in any order.
    valid_share : float, default 0.5
        Share of the held-out part for validation, more than 0 and at most 1; the rest is for testing. It does not
        matter for `published`, `folders`, `all` and files.

    Returns
    -------
    Split
        Three parts that share no pixel.

    Raises
    ------
    UsageError
        If a rule does not exist, or cannot be applied to these scenes.

    Notes
    -----
    Nearby pixels are similar: a model judged on neighbors of its training pixels looks better than it is (Roberts et
    al. 2017, 10.1111/ecog.02881). So scenes with a place are divided by blocks of the ground.

    Examples
    --------
    >>> parts = geoseg.split(dataset, "blocks:0.2")
    >>> len(parts.train), len(parts.valid), len(parts.test)

    """
    if not isinstance(dataset, Dataset):
        raise UsageError(f"`dataset` must be what geoseg.open_dataset returns, got {type(dataset).__name__}", "dataset")
    if not 0 < valid_share <= 1:
        raise UsageError(
            f"`valid_share`, the share of the held-out part for validation, must be more than 0 and at most 1, got "
            f"{valid_share}",
            "valid_share",
        )
    rule = default_rule(dataset)[0] if rule is None else rule.strip()
    return replace(_by_rule(dataset, rule, seed, valid_share), seed=seed, valid_share=valid_share)


def _by_rule(  # noqa: PLR0911 - one for each rule
    dataset: Dataset, rule: str, seed: int, valid_share: float, others: Sequence[Member] = ()
) -> Split:
    """Divide a data set by a rule. `others`: the other data sets of a mixture, if it is one of several."""
    check_rule(rule)
    name, _, number = rule.partition(":")
    match name:
        case "published" if not number:
            return _by_part(dataset, rule, _published(dataset))
        case "folders" if not number:
            return _by_folder(dataset, rule, seed)
        case "all" if not number:
            return Split(rule, tuple(Area(pair.id) for pair in dataset.pairs), (), ())
        case "mixture" if not number:
            return _by_member(dataset, seed, valid_share)
        case "random" if number:
            return _by_part(dataset, rule, _random(dataset, _share(rule, number), seed, valid_share))
        case "blocks" if number:
            return Split(rule, *hold_out_blocks(dataset, _share(rule, number), seed, valid_share))
    return _from_file(dataset, rule, others)


def check_rule(rule: str) -> None:
    """Raise UsageError if `rule` is neither a rule nor a file, or its share is out of range. Needs no scenes."""
    name, _, number = rule.strip().partition(":")
    path = Path(rule.strip())
    if name in _SHARES and number:
        _share(rule, number)
    elif (name not in RULES or number) and not (name and (path.is_file() or part_lists(path))):
        near = nearest(name, (*RULES, *_SHARES))
        meant = f"{near}:{number}" if near in _SHARES and number else _SHARES.get(near or "", near)
        raise UsageError(
            f"`split={rule!r:.80}` is neither a rule nor a file{f' (did you mean {meant}?)' if meant else ''}; "
            "give published, random:0.8, blocks:0.2, folders, all, a file of ids, or a folder of train.txt and val.txt",
            "split",
        )


def _share(rule: str, number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UsageError(f"`split={rule!r}`: the share must be between 0 and 1, got {number!r:.40}", "split")
    return share


def _published_split_fault(dataset: Dataset) -> str | None:
    published = dataset.published_split
    if published is None:
        return "that split is for DeepGlobe's images only"
    parts = {pair.id: published.get(pair.id) for pair in dataset.pairs}
    unlisted = [name for name, part in parts.items() if part is None]
    if unlisted:
        return f"it lacks {len(unlisted)} of {numbered(len(parts), 'scene')}: {listed(sorted(unlisted))}"
    counts, totals = Counter(parts.values()), Counter(published.values())
    if all(counts[part] for part in PARTS):
        return None
    return f"only some of it is present ({', '.join(f'{counts[part]} of {totals[part]} {part}' for part in PARTS)})"


def _published(dataset: Dataset) -> Mapping[str, str]:
    complaint = _published_split_fault(dataset)
    published = dataset.published_split
    if complaint is not None or published is None:
        raise UsageError(f"`split='published'`: {complaint}; use {default_rule(dataset)[0]} or a file of ids", "split")
    return published


def _has_folders(dataset: Dataset) -> bool:
    parts = {pair.part for pair in dataset.pairs}
    return "train" in parts and len(parts) > 1 and None not in parts and ("valid" in parts or not dataset.members)


def _by_folder(dataset: Dataset, rule: str, seed: int) -> Split:
    """Divide a data set as its folders or its table say. Without valid/, a share of train/ validates."""
    if not _has_folders(dataset):
        raise UsageError(
            "`split='folders'` needs scenes with labels in train/ and in valid/ or test/, or a column split; "
            f"use {default_rule(dataset)[0]} or a file of ids",
            "split",
        )
    by_folder = _by_part(dataset, rule, {pair.id: pair.part for pair in dataset.pairs if pair.part is not None})
    if by_folder.valid:
        return by_folder
    trained = replace(dataset, pairs=tuple(pair for pair in dataset.pairs if pair.part == "train"))
    own = _by_rule(trained, default_rule(trained)[0], seed, valid_share=1)
    return Split(rule, own.train, own.valid, by_folder.test)


def _random(dataset: Dataset, share: float, seed: int, valid_share: float) -> Mapping[str, str]:
    ids = [pair.id for pair in dataset.pairs]
    if len(ids) < 2:
        raise UsageError("one scene cannot be divided at random; use `split='blocks:0.2'`", "split")
    random.Random(f"geoseg {seed}").shuffle(ids)  # noqa: S311 - not a secret; a text seed works the same on every platform
    held_out = min(max(1, round(len(ids) * (1 - share))), len(ids) - 1)
    if len(ids) >= 3 and valid_share < 1:
        held_out = max(2, held_out)
    valid = held_out if valid_share == 1 else min(max(1, round(held_out * valid_share)), max(1, held_out - 1))
    train = len(ids) - held_out
    return {
        name: "train" if place < train else "valid" if place < train + valid else "test"
        for place, name in enumerate(ids)
    }


def _by_member(dataset: Dataset, seed: int, valid_share: float) -> Split:
    """Divide each data set of a mixture by its own rule, else as its folders or table say, else all for training."""
    if not dataset.members:
        raise UsageError(f"`split='mixture'`: {dataset.name} is not a mixture; use {default_rule(dataset)[0]}", "split")
    areas: dict[str, list[Area]] = {part: [] for part in PARTS}
    for member in dataset.members:
        prefix = f"{member.name}/"
        own = [replace(pair, id=pair.id.removeprefix(prefix)) for pair in dataset.pairs if member.has(pair.id)]
        alone = replace(dataset, name=member.name, pairs=tuple(own), members=(), kind=member.kind)
        others = [other for other in dataset.members if other is not member]
        try:
            if member.rule is not None:
                member_split = _by_rule(alone, member.rule, seed, member.valid_share or valid_share, others)
            elif _has_folders(alone):
                member_split = _by_folder(alone, "folders", seed)
            else:
                member_split = _by_part(alone, "folders", {pair.id: pair.part or "train" for pair in own})
        except UsageError as error:
            raise of_entry(error, member.name) from None
        for part in PARTS:
            areas[part] += (replace(area, pair_id=prefix + area.pair_id) for area in member_split.part(part))
    train, valid, test = (tuple(sorted(areas[part], key=Area.order)) for part in PARTS)
    return Split("mixture", train, valid, test)


def _by_part(dataset: Dataset, name: str, parts: Mapping[str, str]) -> Split:
    areas = {part: tuple(Area(pair.id) for pair in dataset.pairs if parts.get(pair.id) == part) for part in PARTS}
    return Split(name, areas["train"], areas["valid"], areas["test"])


def _from_file(dataset: Dataset, path: str, others: Sequence[Member]) -> Split:
    pairs = {pair.id: pair for pair in dataset.pairs}
    is_folder = Path(path).is_dir()  # a line of CamVid's lists names an image and its labels

    def ids(written: str) -> list[str]:
        name = written.removeprefix(f"{dataset.name}/")
        return [written, name, *(() if any(other.has(written) for other in others) else _ids_of(name))]

    def in_dataset(area: Area) -> Area:
        *whole, end = ids(area.pair_id)  # the end of a line may be the name of labels
        names = [*whole, *(ids(area.pair_id.split()[0].rstrip(",;")) if is_folder else ()), end]
        return replace(area, pair_id=next((name for name in names if name in pairs), area.pair_id))

    parts = {part: [in_dataset(area) for area in entries] for part, entries in _read_split_file(path).items()}
    areas = [area for entries in parts.values() for area in entries]
    if unknown := sorted({area.pair_id for area in areas} - pairs.keys()):
        raise UsageError(
            f"`split={path!r}`: {dataset.name} lacks {numbered(len(unknown), 'scene')} of it: {listed(unknown)}",
            "split",
        )
    for area in areas:
        inside = None if area.window is None else area.window.intersection(pairs[area.pair_id].whole)
        if inside != area.window:
            raise UsageError(f"`split={path!r}`: {area.window} is not inside {area.pair_id}", "split")
    train, valid, test = (tuple(sorted(parts[part], key=Area.order)) for part in PARTS)
    return Split(path, train, valid, test)


def _read_split_file(path: str) -> Mapping[str, list[Area]]:
    """Return the areas of train, valid and test. UsageError, with the line, if the file is invalid.

    .json: `{"train": [...], "valid": [...], "test": [...]}` of ids, or of [id, row, col, height, width]. Any other
    file is text with a line `id,part` for each scene. A table may have a heading with id and split. In a folder each
    part has a list of ids of its own.
    """
    file = Path(path)
    lists = {entry.stem: _lines(_text(entry)) for entry in part_lists(file)}
    text = "" if lists else _text(file)
    try:
        from_text = _from_json if file.suffix.casefold() == ".json" else _from_lines
        parts = _from_lists(lists) if lists else from_text(text)
    except UsageError as error:
        raise UsageError(f"`split`: {file}: {error}", "split") from None
    if not any(parts.values()):
        raise UsageError(f"`split`: {file} names no scene", "split")
    return parts


def _text(file: Path) -> str:
    try:
        return text_in(file)
    except ValueError as error:
        raise UsageError(f"`split`: {file} {error}", "split") from None


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _from_json(text: str) -> dict[str, list[Area]]:
    try:
        value = json_of(text)
    except ValueError as error:
        raise UsageError(f"it {error}") from None
    if not isinstance(value, dict):
        raise UsageError('give {"train": [ids], "valid": [ids], "test": [ids]}')
    return _from_lists(value)


def _from_lists(lists: Mapping[str, object]) -> dict[str, list[Area]]:
    areas: dict[str, list[Area]] = {part: [] for part in PARTS}
    keys: dict[str, str] = {}
    for name, entries in lists.items():
        if name == "name":
            continue
        if not isinstance(entries, list):
            raise UsageError(f"{name} should be a list of ids, got {entries!r:.60}")
        part = _part(str(name), "the key")
        if (other := keys.setdefault(part, name)) != name:
            raise UsageError(f"{other} and {name} mean the same part; give it once")
        areas[part] += [_area(entry) for entry in entries]
    return areas


def _area(entry: object) -> Area:
    match entry:
        case str(name):
            return Area(name.strip())
        case int(number) if not isinstance(number, bool):
            return Area(str(number))
        case [str(name), int(row), int(col), int(height), int(width)]:
            return Area(name, Window(row, col, height, width))
    raise UsageError(f"an entry must be an id or [id, row, col, height, width], got {entry!r:.60}")


def _from_lines(text: str) -> dict[str, list[Area]]:
    lines = _lines(text)
    heading = lines[0] if lines else ""
    delimiter = delimiter_in(heading.strip(), ",;\t ")
    try:
        rows = rows_of(lines, delimiter)
    except ValueError as error:
        raise UsageError(f"it {error}") from None
    at_id, at_part = 0, 1
    titles = [cell.casefold() for cell in rows[0]] if rows else []
    if _HEADINGS & {*titles} and _PART_HEADINGS & {*titles}:
        at_id = next(place for place, title in enumerate(titles) if title in _HEADINGS)
        at_part = next(place for place, title in enumerate(titles) if title in _PART_HEADINGS)
        rows = rows[1:]
    else:  # there may be several blanks between id and part
        rows = [[cell for cell in row if cell] for row in rows]
    areas: dict[str, list[Area]] = {part: [] for part in PARTS}
    for row in rows:
        if len(row) <= max(at_id, at_part):
            raise UsageError(
                f"a line must be `id,part` with train, valid or test, got {','.join(row)!r:.80}; of lists of one part "
                "each, as train.txt and val.txt, give the folder"
            )
        areas[_part(row[at_part], row[at_id])].append(Area(row[at_id]))
    return areas


def _part(name: str, source: str) -> str:
    part = PART_NAMES.get(name.strip().casefold())
    if part is None:
        raise UsageError(f"{source}: the parts are train, valid and test, got {name!r:.40}")
    return part


def _ids_of(name: str) -> list[str]:
    """Return the ids that the path of a scene or mask may stand for, with its folders first."""
    ids = [end.sub("", name.strip().replace("\\", "/")) for end in _ENDS]
    return [*ids, ids[-1].rpartition("/")[2]]


def _check_disjoint(candidate: Split) -> None:
    """Raise UsageError if a pixel is in two parts, or twice in one."""
    by_pair: dict[str, list[tuple[str, Area]]] = defaultdict(list)
    for part in PARTS:
        for area in candidate.part(part):
            by_pair[area.pair_id].append((part, area))
    overlaps = [
        pair_id
        for pair_id, areas in by_pair.items()
        if any(first.overlaps(second) for (_, first), (_, second) in combinations(areas, 2))
    ]
    if overlaps:
        first = by_pair[overlaps[0]]
        parts = dict.fromkeys(part for part, _ in first)
        where = f"in {' and '.join(parts)}" if len(parts) > 1 else f"twice in {first[0][0]}"
        raise UsageError(
            f"the split {candidate.name} overlaps: {listed(sorted(overlaps))} {where}; "
            "each scene belongs to one part only"
        )
