"""How much each class weighs in the loss: given as numbers, or from how rare it is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from geoseg.errors import UsageError

MOST = 10.0
"""A class weighs at most ten times, and at least a tenth, of the median class: rarer ones would drown the rest."""


def class_weights(text: str, class_px: Sequence[int]) -> tuple[float, ...] | None:
    """Return a weight for each class: "none" (None), "auto", or numbers such as "0.89,0.40,0.91".

    class_px: the training pixels of each class, in the order of the network's channels. "auto" is the median of the
    frequencies over the class's own (Eigen and Fergus 2015, arXiv 1411.4734, section 6.3.2, there per image), within
    1 / MOST and MOST; a class without pixels weighs 0 (it cannot be learnt: say so to the user).
    UsageError for a text or a number of weights that cannot be meant.
    """
    if text == "none":
        return None
    if text == "auto":
        return _median_frequency(class_px)
    try:
        weights = tuple(float(item) for item in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"class weights are auto, none, or numbers such as 0.9,0.4,1; got {text!r}") from None
    if len(weights) != len(class_px):
        raise UsageError(f"a weight for each of the {len(class_px)} classes wanted, got {len(weights)}: {text!r}")
    return weights


def _median_frequency(class_px: Sequence[int]) -> tuple[float, ...]:
    present = [count for count in class_px if count > 0]
    if not present:
        raise UsageError("class weights cannot be found: no class has a labelled pixel")
    middle = median(present)
    return tuple(min(max(middle / count, 1 / MOST), MOST) if count > 0 else 0.0 for count in class_px)
