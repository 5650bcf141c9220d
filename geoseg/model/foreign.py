"""Files that hold a model but are no bundle: each is refused with the way out."""

from __future__ import annotations

import zipfile
from pathlib import Path

from geoseg.errors import ModelError

_BUNDLE = "geoseg reads .safetensors bundles"
_PICKLE = (
    "is a pickle, which can run any code when opened; load it yourself with torch.load(path, weights_only=True), "
    "then geoseg.save_bundle(...) (docs/models.md shows how)"
)
_PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
_MAGIC = (
    (
        b"\x89HDF\r\n\x1a\n",
        f"is an HDF5 file (Keras?); {_BUNDLE}: rebuild the network in torch and call geoseg.save_bundle(...)",
    ),
    (b"GGUF", f"is a GGUF file; {_BUNDLE}"),
    (b"II*\0", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"II+\0", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"MM\0*", f"is a TIFF raster, not a model; {_BUNDLE}"),
    (b"\x89PNG", f"is a PNG picture, not a model; {_BUNDLE}"),
    (b"\xff\xd8\xff", f"is a JPEG picture, not a model; {_BUNDLE}"),
)


def refuse_foreign(path: Path, first: bytes) -> None:
    """Raise ModelError if the first 16 bytes of a file, or its name, show that it is not a `.safetensors` file.

    What the bytes say goes before what the name says: a pickle stays one whatever it is called.
    """
    if not first:
        raise ModelError(f"{path} is empty; {_BUNDLE}")
    for magic, what in _MAGIC:
        if first.startswith(magic):
            raise ModelError(f"{path} {what}")
    if first.startswith(b"PK\x03\x04"):
        raise ModelError(f"{path} {_zip_kind(path)}")
    if first[8:9] == b"{":  # a safetensors header begins so; its length bytes may look like anything
        return
    if _is_pickle(first) or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise ModelError(f"{path} {_PICKLE}")
    if path.suffix.lower() == ".onnx":
        raise ModelError(
            f"{path} is an ONNX file without legend, bands and normalization; give the .safetensors bundle beside it"
        )
    if len(first) < 10:
        raise ModelError(f"{path} is cut short: {len(first)} bytes; copy or download it again")
    raise ModelError(f"{path} is not a .safetensors file; {_BUNDLE}")


def _is_pickle(first: bytes) -> bool:
    """Protocols 2 to 5 begin with PROTO and their number; torch before 1.6 wrote protocol 2."""
    return first[:1] == b"\x80" and first[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return _PICKLE  # a torch checkpoint cut short is still a torch checkpoint
    if any(name.endswith(".pkl") for name in names):
        return _PICKLE
    return f"is a ZIP archive; {_BUNDLE}"
