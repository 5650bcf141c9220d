from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from geoseg.training.augment.augment import Warp, compose, sample, source_px, turn, turn_each

ROWS, COLS = 24, 32


def rest(count: int = 1, knots: int = 2, cells: int = 1) -> dict[str, torch.Tensor]:
    return {
        "shift": torch.zeros(count, 2),
        "scale": torch.ones(count),
        "radians": torch.zeros(count),
        "bend": torch.zeros(count),
        "elastic": torch.zeros(count, 2, knots, knots),
        "grid": torch.ones(count, 2, cells),
    }


def sources(
    out: tuple[int, int] = (ROWS, COLS), big: tuple[int, int] | None = None, **drawn: torch.Tensor
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = source_px(Warp(**(rest() | drawn)), out, big or out)[0].double().numpy()
    return found


def centers(rows: int, cols: int) -> NDArray[np.float64]:
    """Return (row, col, 2): x and y from the center, in units of half the shorter side."""
    half = min(rows, cols) / 2
    y, x = np.mgrid[0:rows, 0:cols].astype(float)
    return np.stack(((x - (cols - 1) / 2) / half, (y - (rows - 1) / 2) / half), axis=-1)


def in_px(points: NDArray[np.float64], out: tuple[int, int], big: tuple[int, int]) -> NDArray[np.float64]:
    center = np.array([(big[1] - 1) / 2, (big[0] - 1) / 2])
    moved: NDArray[np.float64] = points * min(out) / 2 + center
    return moved


def test_at_rest_every_pixel_comes_from_its_own_place() -> None:
    y, x = np.mgrid[0:ROWS, 0:COLS]
    np.testing.assert_allclose(sources(), np.stack((x, y), axis=-1), atol=1e-4)
    centerd = sources(big=(ROWS + 10, COLS + 6))
    np.testing.assert_allclose(centerd, np.stack((x + 3, y + 5), axis=-1), atol=1e-4)


@pytest.mark.parametrize("angle", [0.3, -1.2, np.pi / 2])
def test_shift_scale_and_rotation_are_the_inverse_of_one_matrix(angle: float) -> None:
    found = sources(
        shift=torch.tensor([[0.2, -0.1]]), scale=torch.tensor([1.3]), radians=torch.tensor([angle]), big=(40, 50)
    )
    forward = np.array(
        [
            [1.3 * np.cos(angle), -1.3 * np.sin(angle), 0.2],
            [1.3 * np.sin(angle), 1.3 * np.cos(angle), -0.1],
            [0, 0, 1],
        ]
    )
    points = np.concatenate((centers(ROWS, COLS), np.ones((ROWS, COLS, 1))), axis=-1)
    wanted = (points @ np.linalg.inv(forward).T)[..., :2]
    np.testing.assert_allclose(found, in_px(wanted, (ROWS, COLS), (40, 50)), atol=1e-4)


def test_a_positive_angle_turns_clockwise_as_seen() -> None:
    codes = torch.randint(0, 7, (1, 9, 9), dtype=torch.uint8)
    source = source_px(Warp(**(rest() | {"radians": torch.tensor([torch.pi / 2])})), (9, 9), (9, 9))
    _, valid, turned = sample(torch.zeros(1, 1, 9, 9), torch.ones(1, 9, 9, dtype=torch.bool), codes, source)
    assert valid.all()
    assert (turned == torch.rot90(codes, -1, (1, 2))).all()


def test_optical_distortion_is_the_radial_formula() -> None:
    points = centers(ROWS, COLS)
    wanted = points * (1 + 0.2 * (points**2).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(sources(bend=torch.tensor([0.2])), in_px(wanted, (ROWS, COLS), (ROWS, COLS)), atol=1e-4)


def test_grid_distortion_is_piecewise_linear_and_its_ends_stay() -> None:
    widths = np.array([[1.3, 0.7, 1.0, 0.8], [0.5, 1.5, 1.2, 0.9]])
    found = sources(grid=torch.tensor(widths[None]).float())
    for axis, size in ((0, COLS), (1, ROWS)):
        knots = np.linspace(0, size - 1, 5)
        moved = np.concatenate(([0], np.cumsum(widths[axis]))) / widths[axis].sum() * (size - 1)
        line = found[0, :, 0] if axis == 0 else found[:, 0, 1]
        np.testing.assert_allclose(line, np.interp(np.arange(size), knots, moved), atol=1e-4)
        assert (np.diff(line) > 0).all()


def test_elastic_distortion_is_a_cubic_b_spline_that_stays_within_its_control_points() -> None:
    control = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.1
    found = (sources(elastic=control) - sources()) / (min(ROWS, COLS) / 2)
    assert np.abs(found).max() <= control.abs().max().item() + 1e-5
    # The oracle: scipy's B-spline on uniform knots, the outermost control point repeated once beyond each end.
    padded = np.pad(control[0].double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    uniform = np.arange(-3, 7)
    down, across = (
        BSpline.design_matrix(np.linspace(0, 3 - 1e-9, size), uniform, 3).toarray() for size in (ROWS, COLS)
    )
    wanted = np.einsum("rk,akl,cl->rca", down, padded, across)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_values_are_bilinear_and_codes_nearest() -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 2, ROWS, COLS, generator=generator)
    codes = torch.randint(0, 7, (1, ROWS, COLS), dtype=torch.uint8, generator=generator)
    source = 1 + torch.rand(1, 10, 12, 2, generator=generator) * (min(ROWS, COLS) - 3)
    found, valid, nearest = sample(image, torch.ones(1, ROWS, COLS, dtype=torch.bool), codes, source)
    at = [source[0, ..., 1].double().numpy(), source[0, ..., 0].double().numpy()]
    for band in range(2):
        np.testing.assert_allclose(found[0, band], map_coordinates(image[0, band].double(), at, order=1), atol=1e-5)
    assert (nearest[0].numpy() == codes[0].numpy()[tuple(np.rint(part).astype(int) for part in at)]).all()
    assert valid.all()


def test_invalid_pixels_do_not_bleed_into_their_neighbors() -> None:
    image = torch.full((1, 1, ROWS, COLS), 0.5)
    valid = torch.rand(1, ROWS, COLS, generator=torch.Generator().manual_seed(3)) < 0.7
    image[:, 0][~valid] = float("nan")
    codes = torch.full((1, ROWS, COLS), 3, dtype=torch.uint8)
    drawn = rest() | {"radians": torch.tensor([0.4]), "scale": torch.tensor([1.7])}
    found, kept, labels = sample(image, valid, codes, source_px(Warp(**drawn), (ROWS, COLS), (ROWS, COLS)))
    assert 0.5 < kept.float().mean() < 0.9
    torch.testing.assert_close(found[:, 0][kept], torch.full((int(kept.sum()),), 0.5))
    assert (found[:, 0][~kept] == 0).all()
    assert ((labels == 255) == ~kept).all()


@pytest.mark.parametrize(("rows", "columns", "quarters", "transposed"), list(product((0, 1), (0, 1), range(4), (0, 1))))
def test_any_sequence_of_flips_turns_and_transposes_is_one_of_eight(
    rows: int, columns: int, quarters: int, transposed: int
) -> None:
    pixels = np.arange(12).reshape(3, 4)
    wanted = pixels[::-1] if rows else pixels
    wanted = wanted[:, ::-1] if columns else wanted
    wanted = np.rot90(wanted, quarters)
    wanted = wanted.T if transposed else wanted
    vertical, horizontal, swapped = (torch.tensor([bool(flag)]) for flag in (rows, columns, transposed))
    (element,) = compose(vertical, horizontal, torch.tensor([quarters]), swapped).tolist()
    np.testing.assert_array_equal(turn(torch.from_numpy(pixels), element), wanted)


def test_the_eight_are_eight_and_each_sample_gets_its_own() -> None:
    pixels = torch.arange(9).view(1, 3, 3).expand(8, -1, -1)
    turned = turn_each(pixels, torch.arange(8))
    assert len({tuple(one.flatten().tolist()) for one in turned}) == 8
    assert all((one == turn(pixels[0], element)).all() for element, one in enumerate(turned))
