"""The header of a `.safetensors` file, read and checked by geoseg's own code before any library sees the file.

Format: https://huggingface.co/docs/safetensors: 8 bytes little-endian length, that many bytes of JSON, then the
tensors, each at its offsets, without gaps.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle.safe_json import parse_json

_MAX_HEADER_BYTES = 16 * 2**20
"""A header of 20,000 tensors is about 3 MB."""
_MAX_TENSORS = 20_000
_MAX_AXES = 8
_MAX_METADATA_BYTES = 2**20
_STATISTICS = (".running_mean", ".running_var")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    """One tensor, as declared by the header."""

    name: str
    """Exactly as in the file, so it may be anything; messages use `one_line` of it."""
    dtype: str
    """safetensors' name: F32, F16, BF16, I64, ..."""
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata and tensor list of a `.safetensors` file; the tensor offsets fit the file."""

    metadata: dict[str, str]
    tensors: tuple[_TensorEntry, ...]

    @property
    def parameters(self) -> int:
        """Number of elements in all floating-point tensors, without the running statistics of batch normalization."""
        return sum(
            tensor.size for tensor in self.tensors if "F" in tensor.dtype and not tensor.name.endswith(_STATISTICS)
        )


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError of reading a model's file into a ModelError."""
    try:
        yield
    except OSError as fault:
        raise ModelError(f"{path} cannot be read: {fault.strerror or fault}") from None


def read_header(path: Path) -> Header:
    """Return the header of a `.safetensors` file.

    ModelError if the file cannot be read, is of another kind (with advice for pickles and HDF5), is cut short, or
    declares anything that it does not hold.
    """
    with readable(path), path.open("rb") as file:
        size = path.stat().st_size
        first = file.read(16)
        _refuse_foreign(path, first)
        length = int.from_bytes(first[:8], "little")
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ModelError(
                f"{path} is not a .safetensors file: a header of {length} bytes, expected 2 to {_MAX_HEADER_BYTES}"
            )
        if size < 8 + length:
            raise ModelError(f"{path} is cut short: {size} bytes of at least {8 + length}; copy or download it again")
        file.seek(8)
        text = file.read(length)
    entries = parse_json(text, f"the header of {path}")
    if not isinstance(entries, dict):
        raise ModelError(f"the header of {path} is {type(entries).__name__}, expected an object")
    metadata = _metadata(entries.pop("__metadata__", {}), path)
    return Header(metadata, _tensors(entries, size - 8 - length, path))


def _metadata(value: object, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ModelError(f"the header of {path} has metadata that is not an object of texts")
    longest = max((len(text) for text in value.values()), default=0)
    if longest > _MAX_METADATA_BYTES:
        raise ModelError(
            f"the header of {path} has a metadata text of {longest} characters, at most {_MAX_METADATA_BYTES} allowed"
        )
    return value


def _tensors(entries: dict[str, Any], data_bytes: int, path: Path) -> tuple[_TensorEntry, ...]:
    if not 1 <= len(entries) <= _MAX_TENSORS:
        raise ModelError(f"{path} holds {len(entries)} tensors, expected 1 to {_MAX_TENSORS}")
    placed = sorted((_tensor(name, entry, path) for name, entry in entries.items()), key=lambda item: item[:2])
    end = 0
    for start, stop, tensor in placed:
        if start != end or stop - start != tensor.size * _BYTES[tensor.dtype]:
            raise ModelError(
                f"the header of {path} puts tensor {one_line(tensor.name, 60)!r} at bytes {start} to {stop}, "
                "which does not fit its shape"
            )
        end = stop
    if end > data_bytes:
        raise ModelError(f"{path} is cut short: {data_bytes} bytes of weights of {end}; copy or download it again")
    if end < data_bytes:
        raise ModelError(
            f"{path} holds {data_bytes - end} bytes after its last tensor; it was not written by safetensors"
        )
    return tuple(tensor for _, _, tensor in placed)


def _tensor(name: str, entry: object, path: Path) -> tuple[int, int, _TensorEntry]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)], **rest} if (
            not rest and dtype in _BYTES and _is_shape(shape) and type(start) is type(stop) is int
        ):
            return start, stop, _TensorEntry(name, dtype, tuple(shape))
    raise ModelError(
        f"the header of {path} has an invalid entry for tensor {one_line(name, 60)!r}: {one_line(entry, 80)}"
    )


def _is_shape(lengths: list[object]) -> bool:
    return len(lengths) <= _MAX_AXES and all(type(length) is int and length >= 0 for length in lengths)


_BUNDLE = "geoseg reads .safetensors bundles and .onnx files"
_PICKLE = (
    "is a pickle, which can run any code when opened; geoseg import (in Python geoseg.import_weights) makes a bundle "
    "from the weights in it and runs nothing"
)
_PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_KERAS = "convert it to ONNX and use that: python -m tf2onnx.convert --keras FILE --output model.onnx"
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, probably a Keras model; {_KERAS}"),
    (b"GGUF", f"is a GGUF file; {_BUNDLE}"),
    (b"II*\0", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"II+\0", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"MM\0*", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"\x89PNG", f"is a PNG picture, not a model; {_BUNDLE}"),
    (b"\xff\xd8\xff", f"is a JPEG picture, not a model; {_BUNDLE}"),
    (b"version https://", "is a Git LFS pointer, not the file itself; fetch that with git lfs pull"),
)


def refuse_known(path: Path, first: bytes) -> None:
    """Raise ModelError if the first 16 bytes of a file identify a format from which geoseg reads no models."""
    if not first:
        raise ModelError(f"{path} is empty; {_BUNDLE}")
    refuse_by_magic(path, first)
    if first.startswith(b"PK\x03\x04"):
        raise ModelError(f"{path} {_zip_kind(path)}")
    # pickle protocols 2 to 5 start with PROTO and their number; torch before 1.6 wrote protocol 2
    if first[:1] == b"\x80" and first[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"} and first[8:9] != b"{":
        raise ModelError(f"{path} {_PICKLE}")


def refuse_foreign_folder(folder: Path) -> None:
    """Raise ModelError for a folder written by TensorFlow, or one with weights in several files."""
    if (folder / "saved_model.pb").is_file():
        raise ModelError(
            f"{folder} is a TensorFlow SavedModel; convert it to ONNX and use that: python -m tf2onnx.convert "
            "--saved-model FOLDER --output model.onnx"
        )
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / f"{name}.index.json").is_file() and not (folder / name).is_file():
            raise ModelError(
                f"{folder} holds weights in several files, listed in {name}.index.json, as the transformers library "
                "writes them; export the model to ONNX and use that: optimum-cli export onnx --model FOLDER "
                "--task semantic-segmentation OUT"
            )


def refuse_by_magic(path: Path, first: bytes) -> None:
    """Raise ModelError if the first 16 bytes of a file identify a format from which geoseg reads no weights."""
    for magic, description in _MAGIC:
        if first.startswith(magic):
            raise ModelError(f"{path} {description}")
    if first[4:8] == b"TFL3":
        raise ModelError(
            f"{path} is a TensorFlow Lite model; convert it to ONNX and use that: python -m tf2onnx.convert "
            "--tflite FILE --output model.onnx"
        )
    if first.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path} is a web page, not the file itself; download that")


def _refuse_foreign(path: Path, first: bytes) -> None:
    """Raise ModelError if the first 16 bytes of a file, or its name, show that it is not a `.safetensors` file.

    The bytes take precedence over the name: a pickle is a pickle whatever it is called.
    """
    refuse_known(path, first)
    if first[8:9] == b"{":  # a safetensors header starts like this; its length bytes may look like anything
        return
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise ModelError(f"{path} {_PICKLE}")
    if len(first) < 10:
        raise ModelError(f"{path} is cut short: {len(first)} bytes; copy or download it again")
    raise ModelError(f"{path} is not a .safetensors file; {_BUNDLE}")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return _PICKLE  # a truncated torch checkpoint is still a torch checkpoint
    kind = archive_kind(path, names)
    if kind is not None:
        return kind
    return _PICKLE if any(name.endswith(".pkl") for name in names) else f"is a ZIP archive; {_BUNDLE}"


def archive_kind(path: Path, names: list[str]) -> str | None:
    """Return what a ZIP archive is, with advice, if the names in it show a program or a package with one; else None."""
    if {"config.json", "model.weights.h5"} <= set(names):
        return f"is a Keras model; {_KERAS}"
    if any(name.endswith(".emd") for name in names):
        inside = next((name for name in names if name.endswith((".onnx", ".pth", ".pt", ".safetensors"))), None)
        return (
            "is an ArcGIS package with Python code; unpack it and give the model inside"
            + (f" ({one_line(inside, 60)})" if inside else "")
            + ": an .onnx file as it is, weights of a network that geoseg knows to geoseg import; export any other "
            "network to ONNX where arcgis.learn is installed (torch.onnx.export)"
        )
    if any("/code/" in f"/{name}" or name.endswith("constants.pkl") for name in names):
        return (
            "is a TorchScript program, which is code; if you trust it, save its weights alone and import those: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth'), then geoseg import weights.pth"
        )
    if any(name.rpartition("/")[2] == "archive_format" for name in names):
        return (
            "is a torch.export program; if you trust it, save its weights alone and import those: "
            f"torch.save(dict(torch.export.load({path.name!r}).state_dict), 'weights.pth'), then geoseg import "
            "weights.pth"
        )
    return None
