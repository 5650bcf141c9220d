"""The description of an ONNX file, read and limited by geoseg's own code before any library sees the file.

The format is protobuf (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): fields with a number and a value. The
bytes of weights are skipped, so that a file of any size is described quickly.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle import file_hash, readable, refuse_known

if TYPE_CHECKING:
    import onnx

MAX_BYTES = 2**31 - 1
"""The largest protobuf message."""
SUFFIX = ".onnx"
_MAX_ENTRY_BYTES = 2**16
"""Limit on one metadata entry; longer ones are neither geoseg's nor Deepness's."""
_MAX_FIELDS = 300_000
"""Limit on the fields of one message; a graph with 20,000 tensors has about 100,000."""
_KEPT_TENSOR_BYTES = 2**12
"""Tensors up to this size are kept: they may be shapes from which others are computed."""
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
"""Domains of operators in ONNX Runtime; the last occurs in files that it optimized for a type of processor."""
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_EXTERNAL = 1
"""TensorProto.DataLocation of a tensor whose bytes are in another file."""
_INT64 = 7
"""TensorProto.DataType."""


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The description of an ONNX file."""

    path: Path
    model: onnx.ModelProto
    """The model without the bytes of its weights."""
    data_files: tuple[Path, ...]
    """Files next to it that hold weights."""

    @property
    def metadata(self) -> dict[str, str]:
        """Texts by name, from `metadata_props`."""
        return {entry.key: entry.value for entry in self.model.metadata_props if len(entry.value) <= _MAX_ENTRY_BYTES}

    @property
    def parameters(self) -> int:
        """Number of elements in all floating-point initializers, without the statistics of batch normalization."""
        from onnx import TensorProto  # noqa: PLC0415 - takes 0.2 s, needed only for ONNX files

        floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
        graph = self.model.graph
        norms = (node for node in graph.node if node.op_type == "BatchNormalization")
        statistics = {name for norm in norms for name in norm.input[3:5]}
        tensors = (tensor for tensor in graph.initializer if tensor.name not in statistics)
        return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floats)

    @property
    def weights_bytes(self) -> int:
        """Size of the file, including the files next to it that hold weights."""
        return sum(path.stat().st_size for path in (self.path, *self.data_files))


def is_onnx(path: Path) -> bool:
    """Return whether a path has the suffix of an ONNX file."""
    return path.suffix.lower() == SUFFIX


def files_digest(path: Path, data_files: tuple[Path, ...]) -> str:
    """Return the sha256 of an ONNX file and the files next to it that hold its weights, hexadecimal."""
    if not data_files:
        return file_hash(path)
    hashes = [file_hash(file) for file in (path, *data_files)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def read_onnx_file(path: Path) -> OnnxFile:
    """Return the description of an ONNX file.

    ModelError if it cannot be read, is not ONNX, is cut short, has weights outside its folder, was exported in training
    mode, or has operators that ONNX Runtime does not include or that draw random numbers.
    """
    import onnx  # noqa: PLC0415 - as above

    try:
        model = onnx.ModelProto.FromString(_message_without_weights(path))
    except ModelError:
        raise
    except Exception as fault:  # noqa: BLE001 - protobuf's error types are not importable here
        raise ModelError(
            f"{path} is not an ONNX file, or is cut short: {one_line(fault, 80)}; copy or download it again"
        ) from None
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path} holds no network: it has no operators or no outputs; export the network again")
    _check_operators(path, model)
    return OnnxFile(path, model, _data_files(path, model))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata; ValueError if the file is not ONNX or has weights in other files, OSError if unreadable."""
    message = path.read_bytes()
    if _LOCATION in message:
        raise ValueError(f"{path} keeps weights in other files")
    metadata = {}
    for number, _, value in _fields(message):
        if number == _METADATA_PROPS and len(value) <= _MAX_ENTRY_BYTES:
            entry = {key: bytes(text) for key, _, text in _fields(value)}
            metadata[entry.get(_KEY, b"").decode("utf-8")] = entry.get(_VALUE, b"").decode("utf-8")
    return metadata


def with_metadata(file: OnnxFile, metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of an ONNX file with these metadata, keeping others, and with its weights inside.

    ModelError if they exceed what one file can hold.
    """
    if file.weights_bytes > MAX_BYTES:
        raise ModelError(f"{file.path} with its weights is over 2 GB, the limit of one ONNX file")
    message = memoryview(_whole_message(file))
    kept = [bytes(field) for number, field, value in _fields(message) if not _is_replaced(number, value, metadata)]
    added = (
        _encoded(_METADATA_PROPS, _encoded(_KEY, key.encode()) + _encoded(_VALUE, text.encode()))
        for key, text in metadata.items()
    )
    return b"".join([*kept, *added])


def with_output(message: bytes, name: str) -> bytes:
    """Return an ONNX file that also outputs a value of its graph; unchanged if it outputs that value anyway."""
    graphs = (graph for number, _, graph in _fields(message) if number == _GRAPH)
    outputs = (output for graph in graphs for number, _, output in _fields(graph) if number == _OUTPUT)
    if any(number == _KEY and value == name.encode() for output in outputs for number, _, value in _fields(output)):
        return message
    # protobuf merges messages that occur twice
    return message + _encoded(_GRAPH, _encoded(_OUTPUT, _encoded(_KEY, name.encode())))


def _whole_message(file: OnnxFile) -> bytes:
    import onnx  # noqa: PLC0415 - as above

    with readable(file.path):
        if not file.data_files:
            return file.path.read_bytes()
        return bytes(onnx.load(file.path).SerializeToString())


def _is_replaced(number: int, value: memoryview, metadata: Mapping[str, str]) -> bool:
    """Return whether a field is an entry of the old metadata under a key of the new."""
    if number != _METADATA_PROPS or len(value) > _MAX_ENTRY_BYTES:
        return False
    entry = {key: bytes(text) for key, _, text in _fields(value)}
    return entry.get(_KEY, b"").decode("utf-8", "replace") in metadata


def _message_without_weights(path: Path) -> bytes:
    """Return the file's message without the bytes of large tensors; ValueError if it is not a valid message."""
    with readable(path), path.open("rb") as file:
        refuse_known(path, file.read(16))
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is over 2 GB, the limit of an ONNX file; save its weights in files next to it")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                return _slim_message(memoryview(view))
            except ValueError as fault:
                reason = str(fault)
            raise ValueError(reason)  # a new error, because the first references views that prevent closing the map


_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_LOCATION = b"location"
"""The key for a tensor's data in another file. It must occur literally in any file that uses one."""
_GRAPH, _INITIALIZER, _OUTPUT = 7, 5, 12
_TENSOR_DATA = {4, 5, 6, 7, 9, 10, 11}
"""float_data, int32_data, string_data, int64_data, raw_data, double_data, uint64_data."""


def _slim_message(message: memoryview) -> bytes:
    with message:
        parts = [
            _encoded(number, b"".join(_slim_graph(value))) if number == _GRAPH else bytes(field)
            for number, field, value in _fields(message)
        ]
    return b"".join(parts)


def _slim_graph(graph: memoryview) -> Iterator[bytes]:
    for number, field, value in _fields(graph):
        if number == _INITIALIZER and len(value) > _KEPT_TENSOR_BYTES:
            kept = (bytes(part) for part_number, part, _ in _fields(value) if part_number not in _TENSOR_DATA)
            yield _encoded(number, b"".join(kept))
        else:
            yield bytes(field)


def _encoded(number: int, value: bytes) -> bytes:
    """Return a field with a number and bytes."""
    length, rest = bytearray(), len(value)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes([number << 3 | _BYTES]) + bytes(length) + value


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield the number, all bytes, and the bytes of the value (empty if it is a number) of each field."""
    view, at, count = memoryview(message), 0, 0
    while at < len(view):
        start, count = at, count + 1
        tag, at = _varint(view, at)
        wire_type, value = tag & 7, view[:0]
        if wire_type == _VARINT:
            _, at = _varint(view, at)
        elif wire_type == _BYTES:
            length, at = _varint(view, at)
            value = view[at : at + length]
            at += length
        elif wire_type in {_FIXED64, _FIXED32}:
            at += 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"not a protobuf message: wire type {wire_type}")
        if at > len(view) or count > _MAX_FIELDS:
            raise ValueError("the message is cut short" if at > len(view) else f"more than {_MAX_FIELDS} fields")
        yield tag >> 3, view[start:at], value


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


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, including those in loops, branches and the file's own functions."""
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of the file, whether stored in it or elsewhere."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in nodes_of(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors, attribute.sparse_tensor.values)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    own_functions = {(function.domain, function.name) for function in model.functions}
    constants, of_weights = _constants(model), _values_of_weights(model)
    for node in nodes_of(model):
        if node.domain not in _KNOWN_DOMAINS and (node.domain, node.op_type) not in own_functions:
            name = one_line(f"{node.domain}.{node.op_type}", 80)
            raise ModelError(
                f"{path} needs the operator {name}, which ONNX Runtime does not have; export the network with standard "
                "operators only"
            )
        if node.op_type in _RANDOM:
            raise ModelError(
                f"{path} draws random numbers ({node.op_type}), so no two maps would be equal; export the network for "
                "inference (network.eval())"
            )
        if _is_training(node, constants, of_weights):
            raise ModelError(
                f"{path} was exported in training mode ({node.op_type}), in which a network draws random numbers or "
                "its classes depend on the other windows of a batch; call network.eval() before the export"
            )


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constants of a graph by name, without data if they are large."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output:
            tensors.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    return tensors


def constant_integers(model: onnx.ModelProto, name: str) -> list[int]:
    """Return the int64 numbers of a constant of a graph; empty if there is no such constant."""
    tensor = _constants(model).get(name)
    if tensor is None or tensor.data_type != _INT64:
        return []
    raw, places = tensor.raw_data, range(0, len(tensor.raw_data), 8)
    return [*tensor.int64_data, *(int.from_bytes(raw[at : at + 8], "little", signed=True) for at in places)]


def _values_of_weights(model: onnx.ModelProto) -> set[str]:
    """Return the names of the values in a graph that depend on weights alone, not on the image."""
    names = {"", *(tensor.name for tensor in model.graph.initializer)}
    for node in model.graph.node:
        if names.issuperset(node.input) and not any(attribute.HasField("g") for attribute in node.attribute):
            names.update(node.output)
    return names


def _is_training(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], of_weights: set[str]) -> bool:
    """Return whether a layer behaves as in training: it normalizes images by the batch, or drops values."""
    if node.op_type == "BatchNormalization":  # NFNets normalize their weights with it
        return not of_weights.issuperset(node.input[:1]) and any(
            attribute.name == "training_mode" and attribute.i for attribute in node.attribute
        )
    if node.op_type != "Dropout" or len(node.input) < 3 or node.input[2] not in constants:
        return False
    mode = constants[node.input[2]]
    return any(mode.raw_data) or any(mode.int32_data)


def _data_files(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """Return the files that hold weights; ModelError unless they are next to the file and as long as it declares."""
    files: dict[str, Path] = {}
    for tensor in _tensors(model):
        if tensor.data_location != _EXTERNAL and not tensor.external_data:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in files:
            files[name] = _data_file(path, name)
        end = _byte_count(entries.get("offset", "0")) + _byte_count(entries.get("length", "0"))
        if end > files[name].stat().st_size:
            raise ModelError(
                f"{files[name]} is cut short: {path.name} expects weights up to byte {end}; copy both again"
            )
    return tuple(files.values())


def _data_file(path: Path, name: str) -> Path:
    """Return the path of a weights file named in an ONNX file; ModelError unless it is next to that file."""
    folder = path.resolve().parent
    if not name or name in {".", ".."} or set(name) & set("/\\:\0"):
        raise ModelError(
            f"{path} keeps weights in {one_line(repr(name), 80)}, outside its folder, where geoseg reads nothing; save "
            "it with the weights inside: onnx.save(model, path, save_as_external_data=False)"
        )
    file = folder / name
    if file.resolve().parent != folder:
        raise ModelError(
            f"{file} is a link to another folder, where geoseg reads nothing; replace it by the file itself"
        )
    if not file.is_file():
        raise ModelError(f"{path} keeps weights in {one_line(name, 80)}, which is not next to it; copy both")
    return file


def _byte_count(text: str) -> int:
    """Return the number in a text; for anything else, more bytes than any file has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else MAX_BYTES**2
