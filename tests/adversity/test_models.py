"""Model files that are truncated, malicious, of the wrong kind, or missing."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.adversity.conftest import Predict
from tests.adversity.damage import damaged
from tests.adversity.promises import check_refused, files_in
from tests.networks import TINY

ENCODER = str(TINY["encoder_name"])
Header = dict[str, Any]


def split(content: bytes) -> tuple[Header, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Header | bytes, weights: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + weights


def with_card(content: bytes, old: str, new: str) -> bytes:
    header, weights = split(content)
    card = header["__metadata__"]["geoseg"]
    assert old in card
    header["__metadata__"]["geoseg"] = card.replace(old, new)
    return joined(header, weights)


def first_tensor(content: bytes, **changes: Any) -> bytes:
    header, weights = split(content)
    name = next(name for name in header if name != "__metadata__")
    header[name] |= changes
    return joined(header, weights)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "three bytes": lambda c: c[:3],
    "only the header": lambda c: c[: len(c) - len(split(c)[1])],
    "the last byte is gone": lambda c: c[:-1],
    "a byte too many": lambda c: c + b"\0",
    "half": lambda c: c[: len(c) // 2],
    "a header of 2**63 bytes": lambda c: (2**63).to_bytes(8, "little") + c[8:],
    "a header larger than the file": lambda c: (len(c) * 2).to_bytes(8, "little") + c[8:],
    "a header of no bytes": lambda c: bytes(8) + c[8:],
    "a header that is a list": lambda c: joined(b"[]", split(c)[1]),
    "a header of deep lists": lambda c: joined(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", split(c)[1]),
    "a header of deep objects": lambda c: joined(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, split(c)[1]),
    "a header that is no text": lambda c: joined(b"\xff\xfe" * 50, split(c)[1]),
    "a header with a long number": lambda c: joined(b'{"a":' + b"9" * 1_000_000 + b"}", split(c)[1]),
    "a name twice": lambda c: joined(b'{"a":1,"a":2}', split(c)[1]),
    "not a number": lambda c: with_card(c, '"mlm:name"', '"x": NaN, "mlm:name"'),
    "beyond a float": lambda c: with_card(c, '"mlm:name"', '"x": 1e999, "mlm:name"'),
    "no card": lambda c: joined({k: v for k, v in split(c)[0].items() if k != "__metadata__"}, split(c)[1]),
    "an unknown architecture": lambda c: with_card(c, '"Unet"', '"Skynet"'),
    "an encoder from the network": lambda c: with_card(c, ENCODER, "tu-hf-hub:evil/encoder"),
    "an unknown encoder": lambda c: with_card(c, ENCODER, "timm-mobilenetv9"),
    "an encoder of another size": lambda c: with_card(c, ENCODER, "resnet18"),
    "offsets beyond the file": lambda c: first_tensor(c, data_offsets=[0, 2**40]),
    "offsets below zero": lambda c: first_tensor(c, data_offsets=[-4, 0]),
    "offsets that are no integers": lambda c: first_tensor(c, data_offsets=[0.5, 4]),
    "offsets back to front": lambda c: first_tensor(c, data_offsets=[400, 0]),
    "a huge shape": lambda c: first_tensor(c, shape=[2**40, 2**40]),
    "a shape below zero": lambda c: first_tensor(c, shape=[-1]),
    "an unknown type": lambda c: first_tensor(c, dtype="F1024"),
    "tensors that overlap": lambda c: joined(
        {k: (v if k == "__metadata__" else v | {"data_offsets": [0, 4], "shape": [1]}) for k, v in split(c)[0].items()},
        split(c)[1],
    ),
    "terabytes of channels": lambda c: with_card(c, "[16, 8, 8]", "[99999999, 99999999, 99999999]"),
    "a pickle": lambda _: pickle.dumps({"weights": [1.0]}),
    "a picture": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a text": lambda _: b"these are words\n" * 40,
}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_model_that_cannot_be_right(predict: Predict, scene: Path, model: Path, kind: str) -> None:
    bad = scene.parent / "bad.safetensors"
    bad.write_bytes(HOSTILE[kind](model.read_bytes()))
    before = files_in(scene.parent)
    outcome = predict(scene, "--out", scene.parent / "map.tif", "--model", bad)
    line = check_refused(outcome, 1, scene.parent, before)
    by_network = {"an unknown encoder": "timm-mobilenetv9", "an encoder of another size": "Unet"}
    assert by_network.get(kind, "bad.safetensors") in line
    assert len(line) < 1200


@pytest.mark.parametrize("name", ["state.pt", "state.safetensors"])
def test_a_checkpoint_of_torch_is_refused_with_the_way_out(predict: Predict, scene: Path, name: str) -> None:
    torch.save({"weight": torch.zeros(3)}, scene.parent / name)
    before = files_in(scene.parent)
    line = check_refused(
        predict(scene, "--out", scene.parent / "map.tif", "--model", scene.parent / name), 1, scene.parent, before
    )
    assert "geoseg import" in line


def test_models_of_other_kinds(predict: Predict, scene: Path, model: Path) -> None:
    for other, code in ((model.with_suffix(".onnx"), 1), (scene, 1), (scene.parent, 1), (scene.parent / "no", 1)):
        before = files_in(scene.parent)
        outcome = predict(scene, "--out", scene.parent / "map.tif", "--model", other)
        assert str(other) in check_refused(outcome, code, scene.parent, before)


def test_random_damage_of_the_header(predict: Predict, scene: Path, model: Path) -> None:
    content = model.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    bad = scene.parent / "bad.safetensors"
    for seed in range(25):
        chance = random.Random(seed)
        if seed % 5 == 0:
            broken = damaged(content[:head], seed) + content[head:]
        else:
            flipped = bytearray(content)
            for _ in range(chance.randrange(1, 4)):
                flipped[chance.randrange(head)] ^= 1 << chance.randrange(8)
            broken = bytes(flipped)
        bad.write_bytes(broken)
        before = files_in(scene.parent)
        # plan only: a changed number may still be valid, and exporting each would take minutes
        outcome = predict(scene, "--out", scene.parent / "map.tif", "--model", bad, "--window", 15)
        assert outcome.code in {1, 2}
        check_refused(outcome, outcome.code, scene.parent, before)


@pytest.mark.usefixtures("in_process")
def test_a_broken_export_beside_the_model_is_made_anew(
    predict: Predict, scene: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    copy.with_suffix(".onnx").write_bytes(model.with_suffix(".onnx").read_bytes()[:-1])
    for name, bundle in (("right.tif", model), ("map.tif", copy)):
        assert predict(scene, "--out", scene.parent / name, "--model", bundle).code == 0
    assert (scene.parent / "right.tif").stat().st_size > 0
    assert len(list((tmp_path / "cache").glob("*.onnx"))) == 1
