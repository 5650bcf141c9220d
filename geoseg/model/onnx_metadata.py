"""The metadata_props of an ONNX file, read without onnx, which takes longer to import than a small scene takes to map.

A file is one protobuf message, ModelProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): field 14 is
metadata_props, with key in field 1 and value in field 2. The graph is stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_ENTRY_BYTES = 2**16
_EXTERNAL = b"location"
"""The key by which a tensor's data is looked for in another file. It must be spelled out somewhere in such a file."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata; ValueError if the file is not ONNX or keeps weights elsewhere, OSError if unreadable."""
    message = path.read_bytes()
    if _EXTERNAL in message:
        raise ValueError(f"{path} keeps weights in other files")
    found = {}
    for number, value in _fields(message):
        if number == _METADATA_PROPS and len(value) <= _MAX_ENTRY_BYTES:
            entry = dict(_fields(value))
            found[bytes(entry.get(_KEY, b"")).decode("utf-8")] = bytes(entry.get(_VALUE, b"")).decode("utf-8")
    return found


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each length-delimited field."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == _VARINT:
            _, at = _varint(view, at)
        elif wire == _BYTES:
            length, at = _varint(view, at)
            if at + length > len(view):
                raise ValueError("the message is cut short")
            yield tag >> 3, view[at : at + length]
            at += length
        elif wire in {_FIXED64, _FIXED32}:
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"not a protobuf message: wire type {wire}")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a protobuf message")
