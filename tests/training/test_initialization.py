"""A network's starting weights: random, the shipped model if it fits, or a bundle; and its frozen layers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from geoseg.dataset import open_dataset, split
from geoseg.errors import ModelError, UsageError
from geoseg.legend import LandCover, Legend
from geoseg.model import ModelBundle, build
from geoseg.training import Recipe
from geoseg.training.network import bring_back, start_network
from geoseg.training.plan import TrainingPlan, plan_training
from geoseg.training.report import ConsoleTable
from tests.training.tiny import TINY, learn

DEMO = ModelBundle.open(None)
_OWN = {"encoder_name", "in_channels", "classes"}
SHIPPED = Recipe(
    architecture=DEMO.architecture, encoder=DEMO.arguments["encoder_name"], gsd_m=None, crop_px=64
).changed(arguments={name: value for name, value in DEMO.arguments.items() if name not in _OWN})
"""A network like the shipped one."""
Planned = Callable[[Recipe], tuple[TrainingPlan, list[str]]]


@pytest.fixture
def planned(data: Path) -> Planned:
    """Return a function that plans a recipe and returns the plan and its messages."""
    dataset = open_dataset(data)

    def plan(recipe: Recipe) -> tuple[TrainingPlan, list[str]]:
        lines = list[str]()
        return plan_training(dataset, split(dataset), recipe, data.parent / "cache", lines.append), lines

    return plan


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip downloading pretrained weights of encoders."""
    monkeypatch.setattr("geoseg.training.network.build", lambda name, arguments, _weights: build(name, arguments))


def frozen(network: torch.nn.Module) -> dict[str, bool]:
    """Return whether batch normalization is frozen, for each part of the network that has some."""
    found = {}
    for name, part in network.named_children():
        norms = [each for each in part.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        if norms:
            found[name] = not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())
    return found


def test_the_shipped_model_is_begun_with_and_its_normalization_kept(planned: Planned) -> None:
    plan, lines = planned(SHIPPED)
    assert plan.normalization == DEMO.normalization
    start_network(plan, lines.append)
    assert [line.startswith("starts with encoder, decoder") for line in lines if line.startswith("starts")] == [True]


@pytest.mark.parametrize(
    ("options", "said", "mean"),
    [
        ({"architecture": "Unet", "encoder": "resnet18", "encoder_weights": "imagenet"}, "its own weights", 123.675),
        ({"encoder": "timm-tf_efficientnet_lite0", "encoder_weights": "imagenet"}, "its own weights", 127.5),
        ({"architecture": "Unet", "encoder": "resnet18"}, "its encoder is different", None),
        ({"architecture": "PlainUnet", "arguments": {"depth": 2, "channels": 4}}, "its encoder is different", None),
    ],
)
@pytest.mark.usefixtures("offline")
def test_a_shipped_model_that_does_not_suit_is_left_out_with_its_normalization(
    planned: Planned, options: dict[str, Any], said: str, mean: float | None
) -> None:
    plan, lines = planned(SHIPPED.changed(**options))
    start_network(plan, lines.append)
    told = [line for line in lines if line.startswith("starts")]
    assert len(told) == 1
    assert told[0].startswith("starts without the shipped model")
    assert said in told[0]
    assert plan.normalization.mean[0] == pytest.approx(mean or plan.statistics.mean[0])


def test_a_bundle_with_another_encoder_is_refused(data: Path, planned: Planned, tmp_path: Path) -> None:
    learn(data, tmp_path / "m.safetensors", TINY.changed(epochs=1))
    other = TINY.changed(init=str(tmp_path / "m.safetensors"), arguments={"depth": 1, "channels": 8})
    with pytest.raises(ModelError, match=r"no weights of .* PlainUnet on no encoder, fit the new network"):
        planned(other)


def test_only_what_came_pretrained_is_frozen(planned: Planned) -> None:
    """The statistics of a randomly initialized decoder are not worth keeping."""
    shared = SHIPPED.changed(architecture="Unet", norm="frozen")
    plan, lines = planned(shared)
    assert frozen(start_network(plan, lines.append)) == {"encoder": True, "decoder": False}
    assert "starts with encoder from" in lines[-1]


def test_a_network_taken_whole_is_frozen_whole(data: Path, planned: Planned, tmp_path: Path) -> None:
    learn(data, tmp_path / "m.safetensors", TINY.changed(epochs=1))
    plan, _ = planned(TINY.changed(init=str(tmp_path / "m.safetensors"), norm="frozen"))
    assert frozen(start_network(plan, lambda _line: None)) == {"encoder": True, "decoder": True}


@pytest.mark.usefixtures("offline")
def test_an_encoder_with_fetched_weights_is_frozen(planned: Planned) -> None:
    recipe = TINY.changed(
        architecture="Unet", encoder="mobilenet_v2", arguments={"decoder_channels": [16, 16, 8, 8, 8]},
        encoder_weights="imagenet", norm="frozen",
    )  # fmt: skip
    plan, _ = planned(recipe)
    assert frozen(start_network(plan, lambda _line: None)) == {"encoder": True, "decoder": False}
    without_any, _ = planned(recipe.changed(encoder="mit_b0"))
    with pytest.raises(UsageError, match="`norm='frozen'` keeps pretrained batch norm, but there is none"):
        start_network(without_any, lambda _line: None)


def learnt_like(network: torch.nn.Module) -> torch.nn.Module:
    """Change every weight and statistic of the network, and return it."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.add_(1)
    return network


def test_weights_come_back_towards_those_they_began_with(planned: Planned) -> None:
    share = 0.25
    plan, lines = planned(SHIPPED.changed(start_share=share))
    began = {key: tensor.double() for key, tensor in start_network(plan, lines.append).state_dict().items()}
    network = learnt_like(start_network(plan, lines.append))
    counters = {key: tensor.clone() for key, tensor in network.state_dict().items() if not tensor.is_floating_point()}
    assert bring_back(plan, network)
    found = network.state_dict()
    for key in found.keys() - counters.keys():
        torch.testing.assert_close(found[key].double(), began[key] + (1 - share), rtol=1e-5, atol=1e-5)
    assert counters
    assert all(torch.equal(found[key], tensor) for key, tensor in counters.items())


@pytest.mark.parametrize("changes", [{"architecture": "Unet"}, {"ignore": ()}])
def test_with_a_class_or_a_decoder_that_is_new_nothing_comes_back(planned: Planned, changes: dict[str, Any]) -> None:
    """New parts have adapted to the moved weights: going halfway back took a network from 0.86 to 0.68."""
    plan, lines = planned(SHIPPED.changed(start_share=0.5, **changes))
    network = learnt_like(start_network(plan, lines.append))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    assert not bring_back(plan, network)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_a_network_that_began_at_random_does_not_come_back(planned: Planned) -> None:
    plan, lines = planned(TINY.changed(start_share=0.5))
    network = start_network(plan, lines.append)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    assert not bring_back(plan, network)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def learning(network: torch.nn.Module) -> set[str]:
    """Return the names of the trainable weights."""
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("trainable", "learns", "stays"),
    [
        ("auto", {"encoder.model.conv_stem.weight"}, {"decoder", "segmentation_head", "encoder.model.blocks.3"}),
        ("early", {"encoder.model.conv_stem.weight"}, {"decoder", "segmentation_head", "encoder.model.blocks.3"}),
        ("decoder", {"segmentation_head.0.weight", "decoder.merge.0.weight"}, {"encoder"}),
        ("head", {"segmentation_head.0.weight"}, {"encoder", "decoder"}),
    ],
)
def test_only_what_is_trainable_learns(planned: Planned, trainable: str, learns: set[str], stays: set[str]) -> None:
    plan, lines = planned(SHIPPED.changed(trainable=trainable))
    found = learning(start_network(plan, lines.append))
    assert learns <= found
    assert not [name for name in found if name.startswith(tuple(stays))]


def test_all_learns_where_a_class_is_new_and_nobody_says_what(planned: Planned) -> None:
    plan, lines = planned(SHIPPED.changed(ignore=()))
    network = start_network(plan, lines.append)
    weights = {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert learning(network) >= weights


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"trainable": "early", "ignore": ()}, "unknown"),
        ({"trainable": "head", "architecture": "Unet"}, "decoder"),
        ({"trainable": "decoder", "init": None, "norm": "batch"}, "encoder"),
    ],
)
def test_nothing_that_is_random_is_held_still(planned: Planned, changes: dict[str, Any], what: str) -> None:
    plan, lines = planned(SHIPPED.changed(**changes))
    with pytest.raises(UsageError, match=f"`trainable='.*{what} would stay random; give `trainable='all'`") as caught:
        start_network(plan, lines.append)
    assert caught.value.parameter == "trainable"


def test_what_does_not_learn_is_that_of_the_start(data: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    began = learn(data, start, TINY.changed(epochs=1))
    onwards = TINY.changed(init=str(start), trainable="head", start_share=0.0)
    found = learn(data, tmp_path / "on.safetensors", onwards)
    changed = {key for key in began if not torch.equal(found[key], began[key])}
    assert changed == {"segmentation_head.0.weight", "segmentation_head.0.bias"}


def test_a_finished_training_has_come_back(data: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    began = learn(data, start, TINY.changed(epochs=1))
    onwards = TINY.changed(init=str(start), norm="batch", seed=3)
    learnt = learn(data, tmp_path / "on.safetensors", onwards.changed(start_share=0.0))
    half = learn(data, tmp_path / "half.safetensors", onwards.changed(start_share=0.5))
    assert not all(torch.equal(learnt[key], began[key]) for key in began)
    for key in began:
        if began[key].is_floating_point():
            torch.testing.assert_close(half[key], (began[key] + learnt[key]) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "is_told"), [({"lr": 1e-4}, True), ({}, False), ({"lr": 1e-4, "ignore": ("unknown",)}, False)]
)
def test_classes_that_are_new_want_another_rate(planned: Planned, options: dict[str, Any], *, is_told: bool) -> None:
    plan, lines = planned(SHIPPED.changed(**({"ignore": ()} | options)))
    start_network(plan, lines.append)
    assert any("`lr=1e-3`, `epochs=40`" in line for line in lines) is is_told


def lite0(folder: Path) -> Path:
    """Return a file with weights of timm's network."""
    network = timm.create_model("tf_efficientnet_lite0")
    state = {key: torch.ones_like(tensor) for key, tensor in network.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "lite0.safetensors")
    return folder / "lite0.safetensors"


LITE0 = {
    "architecture": "FPN", "encoder": "timm-tf_efficientnet_lite0", "init": "demo", "crop_px": 64,
    "arguments": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
}  # fmt: skip


@pytest.mark.parametrize(
    ("normalization", "mean", "std"),
    [
        ("auto", 127.5, 127.5),
        ("imagenet", 123.675, 58.395),
        ("inception", 127.5, 127.5),
        ("0.1,0.2,0.3/0.5,0.6,0.7", 25.5, 127.5),
        ("100,90,80/40,41,42", 100, 40),
    ],
)
def test_an_encoder_begins_with_a_files_weights_and_sees_what_they_saw(
    planned: Planned, tmp_path: Path, normalization: str, mean: float, std: float
) -> None:
    recipe = TINY.changed(**LITE0, encoder_weights=lite0(tmp_path), normalization=normalization, norm="frozen")
    plan, lines = planned(recipe)
    assert (plan.normalization.mean[0], plan.normalization.std[0]) == (pytest.approx(mean), pytest.approx(std))
    network = start_network(plan, lines.append)
    assert frozen(network) == {"encoder": True}
    assert all(bool((tensor == 1).all()) for tensor in network.get_submodule("encoder").state_dict().values())
    assert [line for line in lines if line.startswith("the encoder starts with the weights lite0.safetensors sha256:")]


def test_a_files_weights_are_refused_before_pixels_are_read(data: Path, tmp_path: Path) -> None:
    wrong = TINY.changed(**LITE0 | {"encoder": "resnet18"}, encoder_weights=str(lite0(tmp_path)))
    with pytest.raises(ModelError, match="is not of the encoder resnet18"):
        learn(data, tmp_path / "m.safetensors", wrong, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("wrong", ["0.5/0.5,0.5", "0.5,0.5,0.5/0,1,1", "a/b", "nan/1", "/"])
def test_a_normalization_of_numbers_is_one_mean_and_one_positive_std_a_band(wrong: str) -> None:
    with pytest.raises(UsageError, match="`normalization` must"):
        Recipe(normalization=wrong)


def test_a_bundle_keeps_the_name_and_hash_of_a_files_weights(data: Path, tmp_path: Path) -> None:
    """The hash identifies the file after a move, and tells other weights of that name apart."""
    here = lite0(tmp_path / "here")
    recipe = TINY.changed(**LITE0, encoder_weights=str(here), epochs=1, batches=1)
    out = tmp_path / "m.safetensors"
    learn(data, out, recipe)
    kept = ModelBundle.open(out).provenance["recipe"]["encoder_weights"]
    assert kept == f"lite0.safetensors sha256:{hashlib.sha256(here.read_bytes()).hexdigest()}"
    assert str(tmp_path) not in ModelBundle.open(out).provenance_text


def test_the_shipped_model_is_no_other_that_the_environment_names(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_MODEL", str(tmp_path / "none.safetensors"))
    assert planned(SHIPPED)[0].normalization == DEMO.normalization


def test_the_table_tells_classes_apart_whose_names_begin_alike(planned: Planned) -> None:
    plan, _ = planned(TINY)
    names = "class 1", "class 2", "forest_land", "very long name of a class"
    legend = Legend(tuple(LandCover(code, name, (code, 0, 0)) for code, name in enumerate(names)))
    heading = ConsoleTable(replace(plan, legend=legend, output_codes=legend.codes)).heading()
    assert heading.split() == ["epoch", "train", "valid", "mIoU", "1", "2", "forest", "very"]
