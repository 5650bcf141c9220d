from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from geoseg.errors import ModelError, OutputError, UsageError
from geoseg.legend import DEEPGLOBE
from geoseg.model import ModelBundle, build, read_header, save_bundle
from geoseg.model.network import load_network
from tests.model.safetensors_bytes import split_file, with_metadata
from tests.networks import RGB, TINY, random_network, tiny_bundle

SEVEN = {**TINY, "in_channels": 3, "classes": 7}


def rewritten(bundle: ModelBundle, target: Path, **changes: Any) -> Path:
    """Write a copy of the bundle with different metadata."""
    content = bundle.weights_path.read_bytes()
    metadata = json.loads(split_file(content)[0]["__metadata__"]["geoseg"])
    metadata["mlm:hyperparameters"] |= changes.pop("arguments", {})
    target.write_bytes(with_metadata(content, json.dumps(metadata | changes)))
    return target


def save(path: Path, network: Any, architecture: str = "Unet") -> ModelBundle:
    return save_bundle(path, network, architecture=architecture, arguments=SEVEN, legend=DEEPGLOBE, normalization=RGB)


def test_the_network_that_was_saved_comes_back(tmp_path: Path) -> None:
    network = random_network("Unet", SEVEN, seed=3)
    bundle = save(tmp_path / "m.safetensors", network, architecture="unet")
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_network(bundle)(image), network(image))
    assert bundle.architecture == "Unet"
    assert bundle.hash == hashlib.sha256(bundle.weights_path.read_bytes()).hexdigest()
    assert bundle.name == "m"
    assert (bundle.window_px, bundle.overlap_px, bundle.divisor) == (512, 128, 8)


def test_everything_said_of_it_comes_back(tiny: ModelBundle) -> None:
    again = ModelBundle.open(tiny.weights_path)
    assert again == tiny
    assert again.provenance == {"by": "a test"}
    assert pickle.loads(pickle.dumps(again)) == tiny  # noqa: S301 - our own bytes
    assert hash(again) == hash(tiny)
    assert ModelBundle.from_text(tiny.to_text()) == tiny


def test_same_network_gives_the_same_bytes(tmp_path: Path, tiny: ModelBundle) -> None:
    (tmp_path / "again").mkdir()
    again = tiny_bundle(tmp_path / "again", export=False, provenance={"by": "a test"}, gsd_m=0.5, temperature=1.5)
    assert again.hash == tiny.hash


def test_opening_needs_no_torch(tiny: ModelBundle) -> None:
    program = (
        "import sys; from geoseg.model.bundle.bundle import ModelBundle; ModelBundle.open(sys.argv[1]);"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'timm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tiny.weights_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_weights_without_metadata_are_refused(tiny: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(with_metadata(tiny.weights_path.read_bytes(), None))
    with pytest.raises(ModelError, match="holds weights without a description"):
        ModelBundle.open(tmp_path / "m.safetensors")


def test_metadata_that_is_no_json_is_refused(tiny: ModelBundle, tmp_path: Path) -> None:
    for hostile in ("", "{", "[" * 10**5, '{"a": NaN}', '{"a": 1, "a": 2}', "null"):
        (tmp_path / "m.safetensors").write_bytes(with_metadata(tiny.weights_path.read_bytes(), hostile))
        with pytest.raises(ModelError) as refusal:
            ModelBundle.open(tmp_path / "m.safetensors")
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        {"decoder_channels": [16, 8, 16]},
        {"encoder_depth": 4, "decoder_channels": [16, 8, 8, 8]},
        {"encoder_name": "resnet18"},
        {"decoder_attention_type": "scse"},
    ],
    ids=str,
)
def test_weights_of_another_network_are_refused(tiny: ModelBundle, tmp_path: Path, arguments: dict[str, Any]) -> None:
    bundle = ModelBundle.open(rewritten(tiny, tmp_path / "m.safetensors", arguments=arguments))
    with pytest.raises(ModelError, match="do not fit its architecture") as refusal:
        load_network(bundle)
    assert str(refusal.value).isprintable()


def test_small_file_cannot_ask_for_a_large_network(tiny: ModelBundle, tmp_path: Path) -> None:
    """The network is never allocated: 829 million weights would take 3.3 GB and ten seconds."""
    bundle = ModelBundle.open(
        rewritten(tiny, tmp_path / "m.safetensors", arguments={"encoder_name": "resnext101_32x48d"})
    )
    resource = pytest.importorskip("resource", reason="peak memory is read the POSIX way")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="do not fit"):
        load_network(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB on Linux, bytes on a Mac


@pytest.mark.parametrize(
    "name", ["tu-no_such", "no_such", "tu-", "timm-", "tu-resnet18.no_such_tag", "timm-regnetx_999", "tu-tu-resnet18"]
)
def test_unknown_encoder_is_refused_without_a_call(tiny: ModelBundle, tmp_path: Path, name: str) -> None:
    bundle = ModelBundle.open(rewritten(tiny, tmp_path / "m.safetensors", arguments={"encoder_name": name}))
    with pytest.raises(ModelError, match=r"unknown encoder|cannot be built"):
        load_network(bundle)


def test_data_types_of_weights_are_checked(tmp_path: Path) -> None:
    state = dict(random_network("Unet", SEVEN).state_dict())
    state["segmentation_head.0.bias"] = torch.zeros(7, dtype=torch.int64)
    with pytest.raises(ModelError, match="another data type"):
        save(tmp_path / "m.safetensors", state)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_weights_are_taken(tmp_path: Path) -> None:
    network = random_network("Unet", SEVEN)
    halved = network.half().state_dict()
    bundle = save(tmp_path / "m.safetensors", halved)
    assert {parameter.dtype for parameter in load_network(bundle).parameters()} == {torch.float32}


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = dict(random_network("Unet", SEVEN).state_dict())
    state["segmentation_head.0.bias"] = torch.full((7,), float("nan"))
    bundle = save(tmp_path / "m.safetensors", state)
    with pytest.raises(ModelError, match="not finite"):
        load_network(bundle)


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, export=False)
    content = bytearray(bundle.weights_path.read_bytes())
    content[-3] ^= 1
    bundle.weights_path.write_bytes(content)
    with pytest.raises(ModelError, match="has changed since"):
        load_network(bundle)


def test_failed_save_leaves_the_old_bundle(tmp_path: Path) -> None:
    old = tiny_bundle(tmp_path, export=False)
    state = dict(random_network("Unet", SEVEN).state_dict())
    del state["segmentation_head.0.bias"]
    with pytest.raises(ModelError, match="do not fit its architecture"):
        save(old.weights_path, state)
    assert ModelBundle.open(old.weights_path) == old
    assert list(tmp_path.iterdir()) == [old.weights_path]


def test_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    network = random_network("Unet", SEVEN)
    with pytest.raises(OutputError, match="cannot write"):
        save(tmp_path / "no" / "m.safetensors", network)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "a set", "an object"])
def test_provenance_must_be_plain(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="provenance must be plain"):
        tiny_bundle(tmp_path, export=False, provenance={"x": value})


def test_model_without_unknown_has_six_channels(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, export=False, output_codes=DEEPGLOBE.codes[:6])
    assert bundle.output_codes == (0, 1, 2, 3, 4, 5)
    assert len(bundle.legend) == 7
    assert read_header(bundle.weights_path).parameters > 0


def test_encoder_weights_offline_say_so() -> None:
    with pytest.raises(ModelError, match="needs the network once"):
        build("Unet", {"encoder_name": "resnet18", "in_channels": 3, "classes": 7}, encoder_weights="imagenet")


def test_the_environment_names_the_model_to_take_where_none_is_given(
    tiny: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = ModelBundle.open()
    monkeypatch.setenv("GEOSEG_MODEL", str(tiny.weights_path))
    assert ModelBundle.open() == tiny
    assert ModelBundle.open(demo.weights_path) == demo
    monkeypatch.setenv("GEOSEG_MODEL", "")
    assert ModelBundle.open() == demo
    for path, what in ((tmp_path / "none.onnx", "does not exist; check the path"), (tmp_path, "is a folder")):
        monkeypatch.setenv("GEOSEG_MODEL", str(path))
        with pytest.raises((ModelError, UsageError), match=f"{what}.*the environment variable GEOSEG_MODEL names it"):
            ModelBundle.open()
