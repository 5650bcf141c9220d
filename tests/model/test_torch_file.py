"""Files of torch.save inspected without torch: torch is the oracle of their contents, and no code in them runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from geoseg.errors import ModelError
from geoseg.model.weights.torch_file import dictionaries, read_torch_file
from geoseg.model.weights.weights_file import opened_tensors, read_weights_file

TENSORS = {
    "float32": torch.arange(12.0).reshape(3, 4),
    "float64": torch.zeros(2, dtype=torch.float64),
    "half": torch.zeros(2, 3, dtype=torch.float16),
    "bfloat16": torch.zeros(5, dtype=torch.bfloat16),
    "int64": torch.tensor(7),
    "bool": torch.ones(4, dtype=torch.bool),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


class Trace:
    """An object that touches a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


class Settings(dict[str, Any]):
    """A class as trainers define it."""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_it_announces_what_torch_loads(tmp_path: Path, *, zipped: bool) -> None:
    whole = {"epoch": 3, "state_dict": OrderedDict(TENSORS), "deep": {"er": {"ema": {"w": torch.zeros(3)}}}}
    torch.save(whole, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    content = read_torch_file(tmp_path / "a.ckpt")
    found = dict(dictionaries(content))
    oracle = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(found) == {("state_dict",), ("deep", "er", "ema")}
    assert {name: each.shape for name, each in found["state_dict",].items()} == {
        name: tuple(tensor.shape) for name, tensor in oracle["state_dict"].items()
    }
    assert {name: f"torch.{each.dtype}Tensor" for name, each in found["state_dict",].items()} == {
        name: tensor.type() for name, tensor in TENSORS.items()
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("kind", ["function", "class", "whole network"])
def test_what_could_run_is_refused_and_does_not_run(tmp_path: Path, kind: str, *, zipped: bool) -> None:
    things = {"function": Trace(tmp_path / "trace"), "class": Settings(a=1), "whole network": torch.nn.Conv2d(1, 1, 1)}
    torch.save({"w": torch.zeros(1), "x": things[kind]}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"holds more than tensors \(.*could run code.*torch\.save"):
        read_torch_file(tmp_path / "a.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), "quantized .*save the network before it is"),
        (torch.qint8, r"quantized numbers \(torch\.qint8\); save the network before it is"),
        (torch.eye(2).to_sparse(), "in a form that geoseg does not read"),
        (torch.ones(2).to(torch.float8_e4m3fn), "in a form that geoseg does not read"),
        (torch.ones(2, dtype=torch.complex64), r"holds complex numbers .*only networks of real ones$"),
        (torch.ones(2, device="meta"), r"holds no weights, .* after its weights have been loaded$"),
    ],
    ids=["quantized", "quantize_dynamic", "sparse", "8 bits", "complex", "meta"],
)
def test_tensors_that_are_no_plain_numbers_are_not_called_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensor: Any, said: str
) -> None:
    """The line that the message shows, if any, saves a file that is read."""
    monkeypatch.chdir(tmp_path)
    torch.save({"layer.weight": tensor}, "a.pt")
    with pytest.raises(ModelError, match=said) as caught:
        read_torch_file(tmp_path / "a.pt")
    line = str(caught.value).partition("; save plain ones: ")[2]
    if line:
        network = types.SimpleNamespace(state_dict=lambda: {"layer.weight": tensor})
        eval(line, {"torch": torch, "network": network})  # noqa: S307 - our own message
        read_torch_file(tmp_path / "weights.pth")


def test_a_network_of_ultralytics_is_answered_with_its_own_exporter(tmp_path: Path) -> None:
    kind = type("Segmentation", (torch.nn.Conv2d,), {"__module__": "ultralytics.nn.tasks"})
    module = types.ModuleType("ultralytics.nn.tasks")
    module.Segmentation = kind  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
            patch.setitem(sys.modules, name, module)
        torch.save({"model": kind(1, 1, 1)}, tmp_path / "best.pt")
    with pytest.raises(ModelError, match=r"Ultralytics \(YOLO\).*yolo export model=best\.pt format=onnx"):
        read_torch_file(tmp_path / "best.pt")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_torch_did_not_write_is_refused_unread(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Trace(tmp_path / "trace"), protocol))
    with pytest.raises(ModelError, match=r"torch\.save"):
        read_torch_file(tmp_path / "a.pkl")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_anywhere_is_one_line(tmp_path: Path, share: float, *, zipped: bool) -> None:
    state = {f"layer.{number}": torch.rand(40, 40) for number in range(8)}
    torch.save(state, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"cut short( or damaged \(.+\)|:)") as caught:
        read_torch_file(tmp_path / "cut.pth")
    assert "\n" not in str(caught.value)


def rewritten(source: Path, target: Path, changed: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    """Write a copy of an archive in which the entries under `changed` have other content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.partition("/")[2], old.read(name)))


def test_an_archive_that_would_unpack_to_more_is_refused_before(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "a.pth")
    rewritten(tmp_path / "a.pth", tmp_path / "bomb.pth", {"data/0": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pth").stat().st_size < 10**6
    with pytest.raises(ModelError, match=r"packed by something other than torch.save.*would unpack from"):
        read_torch_file(tmp_path / "bomb.pth")


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(8)}, tmp_path / "a.pth")
    rewritten(tmp_path / "a.pth", tmp_path / "short.pth", {"data/0": bytes(4)})
    with pytest.raises(ModelError, match="declares 32 bytes of weights"):
        read_torch_file(tmp_path / "short.pth")
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "stretched.pth")
    with pytest.raises(ModelError, match=r"declares a tensor \[1000000, 1000000\] in 1 numbers"):
        read_torch_file(tmp_path / "stretched.pth")


STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuK\4tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\4\x85K\1\x85\x89Nt"
DOUBLED = b")" + 40 * b"2\x86"
"""A tuple that holds another twice, and so on: 2 ** 40 in all."""
TOO_MANY = r"too many settings .*over 3,000,000 steps\); save only the tensors: torch\.save\(network\.state_dict\(\)"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (TENSOR + b"R](J\0\0\0\x7f\x85X\5\0\0\0FloatX\1\0\0\0" + b"0K\0K\1\x85eb", "BUILD of AnnouncedTensor"),
        (TENSOR.replace(STORAGE, STORAGE + b"](X\5\0\0\0FloatJ\0\0\0\x7fX\1\0\0\0" + b"0eb") + b"R", "BUILD of _Sto"),
        (b"ctorch._utils\n_rebuild_parameter\n}X\1\0\0\0aK\1sb", "BUILD of _Function"),
        (
            TENSOR.replace(b"K\4\x85K\1\x85", b"(" + 99_999 * b"J\0\0\0\x7f" + b"t(" + 99_999 * b"K\1" + b"t") + b"R",
            "is dam",
        ),
        (DOUBLED + b"Q", r"\(persistent id, a tuple\)"),
        (b"})" + 3_000_000 * b"\x85" + b"K\1s", TOO_MANY),
        (b"N(" + 99_999 * b"N" + b"tq\0" + b"cbuiltins\nset\nq\1" + 99 * b"h\1h\0R", TOO_MANY),
        (b"(U\6module" + 99_999 * b"N" + b"tq\0" + 99 * b"h\0Q", TOO_MANY),
        (b"}p9\n", r"\(112\)"),
        (b"}q\0g0\n", r"\(103\)"),
        (b"c" + 2_000 * b"a" + b"\nb\n", "a name too long"),
        (TENSOR.replace(b"K\4tQ", b"\x8b\xd0\x07\0\0" + 2_000 * b"\x7f" + b"tQ") + b"R", "persistent id, a tuple"),
        (TENSOR.replace(b"K\4\x85K\1\x85", b"K\4\x85G?\xf0" + 6 * b"\0" + b"\x85") + b"R", r"tensor \[4\] in 4 n"),
        (b"\x82\1", "130"),
        (b"K\1\x85Q", r"\(persistent id, a tuple\)"),
        (TENSOR.replace(b"_v2", b"_v3").replace(b"\x89Nt", b"\x89NK\1\x85t") + b"R", "dtype, a tuple"),
    ],
    ids=[
        *("tensor", "storage", "function", "axes", "id", "deep", "long calls", "long ids", "put", "get", "name"),
        *("count", "float", "extension", "other id", "dtype"),
    ],
)
def test_a_pickle_that_would_change_what_was_checked_or_never_end_is_refused(
    tmp_path: Path, value: bytes, said: str
) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    for inner, name in ((TENSOR + b"R", "good.pth"), (value, "evil.pth")):
        rewritten(tmp_path / "a.pth", tmp_path / name, {"data.pkl": b"\x80\2}X\1\0\0\0w" + inner + b"s."})
    assert read_torch_file(tmp_path / "good.pth")["w"].shape == (4,)
    with pytest.raises(ModelError, match=said):
        read_torch_file(tmp_path / "evil.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_tensors_next_to_a_loss_are_read(tmp_path: Path, *, zipped: bool) -> None:
    """The old format saves the source of a module's class with it."""
    whole = {"w": torch.zeros(4), "loss": torch.nn.CrossEntropyLoss()}
    torch.save(whole, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert read_torch_file(tmp_path / "a.pth")["w"].shape == (4,)


def test_texts_of_python_2_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    content = b"\x80\2}(U\1w" + TENSOR + b"RU\6author" + b"U\5Andr\xe9u."
    rewritten(tmp_path / "a.pth", tmp_path / "b.pth", {"data.pkl": content})
    assert read_weights_file(tmp_path / "b.pth").words == ("b", "Andr\xe9")


def test_an_archive_without_a_folder_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(4.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name.partition("/")[2], old.read(name))
    with opened_tensors(read_weights_file(tmp_path / "b.pth"), {"w": "w"}) as tensors:
        assert tensors["w"].tolist() == [0, 1, 2, 3]


def test_texts_are_found_in_nested_settings(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4), "a": {"b": {"c": {"d": {"encoder": "resnet18"}}}}}, tmp_path / "a.pth")
    assert read_weights_file(tmp_path / "a.pth").words == ("a", "resnet18")


COLLIDING = b"".join(b"\x8a\x0b" + (number * (2**61 - 1)).to_bytes(11, "little") + b"K\1" for number in range(50_000))
"""Pairs of numbers that have one hash in Python, and another number."""


@pytest.mark.parametrize(
    "value",
    [
        b"}r\xff\xff\xff\x7f",  # put at place 2147483647 of the memo
        b"}(" + DOUBLED + b"K\1u",
        b"}(" + COLLIDING + b"u",
        b"(" + COLLIDING + b"d",
        b"\x8f(" + COLLIDING + b"\x90",  # a set
        b"ccollections\nOrderedDict\n)R}X\5\0\0\0itemsK\1sb",
    ],
    ids=["memo", "nested key", "dict", "old dict", "set", "method"],
)
def test_what_a_pickle_holds_beside_texts_and_tensors_costs_no_time_and_changes_nothing(
    tmp_path: Path, value: bytes
) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.pth")
    content = b"\x80\4}X\1\0\0\0w" + TENSOR + b"RsX\5\0\0\0other" + value + b"s."
    rewritten(tmp_path / "a.pth", tmp_path / "b.pth", {"data.pkl": content})
    ((place, tensors),) = dictionaries(read_torch_file(tmp_path / "b.pth"))
    assert (place, list(tensors)) == ((), ["w"])


def test_programs_are_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(3, 2, 1)
    torch.jit.trace(network, torch.zeros(1, 3, 4, 4)).save(str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match=r"TorchScript.*torch\.jit\.load\('script\.pt'\)\.state_dict\(\)"):
        read_torch_file(tmp_path / "script.pt")
    torch.save(torch.jit.load(str(tmp_path / "script.pt")).state_dict(), tmp_path / "out.pth")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 4, 4),)), tmp_path / "program.pt2")
    with pytest.raises(ModelError, match=r"torch\.export.*torch\.export\.load\('program\.pt2'\)\.state_dict"):
        read_torch_file(tmp_path / "program.pt2")
    torch.save(dict(torch.export.load(tmp_path / "program.pt2").state_dict), tmp_path / "out2.pth")
    for name in ("out.pth", "out2.pth"):
        ((_, tensors),) = dictionaries(read_torch_file(tmp_path / name))
        assert {key: each.shape for key, each in tensors.items()} == {"weight": (2, 3, 1, 1), "bias": (2,)}


def test_packages_of_arcgis_and_other_archives_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.dlpk", "w") as archive:
        archive.writestr("model.emd", "{}")
        archive.writestr("model.onnx", b"x")
    with pytest.raises(ModelError, match=r"ArcGIS package.*unpack it.*\(model\.onnx\)"):
        read_torch_file(tmp_path / "a.dlpk")
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelError, match=r"torch\.save did not write"):
        read_torch_file(tmp_path / "a.keras")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (
            "a.pth",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 97\n",
            "Git LFS pointer.*lfs pull",
        ),
        ("a.ckpt", b"<!DOCTYPE html><html></html>", "a web page, not the file itself"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        ("a.pth", pickle.dumps({"weight": [1.0]}, 4), r"a pickle that torch\.save did not write; expected a \.pth"),
        ("a.onnx", b"\x08\x08", "an ONNX file, which needs no import; give it as `model`"),
    ],
)
def test_what_came_in_the_place_of_weights_is_named(tmp_path: Path, name: str, content: bytes, wanted: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=wanted):
        read_weights_file(tmp_path / name)


def test_torch_is_not_loaded_for_what_is_refused(tmp_path: Path) -> None:
    torch.save({"x": Trace(tmp_path / "trace")}, tmp_path / "a.pt")
    code = (
        "import sys, geoseg\n"
        "try: geoseg.import_weights(sys.argv[1], sys.argv[2])\n"
        "except geoseg.errors.ModelError: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.pt"), str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert not (tmp_path / "out.safetensors").exists()
