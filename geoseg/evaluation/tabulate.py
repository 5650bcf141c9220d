"""From pairs of codes to a confusion matrix, and to what did not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.evaluation import LeftOut
from geoseg.evaluation.matching import Classes, Matching
from geoseg.evaluation.tally import NONE, Tally


def confusion(tally: Tally, matching: Matching, places: Classes) -> ConfusionMatrix:
    """Return the matrix of the pixels that count."""
    counts = np.zeros((len(places.codes),) * 2, np.int64)
    for (theirs, ours), pixels in tally.pixels.items():
        if matching.counts(theirs, ours):
            counts[places.of_reference[theirs], places.of_map[ours]] += pixels
    return ConfusionMatrix(places.codes, places.names, counts)


def left_out(tally: Tally, matching: Matching) -> LeftOut:
    """Return how many pixels do not count, by the reason."""
    found = LeftOut()
    for (theirs, ours), pixels in tally.pixels.items():
        if ours == NONE:
            found = replace(found, no_map=found.no_map + pixels)
        elif theirs == NONE:
            found = replace(found, no_reference=found.no_reference + pixels)
        elif theirs in matching.several:
            found = replace(found, several=found.several + pixels)
        elif not matching.counts(theirs, ours):
            found = replace(found, ignored=found.ignored + pixels)
    return found
