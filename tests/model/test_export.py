"""The padding of timm's TensorFlow-style convolutions is constant once the window is; no node computes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from geoseg.model.engines.export import _export, _Network, _Padded
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
