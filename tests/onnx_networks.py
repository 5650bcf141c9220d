"""Tiny networks as ONNX files of many kinds, and the output of each computed with numpy and torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
}
NAMES = ("water", "forest", "roof", "field", "road", "sand", "snow")
DEEPNESS: dict[str, Any] = {
    "model_type": "Segmentor",
    "resolution": 50,
    "tiles_overlap": 25,
    "standardization_mean": [0.485, 0.456, 0.406],
    "standardization_std": [0.229, 0.224, 0.225],
    "seg_thresh": 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A network of two convolutions; zero padding makes its output depend on the position in the window."""

    bands: int = 3
    channels: int = 4
    size: int | str = "size"
    """A name if the size is free."""
    batch: int | str = "n"
    dtype: str = "float32"
    channels_last: bool = False
    end: str = ""
    """Softmax, Sigmoid, or empty for logits."""
    fit: str = "same"
    """same, strided (4), aligned (4), cropped (8 in all), larger (2)."""
    rank3: bool = False
    second: int = 0
    """Channels of a second output, listed first."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path, **save: Any) -> Path:
        """Write the model to a file."""
        onnx.save(self.model(), path, **save)
        return path

    def model(self) -> onnx.ModelProto:
        """Return the ONNX model."""
        random = np.random.default_rng(7)
        deep = np.float16 if self.dtype == "float16" else np.float32
        first = random.normal(0, 0.25, (8, self.bands, 5, 5)).astype(deep)
        second = random.normal(0, 0.3, (self.channels, 8, 3, 3)).astype(deep)
        stride = 4 if self.fit in {"strided", "aligned"} else 1
        pads = [0] * 4 if self.fit == "cropped" else [2] * 4
        nodes, value = [], "image"
        if self.dtype in {"uint8", "uint16", "float64"}:
            nodes.append(helper.make_node("Cast", [value], ["cast"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", ["cast", "small"], ["scaled"]))
            value = "scaled"
        if self.channels_last:
            nodes.append(helper.make_node("Transpose", [value], ["nchw"], perm=[0, 3, 1, 2]))
            value = "nchw"
        nodes += [
            helper.make_node("Conv", [value, "first"], ["deep"], pads=pads, strides=[stride] * 2),
            helper.make_node("LeakyRelu", ["deep"], ["bent"]),
            helper.make_node("Conv", ["bent", "second"], ["scores"], pads=[0 if p == 0 else 1 for p in pads]),
        ]
        value = "scores"
        if self.fit == "cropped":  # 5 - 1 and 3 - 1, and two more
            nodes.append(helper.make_node("AveragePool", [value], ["cut"], kernel_shape=[3, 3]))
            value = "cut"
        if self.fit == "larger":
            nodes.append(helper.make_node("Resize", [value, "", "twice"], ["big"], mode="nearest"))
            value = "big"
        if self.end:
            axis = {"axis": 1} if self.end == "Softmax" else {}
            nodes.append(helper.make_node(self.end, [value], ["ended"], **axis))
            value = "ended"
        if self.rank3:
            nodes.append(helper.make_node("Squeeze", [value, "one"], ["flat"]))
            value = "flat"
        if self.channels_last:
            nodes.append(helper.make_node("Transpose", [value], ["nhwc"], perm=[0, 2, 3, 1]))
            value = "nhwc"
        nodes.append(helper.make_node("Identity", [value], ["output"]))
        outputs = [helper.make_tensor_value_info("output", TYPES["float16" if deep is np.float16 else "float32"], None)]
        if self.second:
            other = random.normal(0, 0.3, (self.second, 8, 3, 3)).astype(deep)
            nodes.append(helper.make_node("Conv", ["bent", "other"], ["features"], pads=[1] * 4))
            outputs.insert(0, helper.make_tensor_value_info("features", TYPES["float32"], None))
        axes = [self.batch, self.bands, self.size, self.size]
        axes = [axes[0], *axes[2:], axes[1]] if self.channels_last else axes
        kept = {"first": first, "second": second, "small": np.float32(0.02), "one": np.int64([1])}
        kept |= {"twice": np.float32([1, 1, 2, 2])} | ({"other": other} if self.second else {})
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", TYPES[self.dtype], axes)],
            outputs,
            [numpy_helper.from_array(np.asarray(values), name) for name, values in kept.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {name: json.dumps(value) for name, value in self.metadata.items()})
        return model


def named(kind: Kind, *, classes: int | None = None, **more: Any) -> Kind:
    """Return a kind with complete Deepness metadata."""
    count = classes or (2 if kind.channels == 1 else kind.channels)
    names = {str(number): NAMES[number] for number in range(count)}
    sides = {name: getattr(kind, name) for name in Kind.__dataclass_fields__}
    return Kind(**(sides | {"metadata": DEEPNESS | {"class_names": names} | more}))


def window_probabilities(
    session: onnxruntime.InferenceSession, kind: Kind, window: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return probabilities (class, row, col) of one normalized window (band, row, col), using numpy and torch."""
    fed = window.transpose(1, 2, 0) if kind.channels_last else window
    if kind.dtype in {"uint8", "uint16"}:
        fed = np.rint(fed)
    count = kind.batch if isinstance(kind.batch, int) else 1
    batch = np.repeat(fed[None].astype(kind.dtype), count, axis=0)
    (given,) = session.run(["output"], {"image": batch})
    scores = torch.from_numpy(given[:1].astype(np.float32))
    if kind.rank3:
        scores = scores[:, None]
    if kind.channels_last:
        scores = scores.permute(0, 3, 1, 2)
    side = window.shape[1]
    if kind.fit in {"strided", "aligned"}:
        aligned = kind.fit == "aligned"
        scores = torch.nn.functional.interpolate(scores, (side, side), mode="bilinear", align_corners=aligned)
    if kind.fit == "cropped":
        scores = torch.nn.functional.pad(scores, (4, 4, 4, 4), mode="replicate")
    if kind.channels == 1:
        one = scores if kind.end else scores.sigmoid()
        probabilities = torch.cat([1 - one, one], dim=1)
    elif kind.end:
        probabilities = scores / scores.sum(dim=1, keepdim=True)
    else:
        probabilities = scores.softmax(dim=1)
    if kind.fit == "larger":
        probabilities = torch.nn.functional.avg_pool2d(probabilities, 2)
    return probabilities[0].numpy()
