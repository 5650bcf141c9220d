"""Matching the classes of a map with those of its reference: by name if both have names, else by code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geoseg.counts import NONE, PairCounts
from geoseg.errors import UsageError
from geoseg.legend import NODATA, LandCover, Legend, Nomenclature, class_list, meanings, name_key, names_said
from geoseg.model import ModelCard

_CODE = re.compile(r"(?:class )?([-+]?\d+)", re.ASCII)
"""A code, or the name of one without a name."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The class names of a map and of its reference, and which codes never count."""

    map_names: Nomenclature
    reference_names: Nomenclature
    by_name: bool
    ignored_in_map: frozenset[int] = frozenset()
    ignored_in_reference: frozenset[int] = frozenset()
    several: frozenset[int] = frozenset()
    """Codes of the reference that stand for several classes; their pixels never count."""
    own_names: Nomenclature | None = None
    """The reference's own class names, if its classes were mapped to those of the map."""

    @classmethod
    def of(
        cls, map_names: Nomenclature, reference_names: Nomenclature, ignore: str | Sequence[str | int] | None
    ) -> Self:
        """Match two nomenclatures, either of which may be empty. UsageError if they share no name.

        `ignore`: classes that never count, by name or by code; text may hold several, separated by commas.
        """
        by_name = bool(len(map_names) and len(reference_names))
        if not by_name:
            map_names = reference_names = map_names if len(map_names) else reference_names
        elif not _share_a_name(map_names, reference_names):
            raise UsageError(
                f"the legends share no class: the map has {class_list(map_names)}, the reference has "
                f"{class_list(reference_names)}; give them common names with `legend` and `reference_legend`",
                "legend",
            )
        base = cls(map_names, reference_names, by_name)
        codes = [base._ignored(word) for word in _words(() if ignore is None else ignore, base)]
        return replace(
            base,
            ignored_in_map=frozenset().union(*(map_codes for map_codes, _ in codes)),
            ignored_in_reference=frozenset().union(*(reference_codes for _, reference_codes in codes)),
        )

    @classmethod
    def by_mapping(
        cls,
        map_names: Nomenclature,
        reference_names: Nomenclature,
        mapping: Mapping[str, Any],
        ignore: str | Sequence[str | int] | None,
    ) -> Self:
        """Match by a mapping of the reference's classes. UsageError if it is invalid.

        A class that maps to several of the map's classes, or to none, never counts.
        """
        if not len(map_names):
            raise UsageError(
                "`mapping` needs the names of the map's classes, but the map has none; give them with `legend`",
                "legend",
            )
        own_classes = reference_names if len(reference_names) else names_said(mapping)
        names = [named.name for named in own_classes if not _CODE.fullmatch(name_key(named.name))]
        if names and not len(reference_names):
            raise UsageError(
                f"`mapping` names classes ({', '.join(names[:3])}), but the reference has only codes; map these, or "
                "name them with `reference_legend`",
                "mapping",
            )
        try:
            meaning_of = meanings(mapping, own_classes, map_names, "`mapping`")
        except UsageError as error:
            raise UsageError(str(error), "mapping") from None
        mapped = [
            replace(named, name=map_names.of(meaning_of[named.code][0]).name)
            if len(meaning_of[named.code]) == 1
            else named
            for named in own_classes
        ]
        base = cls.of(map_names, Nomenclature(tuple(mapped), own_classes.palette), ignore)
        return replace(
            base,
            ignored_in_reference=base.ignored_in_reference
            | {code for code, meaning in meaning_of.items() if not meaning},
            several=frozenset(code for code, meaning in meaning_of.items() if len(meaning) > 1),
            own_names=own_classes,
        )

    @property
    def note(self) -> str | None:
        """A note if the legends differ; None if they agree."""
        if not self.by_name:
            return None
        left_out = self.several | self.ignored_in_reference
        map_keys, reference_keys = _keys(self.map_names), _keys(self.reference_names)
        only_map = [named.name for named in self.map_names if name_key(named.name) not in reference_keys]
        only_reference = [
            named.name
            for named in self.reference_names
            if name_key(named.name) not in map_keys and named.code not in left_out
        ]
        parts = [
            f"only the {owner} has {', '.join(names)}"
            for owner, names in (("map", only_map), ("reference", only_reference))
            if names
        ]
        if not parts:
            return None
        hint = "; a mapping makes them equal if they mean the same" if only_map and only_reference else ""
        return f"the legends differ, and pixels of these classes count as errors: {'; '.join(parts)}{hint}"

    def same(self, reference_code: int, map_code: int) -> bool:
        """Return whether two codes are one class."""
        return self._key(self.reference_names, reference_code) == self._key(self.map_names, map_code)

    def counts(self, reference_code: int, map_code: int) -> bool:
        """Return whether a pixel of these codes is counted."""
        if NONE in {reference_code, map_code}:
            return False
        in_reference = reference_code not in self.ignored_in_reference and reference_code not in self.several
        return in_reference and map_code not in self.ignored_in_map

    def unnamed(self, counts: PairCounts) -> list[int]:
        """Return the reference's codes that have no name, although others have one, and that the map has not."""
        map_codes = {code for _, code in counts.pixels} | {named.code for named in self.map_names}
        map_keys = {self._key(self.map_names, code) for code in map_codes - {NONE}}
        known = {named.code for named in self.reference_names} | self.ignored_in_reference | {NONE}
        codes = sorted({code for code, _ in counts.pixels} - known) if len(self.reference_names) else []
        return [code for code in codes if self._key(self.reference_names, code) not in map_keys]

    def classes(self, counts: PairCounts) -> Classes:
        """Return the map's classes, named or found, then any found in the reference alone."""
        map_codes = {code for _, code in counts.pixels} | {named.code for named in self.map_names}
        reference_codes = {code for code, _ in counts.pixels} - self.ignored_in_reference - self.several
        index_of_key: dict[object, int] = {}
        codes: list[int] = []
        names: list[str] = []

        def places_of(found: AbstractSet[int], nomenclature: Nomenclature) -> dict[int, int]:
            """Add the classes that are missing; return the place of each code."""
            new_codes = sorted(found - {NONE})
            for code in new_codes:
                if index_of_key.setdefault(self._key(nomenclature, code), len(codes)) == len(codes):
                    # A class that only the reference has may have a code that the map uses for another class.
                    codes.append(code if code not in codes else max(codes) + 1)
                    names.append(nomenclature.of(code).name)
            return {code: index_of_key[self._key(nomenclature, code)] for code in new_codes}

        of_map = places_of(map_codes - self.ignored_in_map, self.map_names)
        of_reference = places_of(reference_codes, self.reference_names)
        return Classes(tuple(codes), tuple(names), of_map, of_reference)

    def _key(self, nomenclature: Nomenclature, code: int) -> object:
        return name_key(nomenclature.of(code).name) if self.by_name else code

    def _ignored(self, word: str | int) -> tuple[set[int], set[int]]:
        """Return the codes, in map and reference, of a name or code to ignore."""
        text = str(word).strip()
        both = self.map_names, self.reference_names
        map_codes, reference_codes = (
            {named.code for named in names if isinstance(word, str) and name_key(named.name) == name_key(text)}
            for names in both
        )
        if map_codes or reference_codes:
            return map_codes, reference_codes
        if not (match := _CODE.fullmatch(name_key(text))):
            raise UsageError(
                f"`ignore`: no class is called {text!r:.80}; the map has {class_list(self.map_names)}, the reference "
                f"{class_list(self.reference_names)}",
                "ignore",
            )
        code = int(match[1])
        is_in_both = all(code in {named.code for named in names} for names in both)
        if self.by_name and is_in_both and not self.same(code, code):
            raise UsageError(
                f"`ignore={code}` is {self.map_names.of(code).name} in the map and "
                f"{self.reference_names.of(code).name} in the reference; give the name instead",
                "ignore",
            )
        return {code}, {code}


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of an evaluation, and the place of each code among them."""

    codes: tuple[int, ...]
    names: tuple[str, ...]
    of_map: dict[int, int]
    of_reference: dict[int, int]

    def map_sums(self, sums: Mapping[tuple[int, int], float]) -> NDArray[np.float64]:
        """Return sums by code in the reference and in the map as sums by class of the map (class,)."""
        out = np.zeros(len(self.codes))
        for (_, code), value in sums.items():
            if code in self.of_map:
                out[self.of_map[code]] += value
        return out


def _share_a_name(one: Nomenclature, other: Nomenclature) -> bool:
    return bool(_keys(one) & _keys(other))


def _keys(names: Nomenclature) -> set[str]:
    return {name_key(named.name) for named in names}


def _words(ignore: str | Sequence[str | int], matching: Matching) -> Iterator[str | int]:
    """Yield the names and codes. Names may contain commas, so text that is a whole name is not split."""
    names = _keys(matching.map_names) | _keys(matching.reference_names)
    for word in [ignore] if isinstance(ignore, str | int) else ignore:
        if isinstance(word, int) or name_key(word) in names:
            yield word
        else:
            yield from (part for part in word.split(",") if part.strip())


@dataclass(frozen=True, slots=True, eq=False)
class SharedCodes:
    """The reference's codes, plus unused codes for the classes that only the map has."""

    legend: Legend
    of_reference: NDArray[np.uint8]
    """(256,); 255 for codes that never count."""
    of_map: NDArray[np.uint8]
    """(256,); 255 for codes without a class."""
    counts_in_map: NDArray[np.bool_]
    """(256,): False for codes without a class, and for classes that never count."""

    @classmethod
    def between(cls, reference: Legend, mapped: Legend, matching: Matching) -> Self:
        """Return the codes for two legends. If the codes run out, further classes are shown as no class."""
        free = [code for code in range(NODATA) if code not in reference.codes]
        added: list[LandCover] = []
        of_map = np.full(NODATA + 1, NODATA, np.uint8)
        for map_class in mapped:
            code = next((code for code in reference.codes if matching.same(code, map_class.code)), None)
            if code is None and free:
                code = free.pop(0)
                added.append(LandCover(code, map_class.name, map_class.color))
            if code is not None:
                of_map[map_class.code] = code
        counts = of_map != NODATA
        counts[[code for code in mapped.codes if code in matching.ignored_in_map]] = False
        of_reference = np.full(NODATA + 1, NODATA, np.uint8)
        counted = [code for code in reference.codes if code not in matching.ignored_in_reference]
        of_reference[counted] = counted
        legend = Legend(tuple(sorted((*reference, *added), key=lambda land_cover: land_cover.code)))
        return cls(legend, of_reference, of_map, counts)

    def of(self, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the codes of reference and map (row, col) in this legend; 255 in the reference if none counts."""
        reference_codes, map_codes = self.of_reference[truth], self.of_map[labels]
        reference_codes[~self.counts_in_map[labels]] = NODATA
        return reference_codes, map_codes


def match_legends(card: ModelCard, legend: Legend, name: str, ignore: str | Sequence[str | int] | None) -> Matching:
    """Match the classes of a model and of a data set by name. UsageError if they share none."""
    model_classes, dataset_classes = Nomenclature.from_legend(card.legend), Nomenclature.from_legend(legend)
    if not _share_a_name(model_classes, dataset_classes):
        unnamed = all(name_key(named.name).startswith("class ") for named in dataset_classes)  # named by code
        hint = "name its classes with `legend`, " if unnamed else ""
        raise UsageError(
            f"{card.name} maps {class_list(model_classes)}, {name} has {class_list(dataset_classes)}: no name in "
            f"common; {hint}map the classes of the data set to the model's with `mapping`, or use another model",
            "mapping",
        )
    return Matching.of(model_classes, dataset_classes, ignore)
