"""A batch depends only on the seed, the device and its number."""

from __future__ import annotations

from pathlib import Path

import torch

from geoseg.dataset import CropSampler
from geoseg.raster import Window
from geoseg.training.data_loader import CropLoader
from tests.training.tiny import tiny_plan


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
