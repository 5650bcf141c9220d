"""Probabilities from ONNX Runtime, for a bundle's export or an ONNX file from elsewhere; torch is not imported.

A file from elsewhere is used unchanged. Pixels are converted to its input and its scores to probabilities in place,
strip by strip: with new arrays each of these steps would cost more than its arithmetic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from geoseg.errors import ModelError, numbered, one_line
from geoseg.model.bundle import ModelBundle, Scale
from geoseg.model.engines.engine import UPRIGHT, HostEngine, OutOfMemory, Pixels, Turn, Weights
from geoseg.model.engines.exported import ALIGNED_KEY
from geoseg.model.engines.interpolation import fine_strips, softmax
from geoseg.model.engines.network_input import Preparation, network_input
from geoseg.model.onnx_files import (
    OnnxGraph,
    SessionFault,
    WindowSession,
    open_session,
    providers,
    reason_of,
    session_options,
)
from geoseg.raster import Window

_SHORT_OF_MEMORY = ("allocat", "bad_alloc", "out of memory")
_ANOTHER_WINDOW = "try another `window`", "window"
_ANOTHER_WINDOW_OR_DEVICE = "try another `window` or `device`", "window"
_ANOTHER_DEVICE = "export the network again, or map on another `device`", "device"
_MIN_SCORE = np.float32(1e-7)
"""Least probability before division by the sum: if a network gives 0 for every class, all become equal."""


class OnnxEngine(HostEngine):
    """A bundle's export in one session on the CPU, shared by all threads of the process.

    Bit-identical for any batch, neighbors and number of threads (tested in tests/model/test_engines.py). Raises
    ModelError unless `export.py` wrote the ONNX file for this bundle and window (None: any window).
    """

    device = "the CPU"

    def __init__(
        self, path: Path, bundle: ModelBundle, window_px: int | None, scale: Scale | None, threads: int
    ) -> None:
        self.classes = len(bundle.output_codes)
        self._bands = len(bundle.bands)
        self._window_px = window_px
        self._preparation = Preparation(scale, *bundle.normalization.gain_bias(scale))
        try:
            # bytes, not the path: a model in memory has no folder from which it could load other files
            session = onnxruntime.InferenceSession(path.read_bytes(), session_options(threads), providers=providers())
        except Exception as fault:  # noqa: BLE001 - its errors have no common base class of their own
            raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {one_line(fault)}") from None
        self._check_signature(session, path)
        self._path, self._session = path, WindowSession(session)
        self._aligned, self._temperature = aligns_corners(session), bundle.temperature

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return float32 (n, class, row, col), times the weights; OutOfMemory if the batch is too large."""
        side = self._window_px or weights.shape[-1]
        _check_shape(weights, len(windows), side)
        with _runtime_faults(self._path, _ANOTHER_DEVICE):
            image = network_input(footprint, windows, turn, self._preparation)
            (scores,) = self._session.run(["scores"], {"image": image})
            if scores.shape[:2] != (len(windows), self.classes):  # exporters may leave the shape open
                raise ModelError(f"{self._path} gives {scores.shape} for {numbered(len(windows), 'window')} of {side}")
            return softmax(scores, weights, aligned=self._aligned, temperature=self._temperature)

    def _check_signature(self, session: onnxruntime.InferenceSession, path: Path) -> None:
        shapes = {
            value.name: [None if isinstance(size, str) else size for size in value.shape[1:]]
            for value in session.get_inputs()
        }
        outputs = [value.name for value in session.get_outputs()]
        if shapes != {"image": [self._bands, self._window_px, self._window_px]} or outputs != ["scores"]:
            raise ModelError(f"{path} is not geoseg's export of this model: {one_line((shapes, outputs))}")


def aligns_corners(session: onnxruntime.InferenceSession) -> bool:
    """Return how the scores of a bundle's export are to be interpolated; see `ALIGNED_KEY`."""
    return bool(session.get_modelmeta().custom_metadata_map.get(ALIGNED_KEY) == "true")


class ForeignEngine(HostEngine):
    """A network from elsewhere in one ONNX Runtime session, shared by all threads of the process.

    On a CPU windows are scored one by one, so that none depends on its neighbors in a batch. Raises ModelError if the
    file has changed since it was opened, or its output has another shape than it had then.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the fields of a choice
        self, bundle: ModelBundle, graph: OnnxGraph, window_px: int, scale: Scale | None, threads: int, cuda: int | None
    ) -> None:
        self.classes = len(bundle.output_codes)
        self.device = "the CPU" if cuda is None else f"CUDA device {cuda}"
        self._bundle, self._graph, self._window_px = bundle, graph, window_px
        self._channels = int(bundle.arguments["classes"])
        input_spec, values = graph.input, bundle.normalization.gain_bias(scale)
        self._preparation = Preparation(scale, *values, dtype=input_spec.dtype, channels_last=input_spec.channels_last)
        self._one_by_one = cuda is None
        of_free_size = _ANOTHER_WINDOW if cuda is None else _ANOTHER_WINDOW_OR_DEVICE
        self._way_out = of_free_size if input_spec.size_px is None else _ANOTHER_DEVICE
        path = bundle.weights_path
        try:
            session = open_session(
                path, bundle.files[1:], output=graph.output, threads=threads, cuda=cuda, digest=bundle.weights_hash
            )
        except SessionFault as fault:
            raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {fault}") from None
        self._session = session if cuda is not None else WindowSession(session)
        output_spec = {value.name: value for value in session.get_outputs()}[graph.output]
        self._has_channels = len(output_spec.shape or ()) != 3

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return float32 (n, class, row, col), times the weights; OutOfMemory if the batch is too large."""
        _check_shape(weights, len(windows), self._window_px)
        with _runtime_faults(self._bundle.weights_path, self._way_out):
            scores = self._scores(network_input(footprint, windows, turn, self._preparation))
            return _probabilities_of(self._checked(scores, len(windows)), self._graph, weights)

    def _scores(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Return the network's output, in as many calls as its batch size needs."""
        at_once = self._graph.input.batch or (1 if self._one_by_one else len(inputs))
        parts = []
        for start in range(0, len(inputs), at_once):
            part = inputs[start : start + at_once]
            missing = at_once - len(part)
            if missing:  # pad to the network's fixed batch size
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            (scores,) = self._session.run([self._graph.output], {self._graph.input.name: part})
            parts.append(scores[: at_once - missing])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _checked(self, scores: NDArray[Any], count: int) -> NDArray[Any]:
        """Return the scores as (n, channel, row, col); ModelError if their shape differs from the trial's."""
        if not self._has_channels and scores.ndim == 3:
            scores = scores[:, None]
        side, channels = self._graph.output_px(self._window_px), self._channels
        expected = (count, side, side, channels) if self._graph.output_channels_last else (count, channels, side, side)
        if scores.shape != expected:
            raise ModelError(
                f"{self._bundle.weights_path} gives {scores.shape} for {numbered(count, 'window')} of "
                f"{self._window_px} px, expected {expected}; {self._way_out[0]}",
                self._way_out[1],
            )
        return scores.transpose(0, 3, 1, 2) if self._graph.output_channels_last else scores


def _check_shape(weights: Weights, count: int, side_px: int) -> None:
    if weights.shape != (count, side_px, side_px):
        raise ValueError(
            f"this engine's windows are {side_px}, got weights for {weights.shape}, {numbered(count, 'window')}"
        )


@contextlib.contextmanager
def _runtime_faults(path: Path, way_out: tuple[str, str]) -> Iterator[None]:
    """Turn ONNX Runtime's errors into OutOfMemory, or ModelError with a way out and its parameter."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory from None
    except Exception as fault:
        # its errors have no base class of their own; those of CUDA are RuntimeErrors
        if not (type(fault) is RuntimeError or type(fault).__module__.startswith(onnxruntime.__name__)):
            raise
        if any(word in str(fault).lower() for word in _SHORT_OF_MEMORY):
            raise OutOfMemory from None
        raise ModelError(f"{path}: ONNX Runtime failed: {reason_of(fault)}; {way_out[0]}", way_out[1]) from None


def _probabilities_of(scores: NDArray[Any], graph: OnnxGraph, weights: Weights) -> NDArray[np.float32]:
    """Return probabilities, float32 (n, class, row, col), times the weights, from a network's scores.

    Scores are (n, channel, row, col). Smaller ones are interpolated before the softmax, as in training. If they have
    `graph.least` times as many pixels along each edge, their probabilities are averaged. A single channel is the
    probability of the second of two classes.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    if graph.fit == "cropped":
        margin_px = graph.margin_px
        scores = np.pad(scores, ((0, 0), (0, 0), (margin_px, margin_px), (margin_px, margin_px)), mode="edge")
    with np.errstate(all="ignore"):  # the caller reports values that are not finite
        if graph.fit != "larger":
            return _shares(scores, graph, weights)
        fine = _shares(scores, graph, Weights.ones(len(scores), scores.shape[2]))
        return _averaged(fine, graph.least) * (weights.rows[:, None, :, None] * weights.cols[:, None, None, :])


def _shares(scores: NDArray[np.float32], graph: OnnxGraph, weights: Weights) -> NDArray[np.float32]:
    """Return probabilities times the weights, and of their size."""
    (count, channels, *_), (_, side_px, _), aligned = scores.shape, weights.shape, graph.fit == "aligned"
    if channels > 1 and graph.activation == "softmax":
        return softmax(scores, weights, aligned=aligned)
    shape = (count, max(channels, 2), side_px, side_px)
    probabilities = scores if scores.shape == shape else np.empty(shape, np.float32)
    fill = _fill_many if channels > 1 else _fill_two
    for n in range(count):
        for rows, strip in fine_strips(scores[n], side_px, aligned=aligned):
            weight, out = weights.rows[n, rows, None] * weights.cols[n], probabilities[n, :, rows]
            if graph.sums_to_one:
                np.multiply(strip, weight, out=out)
            else:
                fill(strip, graph.activation, weight, out)
    return probabilities


def _fill_many(
    scores: NDArray[np.float32], activation: str, weight: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Turn scores into probabilities of several classes that sum to one, times the weight."""
    np.maximum(_sigmoid(scores, out) if activation == "sigmoid" else scores, _MIN_SCORE, out=out)
    np.multiply(out, weight / out.sum(axis=0), out=out)


def _fill_two(
    scores: NDArray[np.float32], activation: str, weight: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Turn the score of one class into the probabilities of background and class, times the weight."""
    if activation == "none":
        np.clip(scores[0], 0, 1, out=out[1])
    else:
        _sigmoid(scores[0], out[1])
    np.subtract(1, out[1], out=out[0])
    np.multiply(out, weight, out=out)


def _sigmoid(scores: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
    np.exp(np.negative(scores, out=out), out=out)
    np.add(out, 1, out=out)
    return np.reciprocal(out, out=out)


def _averaged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return means over squares of pixels, (n, class, row, col)."""
    count, classes, height_px, width_px = values.shape
    squares = values.reshape(count, classes, height_px // side, side, width_px // side, side)
    return np.asarray(squares.mean(axis=(3, 5)), np.float32)
