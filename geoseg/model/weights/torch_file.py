"""Reads which tensors a file written by `torch.save` contains, without torch; nothing in the file is run.

Formats: https://docs.pytorch.org/docs/stable/notes/serialization.html: a ZIP archive with uncompressed entries,
`data.pkl` with names and shapes, `data/0`, ... with the numbers; before torch 1.6 five pickles in a row, then the
numbers. No pickle can reach a class or function here: every name in it is replaced by a placeholder, or rejected.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle import archive_kind, readable, refuse_by_magic

_MAX_PICKLE_BYTES = 64 * 2**20
"""Limit on names, shapes and settings, which take about 4 MB for 20,000 tensors."""
_MAX_ENTRIES = 100_000
_MAX_AXES = 8
_MAX_COUNT = 2**48
"""Limit on the elements of a storage; numbers of many digits take long to multiply and to show."""
_MAX_NAME = 1000
"""Limit on the characters of a class or function."""
_MAX_STEPS = 3_000_000
"""Limit on the opcodes of a pickle and the arguments of its calls; 20,000 tensors take about a million."""
_LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
"""The first pickle of a file from before torch 1.6."""
_ELEMENT_BYTES: Final[dict[str, int]] = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
}  # fmt: skip
"""Bytes per element, by the start of the storage's name."""
_MAX_DEPTH: Final = 3
"""How deep nested dicts are searched for tensors."""
MAX_SUBSCRIPTS: Final = 200
"""Limit on the characters of the subscripts that lead to a dict, in a message."""
DTYPES: Final = {
    "float64": "Double", "double": "Double", "float32": "Float", "float": "Float", "float16": "Half", "half": "Half",
    "bfloat16": "BFloat16", "int64": "Long", "int32": "Int", "int16": "Short", "int8": "Char", "uint8": "Byte",
    "bool": "Bool",
}  # fmt: skip
"""The start of the storage's name, by torch's names of a data type."""
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


def read_torch_file(path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the saved object, with an `AnnouncedTensor` for each tensor.

    ModelError, with advice, if the file was not written by torch.save, is cut short, contains code, or declares more
    than it holds.
    """
    with readable(path), path.open("rb") as file:
        first = file.read(16)
        if first.startswith(b"PK"):
            return _read_archive(path, file)
        if first[:2] == b"\x80\x02":
            return _read_legacy(path, file)[0]
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


def _read_archive(path: Path, file: BinaryIO) -> Any:  # noqa: ANN401 - as above
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
            return _unpickle(io.BytesIO(archive.read(main)), path, lambda key, size: sizes.get(key, -1) >= size)
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
    """Return, for each storage in a file that `read_torch_file` has checked, the position of its first byte."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return _read_legacy(path, file)[1]
        places = {}
        for entry in zipfile.ZipFile(file).infolist():
            file.seek(entry.header_offset + _LENGTHS_AT)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            header_end = entry.header_offset + _LENGTHS_AT + 4 + name_length + extra_length
            places[f"/{entry.filename}".rpartition("/data/")[2]] = header_end
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


def _read_legacy(path: Path, file: BinaryIO) -> tuple[Any, dict[str, int]]:
    """Read a file from before torch 1.6: magic number, protocol, machine, saved object, names of the storages.

    The numbers of each storage follow, after their count. Also return the position of their first byte by name.
    """
    file.seek(0)
    stream, file_size = io.BytesIO(file.read(_MAX_PICKLE_BYTES)), path.stat().st_size
    storage_sizes: dict[str, int] = {}

    def note_size(key: str, size: int) -> bool:
        storage_sizes[key] = max(size, storage_sizes.get(key, 0))
        return True

    if stream.read(len(_LEGACY_MAGIC)) != _LEGACY_MAGIC:
        raise ModelError(f"{path} is a pickle that torch.save did not write; {EXPECTED}")
    _, _, content, names = (_unpickle(stream, path, note_size) for _ in range(4))
    places, end = {}, stream.tell()
    for name in (name for name in items_of(names).values() if isinstance(name, str)):
        places[name] = end + _COUNT_BYTES
        end = places[name] + storage_sizes.pop(name, 0)
    if storage_sizes or end > file_size:
        raise ModelError(f"{path} is cut short: it declares {end} bytes and has {file_size}; copy or download it again")
    return content, places


_COUNT_BYTES = 8
"""Bytes of the number of elements before each storage."""
_HasBytes = Callable[[str, int], bool]
"""Returns whether the storage with a name has at least this many bytes."""


def _unpickle(stream: io.BytesIO, path: Path, has_bytes: _HasBytes) -> Any:  # noqa: ANN401 - as above
    start = stream.tell()
    try:
        return _Reader(stream, path, has_bytes).load()
    except _Executable as fault:
        stream.seek(start)
        if str(fault).startswith("ultralytics."):
            raise ModelError(
                f"{path} is an Ultralytics (YOLO) network, which geoseg cannot build; export it to ONNX and use that: "
                f"yolo export model={path.name} format=onnx"
            ) from None
        if _OTHER_TENSORS.fullmatch(str(fault)):
            raise ModelError(f"{path} {_other_tensors_text(str(fault))}") from None
        raise ModelError(
            f"{path} holds more than tensors ({fault}), and loading it could run code; if you trust the file, save "
            f"only the tensors: {_line_that_keeps_tensors(stream, path, has_bytes)}"
        ) from None
    except (ModelError, MemoryError):
        raise
    except Exception as fault:  # noqa: BLE001 - for damaged files pickle raises all kinds of errors
        reason = one_line(fault, 60) or "it ends early"
        raise ModelError(f"{path} is cut short or damaged ({reason}); copy or download it again") from None


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


def _line_that_keeps_tensors(stream: io.BytesIO, path: Path, has_bytes: _HasBytes) -> str:
    """Return a line of Python that saves only the tensors of a file; it is found without running anything in it."""
    try:
        content = _Reader(stream, path, has_bytes, every_name=True).load()
    except Exception:  # noqa: BLE001 - as above
        return KEEP_TENSORS
    loaded = f"torch.load({path.name!r}, weights_only=False)"
    state_dicts = [pair for pair in dictionaries(content) if any("." in name for name in pair[1])]
    networks = [
        place for place, value in nested_values(content) if isinstance(value, _Placeholder) and value.is_network
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


_LEFT_OUT = {pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PUT, pickle.GET, pickle.NEWOBJ_EX}
"""Opcodes that torch never writes: objects registered with Python, decimals of any length, calls by name."""


class _Opcodes(dict[int, Callable[["_Reader"], None]]):
    """What each opcode of a pickle does, for a limited number of steps."""

    def __init__(self, loaders: Mapping[int, Callable[[_Reader], None]], path: Path) -> None:
        super().__init__(loaders)
        self._path, self._steps = path, 0

    def spend(self, steps: int) -> None:
        """Count steps; ModelError if they are too many."""
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise ModelError(
                f"{self._path} holds too many settings beside its weights (over {_MAX_STEPS:,} steps); save only the "
                f"tensors: {KEEP_TENSORS}"
            )

    def __getitem__(self, opcode: int) -> Callable[[_Reader], None]:
        self.spend(1)
        return super().__getitem__(opcode)


class _Reader(pickle._Unpickler):  # noqa: SLF001 - nobody can tell the one in C what an opcode does
    """Replaces every name in a pickle by a placeholder; names other than settings are rejected, or skipped too.

    Dicts keep only items whose keys are texts, and sets become lists: the hashes of numbers and tuples can be made
    equal, which takes quadratic time, and tuples nested in tuples take exponential time.
    """

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, text: io.BytesIO, path: Path, has_bytes: _HasBytes, *, every_name: bool = False) -> None:
        super().__init__(text, encoding="latin1")  # which reads any text of Python 2
        self._path, self._has_bytes, self._every_name = path, has_bytes, every_name
        self._placeholder = type("Inert", (_Placeholder,), {})
        self._opcodes = self.dispatch = _Opcodes(self._loaders(), path)  # type: ignore[misc, assignment]

    @staticmethod
    def _loaders() -> dict[int, Callable[[Any], None]]:
        """Return what each opcode does here."""
        loaders: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001 - as above
        changed = {
            pickle.DICT: _Reader._load_dict,
            pickle.SETITEM: _Reader._set_item,
            pickle.SETITEMS: _Reader._set_items,
            pickle.REDUCE: _Reader._load_call,
            pickle.NEWOBJ: _Reader._load_call,
            pickle.EMPTY_SET: loaders[pickle.EMPTY_LIST[0]],
            pickle.ADDITEMS: loaders[pickle.APPENDS[0]],
            pickle.FROZENSET: loaders[pickle.LIST[0]],
            pickle.BYTEARRAY8: loaders[pickle.BINBYTES8[0]],  # which reserves no more bytes than there are
        }
        loaders |= {code[0]: load for code, load in changed.items()}
        return {code: load for code, load in loaders.items() if bytes([code]) not in _LEFT_OUT}

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_with_text_keys(zip(items[::2], items[1::2], strict=True)))

    def _load_call(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._called(self.stack[-1], None, arguments)

    def _called(self, function: Callable[..., Any], _kind: object, arguments: tuple[Any, ...], *_: object) -> Any:  # noqa: ANN401 - as the function
        self._opcodes.spend(len(arguments))  # which may be the same in many calls
        return function(*arguments)

    def _ordered(self, pairs: Sequence[Any] = ()) -> _OrderedDict:
        """Return an OrderedDict of pairs, as Python 2 wrote them."""
        self._opcodes.spend(len(pairs))
        return _OrderedDict(_with_text_keys(pairs))

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or a function
        """Return the placeholder for a name."""
        if len(module) + len(name) > _MAX_NAME:
            raise pickle.UnpicklingError("a name too long")
        full_name = f"{_MODERN_MODULES.get(module, module)}.{name}"
        storage = re.fullmatch(r"(?:torch(?:\.cuda|\.storage)?)\.(\w+)Storage", full_name)
        if storage and (storage[1] in _ELEMENT_BYTES or storage[1] in {"Untyped", "Typed"}):
            return storage[1]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        rebuild = self._rebuild_functions().get(full_name)
        if rebuild is not None:
            return _Function(rebuild)
        if self._every_name or HARMLESS.fullmatch(full_name):
            return self._placeholder
        raise _Executable(one_line(full_name, 60))

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 - whatever a pickle says
        """Return the storage that a pickle refers to, or the class of a module, whose source may come with it."""
        self._opcodes.spend(len(pid))
        match pid:
            case ("storage", str(kind), str() | int() as key, str(), int(count), *rest) if (
                0 <= count < _MAX_COUNT and not any(rest)
            ):
                size = count * _ELEMENT_BYTES.get(kind, 1)
                if not self._has_bytes(str(key), size):
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
            "collections.OrderedDict": self._ordered,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch.nn.parameter.Parameter": _first,
            "torch._tensor._rebuild_from_type_v2": self._called,
        }

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> AnnouncedTensor:
        return self._announced(storage, storage.kind, offset, shape, stride)

    def _typed_tensor(self, storage: _Storage, offset: int, *rest: Any) -> AnnouncedTensor:  # noqa: ANN401 - of a pickle
        shape, stride, _grad, _hooks, dtype, *_ = rest  # in torch's order
        return self._announced(storage, dtype, offset, shape, stride)

    def _announced(
        self, storage: _Storage, kind: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> AnnouncedTensor:
        """Return a tensor; ModelError unless it is inside its storage, without repeated elements."""
        if type(kind) is not str:
            raise pickle.UnpicklingError(f"dtype, a {type(kind).__name__}")
        available = storage.count * _ELEMENT_BYTES.get(storage.kind, 1) // _ELEMENT_BYTES[kind]
        shape = tuple(int(length) for length in shape)
        numbers = (offset, *shape, *stride)
        is_invalid = len(shape) > _MAX_AXES or any(type(each) is not int or not 0 <= each < 2**63 for each in numbers)
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

    def append(self, _: object) -> None:
        """Ignore an element of a list."""

    def extend(self, _: object) -> None:
        """Ignore elements of a list."""


def _first(value: object, *_: object) -> object:
    return value


class _OrderedDict(dict[str, Any]):
    """An OrderedDict; what else it holds, such as the versions of a network's modules, is left out."""

    __slots__ = ()

    def __setstate__(self, _: object) -> None:
        pass


def _with_text_keys(items: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if isinstance(key, str)}


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
    for place, value in nested_values(content):
        if isinstance(value, Mapping):
            items = ((key, item) for key, item in value.items() if isinstance(key, str))
            tensors = {key: item for key, item in items if isinstance(item, AnnouncedTensor)}
            if tensors:
                yield place, tensors


def nested_values(content: object, depth: int = _MAX_DEPTH) -> Iterator[tuple[Place, object]]:
    """Yield the saved object, and the dicts, lists and objects nested in its dicts and lists, each once."""
    seen: set[int] = set()
    level: list[tuple[Place, object]] = [((), content)]
    for _ in range(depth + 1):
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
