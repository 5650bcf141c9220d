"""A recipe as one value: valid options, writing and reading, and which runs count as the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import ModelError, UsageError
from geoseg.model import ARCHITECTURES, architecture_named
from geoseg.training import Recipe
from geoseg.training.recipe import _RANGES, NORMS, OPTIMIZERS, OPTIONS, SCHEDULES, RecipeOptions, check_names

LISTS = {"betas": 2, "milestones": 1}


def filled(name: str, value: Any) -> Any:
    """Return a value in the form its option takes: itself, or a tuple."""
    return (value,) * LISTS[name] if name in LISTS else value


@pytest.mark.parametrize("name", _RANGES)
def test_a_number_out_of_its_range_is_refused(name: str) -> None:
    low, high = _RANGES[name]
    for bound, beyond in ((low, low - 1), (high, high + 1)):
        whole = isinstance(getattr(Recipe(), name), int) or name in {"size_px", "milestones", "batches", "patience"}
        kind = int if whole or name == "window_px" else float
        kept = getattr(Recipe().changed(**{name: filled(name, kind(bound))}), name)
        assert kept == filled(name, kind(bound))
        with pytest.raises(UsageError, match=r"must be .* to "):
            Recipe().changed(**{name: filled(name, kind(beyond))})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ignore", "unknown", "`ignore` must be a list of strings, got 'unknown'"),
        ("ignore", (6,), "`ignore` must be a list of strings"),
        ("milestones", [2.5], "`milestones` must be a list of whole numbers"),
        ("betas", ("a", "b"), "`betas` must be two numbers"),
        ("crop_px", 384.5, "`crop_px` must be a whole number, got 384.5"),
        ("crop_px", "384", "`crop_px` must be a whole number, got '384'"),
        ("seed", True, "`seed` must be a whole number, got True"),
        ("lr", True, "`lr` must be a number, got True"),
        ("lr", "auto", "`lr` must be a number, got 'auto'"),
        ("epochs", None, "`epochs` must be a whole number, got None"),
        ("amsgrad", 1, "`amsgrad` must be True or False, got 1"),
        ("arguments_text", "[]", "`arguments` must be a JSON object"),
        ("arguments_text", "{", "`arguments` must be a JSON object"),
        ("momentumm", 0.9, r"a recipe has no option 'momentumm' (did you mean 'momentum'\?\); it has architecture, "),
    ],
)
def test_a_value_of_another_type_is_refused_in_words(name: str, value: object, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted.replace("(", r"\(")) as refused:
        Recipe().changed(**{name: value})
    assert refused.value.parameter == name.removesuffix("_text")
    if name in OPTIONS:
        with pytest.raises(UsageError):
            Recipe(**{name: value})  # type: ignore[arg-type]


def test_numbers_and_lists_become_the_options_own() -> None:
    recipe = Recipe().changed(
        lr=np.float32(0.5), epochs=np.int64(3), clip=1, ignore=["Unknown"], betas=[0, 0.5], gsd_m=2
    )
    assert (recipe.lr, recipe.epochs, recipe.clip, recipe.ignore, recipe.betas) == (0.5, 3, 1.0, ("Unknown",), (0, 0.5))
    assert [type(each) for each in (recipe.lr, recipe.epochs, recipe.clip, recipe.gsd_m)] == [float, int, float, float]
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


KNOBS_DRAWN = st.fixed_dictionaries(
    {},
    optional={
        "optimizer": st.sampled_from(OPTIMIZERS),
        "schedule": st.sampled_from([each for each in SCHEDULES if each != "multi-step"]),
        "norm": st.sampled_from(NORMS),
        "lr": st.none() | st.floats(1e-9, 100),
        "weight_decay": st.integers(0, 10),
        "batch_size": st.none() | st.integers(1, 64),
        "milestones": st.lists(st.integers(1, 50), max_size=3),
        "ignore": st.lists(st.text(max_size=5), max_size=3),
        "encoder": st.none() | st.sampled_from(["resnet34", "tu-convnext_tiny"]),
        "arguments": st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.booleans()), max_size=2),
        "amsgrad": st.booleans(),
    },
)


@given(KNOBS_DRAWN)
def test_a_recipe_survives_json(options: dict[str, Any]) -> None:
    recipe = Recipe().changed(**options)
    plain = json.loads(json.dumps(recipe.to_json()))
    assert Recipe.from_json(plain) == recipe
    assert Recipe.from_json(plain, Recipe(epochs=7, architecture="Unet", arguments_text="{}")) == recipe
    assert recipe.arguments == options.get("arguments", Recipe().arguments)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_another_architecture_forgets_what_is_not_its_own(name: str) -> None:
    """Options given along with the architecture stay; naming the same architecture changes nothing."""
    recipe = Recipe(architecture="FPN", encoder="resnet34", arguments_text='{"decoder_pyramid_channels": 64}')
    changed = recipe.changed(architecture=name.lower())
    if name == "FPN":
        assert (changed.encoder, changed.arguments) == (recipe.encoder, recipe.arguments)
    else:
        sizes = {"in_channels": 3, "classes": 6}
        encoder = {} if changed.encoder is None else {"encoder_name": changed.encoder}
        architecture_named(name).check(changed.arguments | sizes | encoder)
    given_too = recipe.changed(architecture=name, encoder="vgg11_bn", arguments={"classes": 3})
    assert (given_too.encoder, given_too.arguments) == ("vgg11_bn", {"classes": 3})


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown architecture 'Unett'; geoseg knows Unet, "):
        Recipe().changed(architecture="Unett")


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("architecture", {"architecture": "Unett"}),
        ("encoder", {"architecture": "Unet", "encoder": "resnet35"}),
        ("encoder", {"architecture": "PlainUnet", "encoder": "resnet34"}),
        ("arguments", {"architecture": "Unet", "encoder": "resnet34", "arguments": {"encoder_depth": 99}}),
        ("init", {"init": "nowhere.safetensors"}),
    ],
)
def test_an_error_names_the_option_at_fault(parameter: str, options: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        check_names(Recipe().changed(**options))
    assert caught.value.parameter == parameter


def test_the_meaning_is_that_of_steps() -> None:
    """A batch split by accumulation means the same; every other option makes other weights."""
    recipe = Recipe(batch_size=8, batches=10)
    assert Recipe(batch_size=2, accumulate=4, batches=40).meaning() == recipe.meaning()
    assert Recipe(batch_size=4, accumulate=4, batches=40).meaning() != recipe.meaning()
    others = {"lr": 2e-3, "seed": 1, "norm": "group", "arguments": {}, "window_px": 64, "batches": 11, "ignore": ()}
    meanings = [recipe.changed(**{name: value}).meaning() for name, value in others.items()]
    assert recipe.meaning() not in meanings
    assert len({json.dumps(each) for each in meanings}) == len(others)


def test_options_are_typed_by_name() -> None:
    """`train(**options)` is typed to accept the fields of a recipe, and `arguments` as an object."""
    assert set(RecipeOptions.__annotations__) == {*OPTIONS, "arguments"}
