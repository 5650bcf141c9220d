"""Files and folders of weights: lists their tensors without torch, and reads them with it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle import METADATA_KEY, PICKLES, read_architecture, read_header, readable, refuse_foreign_folder
from geoseg.model.weights.torch_file import (
    DTYPES,
    EXPECTED,
    KEEP_TENSORS,
    MAX_SUBSCRIPTS,
    AnnouncedTensor,
    Place,
    dictionaries,
    items_of,
    nested_values,
    read_torch_file,
    record_places,
    subscripts,
)

if TYPE_CHECKING:
    import torch

_SECOND_COPY = re.compile(r"ema|average|shadow|teacher|swa", re.IGNORECASE)
HEAD = re.compile(r"^(.*?)segmentation_head\.(?:\w+\.)*\w+$")
"""Matches names of a head's tensors, with any prefix."""
_MAX_TEXTS = 400
"""Limit on the texts read with the weights."""
_TEXT_DEPTH = 4
"""How deep nested dicts are searched for texts."""
_SAFETENSORS = "model.safetensors"
_ENCODER_PART = re.compile(
    r"conv1|bn1|layer\d|fc|conv_stem|blocks|bn2|conv_head|stem(?:_\d)?|stages(?:_\d)?|norm\d*|norm_pre|fc_norm|head|"
    r"classifier|pre_logits|patch_embed\d*|cls_token|pos_embed|reg_token|mask_token|layers(?:_\d)?|features|block\d|s\d"
)
"""Parts of encoders, and of the image classifiers that they were pretrained as."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors in a file, by their names in it."""

    path: Path
    """The file itself, also for a folder."""
    place: Place
    """Where the tensors are in the saved object: ("state_dict",), ..."""
    shapes: Mapping[str, tuple[int, ...]]
    words: tuple[str, ...]
    """Texts saved with them, and the file's name, which may name the network."""
    config: tuple[str, Mapping[str, Any]] | None = None
    """Architecture and arguments, for a folder written by smp."""
    copies: tuple[str, ...] = ()
    """Where other weights of a network are, in Python syntax: a running average, a teacher."""


def read_weights_file(path: Path) -> WeightsFile:
    """Return the tensors in a file, or in a folder written by `save_pretrained`.

    ModelError, with advice, if there are no named tensors, or anything that could be executed.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ModelError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; {EXPECTED}")
    if path.suffix.lower() == ".onnx":
        raise ModelError(f"{path} is named like an ONNX file, which needs no import; give it as `model`")
    if _is_safetensors(path):
        header = read_header(path)
        if METADATA_KEY in header.metadata:
            raise ModelError(f"{path} is a geoseg model already; use it as it is")
        shapes = {tensor.name: tensor.shape for tensor in header.tensors}
        return WeightsFile(path, (), shapes, (path.stem, *header.metadata.values()))
    content = read_torch_file(path)
    (place, tensors), *others = _candidates(content, path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    copies = [subscripts(other) for other, names in others if any(HEAD.match(name) for name in names)]
    shown = tuple(copy for copy in copies if len(copy) <= MAX_SUBSCRIPTS)
    return WeightsFile(path, place, shapes, (path.stem, *_texts(content)), copies=shown)


def check_names(names: Collection[str], where: str) -> None:
    """Raise ModelError if the tensor names fit no network that geoseg has."""
    if not any(map(HEAD.match, names)):
        first = one_line(next(iter(names)), 60)
        if _is_encoder(names):
            raise ModelError(
                f"{where} holds only an encoder ({first}, ...), which maps no classes; train a network that starts "
                "from it: geoseg train (in Python geoseg.train) with `encoder` and `encoder_weights`"
            )
        raise ModelError(
            f"{where} is not from a network that geoseg knows: its tensors have other names ({first}, ...; expected "
            "encoder., decoder. and segmentation_head., as in segmentation-models-pytorch); export the network to ONNX "
            "and use that"
        )


def _is_encoder(names: Iterable[str]) -> bool:
    """Return whether tensors are those of an encoder, named as in timm or torchvision, with any prefix."""
    parts = sorted(name.split(".") for name in names)
    shared = 0  # a prefix shared by the first and last of the sorted names is shared by all
    while parts[0][shared] == parts[-1][shared] and shared + 1 < min(map(len, parts)):
        shared += 1
    return all(_ENCODER_PART.fullmatch(name_parts[shared]) for name_parts in parts)


def _read_folder(folder: Path) -> WeightsFile:
    refuse_foreign_folder(folder)
    names = [_SAFETENSORS, *PICKLES]
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if weights is None or not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is a folder without config.json and {_SAFETENSORS} or {PICKLES[0]}, as save_pretrained writes "
            "them; give the weights file itself"
        )
    file = read_weights_file(weights)
    architecture, arguments, _ = read_architecture(folder)
    words = (folder.resolve().name, *file.words)
    return replace(file, words=words, config=(architecture, arguments))


def _is_safetensors(path: Path) -> bool:
    with readable(path), path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _candidates(content: object, path: Path) -> list[tuple[Place, Mapping[str, AnnouncedTensor]]]:
    """Return the dicts of tensors, starting with the network's: the largest that is not a second copy."""
    candidates = list(dictionaries(content))
    if not candidates:
        raise ModelError(f"{path} holds no named tensors, as a state dict does; save one: {KEEP_TENSORS}")
    return sorted(candidates, key=lambda pair: (_SECOND_COPY.search(subscripts(pair[0])) is not None, -len(pair[1])))


def _texts(content: object) -> list[str]:
    """Return the texts in dicts and lists, down to the depth of settings."""
    items = (item for _, value in nested_values(content, _TEXT_DEPTH) for item in items_of(value).values())
    texts = (item for item in items if isinstance(item, str) and len(item) < 100)
    return list(itertools.islice(texts, _MAX_TEXTS))


@contextlib.contextmanager
def opened_tensors(file: WeightsFile, names: Mapping[str, str]) -> Iterator[Mapping[str, torch.Tensor]]:
    """Provide the tensors of a file by a network's names, each read on access. ModelError if that fails."""
    if _is_safetensors(file.path):
        import safetensors  # noqa: PLC0415 - not needed to list a file's tensors

        with safetensors.safe_open(file.path, framework="pt") as source:
            yield _LazyTensors(names, source.get_tensor)
        return
    tensors = read_torch_file(file.path)
    for key in file.place:
        tensors = tensors[key]
    with file.path.open("rb") as source:
        yield _LazyTensors(names, functools.partial(_read_tensor, source, tensors, record_places(file.path)))


def _read_tensor(
    source: BinaryIO, tensors: Mapping[str, AnnouncedTensor], places: Mapping[str, int], name: str
) -> torch.Tensor:
    """Read a tensor from the storages in a file, without unpickling anything."""
    import torch  # noqa: PLC0415 - as above

    tensor = tensors[name]
    dtype: torch.dtype = getattr(torch, _TORCH_NAMES[tensor.dtype])
    if not tensor.size:
        return torch.empty(tensor.shape, dtype=dtype)
    count = 1 + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride, strict=True))
    source.seek(places[tensor.storage] + tensor.offset * dtype.itemsize)
    numbers = bytearray(source.read(count * dtype.itemsize))
    if len(numbers) < count * dtype.itemsize:
        raise ModelError(f"the file with {one_line(name, 60)} is cut short; copy or download it again")
    return torch.frombuffer(numbers, dtype=dtype).as_strided(tensor.shape, tensor.stride)


_TORCH_NAMES = {kind: name for name, kind in DTYPES.items()}


class _LazyTensors(Mapping[str, Any]):
    """Tensors by a network's names, each read on access."""

    def __init__(self, names: Mapping[str, str], read: Callable[[str], Any]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a tensor
        return self._read(self._names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
