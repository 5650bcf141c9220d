"""FlatGeobuf's spatial index: features along a Hilbert curve, boxes of 16, boxes of 16 boxes.

The layout: packedrtree.h of https://github.com/flatgeobuf/flatgeobuf. A node is four float64 (least x, least y,
greatest x, greatest y) and a uint64: the byte after the index at which a feature begins, or a node's first child.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NODE_SIZE = 16
NODE = np.dtype([("box", "<f8", 4), ("offset", "<u8")])
_SIDE = 2**16 - 1


def level_sizes(features: int) -> list[int]:
    """Return how many nodes each level has, from the leaves up to the root; one feature has a root too."""
    sizes = [features]
    while len(sizes) == 1 or sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // NODE_SIZE))
    return sizes


def parents(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (node, 4) the boxes around each 16 of (child, 4) boxes."""
    firsts = np.arange(0, len(boxes), NODE_SIZE)
    return np.hstack([np.minimum.reduceat(boxes[:, :2], firsts), np.maximum.reduceat(boxes[:, 2:], firsts)])


def upper_levels(boxes: NDArray[np.float64], features: int) -> NDArray[np.void]:
    """Return the nodes above the leaves as they stand in the file, the root first; `boxes` are the lowest of them."""
    sizes = level_sizes(features)
    starts = np.cumsum([0, *sizes[::-1]])[::-1][1:]  # of each level, from the leaves up, in nodes
    levels = []
    for size, start in zip(sizes[:-1], starts[:-1], strict=True):
        nodes = np.empty(len(boxes), NODE)
        nodes["box"], nodes["offset"] = boxes, start + np.arange(0, size, NODE_SIZE)
        levels.append(nodes)
        boxes = parents(boxes) if len(boxes) > 1 else boxes
    return np.concatenate(levels[::-1])


def hilbert_keys(boxes: NDArray[np.float64], extent: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return (feature,) the place of each box's centre along a Hilbert curve of order 16 through the extent."""
    span = extent[2:] - extent[:2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - extent[:2]
    scaled = np.divide(_SIDE * centres, span, out=np.zeros_like(centres), where=span > 0)
    x, y = np.clip(scaled, 0, _SIDE).astype(np.uint32).T.copy()
    keys = np.zeros(len(boxes), np.uint32)
    # C. Hamilton's way, from the coarsest square to the finest: turn and mirror the square so that it looks as all do.
    for bit in range(15, -1, -1):
        right, up = (x >> np.uint32(bit)) & np.uint32(1), (y >> np.uint32(bit)) & np.uint32(1)
        keys = (keys << np.uint32(2)) | ((np.uint32(3) * right) ^ up)
        mirrored = np.where((up == 0) & (right == 1), np.uint32(_SIDE), np.uint32(0))
        x, y = x ^ mirrored, y ^ mirrored
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
    return keys
