"""Reads which tensors a file written by `torch.save` contains, without torch; nothing in the file is run.

Formats: https://docs.pytorch.org/docs/stable/notes/serialization.html: a ZIP archive with uncompressed entries,
`data.pkl` with names and shapes, `data/0`, ... with the numbers; before torch 1.6 five pickles in a row, then the
numbers. No pickle can reach a class or function here: every name in it is replaced by a placeholder, or rejected.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle import archive_kind, refuse_by_magic

_MAX_PICKLE_BYTES = 64 * 2**20
"""Limit on names, shapes and settings, which take about 4 MB for 20,000 tensors."""
_MAX_ENTRIES = 100_000
_MAX_AXES = 8
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ELEMENT_BYTES: Final[dict[str, int]] = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
}  # fmt: skip
"""Bytes per element, by the start of the storage's name."""
_MAX_DEPTH: Final = 3
"""How deep nested dicts are searched for tensors."""
MAX_SUBSCRIPTS: Final = 200
"""Limit on the characters of the subscripts that lead to a dict, in a message."""
_DTYPES: Final = {
    "float64": "Double", "double": "Double", "float32": "Float", "float": "Float", "float16": "Half", "half": "Half",
    "bfloat16": "BFloat16", "int64": "Long", "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte",
    "bool": "Bool",
}  # fmt: skip
HARMLESS: Final = re.compile(
    r"numpy\.(?:_?core\.(?:multiarray\.(?:scalar|_reconstruct)|numerictypes\..*)|dtype|dtypes\..*|ndarray|[a-z]+\d*_?)"
    r"|(?:argparse|types)\.\w*Namespace|pathlib\.(?:_local\.)?\w*Path|datetime\.\w+"
    r"|collections\.(?:defaultdict|deque|Counter)"
    r"|builtins\.(?:int|float|str|bool|list|dict|tuple|set|frozenset|complex|slice|x?range|object|bytearray)|uuid\.UUID"
    r"|copyreg\._reconstructor|_codecs\.encode|torch\.(?:Size|device|Generator|optim\..*|nn\.modules\.loss\..*)"
    r"|functools\.partial|typing\.\w+|segmentation_models_pytorch\.losses\..*|torchvision\.(?:models|transforms)\..*"
    r"|(?:omegaconf|lightning|lightning_fabric|lightning_utilities|pytorch_lightning|torchmetrics|albumentations"
    r"|jsonargparse|terratorch|torchgeo|ftw_tools|ftw|flair|flair_hub|flair_inc)\..*"
)
"""Objects that training programs save with the weights: settings and metrics. They are skipped, never imported."""


class _Sealed:
    """Refuses the opcode BUILD, with which a pickle could change an object after it was checked."""

    __slots__ = ()

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError(f"BUILD of {type(self).__name__}")


@dataclass(frozen=True, slots=True)
class AnnouncedTensor(_Sealed):
    """A tensor as declared in a file, before its numbers are read."""

    shape: tuple[int, ...]
    dtype: str = "Float"
    """The name used by `torch.save`: Float, Half, Long, ..."""
    storage: str = ""
    """The name of its storage."""
    offset: int = 0
    """Where it starts in the storage, in elements."""
    stride: tuple[int, ...] = ()
    """Distance between elements along each axis, in elements."""
    __setstate__ = _Sealed.__setstate__  # else dataclass adds one

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_torch_file(path: Path) -> tuple[Any, frozenset[str]]:
    """Return the saved object, with an `AnnouncedTensor` for each tensor, and the names of classes that were skipped.

    ModelError, with advice, if the file was not written by torch.save, is cut short, contains code, or declares more
    than it holds.
    """
    try:
        with path.open("rb") as file:
            first = file.read(16)
            if first.startswith(b"PK"):
                return _read_archive(path, file)
            if first[:2] == b"\x80\x02":
                return _read_legacy(path, file)
    except OSError as fault:
        raise ModelError(f"{path} cannot be read: {fault.strerror or fault}") from None
    refuse_by_magic(path, first)
    if first[:1] == b"\x80":
        raise ModelError(
            f"{path} is a pickle that torch.save did not write; {EXPECTED}; a model of another library is a function: "
            "ModelBundle.from_callable"
        )
    raise ModelError(f"{path} holds no weights{'' if first else ', it is empty'}; {EXPECTED}")


Place = tuple[str | int, ...]
"""Dict keys and list indexes that lead from the saved object to a dict of tensors."""
EXPECTED = "expected a .pth, .pt, .ckpt or .bin from torch.save, a .safetensors file, or a folder from save_pretrained"
KEEP_TENSORS = "torch.save(network.state_dict(), 'weights.pth')"


def _read_archive(path: Path, file: BinaryIO) -> tuple[Any, frozenset[str]]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            kind = archive_kind(path, [entry.filename for entry in entries])
            if kind is not None:
                raise ModelError(f"{path} {kind}")
            _refuse_bomb(path, entries, path.stat().st_size)
            main = _main_pickle(path, entries)
            folder = main.filename.removesuffix("data.pkl")
            byte_order = next((archive.read(entry) for entry in entries if entry.filename == f"{folder}byteorder"), b"")
            if byte_order.strip() not in {b"", b"little"}:
                raise ModelError(f"{path} holds big-endian numbers; save it again on a little-endian machine")
            sizes = {entry.filename.removeprefix(f"{folder}data/"): entry.file_size for entry in entries}
            return _unpickle(archive.read(main), path, lambda key, size: sizes.get(key, -1) >= size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as fault:
        raise ModelError(f"{path} is cut short or damaged ({one_line(fault, 60)}); copy or download it again") from None


def _refuse_bomb(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise ModelError if entries would expand beyond the file: torch.save stores them uncompressed, in sequence."""
    if len(entries) > _MAX_ENTRIES:
        raise ModelError(f"{path} has {len(entries)} entries, at most {_MAX_ENTRIES} allowed")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = one_line(repr(entry.filename), 60)
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ModelError(
                f"{path} was packed by something other than torch.save: {name} would unpack from {entry.compress_size} "
                f"to {entry.file_size} bytes; save it again with torch.save"
            )
        if entry.header_offset < end:
            raise ModelError(f"{path} is damaged: its entry {name} overlaps another; copy or download it again")
        end = entry.header_offset + entry.file_size
    if end > size or len({entry.filename for entry in entries}) < len(entries):
        raise ModelError(
            f"{path} is cut short or damaged: it declares {end} bytes and has {size}; copy or download it again"
        )


def record_places(path: Path) -> dict[str, int]:
    """Return, for each storage in an archive of `torch.save`, the position of its first byte in the file.

    Entries are uncompressed, which `read_torch_file` has checked.
    """
    places = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            file.seek(entry.header_offset + _LENGTHS_AT)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            header_end = entry.header_offset + _LENGTHS_AT + 4 + name_length + extra_length
            places[entry.filename.rpartition("/data/")[2]] = header_end
    return places


_LENGTHS_AT = 26
"""Position of the lengths of the name and the extra field in an entry's local header."""


def _main_pickle(path: Path, entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the archive entry with names and shapes."""
    pickles = [entry for entry in entries if re.fullmatch(r"(?:[^/]+/)?data\.pkl", entry.filename)]
    if len(pickles) != 1:
        raise ModelError(f"{path} is a ZIP archive that torch.save did not write; unpack it; {EXPECTED}")
    if pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise ModelError(
            f"{path} has {pickles[0].file_size} bytes of names and settings, at most {_MAX_PICKLE_BYTES} allowed; save "
            f"only the tensors: {KEEP_TENSORS}"
        )
    return pickles[0]


def _read_legacy(path: Path, file: BinaryIO) -> tuple[Any, frozenset[str]]:
    """Read a file from before torch 1.6: magic number, protocol, machine, saved object, keys of the storages."""
    file.seek(0)
    text, file_size = file.read(_MAX_PICKLE_BYTES), path.stat().st_size
    storage_sizes: dict[str, int] = {}

    def note_size(key: str, size: int) -> bool:
        storage_sizes[key] = max(size, storage_sizes.get(key, 0))
        return True

    try:
        ends = [0]
        for _ in range(5):
            ends.append(_end_of_pickle(text, ends[-1]))
            if len(ends) == 2 and pickle.loads(text[: ends[1]]) != _LEGACY_MAGIC:  # noqa: S301 - see _end_of_pickle
                raise ModelError(f"{path} is a pickle that torch.save did not write; {EXPECTED}")
    except (ValueError, IndexError, EOFError, pickle.UnpicklingError) as fault:
        raise ModelError(
            f"{path} is cut short or damaged, or torch.save did not write it ({one_line(fault, 60)}); {EXPECTED}"
        ) from None
    content = _unpickle(text[ends[3] : ends[4]], path, note_size)
    expected_size = sum(storage_sizes.values()) + 8 * len(storage_sizes)  # each is preceded by its length
    if expected_size > file_size - ends[5]:
        raise ModelError(
            f"{path} is cut short: it declares {expected_size} bytes of weights and has {file_size - ends[5]}; copy "
            "or download it again"
        )
    return content


def _end_of_pickle(text: bytes, start: int) -> int:
    """Return where the pickle that starts at `start` ends; the first one in a file may contain only a number."""
    end = start
    for opcode, argument, offset in pickletools.genops(text[start:] if start else text):
        if start == 0 and opcode.name not in {"PROTO", "LONG1", "STOP"}:
            raise ValueError(f"{opcode.name} {one_line(argument, 40)}")
        end = start + (offset or 0)
    return end + 1


_HasBytes = Callable[[str, int], bool]
"""Returns whether the storage with a name has at least this many bytes."""


def _unpickle(text: bytes, path: Path, has_bytes: _HasBytes) -> tuple[Any, frozenset[str]]:
    try:
        _check_opcodes(text)
        reader = _Reader(io.BytesIO(text), path, has_bytes)
        return reader.load(), frozenset(reader.skipped)
    except _Executable as fault:
        if str(fault).startswith("ultralytics."):
            raise ModelError(
                f"{path} is an Ultralytics (YOLO) network, which geoseg cannot build; export it to ONNX and use that: "
                f"yolo export model={path.name} format=onnx"
            ) from None
        if _OTHER_TENSORS.fullmatch(str(fault)):
            raise ModelError(f"{path} {_other_tensors_text(str(fault))}") from None
        raise ModelError(
            f"{path} holds more than tensors ({fault}), and loading it could run code; if you trust the file, save "
            f"only the tensors: {_line_that_keeps_tensors(text, path, has_bytes)}"
        ) from None
    except (ModelError, MemoryError):
        raise
    except Exception as fault:  # noqa: BLE001 - for damaged files pickle raises all kinds of errors
        raise ModelError(f"{path} is cut short or damaged ({one_line(fault, 60)}); copy or download it again") from None


def _other_tensors_text(name: str) -> str:
    """Return what is wrong with tensors that a pickle makes with this function or type, and the way out."""
    if "_meta_" in name:
        return (
            f"holds no weights, only the shapes of tensors ({name}); save the network after its weights have been "
            "loaded"
        )
    if "complex" in name.lower():
        return f"holds complex numbers ({name}); geoseg runs only networks of real ones"
    if re.search(r"_qtensor|\.[Qq]", name):
        return f"holds quantized numbers ({name}); save the network before it is quantized: {KEEP_TENSORS}"
    return (
        f"holds tensors in a form that geoseg does not read ({name}); save plain ones: torch.save({{name: "
        "tensor.to_dense().float() for name, tensor in network.state_dict().items()}, 'weights.pth')"
    )


def _line_that_keeps_tensors(text: bytes, path: Path, has_bytes: _HasBytes) -> str:
    """Return a line of Python that saves only the tensors of a file; it is found without running anything in it."""
    try:
        content = _Reader(io.BytesIO(text), path, has_bytes, every_name=True).load()
    except Exception:  # noqa: BLE001 - as above
        return KEEP_TENSORS
    loaded = f"torch.load({path.name!r}, weights_only=False)"
    state_dicts = [pair for pair in dictionaries(content) if any("." in name for name in pair[1])]
    networks = [
        place for place, value in _nested_values(content) if isinstance(value, _Placeholder) and value.is_network
    ]
    if state_dicts:
        suffix = subscripts(max(state_dicts, key=lambda pair: len(pair[1]))[0])
    elif networks:
        suffix = f"{subscripts(networks[0])}.state_dict()"
    else:
        return KEEP_TENSORS
    return f"torch.save({loaded}{suffix}, 'weights.pth')" if len(suffix) <= MAX_SUBSCRIPTS else KEEP_TENSORS


_OTHER_TENSORS = re.compile(r"torch\._utils\._rebuild_\w+|torch\.(?:cuda\.|storage\.)?\w+Storage|torch\.[a-z]+\d+\w*")
"""Matches names in pickles of tensors that are not plain numbers."""
_MODERN_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Module names from Python 2, which protocol 2 still uses."""
_FORBIDDEN_OPCODES = frozenset({"EXT1", "EXT2", "EXT4", "PERSID", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"})


_MAX_TUPLES = 10_000
"""Limit on the tuples nested in one; its hash visits each, as often as it occurs, recursively."""


def _check_opcodes(text: bytes) -> None:
    """Raise ValueError if a pickle would need more memory than its size, or has opcodes that torch never writes."""
    tuples = _NestedTuples()
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(text), start=1):
        tuples.follow(opcode, argument)
        if opcode.name in _FORBIDDEN_OPCODES:
            raise ValueError(opcode.name)
        if opcode.name in {"BINPUT", "LONG_BINPUT", "PUT"} and int(argument or 0) > steps:
            raise ValueError(f"{opcode.name} {argument}")


class _NestedTuples:
    """The number of tuples in each value on a pickle's stack, and in its memo; None is a mark."""

    def __init__(self) -> None:
        self._stack: list[int | None] = []
        self._memo: dict[int, int | None] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Take an opcode. ValueError if it nests too many tuples."""
        stack, name, before = self._stack, opcode.name, opcode.stack_before
        if name == "MEMOIZE" or name.endswith("PUT"):
            self._memo[len(self._memo) if name == "MEMOIZE" else int(str(argument))] = stack[-1]
            return
        if name == "DUP" or name.endswith("GET"):
            stack.append(stack[-1] if name == "DUP" else self._memo[int(str(argument))])
            return
        count, single = 0, len(before)
        if pickletools.markobject in before:
            single = before.index(pickletools.markobject)
            while (inside := stack.pop()) is not None:
                count += inside
        for _ in range(single):
            count += stack.pop() or 0
        if name == "MARK":
            stack.append(None)
        elif opcode.stack_after:
            kept = count if name in {"REDUCE", "BINPERSID"} else 0
            stack.append(count + 1 if "TUPLE" in name else kept)
        if count > _MAX_TUPLES:
            raise ValueError(f"{name} of {count} nested tuples")


@dataclass(frozen=True, slots=True)
class _Storage(_Sealed):
    """A storage as declared in a pickle."""

    kind: str
    count: int
    key: str
    __setstate__ = _Sealed.__setstate__  # else dataclass adds one


class _Function(_Sealed):
    """A function that a pickle may call."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:  # noqa: ANN401 - as the function
        return self._function(*arguments)


class _Executable(Exception):  # noqa: N818 - its text is the name of something that could run
    """A pickle contains a name that is neither a tensor nor a setting."""


class _Reader(pickle.Unpickler):
    """Replaces every name in a pickle by a placeholder; names other than settings are rejected, or skipped too."""

    def __init__(self, text: io.BytesIO, path: Path, has_bytes: _HasBytes, *, every_name: bool = False) -> None:
        super().__init__(text)
        self.skipped: set[str] = set()
        self._path, self._has_bytes, self._every_name = path, has_bytes, every_name
        self._placeholder = type("Inert", (_Placeholder,), {})

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or a function
        """Return the placeholder for a name."""
        full_name = f"{_MODERN_MODULES.get(module, module)}.{name}"
        if full_name == "collections.OrderedDict":
            return OrderedDict
        storage = re.fullmatch(r"(?:torch(?:\.cuda|\.storage)?)\.(\w+)Storage", full_name)
        if storage and (storage[1] in _ELEMENT_BYTES or storage[1] in {"Untyped", "Typed"}):
            return storage[1]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        rebuild = self._rebuild_functions().get(full_name)
        if rebuild is not None:
            return _Function(rebuild)
        if self._every_name or HARMLESS.fullmatch(full_name):
            self.skipped.add(full_name)
            return self._placeholder
        raise _Executable(one_line(full_name, 60))

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 - whatever a pickle says
        """Return the storage that a pickle refers to, or the class of a module, whose source may come with it."""
        match pid:
            case ("storage", str(kind), str() | int() as key, str(), int(count), *_):
                size = count * _ELEMENT_BYTES.get(kind, 1)
                if count < 0 or not self._has_bytes(str(key), size):
                    raise ModelError(
                        f"{self._path} declares {size} bytes of weights in {one_line(key, 20)} but has fewer; "
                        "copy or download it again"
                    )
                return _Storage(kind, count, str(key))
            case ("module", kind, *_):
                return kind
        raise pickle.UnpicklingError(f"persistent id, a {type(pid).__name__}")

    def _rebuild_functions(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch.nn.parameter.Parameter": _first,
            "torch._tensor._rebuild_from_type_v2": _call,
        }

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> AnnouncedTensor:
        return self._announced(storage, storage.kind, offset, shape, stride)

    def _typed_tensor(  # arguments in torch's order
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        _grad: object,
        _hooks: object,
        dtype: str,
        *_: object,
    ) -> AnnouncedTensor:
        return self._announced(storage, dtype, offset, shape, stride)

    def _announced(
        self, storage: _Storage, kind: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> AnnouncedTensor:
        """Return a tensor; ModelError unless it is inside its storage, without repeated elements."""
        if type(kind) is not str:
            raise pickle.UnpicklingError(f"dtype, a {type(kind).__name__}")
        available = storage.count * _ELEMENT_BYTES.get(storage.kind, 1) // _ELEMENT_BYTES[kind]
        shape = tuple(int(length) for length in shape)
        is_invalid = len(shape) > _MAX_AXES or any(not 0 <= number < 2**63 for number in (offset, *shape, *stride))
        size = 0 if is_invalid else math.prod(shape)
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True) if length)
        if is_invalid or (size and last >= available) or size > available:
            raise ModelError(
                f"{self._path} is damaged: it declares a tensor {list(shape)!r:.60} in {available} numbers; copy or "
                "download it again"
            )
        return AnnouncedTensor(shape, kind, storage.key, offset, tuple(stride))


class _Placeholder:
    """A placeholder for an object saved with the weights: accepts everything and does nothing."""

    is_network = False
    """Whether it is a torch module."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.is_network = isinstance(state, Mapping) and "_modules" in state

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        """Ignore an element of a list."""

    def extend(self, _: object) -> None:
        """Ignore elements of a list."""

    def __hash__(self) -> int:
        return id(self)


def _first(value: object, *_: object) -> object:
    return value


def _call(function: Callable[..., Any], _kind: object, arguments: tuple[Any, ...], _state: object) -> Any:  # noqa: ANN401 - as above
    return function(*arguments)


def items_of(value: object) -> Mapping[Any, Any]:
    """Return the items of a dict, list or tuple by key or index; empty for anything else."""
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return value if isinstance(value, Mapping) else {}


def subscripts(place: Place) -> str:
    """Return a place in Python syntax: ['model']['state_dict']."""
    return "".join(f"[{key!r}]" for key in place)


def dictionaries(content: object) -> Iterator[tuple[Place, Mapping[str, AnnouncedTensor]]]:
    """Yield every dict that holds tensors, including nested ones, with the keys that lead to it."""
    for place, value in _nested_values(content):
        if isinstance(value, Mapping):
            items = ((key, item) for key, item in value.items() if isinstance(key, str))
            tensors = {key: item for key, item in items if isinstance(item, AnnouncedTensor)}
            if tensors:
                yield place, tensors


def _nested_values(content: object) -> Iterator[tuple[Place, object]]:
    """Yield the saved object, and the dicts, lists and objects nested in its dicts and lists, each once."""
    seen: set[int] = set()
    level: list[tuple[Place, object]] = [((), content)]
    for _ in range(_MAX_DEPTH + 1):
        level = [*{id(pair[1]): pair for pair in reversed(level) if id(pair[1]) not in seen}.values()][::-1]
        seen.update(id(value) for _, value in level)
        yield from level
        level = [
            ((*place, key), item)
            for place, value in level
            for key, item in items_of(value).items()
            if isinstance(item, Mapping | list | tuple | _Placeholder)
            and (isinstance(key, str) or isinstance(value, list | tuple))
        ]
