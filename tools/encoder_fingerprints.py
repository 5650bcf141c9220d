"""Write geoseg/model/network/encoders.txt: the encoders of smp and timm by the names and widths of their tensors.

    python tools/encoder_fingerprints.py

It takes about three quarters of an hour and works offline. A line is a fingerprint and the encoders that have it, whole
or as shallow networks have them, without their last stages. The table only says what to try first: a file is always
compared with the network itself.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch

from geoseg.model.network import encoder_fingerprint, is_classifier

TABLE = Path(__file__).parents[1] / "geoseg" / "model" / "network" / "encoders.txt"


def main() -> None:
    """Build every encoder without allocating its weights."""
    warnings.simplefilter("ignore")
    encoders: dict[str, list[str]] = defaultdict(list)
    names = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    for name in names:
        for fingerprint in fingerprints(name):
            encoders[fingerprint].append(name)
    lines = (f"{fingerprint} {' '.join(encoders[fingerprint])}\n" for fingerprint in sorted(encoders))
    TABLE.write_text("".join(lines), encoding="utf-8")
    print(f"{len(names)} encoders, {len(encoders)} fingerprints")


def fingerprints(name: str) -> list[str]:
    """Return the fingerprints that an encoder has at any depth: smp cuts timm's encoders short, never its own."""
    shapes = list(_shapes_at_depths(name))
    if not shapes and name.startswith("tu-"):
        shapes = list(_shapes_of_vision_transformer(name.removeprefix("tu-")))
    return list(dict.fromkeys(map(encoder_fingerprint, shapes)))


def _shapes_at_depths(name: str) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of an encoder's tensors by name, for each depth at which smp can build it."""
    for depth in (5, 4, 3):
        try:
            with torch.device("meta" if not name.startswith("mit_") else "cpu"):
                encoder = smp.encoders.get_encoder(name, weights=None, depth=depth)
        except Exception as fault:  # noqa: BLE001 - smp and timm raise whatever they like
            print(f"{name} at depth {depth}: {str(fault)[:80]}", file=sys.stderr)
            continue
        yield {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}


def _shapes_of_vision_transformer(name: str) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of a single-stride encoder, as used by DPT, unless smp cannot build it either."""
    try:
        with torch.device("meta"):
            encoder = smp.encoders.TimmViTEncoder(name, pretrained=False)
    except Exception as fault:  # noqa: BLE001 - as above
        print(f"tu-{name} as a vision transformer: {str(fault)[:80]}", file=sys.stderr)
        return
    yield {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items() if not is_classifier(key)}


if __name__ == "__main__":
    main()
