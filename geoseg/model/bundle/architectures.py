"""The architectures a bundle may name, the arguments each takes, and the available encoders; no torch here.

The names and arguments are those of segmentation-models-pytorch 0.5 and 0.6 (https://smp.readthedocs.io), except for
FCN, SegNet and the plain U-Net, which are geoseg's own, UPerNet04, which is from smp 0.4, and `norm` and `aux_head`. To
add an architecture, add an entry to ARCHITECTURES and one in `network.py`. Encoders and their pretrained weights are
looked up in the source code of smp and timm, without importing either, or torch, which takes seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from geoseg.errors import ModelError, one_line
from geoseg.given import nearest

Check: TypeAlias = Callable[[object], str | None]
"""Returns what an invalid value must be instead, None for a valid one."""

_ENCODER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
_MAX_CHANNELS = 4096
_RENAMED = ("timm-regnet", "timm-res2", "timm-resnest", "timm-mobilenetv3", "timm-gernet")
"""Prefixes of smp's older names for timm encoders."""
_SMP = "segmentation_models_pytorch"
USUAL_WEIGHTS = "imagenet"
"""For a timm encoder, the weights that timm uses by default."""


def integer(low: int, high: int) -> Check:
    """Require an integer from low to high."""
    return lambda value: None if _is_integer(value, low, high) else f"an integer {low} to {high}"


def integers(count: int, low: int, high: int) -> Check:
    """Require a list of up to `count` integers, each from low to high."""

    def check(value: object) -> str | None:
        right = (
            isinstance(value, list) and 1 <= len(value) <= count and all(_is_integer(item, low, high) for item in value)
        )
        return None if right else f"a list of 1 to {count} integers {low} to {high}"

    return check


def fraction(value: object) -> str | None:
    """Require a number from 0 to 1."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return None if right else "a number 0 to 1"


def boolean(value: object) -> str | None:
    """Require true or false."""
    return None if isinstance(value, bool) else "true or false"


def choice(*values: object) -> Check:
    """Require one of the values; true does not count as 1."""
    expected = " or ".join("null" if value is None else str(value) for value in values)
    return lambda argument: (
        None if any(type(argument) is type(value) and argument == value for value in values) else expected
    )


def optional(check: Check) -> Check:
    """Require null or what `check` requires."""
    return either(choice(None), check)


def either(*checks: Check) -> Check:
    """Require that at least one of the checks passes."""

    def check(value: object) -> str | None:
        failures = [failure for failure in (check(value) for check in checks) if failure]
        return None if len(failures) < len(checks) else " or ".join(failures)

    return check


def encoder(value: object) -> str | None:
    """Require a plain name: ':' or '/' would make timm call home. Whether it exists is checked when it is built."""
    return (
        None if isinstance(value, str) and _ENCODER.fullmatch(value) else "a name of letters, digits, '_', '-' and '.'"
    )


def _is_integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


MAX_BANDS = 256
MAX_CLASSES = 255
"""All codes of a byte except nodata."""
PLAIN_UNET_DEPTH = 4
PLAIN_UNET_CHANNELS = 64

_CHANNELS = integer(1, _MAX_CHANNELS)
_NORM = either(boolean, choice("batchnorm", "identity", "layernorm", "instancenorm"))
_INTERPOLATION = choice("nearest", "nearest-exact", "bilinear", "bicubic", "area")
_MAX_EDGE_PX = 4096
_EDGE = integer(1, _MAX_EDGE_PX)
_UPSAMPLING = integer(1, 32)
_RATES = integers(8, 1, 128)
_SIZES = {
    "in_channels": integer(1, MAX_BANDS),
    "classes": integer(1, MAX_CLASSES),
    "norm": choice("batch", "group"),
}
"""`classes`: 1 is a binary model, whose one channel is the logit of its class.
`norm`: group replaces every batch normalization with group normalization, see network.py."""
TIMM_ARGUMENTS = {
    "img_size": either(_EDGE, integers(2, 1, _MAX_EDGE_PX)),
    "patch_size": integer(1, 64),
    "window_size": either(_EDGE, integers(2, 1, _MAX_EDGE_PX)),
    "dynamic_img_size": boolean,
    "dynamic_img_pad": boolean,
    "strict_img_size": boolean,
    "always_partition": boolean,
    "drop_rate": fraction,
    "drop_path_rate": fraction,
    "proj_drop_rate": fraction,
    "attn_drop_rate": fraction,
    "pos_drop_rate": fraction,
    "patch_drop_rate": fraction,
}
"""Arguments that smp passes to timm's encoders; other encoders do not use them."""
_EVERY = {"encoder_name": encoder} | _SIZES | TIMM_ARGUMENTS
_DEPTH = {"encoder_depth": integer(3, 5)}
_ANY_DEPTH = {"encoder_depth": integer(1, 5)}
_U = {
    "decoder_use_norm": _NORM,
    "decoder_channels": integers(5, 1, _MAX_CHANNELS),
    "decoder_interpolation": _INTERPOLATION,
}
_ASPP = {
    "encoder_output_stride": choice(8, 16),
    "decoder_channels": _CHANNELS,
    "decoder_atrous_rates": _RATES,
    "decoder_aspp_separable": boolean,
    "decoder_aspp_dropout": fraction,
    "upsampling": optional(_UPSAMPLING),
    "aux_head": boolean,
}
UPERNET_04_ARGUMENTS = ("decoder_pyramid_channels", "decoder_segmentation_channels")
"""Only the UPerNet of smp 0.4 has these, not that of later versions."""
_FCN = {"decoder_channels": optional(_CHANNELS), "decoder_dropout": fraction}


def _one_width_per_level(arguments: Mapping[str, Any], depth: int) -> str | None:
    """Require as many widths as levels, if a list of widths is given."""
    channels = arguments.get("decoder_channels")
    if not isinstance(channels, list) or len(channels) == arguments.get("encoder_depth", depth):
        return None
    return f"decoder_channels must be as many as encoder_depth, got {len(channels)}"


def _deepest_width(arguments: Mapping[str, Any], depth: int) -> str | None:
    """Require that the deepest level of a plain U-Net is within the limit on channels."""
    widest = arguments.get("channels", PLAIN_UNET_CHANNELS) * 2 ** arguments.get("depth", depth)
    if widest <= _MAX_CHANNELS:
        return None
    return f"channels times 2**depth must be at most {_MAX_CHANNELS}, got {widest}"


@dataclass(frozen=True)
class Architecture:
    """One kind of network."""

    name: str
    checks: Mapping[str, Check]
    """The check of each argument; any other argument is rejected."""
    depth: int = 5
    """The encoder's depth if the arguments do not give it."""
    required: tuple[str, ...] = ("encoder_name", "in_channels", "classes")
    """The arguments without a default."""
    conflict_between: Callable[[Mapping[str, Any], int], str | None] = _one_width_per_level
    """Takes the arguments and the usual depth; returns what must change if two arguments conflict, else None."""

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ModelError unless every argument is known and valid, and none without a default is missing."""
        self.check_given(arguments)
        missing = [name for name in self.required if name not in arguments]
        if missing:
            raise ModelError(f"{self.name} needs the arguments {', '.join(missing)}")
        conflict = self.conflict_between(arguments, self.depth)
        if conflict:
            raise ModelError(f"{self.name}: {conflict}")

    def check_given(self, arguments: Mapping[str, Any]) -> None:
        """Raise ModelError unless every argument given is known and valid by itself."""
        for name, value in arguments.items():
            if name not in self.checks:
                available = ", ".join(sorted(self.checks))
                raise ModelError(f"{self.name} has no argument {one_line(name, 60)!r}; it has {available}")
            expected = self.checks[name](value)
            if expected:
                raise ModelError(f"{self.name}: {name} must be {expected}, got {one_line(repr(value), 80)}")

    def divisor(self, arguments: Mapping[str, Any]) -> int:
        """Return the number that a window's size must be a multiple of: the network halves it `depth` times."""
        patch = re.search(r"patch(\d+)", str(arguments.get("encoder_name")))
        if self.name == "DPT" and "patch_size" in arguments:
            return int(arguments["patch_size"])
        if self.name == "DPT" and patch:  # a vision transformer cuts the window into patches instead
            return max(int(patch[1]), 1)
        return int(2 ** arguments.get("encoder_depth", arguments.get("depth", self.depth)))


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("Unet", _EVERY | _ANY_DEPTH | _U | {"decoder_attention_type": choice(None, "scse")}),
        Architecture(
            "UnetPlusPlus",
            _EVERY | _U | {"encoder_depth": integer(2, 5), "decoder_attention_type": choice(None, "scse")},
        ),
        Architecture("MAnet", _EVERY | _ANY_DEPTH | _U | {"decoder_pab_channels": _CHANNELS}),
        Architecture("Linknet", _EVERY | _ANY_DEPTH | {"decoder_use_norm": _NORM}),
        Architecture(
            "FPN",
            _EVERY
            | _DEPTH
            | {
                "decoder_pyramid_channels": _CHANNELS,
                "decoder_segmentation_channels": _CHANNELS,
                "decoder_merge_policy": choice("add", "cat"),
                "decoder_dropout": fraction,
                "decoder_interpolation": _INTERPOLATION,
                "upsampling": _UPSAMPLING,
            },
        ),
        Architecture(
            "PSPNet",
            _EVERY
            | _ANY_DEPTH
            | {
                "psp_out_channels": _CHANNELS,
                "decoder_use_norm": _NORM,
                "psp_dropout": fraction,
                "upsampling": _UPSAMPLING,
            },
            depth=3,
        ),
        Architecture("DeepLabV3", _EVERY | _ANY_DEPTH | _ASPP),
        Architecture("DeepLabV3Plus", _EVERY | _DEPTH | _ASPP),
        Architecture(
            "PAN",
            _EVERY
            | _DEPTH
            | {
                "encoder_output_stride": choice(16, 32),
                "decoder_channels": _CHANNELS,
                "decoder_interpolation": _INTERPOLATION,
                "upsampling": _UPSAMPLING,
            },
        ),
        Architecture(
            "UPerNet",
            _EVERY | _DEPTH | {"decoder_channels": _CHANNELS, "decoder_use_norm": _NORM, "upsampling": _UPSAMPLING},
        ),
        Architecture("UPerNet04", _EVERY | _DEPTH | dict.fromkeys(UPERNET_04_ARGUMENTS, _CHANNELS)),
        Architecture(
            "Segformer", _EVERY | _DEPTH | {"decoder_segmentation_channels": _CHANNELS, "upsampling": _UPSAMPLING}
        ),
        Architecture(
            "DPT",
            _EVERY
            | {
                "encoder_depth": integer(1, 8),
                "encoder_output_indices": optional(integers(8, -64, 64)),
                "decoder_readout": choice("ignore", "add", "cat"),
                "decoder_intermediate_channels": integers(8, 1, _MAX_CHANNELS),
                "decoder_fusion_channels": _CHANNELS,
            },
            depth=4,
        ),
        Architecture("FCN32s", _EVERY | _FCN),
        Architecture("FCN16s", _EVERY | _FCN),
        Architecture("FCN8s", _EVERY | _FCN),
        Architecture("LightFPN", _EVERY | {"decoder_channels": _CHANNELS, "decoder_dropout": fraction}),
        Architecture(
            "SegNet",
            _SIZES | {"encoder_name": choice("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")},
            required=("in_channels", "classes"),
        ),
        Architecture(
            "PlainUnet",
            _SIZES
            | {
                "depth": integer(1, 7),
                "channels": integer(1, 1024),
                "batch_norm": boolean,
                "dropout": fraction,
                "skip": boolean,
            },
            depth=PLAIN_UNET_DEPTH,
            required=("in_channels", "classes"),
            conflict_between=_deepest_width,
        ),
    )
}
"""All architectures by name."""


def output_classes(arguments: Mapping[str, Any]) -> int:
    """Return how many classes a network distinguishes: one output channel separates two, its class and the rest."""
    return max(int(arguments["classes"]), 2)


def may_have_one_size(arguments: Mapping[str, Any]) -> bool:
    """Return whether a network may accept only one window size, as many of timm's do: only a trial run can tell."""
    return str(arguments.get("encoder_name")).startswith("tu-")


def architecture_named(name: object) -> Architecture:
    """Return an architecture by name, ignoring case. ModelError, listing the known names, if there is none."""
    for candidate, architecture in ARCHITECTURES.items():
        if isinstance(name, str) and name.lower() == candidate.lower():
            return architecture
    raise ModelError(f"unknown architecture {one_line(repr(name), 60)}; geoseg knows {', '.join(ARCHITECTURES)}")


def timm_name_of(name: str) -> str | None:
    """Return timm's name for an encoder that smp takes from timm, None for smp's own encoders."""
    if name.startswith("tu-"):
        return name.removeprefix("tu-")
    if name.startswith(_RENAMED):
        timm_name = name.removeprefix("timm-")
        return f"tf_{timm_name}" if timm_name.startswith("mobilenetv3") else timm_name
    return None


def check_encoder_name(name: str) -> None:
    """Raise ModelError for an encoder whose name appears nowhere in the source code of smp or timm.

    A name that passes may still be unknown: `check_encoder` asks the libraries. If they are not installed, all pass.
    """
    timm_name = timm_name_of(name)
    of_smp, of_timm = _words(_SMP, "encoders"), _words("timm", "models")
    is_of_timm = timm_name is not None and timm_name.partition(".")[0] in of_timm
    if of_smp and of_timm and name not in of_smp and not is_of_timm:
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


def is_weights_file(weights: str) -> bool:
    """Return whether encoder weights are given as a file: their names have no dot or slash."""
    return "." in weights or "/" in weights or os.sep in weights


def check_encoder_weights_name(architecture: str, encoder: str | None, weights: str | None) -> None:
    """Raise ModelError for a missing file, or weights not listed for the encoder in the source code of smp and timm.

    Weights that pass may still be wrong: `check_encoder_weights` asks smp and timm, and reads the file.
    """
    if weights is None:
        return
    if "encoder_name" not in architecture_named(architecture).checks:
        raise no_encoder(architecture, weights)
    if is_weights_file(weights):
        weights_beginning(Path(weights))
    elif encoder is not None and (available := _weights_in_sources(encoder)) and weights not in available:
        raise unknown_encoder_weights(encoder, weights, available)


def weights_beginning(path: Path) -> bytes:
    """Return the first bytes of a file of encoder weights; ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as fault:
        raise ModelError(f"encoder weights {path} cannot be read: {fault.strerror or fault}") from None


def no_encoder(architecture: str, weights: str) -> ModelError:
    """Return the error for encoder weights given to an architecture without an encoder."""
    return ModelError(
        f"{architecture} has no encoder, so `encoder_weights={one_line(weights, 40)!r}` cannot be used; "
        "give `encoder_weights=None`",
        "encoder_weights",
    )


def unknown_encoder_weights(encoder: str, weights: str, known: Collection[str]) -> ModelError:
    """Return the error for weights that do not exist for an encoder."""
    return ModelError(
        f"encoder {encoder} has no weights {one_line(repr(weights), 40)}; it has {', '.join(known) or 'none'}; "
        "give another name or a file of weights, or `encoder_weights=None` for random ones",
        "encoder_weights",
    )


def _weights_in_sources(encoder: str) -> tuple[str, ...]:
    """Return the names of an encoder's weights listed in the source code; empty if they are not listed one by one.

    smp has a dict per encoder, timm a name with a tag for each set of weights.
    """
    timm_name = timm_name_of(encoder)
    if timm_name is not None:
        tags = _timm_tags().get(timm_name, [])
        return (USUAL_WEIGHTS, *tags) if tags else ()
    source, name = _source(_SMP, "encoders"), re.escape(encoder)
    entry = re.search(rf"^    [\"']{name}[\"']: \{{\n(.*?)^    \}}", source, re.MULTILINE | re.DOTALL)
    settings = entry and re.search(
        r"^        [\"']pretrained_settings[\"']: \{\n(.*?)^        \}", entry[1], re.MULTILINE | re.DOTALL
    )
    return tuple(re.findall(r"^            [\"']([^\"']+)[\"']: \{", settings[1], re.MULTILINE)) if settings else ()


@functools.cache
def _timm_tags() -> Mapping[str, list[str]]:
    """Return the tags of timm's weights by model name."""
    tags: dict[str, list[str]] = {}
    for name, tag in re.findall(r"[\"'](\w+)\.([\w-]+)[\"']\s*:", _source("timm", "models")):
        tags.setdefault(name, []).append(tag)
    return tags


@functools.cache
def _words(package: str, folder: str) -> frozenset[str]:
    """Return every word in a folder's modules that could be a name."""
    return frozenset(re.findall(r"\w[\w-]*", _source(package, folder)))


@functools.cache
def _source(package: str, folder: str) -> str:
    """Return the source code of the modules in a package's folder; empty if it is not installed as files."""
    spec = importlib.util.find_spec(package)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for place in places for file in sorted(Path(place, folder).glob("*.py"))]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
