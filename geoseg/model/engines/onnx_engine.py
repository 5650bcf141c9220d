"""Probabilities from ONNX Runtime on the CPU; torch is not imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from geoseg.errors import ModelError, numbered
from geoseg.model.bundle import ModelBundle, Scale, one_line
from geoseg.model.engines.engine import UPRIGHT, HostEngine, OutOfMemory, Pixels, Turn, Weights
from geoseg.model.engines.gaps import fill_gaps
from geoseg.model.onnx_files import providers, session_options
from geoseg.raster import Window

_SHORT_OF_MEMORY = ("allocat", "bad_alloc", "out of memory")


class OnnxEngine(HostEngine):
    """One session, used by all threads of the process.

    The same bits for any batch, neighbors and number of threads (proved in tests/model/test_engines.py). Raises
    ModelError if the ONNX file is not what `export.py` writes for this bundle and window; None: for any window.
    """

    name = "onnxruntime"
    device = "the CPU"
    precision = "float32"

    def __init__(
        self, path: Path, bundle: ModelBundle, window_px: int | None, scale: Scale | None, threads: int
    ) -> None:
        self.classes = len(bundle.output_codes)
        self._bands = len(bundle.bands)
        self._window_px = window_px
        self._scale = scale
        self._gain, self._bias = bundle.normalization.gain_bias(scale)
        try:
            # the bytes, not the path: a file in memory has no folder from which it could fetch other files
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), session_options(threads), providers=providers()
            )
        except Exception as fault:  # noqa: BLE001 (its errors have no common parent of their own)
            raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {one_line(fault)}") from None
        self._check_signature(path)

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return float32 (n, class, row, col), times the weights; OutOfMemory if the batch is too large."""
        side = self._window_px or weights.shape[-1]
        if weights.shape != (len(windows), side, side):
            raise ValueError(
                f"this engine's windows are {side}, got weights for {weights.shape}, {numbered(len(windows), 'window')}"
            )
        with runtime_faults():
            image, valid = cut(footprint, windows, self._scale, turn)
            inputs = {"image": image, "valid": valid, "gain": self._gain, "bias": self._bias}
            inputs |= {"rows": weights.rows, "cols": weights.cols}
            (probabilities,) = self._session.run(["probabilities"], inputs)
        if probabilities.shape != (len(windows), self.classes, side, side):  # an exporter may leave it open
            raise ModelError(
                f"the ONNX file gives {probabilities.shape} for {numbered(len(windows), 'window')} of {side}"
            )
        return np.asarray(probabilities)

    def _check_signature(self, path: Path) -> None:
        side, bands = self._window_px, self._bands
        wanted = {"image": [bands, side, side], "valid": [1, side, side], "gain": [], "bias": []}
        wanted |= {"rows": [side], "cols": [side]}
        got = {
            argument.name: [None if isinstance(size, str) else size for size in argument.shape[1:]]
            for argument in self._session.get_inputs()
        }
        outputs = [argument.name for argument in self._session.get_outputs()]
        if got != wanted or outputs != ["probabilities"]:
            raise ModelError(f"{path} is not geoseg's export of this model: {one_line((got, outputs))}")


@contextlib.contextmanager
def runtime_faults() -> Iterator[None]:
    """Turn what ONNX Runtime raises into OutOfMemory or ModelError."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory from None
    except RuntimeError as fault:  # ONNX Runtime's own faults are children of it
        if any(word in str(fault).lower() for word in _SHORT_OF_MEMORY):
            raise OutOfMemory from None
        raise ModelError(f"ONNX Runtime failed: {one_line(fault)}") from None


def cut(
    footprint: Pixels, windows: Sequence[Window], scale: Scale | None, turn: Turn
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return image (n, band, row, col) and valid (n, 1, row, col), cut, turned, cast and clipped, gaps filled."""
    bands, side = len(footprint.data), windows[0].height
    image = np.empty((len(windows), bands, side, side), np.float32)
    valid = np.empty((len(windows), 1, side, side), np.float32)
    for index, window in enumerate(windows):
        image[index] = turn.of_pixels(footprint.data[:, window.rows, window.cols], np)
        if scale is not None:
            np.clip(image[index], *scale, out=image[index])
        valid[index, 0] = fill_gaps(image[index], turn.of_pixels(footprint.valid[window.rows, window.cols], np))
    return image, valid
