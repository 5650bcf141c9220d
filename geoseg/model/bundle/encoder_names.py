"""Encoders by name, as the sources of smp and timm say it: neither is loaded, nor torch, which takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Collection
from pathlib import Path

from geoseg.errors import ModelError
from geoseg.given import nearest
from geoseg.model.bundle.safe_json import one_line

_RENAMED = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
"""smp's older names for encoders that it takes from timm."""
_SMP = "segmentation_models_pytorch"


def timm_name_of(name: str) -> str | None:
    """Return timm's name of an encoder that smp takes from timm, None for smp's own."""
    if name.startswith("tu-"):
        return name.removeprefix("tu-")
    if name.startswith(_RENAMED):
        timm_name = name.removeprefix("timm-")
        return f"tf_{timm_name}" if timm_name.startswith("mobilenetv3") else timm_name
    return None


def check_encoder_name(name: str) -> None:
    """Raise ModelError for an encoder that neither smp nor timm can know, for its name is nowhere in their sources.

    What passes may still be none: `check_encoder` asks them. Where they are not installed everything passes.
    """
    own = timm_name_of(name)
    of_smp, of_timm = _words(_SMP, "encoders"), _words("timm", "models")
    is_timms = own is not None and own.partition(".")[0] in of_timm
    if of_smp and of_timm and name not in of_smp and not is_timms:
        raise unknown_encoder(
            name,
            re.findall(r"^    [\"']([\w.-]+)[\"']: \{$", _source(_SMP, "encoders"), re.MULTILINE),
            re.findall(r"^@register_model\s+def (\w+)\(", _source("timm", "models"), re.MULTILINE),
        )


def unknown_encoder(name: str, of_smp: Collection[str], of_timm: Collection[str]) -> ModelError:
    """Return the error for an encoder that neither smp nor timm has."""
    near = nearest(name, [*of_smp, *(f"tu-{model}" for model in of_timm)])
    meant = "" if near is None else f"did you mean {near!r}? "
    return ModelError(
        f"unknown encoder {one_line(name, 60)!r}; {meant}smp has {len(of_smp)} (resnet34, ...), "
        "and 'tu-' takes timm's (tu-convnext_tiny, ...)"
    )


@functools.cache
def _words(package: str, folder: str) -> frozenset[str]:
    """Return what may be a name in the modules of a folder."""
    return frozenset(re.findall(r"\w[\w-]*", _source(package, folder)))


@functools.cache
def _source(package: str, folder: str) -> str:
    """Return the text of the modules in a folder of a package; nothing if it is not installed as files."""
    found = importlib.util.find_spec(package)
    places = [] if found is None else list(found.submodule_search_locations or [])
    files = [file for place in places for file in sorted(Path(place, folder).glob("*.py"))]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
