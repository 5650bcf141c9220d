"""Graphs as they are exported: no node computes a padding, and none interpolates the scores at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from geoseg.model.engines.export import _end_before_interpolation, _export, _Network, _Padded
from tests.networks import TINY, tiny_bundle


@pytest.mark.parametrize(
    "asked",
    [
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 5, "stride": 2, "groups": 4, "bias": False},
        {"kernel_size": 2},
        {"kernel_size": (5, 3), "stride": (2, 1), "dilation": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(16, 16), (17, 12)])
def test_a_settled_convolution_is_the_same(asked: dict[str, Any], shape: tuple[int, int]) -> None:
    convolution = Conv2dSame(4, 8, **asked)
    values = torch.randn(2, 4, *shape)
    with torch.no_grad():
        torch.testing.assert_close(_Padded(convolution, shape)(values), convolution(values), atol=0, rtol=0)


def test_no_node_computes_a_padding(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    graph = onnx.load(bundle.weights_path.with_suffix(".onnx")).graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"Pad", "Ceil"}
    uneven = [
        attribute.ints
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "pads" and attribute.ints[0] != attribute.ints[2]
    ]
    assert uneven == [[0, 0, 1, 1]] * TINY["encoder_depth"]


def test_an_exporter_that_fails_writes_nothing_to_the_output_of_the_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The older exporter prints its whole graph if it fails, as it does on adaptive pooling to an uneven size."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Upsample((8, 8)))
    parts = _Network(network, "probabilities", torch.zeros(2, 3, 8, 8))
    with pytest.raises(Exception, match="adaptive_avg_pool2d"):
        _export(parts, tmp_path / "a.onnx", dynamo=False, fold=True)
    assert capfd.readouterr() == ("", "")


def _resizing_graph(**settings: Any) -> onnx.GraphProto:
    """Return a graph of a convolution whose output is enlarged; `settings` are those of the Resize."""
    maker = onnx.helper
    nodes = [
        maker.make_node("Conv", ["image", "kernel"], ["coarse"], kernel_shape=[1, 1]),
        maker.make_node("Resize", ["coarse", "", "factors"], ["scores"], **settings),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel"),
        onnx.numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "factors"),
    ]
    ends = [
        maker.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", bands, "row", "col"])
        for name, bands in (("image", 3), ("scores", 2))
    ]
    return maker.make_graph(nodes, "x", ends[:1], ends[1:], weights)


@pytest.mark.parametrize(("mode", "aligned"), [("half_pixel", False), ("align_corners", True)])
def test_a_graph_ends_before_its_scores_are_interpolated(mode: str, *, aligned: bool) -> None:
    graph = _resizing_graph(mode="linear", coordinate_transformation_mode=mode)
    assert _end_before_interpolation(graph) is aligned
    assert [node.op_type for node in graph.node] == ["Conv"]
    assert [weights.name for weights in graph.initializer] == ["kernel"]
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": np.ones((1, 3, 5, 7), np.float32)})
    np.testing.assert_array_equal(scores, np.full((1, 2, 5, 7), 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "cubic"},
        {"mode": "nearest"},
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": 1},
    ],
    ids=str,
)
def test_a_graph_that_enlarges_its_scores_otherwise_stays_whole(settings: dict[str, Any]) -> None:
    graph = _resizing_graph(**settings)
    assert not _end_before_interpolation(graph)
    assert len(graph.node) == 2
