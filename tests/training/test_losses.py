from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from segmentation_models_pytorch import losses as smp
from torch import Tensor
from torch.nn.functional import cross_entropy

from geoseg.errors import UsageError
from geoseg.training.losses import LOSSES, MOST, class_weights, loss_of

CLASSES = 5
WEIGHTS = (0.5, 2.0, 1.0, 0.0, 3.0)
SUM = "cross-entropy:smoothing=0.1 + 0.5 dice + 2 focal + lovasz"


def batch(absent: tuple[int, ...] = (), ignored: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, 12, 10, generator=generator)
    targets = torch.randint(0, CLASSES, (2, 12, 10), generator=generator)
    for number in absent:
        targets[targets == number] = (number + 1) % CLASSES
    targets[torch.rand(targets.shape, generator=generator) < ignored] = 255
    return logits.requires_grad_(), targets


def flat(logits: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities (pixel, class) and classes (pixel,) of the labeled pixels as numpy arrays."""
    known = (targets != 255).numpy()
    scores = logits.detach().double().numpy().transpose(0, 2, 3, 1)[known]
    return softmax(scores, axis=1), targets.numpy()[known]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(weights: tuple[float, ...] | None) -> None:
    logits, targets = batch()
    wanted = cross_entropy(logits, targets, None if weights is None else torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(loss_of("cross-entropy", weights)(logits, targets), wanted)


def test_smoothing_is_torchs_without_weights_and_leaves_weightless_classes_out_with_them() -> None:
    logits, targets = batch()
    wanted = cross_entropy(logits, targets, ignore_index=255, label_smoothing=0.1)
    torch.testing.assert_close(loss_of("cross-entropy:smoothing=0.1")(logits, targets), wanted)
    only = targets.masked_fill(targets != 3, 255)
    assert loss_of("cross-entropy:smoothing=0.1", WEIGHTS)(logits, only).item() == 0


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_is_its_formula(weights: tuple[float, ...] | None, gamma: float) -> None:
    logits, targets = batch()
    shares, true = flat(logits, targets)
    share = shares[np.arange(len(true)), true]
    wanted = np.average(
        -np.log(share) * (1 - share) ** gamma, weights=None if weights is None else np.array(weights)[true]
    )
    assert loss_of(f"focal:gamma={gamma}", weights)(logits, targets).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("absent", [(), (0,), (2, 4)])
def test_dice_is_the_mean_over_the_classes_present_the_first_too(
    weights: tuple[float, ...] | None, absent: tuple[int, ...]
) -> None:
    logits, targets = batch(absent)
    shares, true = flat(logits, targets)
    truth = np.eye(CLASSES)[true]
    dice = 1 - 2 * (shares * truth).sum(axis=0) / (shares + truth).sum(axis=0)
    present = truth.any(axis=0)
    wanted = np.average(dice, weights=present * np.array(weights or [1] * CLASSES))
    assert loss_of("dice", weights)(logits, targets).item() == pytest.approx(wanted, rel=1e-5)


def test_dice_is_smps_where_all_classes_are_present() -> None:
    logits, targets = batch()
    wanted = smp.DiceLoss("multiclass", ignore_index=255)(logits, targets)
    torch.testing.assert_close(loss_of("dice")(logits, targets), wanted)


@pytest.mark.parametrize("absent", [(), (0,), (2, 4)])
def test_lovasz_is_smps_and_so_is_its_gradient(absent: tuple[int, ...]) -> None:
    logits, targets = batch(absent)
    ours, theirs = loss_of("lovasz")(logits, targets), smp.LovaszLoss("multiclass", ignore_index=255)(logits, targets)
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes)


def test_lovasz_of_hard_answers_is_one_minus_the_mean_iou() -> None:
    _, targets = batch(seed=1)
    answers = torch.randint(0, CLASSES, targets.shape, generator=torch.Generator().manual_seed(2))
    logits = 1e4 * torch.nn.functional.one_hot(answers, CLASSES).movedim(-1, 1).float()
    known = targets != 255
    ious = [
        ((answers == number) & (targets == number)).sum() / (((answers == number) | (targets == number)) & known).sum()
        for number in range(CLASSES)
    ]
    assert loss_of("lovasz")(logits, targets).item() == pytest.approx(1 - np.mean(ious), abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_weigh_nothing_and_a_class_of_weight_zero_is_no_aim(name: str) -> None:
    logits, targets = batch()
    torch.testing.assert_close(loss_of(name, (1.0,) * CLASSES)(logits, targets), loss_of(name)(logits, targets))
    only = targets.masked_fill(targets != 3, 255)
    assert loss_of(name, WEIGHTS)(logits, only).item() == 0


@pytest.mark.parametrize("name", [*LOSSES, SUM])
def test_class_zero_is_a_class(name: str) -> None:
    targets = torch.zeros(1, 8, 8, dtype=torch.int64)
    right, wrong = torch.zeros(2, 1, CLASSES, 8, 8)
    right[:, 0], wrong[:, 1] = 50, 50
    assert loss_of(name)(wrong, targets).item() > 0.9
    if "smoothing" not in name:
        assert loss_of(name)(right, targets).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", [*LOSSES, "focal:gamma=0.5", SUM])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_batch_without_a_labeled_pixel_gives_zero_and_a_gradient_of_zero(
    name: str, weights: tuple[float, ...] | None
) -> None:
    logits, targets = batch(ignored=1.1)
    loss = loss_of(name, weights)(logits, targets)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", [*LOSSES, SUM])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (30 * torch.randn(2, CLASSES, 200, 200, generator=generator)).to(kind).requires_grad_()
    targets = torch.randint(0, CLASSES, (2, 200, 200), generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(name)(logits, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(name)(logits.detach().float(), targets))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", [*LOSSES, "focal:gamma=0.5", SUM])
def test_a_perfect_answer_has_a_finite_gradient(name: str) -> None:
    logits = torch.zeros(1, CLASSES, 4, 4)
    logits[:, 0] = 1e4
    loss_of(name)(logits.requires_grad_(), torch.zeros(1, 4, 4, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", [*LOSSES, SUM])
def test_ignored_pixels_have_no_say(name: str) -> None:
    logits, targets = batch()
    other = logits.detach() + 7 * torch.randn(logits.shape) * (targets == 255)[:, None]
    torch.testing.assert_close(loss_of(name)(other, targets), loss_of(name)(logits.detach(), targets))
    loss_of(name)(logits, targets).backward()
    assert logits.grad is not None
    assert (logits.grad * (targets == 255)[:, None] == 0).all()


def test_a_sum_is_the_sum_of_its_parts_and_its_weights_follow_the_module() -> None:
    logits, targets = batch()
    parts = loss_of("cross-entropy", WEIGHTS)(logits, targets) + 0.5 * loss_of("dice", WEIGHTS)(logits, targets)
    torch.testing.assert_close(loss_of("cross-entropy + 0.5 dice", WEIGHTS)(logits, targets), parts)
    torch.testing.assert_close(loss_of("1*cross-entropy+0.5*dice", WEIGHTS)(logits, targets), parts)
    loss = loss_of("cross-entropy + dice", WEIGHTS)
    assert len(list(loss.buffers())) == 2  # they move to a device with the module
    assert not loss.state_dict()  # and do not travel in a checkpoint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hinge", "unknown loss 'hinge' in 'hinge'; geoseg knows cross-entropy, dice, focal, lovasz"),
        ("", "unknown loss ''"),
        ("dice + ", "unknown loss ''"),
        ("half dice", "'half' in the loss 'half dice' is not a number"),
        ("-1 dice", "factor of a loss must be 0 to"),
        ("nan dice", "factor of a loss must be 0 to"),
        ("dice:gamma=2", "loss dice has no setting 'gamma'; it has none"),
        ("focal:alpha=2", "it has gamma"),
        ("focal:gamma=x", "'x' in the loss"),
        ("focal:gamma=-1", "gamma of a loss must be 0 to 10"),
        ("cross-entropy:smoothing=1", "smoothing of a loss must be 0 to 0.99"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        loss_of(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("weights", [(), (0.0, 0.0), (1.0, -1.0), (1.0, float("nan"))])
def test_weights_that_cannot_be_meant_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="class weights must be numbers"):
        loss_of("dice", weights)


def test_auto_weights_are_median_frequency_capped_and_zero_without_pixels() -> None:
    weights = class_weights("auto", (0, 100, 1, 400, 100, 9000))
    assert weights == (0, 1, MOST, 0.25, 1, 1 / MOST)
    assert weights == class_weights("auto", tuple(1000 * count for count in (0, 100, 1, 400, 100, 9000)))
    with pytest.raises(UsageError, match="no class has a labeled pixel"):
        class_weights("auto", (0, 0))


def test_weights_may_be_given() -> None:
    assert class_weights("none", (1, 2)) is None
    assert class_weights("0.89,0.4 1", (1, 2, 3)) == (0.89, 0.4, 1)
    with pytest.raises(UsageError, match="each of 3 classes, got 2"):
        class_weights("1,2", (1, 2, 3))
    with pytest.raises(UsageError, match="auto, none, or numbers"):
        class_weights("rare", (1, 2, 3))


SETS = ((0, 2), (1, 3, 4), (2, 4))


def batch_of_sets(certain: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, targets of which some are sets of classes, and the mask of pixels of a known class."""
    logits, targets = batch()
    generator = torch.Generator().manual_seed(7)
    is_set = (torch.rand(targets.shape, generator=generator) > certain) & (targets != 255)
    numbers = CLASSES + torch.randint(0, len(SETS), targets.shape, generator=generator)
    return logits, torch.where(is_set, numbers, targets), ~is_set & (targets != 255)


def allowed(target: int) -> list[int]:
    return [target] if target < CLASSES else list(SETS[target - CLASSES])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_set_costs_minus_the_log_of_what_its_classes_have_together(weights: tuple[float, ...] | None) -> None:
    logits, targets, _ = batch_of_sets()
    shares, wanted = flat(logits, targets)
    losses = np.array([-np.log(share[allowed(target)].sum()) for share, target in zip(shares, wanted, strict=True)])
    by_class = np.ones(CLASSES) if weights is None else np.array(weights)
    counts = np.array([by_class[allowed(target)].mean() for target in wanted])
    found = loss_of("cross-entropy", weights, sets=SETS)(logits, targets).item()
    assert found == pytest.approx(np.average(losses, weights=counts), rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("text", ["cross-entropy", "cross-entropy:smoothing=0.1", SUM])
def test_where_each_set_has_one_class_the_loss_is_that_of_the_class(
    text: str, weights: tuple[float, ...] | None
) -> None:
    logits, targets = batch()
    plain = loss_of(text, weights)(logits, targets)
    torch.testing.assert_close(loss_of(text, weights, sets=SETS)(logits, targets), plain)
    if text != SUM:
        ones = tuple((number,) for number in range(CLASSES))
        shifted = torch.where(targets == 255, targets, targets + CLASSES)
        torch.testing.assert_close(loss_of(text, weights, sets=ones)(logits, shifted), plain)
        if weights is None and text == "cross-entropy":
            torch.testing.assert_close(plain, cross_entropy(logits, targets, ignore_index=255))


@pytest.mark.parametrize("name", ["dice", "focal", "lovasz"])
def test_the_other_losses_take_what_is_certain(name: str) -> None:
    logits, targets, certain = batch_of_sets()
    known = targets.masked_fill(~certain, 255)
    torch.testing.assert_close(loss_of(name, sets=SETS)(logits, targets), loss_of(name)(logits, known))


@pytest.mark.parametrize("text", ["cross-entropy", "cross-entropy:smoothing=0.1 + dice"])
def test_the_slope_of_sets_is_that_of_finite_differences(text: str) -> None:
    logits, targets, _ = batch_of_sets()
    loss = loss_of(text, WEIGHTS, sets=SETS)
    loss(logits, targets).backward()
    assert logits.grad is not None
    generator, step = torch.Generator().manual_seed(3), 1e-2
    for _ in range(5):
        way = torch.randn(logits.shape, generator=generator)
        with torch.no_grad():
            rise = (loss(logits + step * way, targets) - loss(logits - step * way, targets)) / (2 * step)
        assert rise.item() == pytest.approx((logits.grad * way).sum().item(), rel=2e-2, abs=2e-4)


def test_a_set_of_all_classes_says_nothing() -> None:
    logits, targets, _ = batch_of_sets(certain=0)
    every = (tuple(range(CLASSES)),) * len(SETS)
    found = loss_of("cross-entropy", sets=every)(logits, targets)
    assert found.item() == pytest.approx(0, abs=1e-6)
    found.backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-8


def test_where_only_sets_are_labeled_losses_of_classes_are_zero_with_a_slope_of_zero() -> None:
    logits, targets, _ = batch_of_sets(certain=0)
    found = loss_of("dice + focal + lovasz", sets=SETS)(logits, targets)
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
