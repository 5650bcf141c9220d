from __future__ import annotations

import pickle

import pytest

from geoseg.errors import UsageError
from geoseg.training import OPERATIONS, PRESETS
from geoseg.training.augment.spec import DEFAULT, Augmentation, augmentation_of


@pytest.mark.parametrize("text", [*PRESETS, "hflip", "a", "color:0.3:hue_degrees=20", "flips,motion-blur/noise:0.25"])
def test_an_augmentation_survives_pickle(text: str) -> None:
    if text == "a":
        text = "/".join(OPERATIONS)
    how = augmentation_of(text)
    assert pickle.loads(pickle.dumps(how)) == how  # noqa: S301
    assert hash(how) == hash(augmentation_of(text))


def test_what_is_not_said_is_the_default() -> None:
    assert augmentation_of() == augmentation_of(DEFAULT)
    assert not augmentation_of("none").steps
    assert augmentation_of("") == Augmentation()
    assert augmentation_of("rot90").steps[0].probability == OPERATIONS["rot90"][0]
    assert augmentation_of("noise").setting("noise", "level") == OPERATIONS["noise"][1]["level"].default
    assert augmentation_of("noise").setting("color", "gamma") == 0


def test_one_of_has_one_probability_and_all_its_operations() -> None:
    (step,) = augmentation_of("motion-blur:length_px=9/gaussian-blur:0.3").steps
    assert step.probability == 0.3
    assert [operation.name for operation in step.operations] == ["motion-blur", "gaussian-blur"]
    assert step.operations[0]["length_px"] == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flop", "unknown augmentation 'flop'; geoseg knows hflip,"),
        ("flop", "the presets none, flips, default, strong"),
        ("hflip:2", "0 to 1, got 2"),
        ("hflip:nan", "0 to 1, got nan"),
        ("hflip:often", "must be a number, got 'often'"),
        ("hflip:0.1:0.2", "2 probabilities"),
        ("hflip:0.1/vflip:0.2", "2 probabilities"),
        ("flips,hflip", "hflip is given twice"),
        ("hflip:degrees=3", "it has none"),
        ("shift-scale-rotate:angle=3", "it has shift, scale, degrees"),
        ("shift-scale-rotate:degrees=300", "a number 0 to 180, got 300"),
        ("grid-distortion:cells=2.5", "a whole number 1 to 20, got 2.5"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused_with_the_way_out(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]+$") as caught:
        augmentation_of(text)
    assert says in str(caught.value)
