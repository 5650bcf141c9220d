"""Encoders by a fingerprint of their tensors: which ones to try first for a file that does not name its own."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

_TABLE = Path(__file__).with_name("encoders.txt")
"""Written by tools/encoder_fingerprints.py: a fingerprint a line, and the encoders that have it."""
COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask", "total_ops", "total_params")
"""Ends of the names of what some versions keep beside the weights, and others compute."""


_CLASSIFIER = re.compile(r"^(?:model\.)?(?:_fc|fc|classifier|head|last_linear|last_conv|num_features)\b")
"""Parts of what encoders were pretrained as, which some versions saved and none uses."""


def is_classifier(name: str) -> bool:
    """Tell whether a tensor of an encoder is of the classifier that it was pretrained as."""
    return _CLASSIFIER.match(name) is not None


def encoder_fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a fingerprint of an encoder's tensors, the same for every number of bands.

    Of a tensor count its name, dots and underscores being one (timm changed them), and its first axis: bands are an
    encoder's second axis. The tables of relative positions change with the size of the window, and are left out.
    """
    lines = sorted(
        f"{plain_name(name)} {shape[0] if shape else ''}"
        for name, shape in shapes.items()
        if not name.endswith((*COMPUTED, "relative_position_bias_table"))
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def plain_name(name: str) -> str:
    """Return a tensor's name with one kind of joint."""
    return name.replace(".", "_")


def encoders_like(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the encoders whose tensors have these names and widths, `model.` before them or not; none if unknown."""
    table = _table()
    wrapped = {f"model.{name}": shape for name, shape in shapes.items()}
    return table.get(encoder_fingerprint(shapes)) or table.get(encoder_fingerprint(wrapped)) or ()


@functools.cache
def _table() -> dict[str, tuple[str, ...]]:
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return {line.split()[0]: tuple(line.split()[1:]) for line in lines}
