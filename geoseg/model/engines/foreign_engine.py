"""Probabilities from a network in an ONNX file that anybody made; torch is not imported.

The file stays as it is; `wrapping.py` says what is done before and after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.model.bundle import ModelBundle, Scale
from geoseg.model.engines.engine import UPRIGHT, HostEngine, Pixels, Turn, Weights
from geoseg.model.engines.onnx_engine import runtime_faults
from geoseg.model.engines.wrapping import Preparation, interpolation, network_input, probabilities_of
from geoseg.model.onnx_files import OnnxGraph, SessionFault, open_session, providers, session_options
from geoseg.raster import Window


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
                f"this engine's windows are {side}, got weights for {weights.shape}, {len(windows)} windows"
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
                f"{self._bundle.weights_path} gives {scores.shape} for {count} windows of {self._window_px} px, "
                f"expected {wanted}; try another `window`"
            )
        return scores.transpose(0, 3, 1, 2) if self._graph.output_channels_last else scores


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads), providers=providers())
