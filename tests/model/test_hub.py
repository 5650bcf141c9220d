"""Models of the Hugging Face hub, from a fake hub on 127.0.0.1."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from click.testing import CliRunner
from huggingface_hub import constants

import geoseg
from geoseg.errors import GeosegWarning, ModelError, UsageError
from geoseg.inference.execution.execute import provenance
from geoseg.legend import DEEPGLOBE
from geoseg.machine import python_command
from geoseg.model import ModelBundle, import_once
from geoseg.model.bundle import fetch, is_hub_address
from geoseg.model.bundle.hub import hub_address
from geoseg.progress import Download, watching_downloads
from geoseg_cli.main import geoseg as command_line
from tests.hub_server import COMMIT, Hub, serving
from tests.networks import RGB, tiny_bundle

SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": [16, 16, 8]}
FLAIR = "FLAIR-INC_rgb_15cl_resnet18-unet"


@pytest.fixture(autouse=True)
def _no_sockets() -> None:
    """Allow access to the fake hub, in this file only."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Return the files of a repository of each kind."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(1)
    bundle = tiny_bundle(folder, export=False).weights_path.read_bytes()
    smp.Unet("mobilenet_v2", encoder_weights=None, classes=7, **SMALL).save_pretrained(folder / "smp")
    flair = smp.Unet("resnet18", encoder_weights=None, classes=19, **SMALL).state_dict()
    torch.save({f"model.seg_model.{name}": tensor for name, tensor in flair.items()}, folder / "flair.pth")
    return {
        "us/bundle": {"README.md": b"#", "coast.safetensors": bundle},
        "us/several": {"a.safetensors": bundle, "deep/b.safetensors": bundle},
        "us/none": {"README.md": b"#"},
        "us/folder": {name: (folder / "smp" / name).read_bytes() for name in ("config.json", "model.safetensors")},
        "IGNF/flair": {f"{FLAIR}_weights.pth": (folder / "flair.pth").read_bytes()},
        "us/closed": {"a.safetensors": bundle},
    }


@pytest.fixture
def hub(files: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    with serving(Hub(files)) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served


@pytest.mark.parametrize("address", ["hf://us/bundle", "hf://us/bundle/coast.safetensors", Path("hf://us/bundle")])
def test_a_bundle_is_fetched_once_and_says_its_revision(hub: Hub, address: str | Path) -> None:
    bundle = ModelBundle.open(address)
    assert bundle.provenance["hub"] == f"hf://us/bundle@{COMMIT}/coast.safetensors"
    assert bundle.weights_path.read_bytes() == hub.repositories["us/bundle"]["coast.safetensors"]
    assert ModelBundle.open(address) == bundle
    assert hub.downloads == 1


def test_a_commit_that_is_kept_needs_no_connection(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = ModelBundle.open("hf://us/bundle")
    asked = len(hub.asked)
    assert ModelBundle.open(bundle.provenance["hub"]) == bundle
    assert len(hub.asked) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(
        GeosegWarning, match=rf"TRANSFORMERS_OFFLINE is set; using the cached copy, hf://us/bundle@{COMMIT}"
    ):
        assert ModelBundle.open("hf://us/bundle") == bundle
    with pytest.raises(
        ModelError,
        match=r"hf://us/other is not cached .*TRANSFORMERS_OFFLINE is set; unset it and start Python again, or",
    ):
        ModelBundle.open("hf://us/other")


@pytest.mark.usefixtures("hub")
def test_without_a_server_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("http://127.0.0.1:9", "http://no-such-host.invalid"):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        with pytest.raises(ModelError, match=r"is not cached on this machine and .* cannot be reached"):
            ModelBundle.open("hf://us/bundle")


@pytest.fixture
def import_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import in this process, with the separate process's arguments; that one would load torch for three seconds."""
    module = importlib.import_module("geoseg.model.weights.import_weights")

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:-2] == python_command(module.__name__)
        return subprocess.CompletedProcess(command, module.main(command[-2:]), "", "")

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))


@pytest.mark.usefixtures("import_here")
def test_folders_of_smp_and_weights_that_are_known_whole_are_models(hub: Hub) -> None:
    with pytest.raises(
        UsageError, match=r"was written by smp's save_pretrained and also needs `legend`, `mean` and `std`"
    ):
        ModelBundle.open("hf://us/folder")
    folder = ModelBundle.from_pretrained("hf://us/folder", legend=DEEPGLOBE, normalization=RGB)
    assert (folder.name, folder.provenance) == ("folder", {"hub": f"hf://us/folder@{COMMIT}"})
    flair = ModelBundle.open("hf://IGNF/flair")
    assert flair.provenance["hub"] == f"hf://IGNF/flair@{COMMIT}/{FLAIR}_weights.pth"
    assert (flair.name, flair.gsd_m, len(flair.legend)) == (f"{FLAIR}_weights", 0.2, 19)
    assert flair.provenance["imported"]["license"] == "etalab-2.0"
    assert ModelBundle.open("hf://IGNF/flair") == flair
    assert hub.downloads == 3


def test_what_another_process_says_of_weights_is_said_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"a\.pth .*torch\.save") as refused:
        import_once(tmp_path / "a.pth")
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.usefixtures("hub")
def test_weights_are_imported_from_the_hub(tmp_path: Path) -> None:
    found = geoseg.import_weights("hf://us/folder", tmp_path / "a.safetensors", legend=DEEPGLOBE, normalization=RGB)
    assert (found.name, found.provenance["hub"]) == ("folder", f"hf://us/folder@{COMMIT}")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("hf://us/missing", r"hf://us/missing does not exist, or is private.*HF_TOKEN"),
        ("hf://us/bundle@v9", r"has no such revision"),
        ("hf://us/bundle/other.safetensors", r"does not exist; us/bundle has README\.md, coast\.safetensors"),
        ("hf://us/several", r"several models, a\.safetensors, deep/b\.safetensors; name one: hf://us/several/a\.safet"),
        ("hf://us/none", r"no model that geoseg reads \(\.safetensors, .*; it has README\.md"),
        ("hf:", r"not the address of a model on the hub; give hf://owner/name"),
        ("hf://us", r"hf://us is not the address of a model on the hub; give hf://owner/name"),
        ("hf://us/../x", r"not the address of a model"),
    ],
)
def test_what_is_not_there_is_one_line(hub: Hub, address: str, wanted: str) -> None:
    with pytest.raises((ModelError, UsageError), match=wanted) as caught:
        ModelBundle.open(address)
    assert "\n" not in str(caught.value)
    assert hub.downloads == 0


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("GatedRepo", "is gated: ask for access on its page, then log in"),
        ("Forbidden", r"you have no access to .*status 403\)"),
        ("Broken", r"127\.0\.0\.1 answered with status 50\d; try again when it answers"),
    ],
)
def test_what_is_closed_says_how_to_get_in(hub: Hub, code: str, wanted: str) -> None:
    hub.closed["us/closed"] = code
    with pytest.raises(ModelError, match=wanted):
        ModelBundle.open("hf://us/closed")


def test_a_download_cut_short_leaves_no_model(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between its own attempts
    hub.cut.add("coast.safetensors")
    with pytest.raises(ModelError, match=r"download of .* was interrupted|cannot be reached"):
        ModelBundle.open("hf://us/bundle")
    assert list((tmp_path / "hub").rglob("*.safetensors")) == []
    assert [file for file in (tmp_path / "hub").rglob("*") if file.is_file() and file.stat().st_size > 1000] == []
    assert capfd.readouterr() == ("", "")
    hub.cut.clear()
    assert ModelBundle.open("hf://us/bundle").name == ModelBundle.open("hf://us/bundle/coast.safetensors").name


def test_a_file_that_the_server_does_not_send_is_not_called_missing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub's error for a failed connection is also its error for a missing file."""
    monkeypatch.setattr("time.sleep", lambda _: None)  # between its own attempts
    hub.broken.add("coast.safetensors")
    with pytest.raises(ModelError, match=r"is not cached on this machine and .* cannot be reached"):
        ModelBundle.open("hf://us/bundle")


def test_parts_of_an_address() -> None:
    parts = hub_address("hf://a/b-1.2@refs/pr/3/deep/c.onnx")
    assert (parts.repository, parts.file) == ("a/b-1.2", "pr/3/deep/c.onnx")
    assert hub_address("hf:\\a\\b\\c\\d.pth").file == "c/d.pth"
    assert str(hub_address("hf:/a/b")) == "hf://a/b"
    assert not is_hub_address("hf.safetensors")
    assert not is_hub_address("https://huggingface.co/a/b")


SCENE = Path(__file__).parents[2] / "sample_data" / "scene.tif"


@pytest.mark.usefixtures("hub")
def test_a_map_says_the_revision() -> None:
    made = geoseg.plan(SCENE, model="hf://us/bundle", device="torch-cpu")
    assert provenance(made, made.meaning)["GEOSEG_MODEL_HUB"] == f"hf://us/bundle@{COMMIT}/coast.safetensors"


def test_the_command_line_asks_the_hub_of_hf_endpoint(hub: Hub, tmp_path: Path) -> None:
    done = on_command_line(hub, tmp_path, "info", "hf://us/bundle", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kind"] == "model"
    assert fetch(f"hf://us/bundle@{COMMIT}").path.name == "coast.safetensors"


def on_command_line(hub: Hub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(folder / "hub")}
    code = "import sys, time; from geoseg_cli.main import geoseg; time.sleep = abs; geoseg(sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("in_process")
def test_programs_are_told_how_far_a_download_is_and_what_cut_it_short(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", abs)  # between the hub's tries
    size = len(hub.repositories["us/bundle"]["coast.safetensors"])
    asked = ["predict", str(SCENE), "--out", str(tmp_path / "map.tif"), "--dry-run", "--progress", "json"]
    done = CliRunner().invoke(command_line, [*asked, "--model", "hf://us/bundle"])
    told = [json.loads(line) for line in done.stderr.splitlines()]
    downloads = [each for each in told if each.get("stage") == "download"]
    assert done.exit_code == 0
    assert {(each["total"], each["unit"]) for each in downloads} == {(size, "B")}
    assert downloads[-1]["done"] == size
    hub.cut.add("a.safetensors")
    done = CliRunner().invoke(command_line, [*asked, "--model", "hf://us/several/a.safetensors"])
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.exit_code == 1
    assert [("error" in each, "stage" in each) for each in told[-1:]] == [(True, False)]
    assert list((tmp_path / "hub" / "models--us--several").rglob("*.incomplete")) == []


def test_downloads_tell_their_listener_and_nobody_else(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["us/large"] = {
        "a.safetensors": hub.repositories["us/bundle"]["coast.safetensors"] + bytes(3 << 24)
    }
    size = len(hub.repositories["us/large"]["a.safetensors"])
    heard: list[Download] = []
    with watching_downloads(heard.append):
        fetch("hf://us/large")
        fetch("hf://us/large")
    done = [each.bytes_done for each in heard]
    assert len(done) > 2
    assert (done == sorted(done), done[-1], {each.bytes_total for each in heard}) == (True, size, {size})
    assert {each.name for each in heard} == {f"hf://us/large@{COMMIT}/a.safetensors"}
    assert capfd.readouterr() == ("", "")
