"""Probabilities from a network in an ONNX file that anybody made; torch is not imported.

The file stays as it is. What is done before and after it, pixels to its input and scores to shares, is done in place
and strip by strip: on a fresh array each of these steps would cost more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from geoseg.errors import ModelError, numbered
from geoseg.model.bundle import ModelBundle, Scale
from geoseg.model.engines.engine import UPRIGHT, HostEngine, Pixels, Turn, Weights
from geoseg.model.engines.gaps import fill_gaps
from geoseg.model.engines.onnx_engine import runtime_faults
from geoseg.model.onnx_files import OnnxGraph, OnnxInput, SessionFault, open_session, providers, session_options
from geoseg.raster import Window

_OPSET, _IR_VERSION = 17, 8
_LEAST = np.float32(1e-7)
"""Of a probability before it is divided by the sum of all: where a network gives none to any class, all are alike."""
_EXACT = 2**24
"""Beyond it float32 has no longer every whole number."""
_STRIP_ROWS = 32
"""So many rows of all classes stay in the cache of a processor while they are worked on."""


class ForeignEngine(HostEngine):
    """A network of somebody else's in a session of ONNX Runtime, used by all threads of the process.

    On a CPU windows go in one by one, so that none depends on its neighbors in a batch. Raises ModelError if the file
    has changed since it was opened, or gives something else than it did then.
    """

    name = "onnxruntime"
    precision = "float32"

    def __init__(  # noqa: PLR0913, PLR0917 (the sides of a choice)
        self, bundle: ModelBundle, graph: OnnxGraph, window_px: int, scale: Scale | None, threads: int, cuda: int | None
    ) -> None:
        self.classes = len(bundle.output_codes)
        self.device = "the CPU" if cuda is None else f"CUDA device {cuda}"
        self._bundle, self._graph, self._window_px = bundle, graph, window_px
        self._channels = int(bundle.arguments["classes"])
        self._preparation = Preparation(scale, *bundle.normalization.gain_bias(scale), graph.input)
        self._one_by_one = cuda is None
        path = bundle.weights_path
        try:
            self._session = open_session(path, bundle.files[1:], threads=threads, cuda=cuda, digest=bundle.weights_hash)
        except SessionFault as fault:
            raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {fault}") from None
        given = {value.name: value for value in self._session.get_outputs()}[graph.output]
        self._has_channels = len(given.shape or ()) != 3
        resize = interpolation(graph, self._channels, window_px)
        self._interpolation = None if resize is None else _session(resize, threads)

    def probabilities(
        self, footprint: Pixels, windows: Sequence[Window], weights: Weights, turn: Turn = UPRIGHT
    ) -> NDArray[np.float32]:
        """Return float32 (n, class, row, col), times the weights; OutOfMemory if the batch is too large."""
        side = self._window_px
        if weights.shape != (len(windows), side, side):
            raise ValueError(
                f"this engine's windows are {side}, got weights for {weights.shape}, {numbered(len(windows), 'window')}"
            )
        with runtime_faults():
            scores = self._scores(network_input(footprint, windows, turn, self._preparation))
        scores = self._checked(scores, len(windows))
        with runtime_faults():
            if self._interpolation is not None:
                (scores,) = self._interpolation.run(["scores"], {"coarse": np.ascontiguousarray(scores, np.float32)})
            return probabilities_of(scores, self._graph, weights)

    def _scores(self, fed: NDArray[Any]) -> NDArray[Any]:
        """Return what the network gives, in as many calls as it takes."""
        at_once = self._graph.input.batch or (1 if self._one_by_one else len(fed))
        parts = []
        for start in range(0, len(fed), at_once):
            part = fed[start : start + at_once]
            missing = at_once - len(part)
            if missing:  # a network of a fixed batch takes no fewer
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            (given,) = self._session.run([self._graph.output], {self._graph.input.name: part})
            parts.append(given[: at_once - missing])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _checked(self, scores: NDArray[Any], count: int) -> NDArray[Any]:
        """Return the scores as (n, channel, row, col); ModelError where they are not what the trial gave."""
        if not self._has_channels and scores.ndim == 3:
            scores = scores[:, None]
        side, channels = self._graph.output_px(self._window_px), self._channels
        wanted = (count, side, side, channels) if self._graph.output_channels_last else (count, channels, side, side)
        if scores.shape != wanted:
            raise ModelError(
                f"{self._bundle.weights_path} gives {scores.shape} for {numbered(count, 'window')} of "
                f"{self._window_px} px, expected {wanted}; try another `window`"
            )
        return scores.transpose(0, 3, 1, 2) if self._graph.output_channels_last else scores


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads), providers=providers())


@dataclass(frozen=True, slots=True)
class Preparation:
    """What becomes of stored pixels before a network sees them."""

    scale: Scale | None
    """They are clipped to it."""
    gain: NDArray[np.float32]
    """(band,)."""
    bias: NDArray[np.float32]
    """(band,)."""
    taken: OnnxInput
    """The type and the axes that the network wants."""


def network_input(footprint: Pixels, windows: Sequence[Window], turn: Turn, preparation: Preparation) -> NDArray[Any]:
    """Return windows of a footprint, each turned, as the network takes them; gaps are filled, else 0, the mean."""
    side, taken = windows[0].height, preparation.taken
    image = np.empty((len(windows), len(footprint.data), side, side), np.float32)
    with np.errstate(all="ignore"):  # what is not finite is told of where the probabilities are looked at
        for normalized, window in zip(image, windows, strict=True):
            _normalize(turn.of_pixels(footprint.data[:, window.rows, window.cols], np), preparation, normalized)
            seen = fill_gaps(normalized, turn.of_pixels(footprint.valid[window.rows, window.cols], np))
            if not seen.all():
                np.copyto(normalized, 0, where=~seen)
        if not taken.dtype.startswith("float"):
            ends = np.clip([np.iinfo(taken.dtype).min, np.iinfo(taken.dtype).max], -_EXACT, _EXACT)
            np.clip(np.rint(image, out=image), *ends.astype(np.float32), out=image)
        return np.ascontiguousarray(image.transpose(0, 2, 3, 1) if taken.channels_last else image, taken.dtype)


def _normalize(stored: NDArray[Any], preparation: Preparation, normalized: NDArray[np.float32]) -> None:
    """Write stored pixels (band, row, col), normalized, into `normalized`, strip by strip."""
    gain, bias = preparation.gain[:, None, None], preparation.bias[:, None, None]
    for start in range(0, stored.shape[1], _STRIP_ROWS):
        strip = normalized[:, start : start + _STRIP_ROWS]
        strip[:] = stored[:, start : start + _STRIP_ROWS]
        if preparation.scale is not None:
            np.clip(strip, *preparation.scale, out=strip)
        np.multiply(strip, gain, out=strip)
        np.add(strip, bias, out=strip)


def probabilities_of(scores: NDArray[Any], graph: OnnxGraph, weights: Weights) -> NDArray[np.float32]:
    """Return float32 (n, class, row, col) that sum to one, times the weights, of what a network gives.

    Scores are (n, channel, row, col) and are overwritten. There are as many pixels as a window has (see
    `interpolation`), or `graph.least` times as many along an edge: their probabilities are averaged. One channel is the
    probability of the second of two classes.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    if graph.fit == "cropped":
        margin_px = graph.margin_px
        scores = np.pad(scores, ((0, 0), (0, 0), (margin_px, margin_px), (margin_px, margin_px)), mode="edge")
    with np.errstate(all="ignore"):  # as above
        if graph.fit != "larger":
            return _shares(scores, graph, weights)
        fine = _shares(scores, graph, Weights.ones(len(scores), scores.shape[2]))
        return _averaged(fine, graph.least) * (weights.rows[:, None, :, None] * weights.cols[:, None, None, :])


def interpolation(graph: OnnxGraph, channels: int, window_px: int) -> onnx.ModelProto | None:
    """Return a graph from `coarse` float32 scores (n, channel, row, col) to `scores` of a window's size.

    None where the network gives as many pixels. Logits are interpolated before their softmax, as in training.
    """
    if graph.fit not in {"strided", "aligned"}:
        return None
    aligned = graph.fit == "aligned"
    # an aligned output is rounded down to whole pixels
    scale = (window_px + 0.5) / graph.output_px(window_px) if aligned else graph.least
    scales = onnx.numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
    resize = helper.make_node(
        "Resize",
        ["coarse", "", "scales"],
        ["scores"],
        mode="linear",
        coordinate_transformation_mode="align_corners" if aligned else "half_pixel",
    )
    taken = helper.make_tensor_value_info("coarse", TensorProto.FLOAT, ["n", channels, "row", "col"])
    body = helper.make_graph([resize], "geoseg", [taken], [onnx.ValueInfoProto(name="scores")], [scales])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _shares(scores: NDArray[np.float32], graph: OnnxGraph, weights: Weights) -> NDArray[np.float32]:
    """Return probabilities times the weights; those of several classes in the place of their scores."""
    count, channels, height_px, width_px = scores.shape
    found = scores if channels > 1 else np.empty((count, 2, height_px, width_px), np.float32)
    fill = _fill_many if channels > 1 else _fill_two
    for index in range(count):
        for start in range(0, height_px, _STRIP_ROWS):
            rows = slice(start, start + _STRIP_ROWS)
            weight = weights.rows[index, rows, None] * weights.cols[index]
            if graph.sums_to_one:
                np.multiply(scores[index, :, rows], weight, out=found[index, :, rows])
            else:
                fill(scores[index, :, rows], graph.activation, weight, found[index, :, rows])
    return found


def _fill_many(
    scores: NDArray[np.float32], activation: str, weight: NDArray[np.float32], found: NDArray[np.float32]
) -> None:
    """Turn scores into probabilities of several classes, which sum to one, times the weight."""
    if activation == "softmax":
        np.exp(np.subtract(scores, scores.max(axis=0), out=found), out=found)
    else:
        np.maximum(_sigmoid(scores, found) if activation == "sigmoid" else scores, _LEAST, out=found)
    np.multiply(found, weight / found.sum(axis=0), out=found)


def _fill_two(
    scores: NDArray[np.float32], activation: str, weight: NDArray[np.float32], found: NDArray[np.float32]
) -> None:
    """Turn the score of one class into the probabilities of the background and of it, times the weight."""
    if activation == "none":
        np.clip(scores[0], 0, 1, out=found[1])
    else:
        _sigmoid(scores[0], found[1])
    np.subtract(1, found[1], out=found[0])
    np.multiply(found, weight, out=found)


def _sigmoid(scores: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    np.exp(np.negative(scores, out=found), out=found)
    np.add(found, 1, out=found)
    return np.reciprocal(found, out=found)


def _averaged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return means of squares of pixels, of values (n, class, row, col)."""
    count, classes, height_px, width_px = values.shape
    squares = values.reshape(count, classes, height_px // side, side, width_px // side, side)
    return np.asarray(squares.mean(axis=(3, 5)), np.float32)
