"""Positions of crops: by place or by class, inside the scene, and never without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geoseg.dataset import Area, CropSampler, PreparedScene, open_dataset, prepare
from geoseg.errors import SceneError, UsageError
from geoseg.raster import Window

from .conftest import noise, write_raster

MakePair = Callable[..., np.ndarray]


def _scenes(folder: Path, labels: list[np.ndarray]) -> tuple[PreparedScene, ...]:
    for place, codes in enumerate(labels):
        write_raster(folder / "images" / f"{place}.tif", noise(1, *codes.shape, dtype="uint16"))
        write_raster(folder / "labels" / f"{place}.tif", codes[None], nodata=0)
    dataset = open_dataset(folder)
    return prepare(dataset, [Area(pair.id) for pair in dataset.pairs], folder / "cache")


def _labels() -> list[np.ndarray]:
    """Return a scene of one class with a patch of another in a corner, and a smaller scene with a gap."""
    first, second = np.ones((300, 200), np.uint8), np.full((150, 130), 2, np.uint8)
    first[:20, :20] = 3
    second[40:110, :] = 0
    return [first, second]


@pytest.mark.parametrize("rare", [0.0, 0.4, 1.0])
def test_each_class_is_at_the_centre_as_often_as_rare_says(tmp_path: Path, rare: float) -> None:
    labels = _labels()
    sampler = CropSampler(_scenes(tmp_path, labels), 1, rare)  # a crop of one pixel is its own center
    generator = np.random.default_rng(0)
    draws = [sampler.draw(generator) for _ in range(6000)]
    codes = np.array([labels[place][window.row, window.col] for place, window in draws])
    pixels = np.bincount(np.concatenate([each.ravel() for each in labels]), minlength=4)[1:]
    expected = (1 - rare) * pixels / pixels.sum() + rare / 3
    found = np.bincount(codes, minlength=4)
    assert found[0] == 0
    assert found[1:] / len(draws) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 6000))


def test_each_labelled_pixel_is_as_likely_as_any_other(tmp_path: Path) -> None:
    labels = _labels()
    sampler = CropSampler(_scenes(tmp_path, labels), 1)
    generator = np.random.default_rng(1)
    counts = [np.zeros((each.shape[0] // 10, each.shape[1] // 10)) for each in labels]
    draws = 20000
    for _ in range(draws):
        place, window = sampler.draw(generator)
        counts[place][window.row // 10, window.col // 10] += 1
    total = sum(int((each > 0).sum()) for each in labels)
    for codes, found in zip(labels, counts, strict=True):
        labelled = (codes > 0).reshape(found.shape[0], 10, found.shape[1], 10).sum(axis=(1, 3))
        expected = draws * labelled / total
        assert (found[labelled == 0] == 0).all()
        chi2 = ((found - expected)[labelled > 0] ** 2 / expected[labelled > 0]).sum()
        cells = int((labelled > 0).sum())
        assert chi2 < cells + 5 * np.sqrt(2 * cells)  # five standard deviations of chi squared


def test_crops_lie_inside_and_hold_a_label(tmp_path: Path) -> None:
    labels = _labels()
    scenes = _scenes(tmp_path, labels)
    for crop_px in (64, 140, 256):
        sampler, generator = CropSampler(scenes, crop_px, 0.5), np.random.default_rng(2)
        for _ in range(200):
            place, window = sampler.draw(generator)
            assert window.shape == (crop_px, crop_px)
            assert (scenes[place].codes(window) != 255).any()
            for start, length in zip((window.row, window.col), labels[place].shape, strict=True):
                if length >= crop_px:
                    assert 0 <= start <= length - crop_px
                else:
                    assert start == (length - crop_px) // 2


def test_only_areas_are_drawn_from(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    area = Window(70, 20, 30, 60)
    scenes = prepare(open_dataset(tmp_path), [Area("a", area)], tmp_path / "cache")
    sampler, generator = CropSampler(scenes, 1, 0.5), np.random.default_rng(3)
    for _ in range(500):
        _, window = sampler.draw(generator)
        assert window.intersection(area) == window


def test_the_same_seed_draws_the_same(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    scenes = prepare(open_dataset(tmp_path), [Area("a")], tmp_path / "cache")
    one, other = (CropSampler(scenes, 64, 0.3) for _ in range(2))
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    draws = [one.draw(first) for _ in range(200)]
    assert len(set(map(str, draws))) > 100
    assert draws == [other.draw(second) for _ in range(200)]


def test_bad_samplers_get_one_clear_line(tmp_path: Path, make_pair: MakePair) -> None:
    make_pair("a")
    write_raster(tmp_path / "labels" / "a.tif", np.eye(128, 160, dtype=np.uint8)[None], nodata=0)
    scenes = prepare(open_dataset(tmp_path), [Area("a", Window(0, 100, 9, 9))], tmp_path / "cache")
    with pytest.raises(SceneError, match="no pixel to learn from"):
        CropSampler(scenes, 64)
    with pytest.raises(UsageError, match="at least 1 pixel"):
        CropSampler(scenes, 0)
    with pytest.raises(UsageError, match="from 0 to 1"):
        CropSampler(scenes, 64, 2.0)
