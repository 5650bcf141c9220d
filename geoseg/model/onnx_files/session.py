"""ONNX Runtime's sessions of files that others made: opened from their bytes, so that nothing else is ever read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from geoseg.errors import ModelError
from geoseg.model.bundle import one_line
from geoseg.model.onnx_files.onnx_file import files_digest

CUDA = "CUDAExecutionProvider"
_CPU = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
"""The arena grows by what is asked for, so the memory stays flat and small."""
_FATAL = 4


class SessionFault(Exception):  # noqa: N818 - who opens one says which model it is
    """What ONNX Runtime says, on one line."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options of sessions that share the processor with readers and writers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # with the arena a window cost 135 ms of CPU time, without it 160 to 400: every tensor's pages were taken again
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    # spinning threads burn the cores that read and encode other tiles: 230 against 155 ms of CPU time a window
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(  # noqa: PLR0913 (an engine's sides)
    path: Path,
    data_files: tuple[Path, ...] = (),
    *,
    threads: int,
    optimized: bool = True,
    cuda: int | None = None,
    digest: str | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session of an ONNX file; SessionFault if ONNX Runtime cannot.

    A file in memory has no folder from which it could fetch others: those with weights are handed over as bytes. With
    `digest` the files must still be those it is of, else ModelError.
    """
    options = session_options(threads)
    options.log_severity_level = _FATAL  # whatever fails is raised, and said by us
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if digest is not None and files_digest(path, data_files) != digest:
        raise ModelError(f"{path} has changed since it was opened; start again")
    try:
        if data_files:
            held = [file.read_bytes() for file in data_files]
            options.add_external_initializers_from_files_in_memory(
                [file.name for file in data_files], held, [len(each) for each in held]
            )
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers(cuda))
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 (its errors have no common parent of their own)
        raise SessionFault(one_line(fault)) from None


def providers(cuda: int | None = None) -> list[Any]:
    """Return what runs a session: the CPU, or a GPU with the CPU for what it cannot."""
    return [_CPU] if cuda is None else [(CUDA, {"device_id": cuda}), _CPU]


def cuda_fault(number: int) -> str | None:
    """Return why ONNX Runtime cannot use a GPU, None if it can: it is tried, for libraries of CUDA may be missing."""
    from onnx import TensorProto, ValueInfoProto, helper  # noqa: PLC0415 - 0.2 s, and only where there is a GPU

    version = onnxruntime.__version__
    if CUDA not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {version} has no CUDA provider: install onnxruntime-gpu in place of onnxruntime"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "try", [value], [ValueInfoProto(name="y")])
    tried = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = session_options(1)
    options.log_severity_level = _FATAL
    try:
        session = onnxruntime.InferenceSession(tried.SerializeToString(), options, providers=providers(number))
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as fault:  # noqa: BLE001 - as above
        return f"ONNX Runtime {version} cannot use it ({one_line(fault)})"
    return None if CUDA in session.get_providers() else f"ONNX Runtime {version} cannot load its CUDA provider"
