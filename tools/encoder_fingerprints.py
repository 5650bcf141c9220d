"""Write geoseg/model/network/encoders.txt: the encoders of smp and timm by the names and widths of their tensors.

    python tools/encoder_fingerprints.py

It takes about a quarter of an hour and works offline. A line is a fingerprint and the encoders that have it. The table
only says what to try first: a file is always compared with the network itself.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch

from geoseg.model.network import encoder_fingerprint, is_classifier

TABLE = Path(__file__).parents[1] / "geoseg" / "model" / "network" / "encoders.txt"


def main() -> None:
    """Build every encoder without allocating its weights."""
    warnings.simplefilter("ignore")
    found: dict[str, list[str]] = defaultdict(list)
    for name in [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]:
        shapes = encoder_shapes(name)
        if shapes is not None:
            found[encoder_fingerprint(shapes)].append(name)
    TABLE.write_text("".join(f"{key} {' '.join(names)}\n" for key, names in sorted(found.items())), encoding="utf-8")
    print(f"{sum(map(len, found.values()))} encoders, {len(found)} fingerprints")


def encoder_shapes(name: str) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of an encoder's tensors by name; None if smp cannot build it."""
    for depth in (5, 4, 3):
        try:
            with torch.device("meta" if not name.startswith("mit_") else "cpu"):
                encoder = smp.encoders.get_encoder(name, weights=None, depth=depth)
        except Exception as fault:  # noqa: BLE001 - smp and timm raise whatever they like
            print(f"{name} at depth {depth}: {str(fault)[:80]}", file=sys.stderr)
            continue
        return {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    return _shapes_of_vision_transformer(name.removeprefix("tu-")) if name.startswith("tu-") else None


def _shapes_of_vision_transformer(name: str) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a single-stride encoder, as used by DPT; None if smp cannot build it either."""
    try:
        with torch.device("meta"):
            encoder = smp.encoders.TimmViTEncoder(name, pretrained=False)
    except Exception as fault:  # noqa: BLE001 - as above
        print(f"tu-{name} as a vision transformer: {str(fault)[:80]}", file=sys.stderr)
        return None
    return {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items() if not is_classifier(key)}


if __name__ == "__main__":
    main()
