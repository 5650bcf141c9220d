"""One legend for a reference and a map whose codes may differ, where both are shown side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geoseg.evaluation.matching import Matching
from geoseg.legend import NODATA, LandCover, Legend


@dataclass(frozen=True, slots=True, eq=False)
class SharedCodes:
    """The reference's codes, and for classes that only the map has codes that the reference leaves free."""

    legend: Legend
    of_reference: NDArray[np.uint8]
    """(256,); 255 for what never counts."""
    of_map: NDArray[np.uint8]
    """(256,); 255 for no class."""
    counts_in_map: NDArray[np.bool_]
    """(256,): False for no class, and for one that never counts."""

    @classmethod
    def between(cls, reference: Legend, mapped: Legend, matching: Matching) -> Self:
        """Return the codes for two legends. A class that none is left for is shown as no class."""
        free = [code for code in range(NODATA) if code not in reference.codes]
        added: list[LandCover] = []
        of_map = np.full(NODATA + 1, NODATA, np.uint8)
        for ours in mapped:
            code = next((code for code in reference.codes if matching.same(code, ours.code)), None)
            if code is None and free:
                code = free.pop(0)
                added.append(LandCover(code, ours.name, ours.color))
            if code is not None:
                of_map[ours.code] = code
        counts = of_map != NODATA
        counts[[code for code in mapped.codes if code in matching.ignored_in_map]] = False
        of_reference = np.full(NODATA + 1, NODATA, np.uint8)
        counted = [code for code in reference.codes if code not in matching.ignored_in_reference]
        of_reference[counted] = counted
        legend = Legend(tuple(sorted((*reference, *added), key=lambda land_cover: land_cover.code)))
        return cls(legend, of_reference, of_map, counts)

    def of(self, truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the codes of reference and map (row, col) by this legend; 255 in the reference where none counts."""
        theirs, ours = self.of_reference[truth], self.of_map[labels]
        theirs[~self.counts_in_map[labels]] = NODATA
        return theirs, ours
