"""How much memory a window takes while a network looks at it: an estimate."""

from __future__ import annotations

from geoseg.model.architectures import PLAIN_UNET_CHANNELS
from geoseg.model.bundle import ModelBundle

_BYTES_A_PIXEL = {
    "UnetPlusPlus": 1000,
    "Segformer": 1100,
    "UPerNet": 1100,
    "DPT": 2000,
    "DeepLabV3": 400,
    "DeepLabV3Plus": 400,
    "SegNet": 1320,
}
_BYTES_A_PIXEL_ELSEWHERE = 550
"""What one more window of 256 x 256 in a batch added to resident memory in ONNX Runtime 1.31, and a fifth more.

Measured bytes a pixel: DeepLabV3+ and MobileNetV3-small 312, DeepLabV3 and ResNet18 235, U-Net and
MobileNetV3-small 405, U-Net and ResNet34 171, FPN and MobileNetV2 437, U-Net++ and ResNet18 832, SegFormer and
MiT-B0 895, SegNet and VGG11 1096.
DPT and UPerNet are guesses.
"""
_PLAIN_UNET = (200, 36)
"""Bytes a pixel of a plain U-Net, and for each of its channels; measured 640 with 16, 2023 with 64; a fifth more."""
_TORCH_TIMES = 2
"""torch keeps every layer of a step alive that ONNX Runtime merges."""


def window_bytes(bundle: ModelBundle, window_px: int, *, torch: bool) -> int:
    """Return the bytes that one window takes: input, probabilities, the layers alive at once; weights aside."""
    ends = 4 * (len(bundle.bands) + 1 + 2 * len(bundle.output_codes))
    return window_px**2 * (ends + _layer_bytes(bundle) * (_TORCH_TIMES if torch else 1))


def _layer_bytes(bundle: ModelBundle) -> int:
    if bundle.architecture == "PlainUnet":
        least, each = _PLAIN_UNET
        return int(least + each * bundle.arguments.get("channels", PLAIN_UNET_CHANNELS))
    return _BYTES_A_PIXEL.get(bundle.architecture, _BYTES_A_PIXEL_ELSEWHERE)
