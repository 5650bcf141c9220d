from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg.errors import ModelError
from geoseg.model import ModelBundle, read_header
from geoseg.model.bundle import parse_json
from geoseg.model.bundle.header import _MAX_AXES, _MAX_HEADER_BYTES, _MAX_METADATA_BYTES, _MAX_TENSORS
from geoseg.model.bundle.safe_json import _MAX_DEPTH, _MAX_DIGITS
from tests.model.safetensors_bytes import safetensors_bytes

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
DATA = bytes(24)


def entry(**changes: Any) -> dict[str, Any]:
    return {"weight": ENTRY | changes}


HOSTILE = {
    "not json": safetensors_bytes("{nonsense", DATA),
    "not an object": safetensors_bytes('{"a"', DATA),
    "a list": b"\x04" + bytes(7) + b"{[]}",
    "nested": safetensors_bytes('{"a":' * 100_000, DATA),
    "nested but whole": safetensors_bytes('{"a":' * 500 + "1" + "}" * 500, DATA),
    "twice": safetensors_bytes(f'{{"w":{json.dumps(ENTRY)},"w":{json.dumps(ENTRY)}}}', DATA),
    "NaN": safetensors_bytes('{"w":NaN}', DATA),
    "beyond floats": safetensors_bytes('{"w":1e999}', DATA),
    "many digits": safetensors_bytes('{"w":' + "9" * 5000 + "}", DATA),
    "not UTF-8": safetensors_bytes(b'{"\xff\xfe":1}', DATA),
    "header length beyond the file": (10**6).to_bytes(8, "little") + b"{}" + DATA,
    "header length beyond the bound": (_MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}" + DATA,
    "header length of 64 bits": b"\xff" * 8 + b"{}" + DATA,
    "no tensors": safetensors_bytes({}),
    "unknown dtype": safetensors_bytes(entry(dtype="PICKLE"), DATA),
    "negative length": safetensors_bytes(entry(shape=[-2, -3]), DATA),
    "fractional length": safetensors_bytes(entry(shape=[2.0, 3]), DATA),
    "true is no length": safetensors_bytes(entry(shape=[True, 6]), DATA),
    "shape beyond the data": safetensors_bytes(entry(shape=[2, 4]), DATA),
    "huge shape": safetensors_bytes(entry(shape=[10**18] * 8), DATA),
    "many axes": safetensors_bytes(entry(shape=[1] * 100 + [6]), DATA),
    "offsets backwards": safetensors_bytes(entry(data_offsets=[24, 0]), DATA),
    "offsets not from 0": safetensors_bytes(entry(data_offsets=[8, 32]), DATA + bytes(8)),
    "one offset": safetensors_bytes(entry(data_offsets=[24]), DATA),
    "overlapping tensors": safetensors_bytes({"a": ENTRY, "b": ENTRY}, DATA),
    "unknown field": safetensors_bytes(entry(code="import os"), DATA),
    "bytes after the last tensor": safetensors_bytes(entry(), DATA + b"hidden"),
    "metadata is no object": safetensors_bytes({"__metadata__": [1], **entry()}, DATA),
    "metadata is no text": safetensors_bytes({"__metadata__": {"geoseg": {}}, **entry()}, DATA),
    "metadata of 2 MB": safetensors_bytes({"__metadata__": {"geoseg": " " * 2**21}, **entry()}, DATA),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_header_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError) as refusal:
        read_header(file)
    assert str(file) in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400 + len(str(file))


def test_names_that_would_move_the_cursor_are_not_printed(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors_bytes({"\x1b[2Jboo\n": {"dtype": "?"}}, DATA))
    with pytest.raises(ModelError, match="boo") as refusal:
        read_header(file)
    assert str(refusal.value).isprintable()


def test_right_header_is_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors_bytes({"__metadata__": {"geoseg": "{}"}, **entry()}, DATA))
    header = read_header(file)
    assert header.metadata == {"geoseg": "{}"}
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [("weight", (2, 3))]
    assert header.parameters == 6


def test_statistics_of_batch_normalization_are_no_parameters(tmp_path: Path) -> None:
    norm = torch.nn.BatchNorm2d(5)
    safetensors.torch.save_file({f"norm.{name}": each for name, each in norm.state_dict().items()}, tmp_path / "a")
    header = read_header(tmp_path / "a")
    assert header.parameters == sum(parameter.numel() for parameter in norm.parameters()) == 10


def test_names_are_kept_as_they_stand(tmp_path: Path) -> None:
    """Two long names with the same beginning are two tensors."""
    names = [f"{'block.' * 40}{end}" for end in ("weight", "bias ")]
    halves = {
        name: {"dtype": "F32", "shape": [3], "data_offsets": [at, at + 12]}
        for name, at in zip(names, (0, 12), strict=True)
    }
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors_bytes(halves, b"\0" * 24))
    assert [tensor.name for tensor in read_header(file).tensors] == names


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_file_cut_short_anywhere_is_refused(tiny: ModelBundle, tmp_path: Path, share: float) -> None:
    whole = tiny.weights_path.read_bytes()
    file = tmp_path / "cut.safetensors"
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"cut short|is empty"):
        ModelBundle.open(file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_in_the_header_never_surprise(tiny: ModelBundle, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(tiny.weights_path.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / "flipped.safetensors"
    file.write_bytes(content)
    try:
        surprise = ModelBundle.open(file).to_text()
    except ModelError as refusal:
        surprise = str(refusal)
    assert surprise.isprintable()


def nested(depth: int, kind: str) -> str:
    """Return JSON of lists or objects nested to a depth."""
    opened, closed = ("[", "]") if kind == "lists" else ('{"a":', "}")
    return opened * (depth - 1) + ("[]" if kind == "lists" else "{}") + closed * (depth - 1)


@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_a_text_may_be_so_deep_and_no_deeper(kind: str) -> None:
    """The limit is below Python's own limit on recursion."""
    assert parse_json(nested(_MAX_DEPTH, kind), "it")
    for depth in (_MAX_DEPTH + 1, _MAX_DEPTH + 2, 2 * _MAX_DEPTH):
        with pytest.raises(ModelError, match=f"nested deeper than {_MAX_DEPTH}"):
            parse_json(nested(depth, kind), "it")


def test_an_integer_may_have_so_many_digits_and_no_more() -> None:
    assert parse_json("9" * _MAX_DIGITS, "it") == 10**_MAX_DIGITS - 1
    with pytest.raises(ModelError, match=f"an integer of {_MAX_DIGITS + 1} digits"):
        parse_json("9" * (_MAX_DIGITS + 1), "it")


def scalars(count: int) -> dict[str, Any]:
    return {str(n): {"dtype": "U8", "shape": [], "data_offsets": [n, n + 1]} for n in range(count)}


LIMITS = {
    "tensors": lambda over: (scalars(_MAX_TENSORS + over), bytes(_MAX_TENSORS + over)),
    "axes": lambda over: (entry(shape=[1] * (_MAX_AXES - 1 + over) + [6]), DATA),
    "metadata": lambda over: ({"__metadata__": {"geoseg": " " * (_MAX_METADATA_BYTES + over)}, **entry()}, DATA),
    "header": lambda over: (json.dumps(entry()).ljust(_MAX_HEADER_BYTES + over), DATA),
}
"""Headers at each limit, or beyond it by `over`."""


@pytest.mark.parametrize("limit", LIMITS)
def test_a_header_may_reach_each_bound_and_not_pass_it(tmp_path: Path, limit: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors_bytes(*LIMITS[limit](0)))
    assert read_header(file).tensors
    file.write_bytes(safetensors_bytes(*LIMITS[limit](1)))
    with pytest.raises(ModelError):
        read_header(file)
