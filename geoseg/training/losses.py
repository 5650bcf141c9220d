"""Loss functions: cross-entropy, Dice, focal, Lovász, and sums of them.

Implemented here on torch instead of using smp 0.6: its Dice divides by all classes although absent ones contribute
nothing; its focal loss is NaN, and its Lovász an empty tensor, if no pixel is labeled; its cross-entropy divides by
ignored pixels and takes no class weights. Where they are correct, the tests compare against them.
All compute in float32 for any precision of the network, and are 0 (with a gradient of 0) if nothing is labeled.

A pixel may be known only to be one of several classes. Cross-entropy is then -log of the sum of their probabilities
(the likelihood of the set; Cour et al. 2011, JMLR 12, call such labels partial); the other losses ignore the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from geoseg.errors import UsageError, numbered
from geoseg.legend import NODATA

_TINY = 1e-12
_PARAMETER = "loss"
Sets = Sequence[Sequence[int]]
"""Sets of channels that a pixel may belong to, one for each target from the number of classes up."""
MOST = 10.0
"""A class weighs at most ten times the median class, and at least a tenth: rarer ones would drown out the rest."""


class Loss(nn.Module):
    """A loss of logits (n,class,row,col) and targets int64 (n,row,col): channel numbers; `ignore` is skipped.

    With C classes, the target C + i means that the pixel belongs to one of the classes `sets[i]`, without saying which.
    With weights, each pixel counts with its class's weight in pixel losses (cross-entropy, focal), and each class with
    its weight in class losses (Dice, Lovász). A class of weight 0 is not learned. A set has the mean weight of its
    classes.
    """

    def __init__(self, weights: Sequence[float] | None, ignore: int, sets: Sets = ()) -> None:
        super().__init__()
        self.ignore = ignore
        self.sets = tuple(sets)
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a float32 scalar."""
        with torch.autocast(logits.device.type, enabled=False):
            scores = log_softmax(logits.float(), dim=1)
            if self.sets:
                return self.of_sets(scores, targets)
            labeled = targets != self.ignore
            return self.of(scores, targets.masked_fill(~labeled, 0), labeled)

    def of_sets(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of log-probabilities if targets may be sets; by default, over pixels of a known class."""
        certain = targets < scores.shape[1]
        return self.of(scores, targets.masked_fill(~certain, 0), certain)

    def of(self, scores: Tensor, targets: Tensor, labeled: Tensor) -> Tensor:
        """Return the loss of log-probabilities; unlabeled pixels have channel 0 as target."""
        raise NotImplementedError

    def _mean_of_classes(self, losses: Tensor, present: Tensor) -> Tensor:
        weights = present.to(losses.dtype) if self.weights is None else self.weights * present
        return (losses * weights).sum() / weights.sum().clamp_min(_TINY)


class CrossEntropy(Loss):
    """-log of the probability of the true class; a share `smoothing` of each target is spread over all classes."""

    def __init__(self, weights: Sequence[float] | None, ignore: int, sets: Sets = (), smoothing: float = 0) -> None:
        super().__init__(weights, ignore, sets)
        self.smoothing = _checked_range("smoothing", smoothing, 0, 0.99)

    def of(self, scores: Tensor, targets: Tensor, labeled: Tensor) -> Tensor:
        """Return the mean over labeled pixels, weighted by their true class (torch also weights the shares)."""
        return self._smoothed(-scores.gather(1, targets[:, None])[:, 0], scores, targets, labeled, self.weights)

    def of_sets(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over labeled pixels of -log of the total probability of the pixel's set of classes."""
        labeled = targets != self.ignore
        targets = targets.masked_fill(~labeled, 0)
        parts = [scores, *(scores[:, list(channels)].logsumexp(dim=1, keepdim=True) for channels in self.sets)]
        losses = -torch.cat(parts, dim=1).gather(1, targets[:, None])[:, 0]
        means = None
        if self.weights is not None:
            means = torch.cat(
                [self.weights, *(self.weights[list(channels)].mean(0, keepdim=True) for channels in self.sets)]
            )
        return self._smoothed(losses, scores, targets, labeled, means)

    def _smoothed(
        self, losses: Tensor, scores: Tensor, targets: Tensor, labeled: Tensor, weights: Tensor | None
    ) -> Tensor:
        if self.smoothing:
            losses = (1 - self.smoothing) * losses - self.smoothing * scores.mean(dim=1)
        return _mean_of_pixels(losses, targets, labeled, weights)


class Focal(Loss):
    """Cross-entropy times (1 - probability of the true class)^gamma (Lin et al. 2017, arXiv 1708.02002, equation 4)."""

    def __init__(self, weights: Sequence[float] | None, ignore: int, sets: Sets = (), gamma: float = 2) -> None:
        super().__init__(weights, ignore, sets)
        self.gamma = _checked_range("gamma", gamma, 0, 10)

    def of(self, scores: Tensor, targets: Tensor, labeled: Tensor) -> Tensor:
        """Return the mean over labeled pixels."""
        true = scores.gather(1, targets[:, None])[:, 0]
        missed = (-torch.expm1(true)).clamp_min(1e-7)  # a power below 1 has an infinite slope at 0
        return _mean_of_pixels(-true * missed**self.gamma, targets, labeled, self.weights)


class Dice(Loss):
    """1 - 2 |A and B| / (|A| + |B|), softly, over the batch (Milletari et al. 2016, arXiv 1606.04797; no squares)."""

    def of(self, scores: Tensor, targets: Tensor, labeled: Tensor) -> Tensor:
        """Return the mean over the classes that are present in the targets."""
        truth = _truth(targets, labeled, scores.shape[1])
        shares = scores.exp() * labeled[:, None]
        shared, predicted, true = (part.sum(dim=(0, 2, 3)) for part in (shares * truth, shares, truth.to(scores.dtype)))
        return self._mean_of_classes(1 - 2 * shared / (predicted + true).clamp_min(_TINY), true > 0)


class Lovasz(Loss):
    """The Lovász extension of the Jaccard loss (Berman et al. 2018, arXiv 1705.08790, algorithm 1), over the batch."""

    def of(self, scores: Tensor, targets: Tensor, labeled: Tensor) -> Tensor:
        """Return the mean over the classes that are present in the targets."""
        shares = scores.exp()
        truth = _truth(targets, labeled, scores.shape[1])
        losses = [_lovasz(shares[:, number], truth[:, number], labeled) for number in range(scores.shape[1])]
        return self._mean_of_classes(torch.stack(losses), truth.any(dim=3).any(dim=2).any(dim=0))


class WeightedSum(nn.Module):
    """A weighted sum of losses of the same logits and targets."""

    def __init__(self, factors: Sequence[float], losses: Sequence[Loss]) -> None:
        super().__init__()
        self.factors = tuple(factors)
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum, a float32 scalar."""
        parts = [factor * loss(logits, targets) for factor, loss in zip(self.factors, self.losses, strict=True)]
        return torch.stack(parts).sum()


LOSSES: dict[str, type[Loss]] = {"cross-entropy": CrossEntropy, "dice": Dice, "focal": Focal, "lovasz": Lovasz}
_SETTINGS = {"cross-entropy": "smoothing", "focal": "gamma"}


def loss_of(text: str, weights: Sequence[float] | None = None, *, sets: Sets = ()) -> nn.Module:
    """Return the loss of a text such as "cross-entropy", "cross-entropy:smoothing=0.1 + 0.5 dice" or "focal:gamma=2".

    It takes logits (n,class,row,col) of any float type and targets int64 (n,row,col), and returns a float32 scalar.
    weights: one per class, 0 or more. sets: the channels that targets from the number of classes up stand for.
    UsageError for an invalid text or invalid weights.
    """
    _refuse_weights(weights)
    terms = [_term(term.strip(), text) for term in text.split("+")]
    losses = [LOSSES[name](weights, NODATA, sets, **settings) for _, name, settings in terms]
    return WeightedSum([factor for factor, _, _ in terms], losses)


def _mean_of_pixels(losses: Tensor, targets: Tensor, labeled: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of losses (n,row,col) over labeled pixels, weighted by target if there are weights."""
    shares = labeled.to(losses.dtype) if weights is None else weights[targets] * labeled
    return (losses * shares).sum() / shares.sum().clamp_min(_TINY)


def _term(term: str, text: str) -> tuple[float, str, dict[str, float]]:
    named, _, setting = term.partition(":")
    factor, _, name = named.replace("*", " ").strip().rpartition(" ")
    if name not in LOSSES:
        raise UsageError(
            f"unknown loss {name!r} in {text!r}; geoseg knows {', '.join(LOSSES)}, and sums: a + 0.5 b", _PARAMETER
        )
    key, _, value = (part.strip() for part in setting.partition("="))
    if setting and _SETTINGS.get(name) != key:
        has = f"it has {_SETTINGS[name]}" if name in _SETTINGS else "it has none"
        raise UsageError(f"loss {name} has no setting {key!r}; {has}", _PARAMETER)
    settings = {key: _number(value, text)} if setting else {}
    return _checked_range("factor", _number(factor.strip() or "1", text), 0, 1e6), name, settings


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        message = f"{text!r} in the loss {whole!r} is not a number; write it as 'cross-entropy + 0.5 dice'"
        raise UsageError(message, _PARAMETER) from None


def _checked_range(label: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"{label} of a loss must be {low:g} to {high:g}, got {value:g}", _PARAMETER)
    return value


def _refuse_weights(weights: Sequence[float] | None) -> None:
    if weights is not None and (
        not weights or not all(0 <= weight < float("inf") for weight in weights) or not any(weights)
    ):
        raise UsageError(
            f"class weights must be numbers of 0 or more, at least one of them above 0, got {tuple(weights)}", "weights"
        )


def _truth(targets: Tensor, labeled: Tensor, classes: int) -> Tensor:
    """Return bool (n,class,row,col): True where a class is the true one."""
    numbers = torch.arange(classes, device=targets.device)[:, None, None]
    return (targets[:, None] == numbers) & labeled[:, None]


def _lovasz(shares: Tensor, truth: Tensor, labeled: Tensor) -> Tensor:
    """Return the loss of one class; unlabeled pixels have error 0, so they sort last and contribute nothing.

    The slope of the Jaccard loss from pixel to pixel is in closed form. The paper subtracts neighbors, whose difference
    would vanish in float32 rounding at ten million pixels.
    """
    errors = ((truth.to(shares.dtype) - shares).abs() * labeled).flatten()
    falling, order = errors.sort(descending=True)
    true = truth.flatten()[order]
    missed = true.sum() - true.cumsum(0)  # the remaining intersection
    union = (true.sum() + (~true).cumsum(0)).clamp_min(1).to(shares.dtype)
    slope = torch.where(true, 1 / union, missed / (union * (union - 1).clamp_min(1)))
    return falling @ slope


def class_weights(text: str, class_px: Sequence[int]) -> tuple[float, ...] | None:
    """Return a weight for each class: "none" (None), "auto", or numbers such as "0.89,0.40,0.91".

    class_px: training pixels of each class, in the order of the network's channels. "auto" is the median frequency
    divided by the class's own (Eigen and Fergus 2015, arXiv 1411.4734, section 6.3.2, there per image), limited to
    1 / MOST to MOST; a class without pixels weighs 0 (it cannot be learned: tell the user).
    UsageError for an invalid text or a wrong number of weights.
    """
    if text == "none":
        return None
    if text == "auto":
        return _median_frequency(class_px)
    try:
        weights = tuple(float(item) for item in text.replace(",", " ").split())
    except ValueError:
        message = f"class weights are auto, none, or numbers such as 0.9,0.4,1; got {text!r}"
        raise UsageError(message, "weights") from None
    if len(weights) != len(class_px):
        message = (
            f"`weights` needs one number for each of {numbered(len(class_px), 'class')}, got {len(weights)}: {text!r}"
        )
        raise UsageError(message, "weights")
    return weights


def _median_frequency(class_px: Sequence[int]) -> tuple[float, ...]:
    present = [count for count in class_px if count > 0]
    if not present:
        raise UsageError("class weights cannot be computed: no class has a labeled pixel", "weights")
    middle = median(present)
    return tuple(min(max(middle / count, 1 / MOST), MOST) if count > 0 else 0.0 for count in class_px)
