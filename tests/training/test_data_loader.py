"""A batch depends only on the seed, the device and its number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from geoseg.dataset import CropSampler, class_px_of, open_dataset, split
from geoseg.legend import LandCover, Legend
from geoseg.raster import Window
from geoseg.training.data_loader import CropLoader, crops_of
from geoseg.training.plan import plan_training
from tests.training.tiny import TINY, tiny_plan


def test_a_batch_is_the_same_wherever_the_feed_begins(data: Path) -> None:
    plan = tiny_plan(data)
    sampler = CropSampler(plan.train, 64, 0.5, plan.output_codes)
    whole = list(CropLoader(plan, sampler, 4, 0, 9))
    late = list(CropLoader(plan, sampler, 4, 5, 9))
    other = list(CropLoader(plan, sampler, 4, 0, 9, rank=1))
    assert [batch.number for batch in late] == [5, 6, 7, 8]
    for one, two in zip(whole[5:], late, strict=True):
        assert one.places == two.places
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.codes, two.codes)
    assert [batch.places for batch in whole] != [batch.places for batch in other]
    assert whole[0].image.shape == (2, 3, 72, 72)


def test_a_batch_holds_the_pixels_of_its_places(data: Path) -> None:
    plan = tiny_plan(data)
    batch = CropLoader(plan, CropSampler(plan.train, 64, 0.0, plan.output_codes), 4, 0, 1).draw(0)
    scenes = {scene.id: scene for scene in plan.train}
    for number, place in enumerate(batch.places):
        name, _, where = place.partition(" at row ")
        row, col = (int(part) for part in where.split(", col "))
        window = Window(row, col, 72, 72)
        assert (batch.image[number].numpy() == scenes[name].read(window).data).all()
        assert (batch.codes[number].numpy() == scenes[name].codes(window)).all()


def test_pixels_that_may_be_of_several_classes_are_drawn_as_often_as_others(data: Path, tmp_path: Path) -> None:
    """Of a data set that is mapped to another legend, as of a mixture."""
    target = Legend(
        (LandCover(4, "built", (9, 9, 9)), LandCover(9, "green", (9, 200, 9)), LandCover(12, "wet", (9, 9, 200)))
    )
    both, either = ["built", "green"], ["green", "wet"]
    meant = ("built", either, both, "green", "wet", both, None)
    dataset = open_dataset(data)
    dataset = dataset.mapped(dict(zip(dataset.legend.names, meant, strict=True)), target)
    plan = plan_training(dataset, split(dataset), TINY.changed(rare=0.0, crop_px=16), tmp_path, lambda _line: None)
    sampler, generator, count = crops_of(plan), np.random.default_rng(0), 600
    assert isinstance(sampler, CropSampler)
    drawn = Counter[int]()
    for _ in range(count):
        place, row, col = sampler.pixel(generator)
        drawn[int(plan.train[place].codes(Window(row, col, 1, 1))[0, 0])] += 1
    there = class_px_of(plan.train)
    assert len(plan.sets) == 2
    for code, pixels in there.items():
        share = pixels / sum(there.values())
        assert abs(drawn[code] / count - share) < 5 * (share * (1 - share) / count) ** 0.5
