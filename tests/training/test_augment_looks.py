from __future__ import annotations

import math

import kornia
import numpy as np
import pytest
import torch
from torch import Tensor

from geoseg.training.augment.augment import augment
from geoseg.training.augment.pixels import Tint, add_noise, gaussian_blur, motion_blur, recolor, rgb_positions
from geoseg.training.augment.spec import augmentation_of

RGB = ("red", "green", "blue")
COUNT = 4


def photo(bands: int = 3, size: int = 24) -> Tensor:
    return 0.2 + 0.3 * torch.rand(COUNT, bands, size, size, generator=torch.Generator().manual_seed(0))


def all_valid(image: Tensor) -> Tensor:
    return torch.ones(len(image), *image.shape[2:], dtype=torch.bool)


def tint(bands: int = 3, **changed: float) -> Tint:
    factors = {
        name: torch.full((COUNT,), changed.get(name, 1.0)) for name in ("brightness", "contrast", "gamma", "saturation")
    }
    return Tint(**factors, hue=torch.full((COUNT,), changed.get("hue", 0.0)), gains=torch.ones(COUNT, bands))


def recolored(image: Tensor, change: Tint, bands: tuple[str, ...] = RGB) -> Tensor:
    return recolor(image, all_valid(image), change, bands)


def luma(image: Tensor) -> Tensor:
    return kornia.color.rgb_to_grayscale(image)


def test_no_change_changes_nothing() -> None:
    torch.testing.assert_close(recolored(photo(), tint()), photo())


def test_linear_changes_are_those_of_kornia_and_of_arithmetic() -> None:
    image = photo()
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(recolored(image, tint(brightness=1.3)), image * 1.3)
    torch.testing.assert_close(recolored(image, tint(contrast=0.7)), mean + 0.7 * (image - mean))
    wanted = kornia.enhance.adjust_saturation_with_gray_subtraction(image, 1.4)
    torch.testing.assert_close(recolored(image, tint(saturation=1.4)), wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(recolored(image, tint(gamma=1.5)), mean * (image / mean) ** 1.5)


def test_hue_turns_about_grey_and_keeps_luma() -> None:
    image = photo()
    turned = recolored(image, tint(hue=math.radians(15)))
    torch.testing.assert_close(luma(turned), luma(image), atol=1e-4, rtol=0)
    grey = image[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(recolored(grey, tint(hue=1.0, saturation=1.5)), grey)
    # A third of the hue circle moves red's position to green's: chroma is permuted.
    third = recolored(image, tint(hue=2 * math.pi / 3))
    rolled = image.roll(1, dims=1)
    torch.testing.assert_close(third - luma(third), rolled - luma(rolled), atol=1e-4, rtol=0)


def test_only_red_green_and_blue_have_a_hue_wherever_they_stand() -> None:
    image = photo(bands=4)
    bands = ("nir", "Blue", "green", "red")
    change = tint(bands=4, hue=0.4, saturation=1.3)
    found = recolored(image, change, bands)
    torch.testing.assert_close(found[:, 0], image[:, 0])
    torch.testing.assert_close(found[:, [3, 2, 1]], recolored(image[:, [3, 2, 1]], tint(hue=0.4, saturation=1.3)))
    torch.testing.assert_close(recolored(image, change, ("nir", "red", "green", "swir")), image)
    assert rgb_positions(("green", "red")) is None


@pytest.mark.parametrize("name", ["color", "noise", "gaussian-blur", "motion-blur"])
def test_a_scene_that_fills_a_tenth_of_its_range_is_changed_as_much_as_a_photograph(name: str) -> None:
    image = photo()
    codes = torch.zeros(COUNT, *image.shape[2:], dtype=torch.uint8)
    bright, dark = (
        augment(
            part, all_valid(image), codes, augmentation_of(f"{name}:1"), torch.Generator().manual_seed(3), bands=RGB
        )[0]
        for part in (image, image / 10)
    )
    assert bright.max() < 1
    torch.testing.assert_close(dark * 10, bright, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(bright, image)


def test_nothing_leaves_the_range_of_values() -> None:
    image = photo() * 2
    found = recolored(image.clamp(max=1), tint(brightness=3, contrast=3))
    assert found.min() >= 0
    assert found.max() <= 1
    clouds = torch.cat((image[:, :, :-1], torch.full((COUNT, 3, 1, image.shape[3]), 1.4)), dim=2)
    torch.testing.assert_close(recolored(clouds, tint()), clouds)


def test_values_below_zero_are_kept() -> None:
    """Pixels darker than most of the data, or radar in decibels, train with the values that mapping will use."""
    dark = photo() - 0.35
    torch.testing.assert_close(recolored(dark, tint()), dark)
    floor, mean = dark.amin(dim=(1, 2, 3), keepdim=True), dark.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(recolored(dark, tint(brightness=1.2)), floor + 1.2 * (dark - floor))
    torch.testing.assert_close(recolored(dark, tint(contrast=0.7)), mean + 0.7 * (dark - mean))
    bent = recolored(dark, tint(gamma=1.3, saturation=1.2, hue=0.2, brightness=0.8))
    assert (bent < 0).float().mean() > 0.5
    assert (bent >= floor - 1e-6).all()
    faint = torch.full((COUNT,), 1e-4)
    torch.testing.assert_close(add_noise(dark, all_valid(dark), faint, torch.Generator()), dark, atol=1e-3, rtol=0)


def test_invalid_pixels_do_not_count_in_the_mean() -> None:
    image = photo()
    valid = torch.rand(COUNT, *image.shape[2:], generator=torch.Generator().manual_seed(4)) < 0.6
    hidden = image.masked_fill(~valid[:, None], 0)
    shown = image.masked_fill(~valid[:, None], 9)
    one, two = (recolor(part, valid, tint(contrast=0.5), RGB) for part in (hidden, shown))
    keep = valid[:, None].expand_as(one)
    mean = np.array([image[i][:, valid[i]].mean().item() for i in range(COUNT)])
    wanted = torch.from_numpy(mean).float()[:, None, None, None] * 0.5 + 0.5 * image
    torch.testing.assert_close(one[keep], wanted[keep])
    assert one.shape == two.shape


def test_noise_is_as_strong_as_said() -> None:
    image = torch.full((2, 3, 200, 200), 0.4)
    level = torch.tensor([0.05, 0.1])
    found = add_noise(image, all_valid(image), level, torch.Generator().manual_seed(5)) - image
    np.testing.assert_allclose(found.std(dim=(1, 2, 3)), 0.4 * level, rtol=0.02)
    assert found.mean().abs() < 1e-3


def test_gaussian_blur_is_kornias_where_all_is_valid() -> None:
    image = photo(size=40)
    sigma = torch.tensor([0.5, 0.8, 1.2, 1.5])
    found = gaussian_blur(image, all_valid(image), sigma, 1.5)
    wanted = kornia.filters.gaussian_blur2d(image, (11, 11), torch.stack((sigma, sigma), dim=1))
    inner = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(found[inner], wanted[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_motion_blur_smears_a_point_along_its_direction(degrees: int) -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[0, 0, 15, 15] = 1
    angle = torch.tensor([math.radians(degrees)])
    found = motion_blur(point, all_valid(point), torch.tensor([9.0]), angle, 11)[0, 0].double().numpy()
    y, x = np.mgrid[-15:16, -15:16]
    assert found.sum() == pytest.approx(1, abs=1e-5)
    spread = np.cov(np.stack((x.ravel(), y.ravel())), aweights=found.ravel(), bias=True)
    values, vectors = np.linalg.eigh(spread)
    direction = np.array([math.cos(angle), math.sin(angle)])
    assert abs(vectors[:, 1] @ direction) == pytest.approx(1, abs=0.02)
    assert values[1] == pytest.approx((9**2 - 1) / 12, rel=0.15)  # of nine points in a row
    assert values[0] < 0.4


@pytest.mark.parametrize("blur", ["gaussian", "motion"])
def test_blur_mixes_no_invalid_pixel_into_a_valid_one(blur: str) -> None:
    image = torch.full((COUNT, 3, 24, 24), 0.5)
    valid = torch.rand(COUNT, 24, 24, generator=torch.Generator().manual_seed(6)) < 0.5
    image.masked_fill_(~valid[:, None], float("nan"))
    strength = torch.linspace(0.5, 3, COUNT)
    found = (
        gaussian_blur(image, valid, strength, 3)
        if blur == "gaussian"
        else motion_blur(image, valid, 2 * strength, strength, 6)
    )
    keep = valid[:, None].expand_as(found)
    torch.testing.assert_close(found[keep], torch.full_like(found[keep], 0.5))
