from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geoseg.errors import UsageError
from geoseg.training import OPERATIONS
from geoseg.training.augment.augment import augment, choose, context_px
from geoseg.training.augment.spec import Augmentation, augmentation_of

RGB = ("red", "green", "blue")
OUT = 40
BIG = 120
COUNT = 12

FLIPS = ("hflip", "vflip", "rot90", "transpose")
WARPS = {
    "shift-scale-rotate": "shift-scale-rotate:1:degrees=180:scale=0.5:shift=0.3",
    "optical-distortion": "optical-distortion:1:bend=0.3",
    "grid-distortion": "grid-distortion:1:stretch=0.8",
    "elastic-distortion": "elastic-distortion:1:displacement=0.1",
}
LOOKS = ("color", "motion-blur", "gaussian-blur", "noise", "grid-dropout")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(count: int = COUNT, size: int = OUT, bands: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise crops (image, valid, codes) in which a tenth of the pixels is invalid."""
    generator = seeded(seed)
    image = torch.rand(count, bands, size, size, generator=generator)
    codes = torch.randint(0, 7, (count, size, size), dtype=torch.uint8, generator=generator)
    return image, torch.rand(count, size, size, generator=generator) < 0.9, codes


def test_every_operation_is_proved_to_invent_no_label() -> None:
    assert {*FLIPS, *WARPS, *LOOKS} == set(OPERATIONS)


@pytest.mark.parametrize(
    "text", [*(f"{name}:1" for name in FLIPS), *WARPS.values(), f"flips,{','.join(WARPS.values())}"]
)
def test_a_pixel_whose_source_is_outside_or_invalid_is_ignored_and_all_others_keep_their_label(text: str) -> None:
    how = augmentation_of(text)
    # A canvas too large for any warp to leave shows where each pixel comes from: its bands are column and row.
    row, column = torch.meshgrid(torch.arange(BIG), torch.arange(BIG), indexing="ij")
    place = torch.stack((column, row)).float().expand(COUNT, -1, -1, -1)
    all_valid, plain = torch.ones(COUNT, BIG, BIG, dtype=torch.bool), torch.zeros(COUNT, BIG, BIG, dtype=torch.uint8)
    where, seen, _ = augment(place, all_valid, plain, how, seeded(), bands=("x", "y"), out_px=OUT)
    image, valid, codes = crops(bands=2)
    _, got_valid, got_codes = augment(image, valid, codes, how, seeded(), bands=("x", "y"))

    assert seen.float().mean() > 0.99  # the canvas is large enough
    at = where.double().numpy() - (BIG - OUT) // 2
    nearest = np.rint(at).astype(int)
    inside = ((nearest >= 0) & (nearest < OUT)).all(axis=1) & seen.numpy()
    x, y = np.clip(nearest, 0, OUT - 1).transpose(1, 0, 2, 3)
    sample = np.arange(COUNT)[:, None, None]
    wanted_valid = inside & valid.numpy()[sample, y, x]
    wanted_codes = np.where(wanted_valid, codes.numpy()[sample, y, x], 255)
    sure = (np.abs(at - np.floor(at) - 0.5) > 1e-3).all(axis=1)  # float32 may round a tie either way
    assert sure.mean() > 0.98
    np.testing.assert_array_equal(got_valid.numpy()[sure], wanted_valid[sure])
    np.testing.assert_array_equal(got_codes.numpy()[sure], wanted_codes[sure])


@pytest.mark.parametrize("name", LOOKS)
def test_what_only_changes_how_things_look_moves_no_label(name: str) -> None:
    image, valid, codes = crops()
    found, _, labels = augment(image, valid, codes, augmentation_of(f"{name}:1"), seeded(), bands=RGB)
    assert (labels == codes.masked_fill(~valid, 255)).all()
    assert found.isfinite().all()


def test_nan_under_invalid_pixels_reaches_nobody() -> None:
    image, valid, codes = crops()
    image.masked_fill_(~valid[:, None], float("nan"))
    everything = ",".join(f"{name}:1" for name in OPERATIONS)
    found, _, _ = augment(image, valid, codes, augmentation_of(everything), seeded(), bands=RGB)
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("hflip", lambda a: a.flip(-1)), ("vflip", lambda a: a.flip(-2)), ("transpose", lambda a: a.mT)],
)
def test_flips_are_exact_permutations(name: str, wanted: object) -> None:
    given = crops()
    given[0].masked_fill_(~given[1][:, None], 0)
    given[2][~given[1]] = 255
    found = augment(*given, augmentation_of(f"{name}:1"), seeded(), bands=RGB)
    for before, after in zip(given, found, strict=True):
        assert torch.equal(after, wanted(before))  # type: ignore[operator]


def test_rot90_gives_each_quarter_turn_about_as_often_and_exactly() -> None:
    image, _, codes = crops(count=400, size=5)
    valid = torch.ones_like(codes, dtype=torch.bool)
    found, _, _ = augment(image, valid, codes, augmentation_of("rot90:1"), seeded(), bands=RGB)
    same = torch.stack([(found == image.rot90(k, (2, 3))).flatten(1).all(dim=1) for k in range(4)])
    assert same.any(dim=0).all()
    assert (same.sum(dim=1) - 100).abs().max() < 40


def test_nothing_drawn_is_the_center_of_the_crop() -> None:
    image, valid, codes = crops(size=51)
    found = augment(image, valid, codes, Augmentation(), seeded(), bands=RGB, out_px=(40, 30))
    cut = (slice(5, 45), slice(10, 40))
    assert torch.equal(found[0], image.masked_fill(~valid[:, None], 0)[:, :, *cut])
    assert torch.equal(found[1], valid[:, *cut])
    assert torch.equal(found[2], codes.masked_fill(~valid, 255)[:, *cut])


@pytest.mark.parametrize("text", ["strong", "default", ",".join(OPERATIONS)])
def test_a_seed_gives_the_same_twice_and_nothing_given_or_global_is_touched(text: str) -> None:
    given = crops()
    kept = [part.clone() for part in given]
    state = torch.random.get_rng_state()
    once, twice, other = (augment(*given, augmentation_of(text), seeded(s), bands=RGB, out_px=32) for s in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(once, twice, strict=True))
    assert not torch.equal(once[0], other[0])
    assert all(torch.equal(now, before) for now, before in zip(given, kept, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    shared = {part.untyped_storage().data_ptr() for part in given}
    assert not shared & {
        part.untyped_storage().data_ptr() for part in augment(*given, augmentation_of("none"), seeded(), bands=RGB)
    }


def test_each_step_is_drawn_for_itself_and_one_of_is_one_of() -> None:
    count = 4000
    chosen = choose(augmentation_of("hflip:0.3,motion-blur/gaussian-blur/noise:0.6,vflip:0,rot90:1"), count, seeded())
    shares = {name: mask.float().mean().item() for name, mask in chosen.items()}
    wanted = {"hflip": 0.3, "motion-blur": 0.2, "gaussian-blur": 0.2, "noise": 0.2, "vflip": 0, "rot90": 1}
    assert shares == pytest.approx(wanted, abs=4 * (0.25 / count) ** 0.5)
    assert sum(chosen[name].int() for name in ("motion-blur", "gaussian-blur", "noise")).max() == 1  # type: ignore[union-attr]
    both = (chosen["hflip"] & chosen["noise"]).float().mean().item()
    assert both == pytest.approx(0.06, abs=0.02)


@pytest.mark.parametrize("text", [*WARPS.values(), "default", ",".join(f"{name}:1" for name in WARPS)])
def test_with_all_its_context_no_warp_invents_anything(text: str) -> None:
    how = augmentation_of(text)
    image, _, codes = crops(count=40, size=context_px(how, OUT, widest=math.inf))
    _, seen, labels = augment(
        image, torch.ones_like(codes, dtype=torch.bool), codes, how, seeded(), bands=RGB, out_px=OUT
    )
    assert seen.all()
    assert (labels < 255).all()


def test_context_is_nothing_where_nothing_is_warped() -> None:
    assert context_px(augmentation_of("flips,color,grid-dropout"), 416) == 416
    assert context_px(augmentation_of("strong"), 400, widest=1.5) == 602


@pytest.mark.parametrize("drop", [0, 1])
def test_grid_dropout_hides_squares_and_keeps_their_labels_unless_told_otherwise(drop: int) -> None:
    image, _, codes = crops(count=60, size=64)
    valid = torch.ones_like(codes, dtype=torch.bool)
    how = augmentation_of(f"grid-dropout:1:ratio=0.6:drop_codes={drop}")
    _, seen, labels = augment(image, valid, codes, how, seeded(), bands=RGB)
    assert (~seen).float().mean() == pytest.approx(0.36, abs=0.02)
    assert torch.equal(labels, codes.masked_fill(~seen, 255) if drop else codes)
    # What is dropped is a product of rows and columns: squares, not speckles.
    rows, columns = (~seen).any(dim=2), (~seen).any(dim=1)
    assert torch.equal(~seen, rows[:, :, None] & columns[:, None, :])


def test_crops_that_do_not_fit_are_refused() -> None:
    image, valid, codes = crops()
    how = augmentation_of("flips")
    with pytest.raises(UsageError, match=r"the crops given are \(40, 40\)"):
        augment(image, valid, codes, how, seeded(), bands=RGB, out_px=41)
    with pytest.raises(UsageError, match="rot90 and transpose need square crops"):
        augment(image, valid, codes, how, seeded(), bands=RGB, out_px=(40, 20))
    with pytest.raises(UsageError, match="float32, bool and uint8"):
        augment(image, valid, codes.long(), how, seeded(), bands=RGB)
    with pytest.raises(UsageError, match="4 bands"):
        augment(image, valid, codes, how, seeded(), bands=(*RGB, "nir"))
    with pytest.raises(UsageError, match="crops are an image"):
        augment(image, valid[1:], codes, how, seeded(), bands=RGB)


def test_only_flips_that_fit_are_done_to_oblong_crops() -> None:
    image, valid, codes = (part[..., :20] for part in crops())
    image = image.masked_fill(~valid[:, None], 0)
    found = augment(image, valid, codes, augmentation_of("hflip:1,shift-scale-rotate:0"), seeded(), bands=RGB)
    assert torch.equal(found[0], image.flip(-1))
