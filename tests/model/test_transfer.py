"""Weights that a network takes from a bundle: channel by channel, against the bundle's own tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geoseg.errors import ModelError
from geoseg.legend import DEEPGLOBE, LandCover, Legend
from geoseg.model import ModelBundle, build, transfer
from geoseg.model.network import load_network
from tests.networks import TINY, random_network, tiny_bundle

RGB_BANDS = ("red", "green", "blue")
OTHER = Legend(
    (
        LandCover(0, "lake ice", (1, 1, 1)),
        LandCover(1, "Water", (0, 0, 255)),
        LandCover(7, "forest_land", (0, 255, 0)),
        LandCover(9, "snow", (9, 9, 9)),
    )
)
HEADS = {"Unet": ["segmentation_head.0"], "FCN8s": ["segmentation_head.0", "skip_heads.0", "skip_heads.1"]}
ENCODER = TINY["encoder_name"]


def fresh(architecture: str, arguments: dict[str, Any], bands: int = 3, classes: int = 7) -> torch.nn.Module:
    return random_network(architecture, {**arguments, "in_channels": bands, "classes": classes}, seed=9)


def arguments_of(bundle: ModelBundle) -> dict[str, Any]:
    return {key: value for key, value in bundle.arguments.items() if key not in {"in_channels", "classes"}}


@pytest.fixture(scope="module", params=HEADS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    arguments = TINY if request.param == "Unet" else {"encoder_name": ENCODER}
    folder = tmp_path_factory.mktemp("source")
    return tiny_bundle(folder, architecture=request.param, arguments=arguments, export=False, seed=2)


def test_same_classes_and_bands_take_everything(source: ModelBundle) -> None:
    network = fresh(source.architecture, arguments_of(source))
    done = transfer(source, network, legend=DEEPGLOBE, output_codes=DEEPGLOBE.codes, bands=RGB_BANDS)
    old = load_network(source).state_dict()
    assert all(torch.equal(old[key], tensor) for key, tensor in network.state_dict().items())
    assert done.left == done.new_classes == done.new_bands == ()
    assert "new: nothing" in str(done)
    assert str(done).isprintable()


def test_order_of_equally_many_classes_is_heeded(source: ModelBundle) -> None:
    codes = (4, 3, 2, 1, 0, 6, 5)
    network = fresh(source.architecture, arguments_of(source))
    transfer(source, network, legend=DEEPGLOBE, output_codes=codes, bands=("blue", "green", "red"))
    old = load_network(source)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = old(image.flip(1))[:, list(codes)]
        torch.testing.assert_close(network.eval()(image), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


def test_other_classes_take_exactly_the_matching_channels(source: ModelBundle) -> None:
    network = fresh(source.architecture, arguments_of(source), classes=3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    done = transfer(source, network, legend=OTHER, output_codes=(9, 1, 7), bands=RGB_BANDS)
    old, new = load_network(source).state_dict(), network.state_dict()
    heads = [f"{head}.{kind}" for head in HEADS[source.architecture] for kind in ("weight", "bias")]
    for key in heads:
        assert torch.equal(new[key][0], before[key][0]), "snow is new"
        assert torch.equal(new[key][1], old[key][4]), "water, by its name"
        assert torch.equal(new[key][2], old[key][3]), "forest"
    assert all(torch.equal(old[key], tensor) for key, tensor in new.items() if key not in heads)
    assert (done.classes, done.new_classes) == (("Water", "forest_land"), ("snow",))
    assert "new: classes snow" in str(done)


def test_other_bands_are_matched_by_name(source: ModelBundle) -> None:
    network = fresh(source.architecture, arguments_of(source), bands=4)
    done = transfer(
        source, network, legend=DEEPGLOBE, output_codes=DEEPGLOBE.codes, bands=("nir", "Red", "green", "blue")
    )
    old, new = load_network(source).state_dict(), network.state_dict()
    differ = [key for key, tensor in new.items() if tensor.shape != old[key].shape]
    assert differ == ["encoder.model.conv_stem.weight"]
    first, wanted = new[differ[0]], old[differ[0]]
    assert torch.equal(first[:, 1:], wanted)
    assert torch.equal(first[:, 0], wanted.mean(1))
    assert all(torch.equal(old[key], tensor) for key, tensor in new.items() if key not in differ)
    assert (done.bands, done.new_bands) == (("Red", "green", "blue"), ("nir",))


def test_another_decoder_takes_the_encoder_alone(source: ModelBundle) -> None:
    arguments = {"encoder_name": ENCODER, "decoder_channels": 8}
    if source.architecture == "Unet":
        arguments["encoder_depth"] = 3
    network = fresh("DeepLabV3Plus", arguments)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    done = transfer(source, network, legend=DEEPGLOBE, output_codes=DEEPGLOBE.codes, bands=RGB_BANDS)
    old = load_network(source).state_dict()
    assert done.taken == ("encoder",)
    assert set(done.left) == {"decoder", "segmentation_head"}
    assert done.classes == ()
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, old[key] if key.startswith("encoder.") else before[key])


def test_group_norm_takes_scale_and_shift(source: ModelBundle) -> None:
    network = build(source.architecture, source.arguments | {"norm": "group"})
    done = transfer(source, network, legend=DEEPGLOBE, output_codes=DEEPGLOBE.codes, bands=RGB_BANDS)
    old = load_network(source).state_dict()
    assert done.left == ()
    assert all(torch.equal(old[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("encoder", ["tu-mobilenetv3_small_050", "resnet18"])
def test_another_encoder_fits_nowhere(source: ModelBundle, encoder: str) -> None:
    network = fresh(source.architecture, arguments_of(source) | {"encoder_name": encoder})
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ModelError, match="which has another encoder"):
        transfer(source, network, legend=DEEPGLOBE, output_codes=DEEPGLOBE.codes, bands=RGB_BANDS)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
