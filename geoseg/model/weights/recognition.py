"""Recognizes a weights file's network from the names and shapes of its tensors, and proves it by building the network.

Nothing here allocates memory for weights: networks are built on torch's meta device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from geoseg.errors import ModelError, numbered, one_line
from geoseg.model.bundle import ARCHITECTURES, architecture_named, timm_name_of
from geoseg.model.network import (
    COMPUTED,
    WRAPPER,
    check_encoder,
    encoders_like,
    is_classifier,
    parameter_shapes,
    plain_name,
)
from geoseg.model.weights.weights_file import HEAD, check_names

Shapes = Mapping[str, tuple[int, ...]]

_MARKS: tuple[tuple[str, str], ...] = (
    ("MAnet", r"decoder\.center\.top_conv\.weight"),
    ("UnetPlusPlus", r"decoder\.blocks\.x_0_0\.conv1\.0\.weight"),
    ("Unet", r"decoder\.blocks\.0\.conv1\.0\.weight"),
    ("Linknet", r"decoder\.blocks\.0\.block\.0\.0\.weight"),
    ("FPN", r"decoder\.p5\.weight"),
    ("PSPNet", r"decoder\.psp\.blocks\.0\.pool\.1\.0\.weight"),
    ("DeepLabV3Plus", r"decoder\.aspp\.0\.convs\.0\.0\.weight"),
    ("DeepLabV3", r"decoder\.(?:aspp|0)\.convs\.0\.0\.weight"),
    ("PAN", r"decoder\.fpa\.branch1\.1\.conv\.weight"),
    ("UPerNet04", r"decoder\.fpn_bottleneck\.0\.weight"),
    ("UPerNet", r"decoder\.fusion_block\.0\.weight"),
    ("Segformer", r"decoder\.mlp_stage\.0\.linear\.weight"),
    ("DPT", r"decoder\.reassemble_blocks\.0\.project_to_out_channel\.weight"),
    ("LightFPN", r"decoder\.laterals\.0\.0\.weight"),
    ("FCN8s", r"skip_heads\.1\.weight"),
    ("FCN16s", r"skip_heads\.0\.weight"),
    ("PlainUnet", r"decoder\.0\.convolutions\.0\.weight"),
    ("SegNet", r"decoder\.0\.0\.0\.weight"),
)
"""Architectures, each with the name of a tensor that identifies it, without prefix. The first match counts."""
_CANNOT_BE_BUILT = 10**6
"""Stands for the number of differing tensors if the network cannot be built."""
_OTHER_HEADS = ("classification_head.", "aux_head.")
_COPIES = re.compile(r"ema|teacher|avg|average|shadow|aux|target|swa|momentum", re.IGNORECASE)
"""Matches prefixes of a second copy of a network, saved with it."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known about a network besides its tensors."""

    architecture: str | None = None
    encoder: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    optional_arguments: Mapping[str, Any] = field(default_factory=dict)
    """More arguments, used if the encoder has them."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Prefixes of tensor names, mapped to a network's. If any tensor has one, those that have none are left out."""
    words: tuple[str, ...] = ()
    """Texts found with the weights, such as settings and the file's name; they decide if tensors are ambiguous."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """A network, and the names of its tensors in a file."""

    architecture: str
    arguments: dict[str, Any]
    names: dict[str, str]
    """For each tensor of the network, its name in the file, except for counters that the file lacks."""
    unused: tuple[str, ...]
    """Tensors of the file that are not the network's: of a loss, of metrics, of a second copy."""
    assumed: tuple[str, ...] = ()
    """Arguments that no tensor reveals: the depth is the first that fits, the others are smp's defaults."""

    def __str__(self) -> str:
        encoder = self.arguments.get("encoder_name")
        bands, classes = self.arguments["in_channels"], self.arguments["classes"]
        what = "one channel (a class against the rest)" if classes == 1 else f"{classes} classes"
        return f"{self.architecture}{f' on {encoder}' if encoder else ''}, {numbered(bands, 'band')}, {what}"


def recognize(found: Shapes, hints: Hints, where: str) -> Recognized:
    """Return the network that tensors are for. ModelError, naming the first that differs, if geoseg has none that fits.

    `where`: the file, for messages.
    """
    renamed = _renamed(found, hints.prefixes)
    check_names(renamed, where)
    prefix = _prefix(renamed)
    own_names = {name.removeprefix(prefix): stored for name, stored in renamed.items() if name.startswith(prefix)}
    stored_names = _current_names(own_names)
    shapes = {name: found[stored] for name, stored in stored_names.items()}
    architecture = _architecture(shapes, hints, where)
    encoders = _encoders(architecture, shapes, hints, where)
    fits, faults = _fits(architecture, encoders, shapes, hints, may_leave_out=False)
    if not fits:
        fits, faults = _fits(architecture, encoders, shapes, hints, may_leave_out=True)
    if not fits:
        if min(faults)[0] == _CANNOT_BE_BUILT:  # such a network cannot exist, whatever the tensors are
            raise ModelError(f"{where}: {faults[0][1]}", "arguments" if hints.arguments else None)
        raise ModelError(
            f"{where} fits no network that geoseg knows; the closest is {min(faults)[1]}; describe it with "
            "`architecture`, `encoder` and `arguments`, or export the network to ONNX and use that"
        )
    arguments, matched = _only_fit(fits, hints, where)
    names = {key: stored_names[name] for key, name in matched.items()}
    used = set(names.values())
    unused = tuple(name for name in found if name not in used)
    return Recognized(architecture, arguments, names, unused, _unrevealed(architecture, arguments, hints))


def _fits(
    architecture: str, encoders: list[str | None], shapes: Shapes, hints: Hints, *, may_leave_out: bool
) -> tuple[list[tuple[dict[str, Any], dict[str, str]]], list[tuple[int, str]]]:
    """Return the arguments and tensor names of each encoder that fits, at the first depth that does, and all faults."""
    fits, faults = [], []
    for encoder in encoders:
        for arguments in _depths(architecture, _arguments(architecture, encoder, shapes, hints)):
            try:
                complete_arguments = _with_optional(architecture, arguments, hints)
                names = _matched(architecture, complete_arguments, shapes, may_leave_out=may_leave_out)
            except _Misfit as fault:
                faults.append((fault.count, f"{architecture}{f' on {encoder}' if encoder else ''}: {fault}"))
            except ModelError as fault:
                faults.append((_CANNOT_BE_BUILT, str(fault)))
            else:
                fits.append((complete_arguments, names))
                break
    return fits, faults


def _renamed(found: Shapes, prefixes: Mapping[str, str]) -> dict[str, str]:
    """Map the names of tensors, with prefixes replaced, to those in the file; unchanged if no prefix occurs."""
    renamed = {
        new + name.removeprefix(old): name for name in found for old, new in prefixes.items() if name.startswith(old)
    }
    return renamed or {name: name for name in found}


def _prefix(names: Collection[str]) -> str:
    """Return the prefix of the network's tensor names; if there are several copies, that of the network itself."""
    heads = {match[1] for match in map(HEAD.match, names) if match}
    sizes = {prefix: sum(name.startswith(prefix) for name in names) for prefix in heads}
    return min(heads, key=lambda prefix: (bool(_COPIES.search(prefix)), -sizes[prefix], len(prefix), prefix))


_RENAMED = (("decoder.0.", "decoder.aspp."), ("decoder.1.", "decoder.conv."), ("decoder.2.", "decoder.bn."))
"""Names in DeepLabV3's decoder before smp 0.5, and since."""


def _current_names(names: dict[str, str]) -> dict[str, str]:
    """Return a network's tensor names as spelled by current libraries."""
    names = {WRAPPER.sub("", name): stored for name, stored in names.items()}
    if not any(name.startswith("decoder.0.convs.") for name in names):
        return names
    renamed = {}
    for name, stored in names.items():
        old, new = next(((old, new) for old, new in _RENAMED if name.startswith(old)), ("", ""))
        renamed[new + name.removeprefix(old)] = stored
    return renamed


def _architecture(shapes: Shapes, hints: Hints, where: str) -> str:
    if hints.architecture is not None:
        return architecture_named(hints.architecture).name
    for architecture, mark in _MARKS:
        if any(re.fullmatch(mark, name) for name in shapes):
            return architecture
    parts = sorted({".".join(name.split(".")[:2]) for name in shapes if not name.startswith("encoder.")})
    raise ModelError(
        f"{where} has a decoder that geoseg does not recognize ({one_line(', '.join(parts[:4]), 90)}); name its "
        f"`architecture` ({', '.join(ARCHITECTURES)}), or export the network to ONNX and use that"
    )


def _encoders(architecture: str, shapes: Shapes, hints: Hints, where: str) -> list[str | None]:
    if "encoder_name" not in architecture_named(architecture).checks:
        return [hints.encoder]
    if hints.encoder is not None:
        check_encoder(hints.encoder)
        return [hints.encoder]
    encoder = {name.removeprefix("encoder."): shape for name, shape in shapes.items() if name.startswith("encoder.")}
    encoder = {name: shape for name, shape in encoder.items() if not is_classifier(name)}
    candidates = list(dict.fromkeys(encoders_like(encoder))) or _encoders_in(hints.words)
    if not candidates:
        first = next((f"{name} {list(shape)}" for name, shape in encoder.items()), "none")
        raise ModelError(
            f"{where} is a {architecture} whose encoder geoseg does not recognize (its first tensor is "
            f"{one_line(first, 60)}); name it: `encoder=NAME` for an encoder of smp, `encoder=tu-NAME` for one of timm",
            "encoder",
        )
    return list(_without_synonyms(candidates))


def _without_synonyms(names: Iterable[str]) -> Iterator[str]:
    """Yield one name per encoder: smp has its own names for some of timm's."""
    seen = set()
    for name in sorted(names, key=lambda name: name.startswith("tu-")):
        timm_name = timm_name_of(name) or name
        if timm_name not in seen:
            seen.add(timm_name)
            yield name


def _encoders_in(words: Iterable[str]) -> list[str]:
    encoders = []
    for word in dict.fromkeys(words):
        for name in (word, f"tu-{word}"):
            try:
                check_encoder(name)
            except ModelError:
                continue
            encoders.append(name)
    return encoders


def _only_fit(
    fits: list[tuple[dict[str, Any], dict[str, str]]], hints: Hints, where: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the only network that fits, or the one of several that is named in the texts with the weights."""
    if len(fits) > 1:
        named = _names_in({_timm_encoder(arguments) for arguments, _ in fits}, hints.words)
        fits = [fit for fit in fits if {_timm_encoder(fit[0])} == named] or fits
    if len(fits) > 1:
        encoders = ", ".join(sorted(str(arguments["encoder_name"]) for arguments, _ in fits))
        raise ModelError(
            f"{where} fits several encoders, which may compute differently with the same weights: {encoders}; name the "
            "right one with `encoder`",
            "encoder",
        )
    return fits[0]


_SMP_NAME = re.compile(r"(?:timm|tu)-\w+")
"""Encoders as named by smp; timm has different encoders under some of these names."""


def _timm_encoder(arguments: Mapping[str, Any]) -> str:
    """Return the name of the encoder in lower case, timm's if it has one."""
    encoder = str(arguments["encoder_name"])
    return (timm_name_of(encoder) or encoder).casefold()


def _names_in(names: set[str], words: Iterable[str]) -> set[str]:
    """Return the names that occur in texts; occurrences within a longer name do not count."""
    text = _SMP_NAME.sub(lambda name: timm_name_of(name[0]) or name[0], " ".join(words).casefold())
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return set(re.findall(rf"(?<![a-z0-9])(?:{longest_first})(?![a-z0-9])", text))


def _arguments(architecture: str, encoder: str | None, shapes: Shapes, hints: Hints) -> dict[str, Any]:
    """Return the arguments derived from shapes; given arguments take precedence."""
    derived: dict[str, Any] = {"in_channels": 3, "classes": _channels(shapes)}
    if architecture in _OTHER_SIZES:
        derived |= _OTHER_SIZES[architecture](shapes)
    derived |= {name: _width(shapes, layer) for name, layer in _WIDTHS.get(architecture, {}).items()}
    if any(_WITHOUT_NORM.fullmatch(name) for name in shapes):
        derived["decoder_use_norm"] = False
    if encoder is not None:
        derived["encoder_name"] = encoder
    return derived | dict(hints.arguments)


_WITHOUT_NORM = re.compile(r"decoder\.(?:blocks\.(?:0|x_0_0)\.(?:conv1|block\.0)|conv|psp\.blocks\.0\.1)\.0\.bias")
"""Biases of a decoder's convolutions, which have none if a normalization follows."""


def _depths(architecture: str, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the arguments unchanged, then, if they give no depth, with each depth that an encoder may have."""
    yield arguments
    network = architecture_named(architecture)
    if "encoder_depth" in network.checks and "encoder_depth" not in arguments:
        for depth in (5, 4, 3, 2, 1):
            if depth != network.depth and network.checks["encoder_depth"](depth) is None:
                stride = _HEAD_STRIDES.get(architecture)
                yield ({"upsampling": stride(depth)} if stride else {}) | arguments | {"encoder_depth": depth}


_HEAD_STRIDES: dict[str, Callable[[int], int]] = {
    "FPN": lambda depth: 2 ** (depth - 3),
    "PSPNet": lambda depth: 2**depth,
}
"""By what scores are enlarged to the size of the window, by the encoder's depth; smp's default is that of one depth."""


def _with_optional(architecture: str, arguments: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Return the arguments, with the optional ones if this encoder has them."""
    if not hints.optional_arguments:
        return arguments
    try:
        parameter_shapes(architecture, dict(hints.optional_arguments) | arguments)
    except ModelError:
        return arguments
    return dict(hints.optional_arguments) | arguments


def _channels(shapes: Shapes) -> int:
    """Return the number of output channels: the length of the head's last bias."""
    biases = [shapes[name] for name in shapes if name.startswith("segmentation_head.") and name.endswith("bias")]
    return biases[-1][0] if biases and biases[-1] else 1


class _Misfit(Exception):  # noqa: N818 - it only rules out one of several candidates
    """The tensors are not for this network."""

    def __init__(self, difference: str, count: int) -> None:
        super().__init__(difference)
        self.count = count


def _matched(architecture: str, arguments: dict[str, Any], shapes: Shapes, *, may_leave_out: bool) -> dict[str, str]:
    """Map each tensor of a network to its name among the shapes; set the number of bands in `arguments`.

    `may_leave_out`: whether the shapes may include stages that are too deep for the network.
    """
    if arguments["in_channels"] == 3:
        arguments["in_channels"] = _band_count(parameter_shapes(architecture, arguments), shapes) or 3
    expected = parameter_shapes(architecture, arguments)
    stored_names = _stored_names(expected, shapes)
    missing = [name for name in expected if name not in stored_names and not name.endswith(COMPUTED)]
    reshaped = [
        f"{name} is {list(shapes[stored])}, expected {list(expected[name])}"
        for name, stored in stored_names.items()
        if shapes[stored] != expected[name]
        and not name.endswith(COMPUTED)
        and not _is_unused(architecture, name, expected)
    ]
    used = set(stored_names.values())
    extra = [name for name in shapes if name not in used and _is_of_same_part(name, expected)]
    if may_leave_out and extra and not missing and not reshaped:
        left_out = _left_out_stages(architecture, arguments, shapes)
        extra = [name for name in extra if name not in left_out]
    if missing or reshaped or extra:
        raise _Misfit(_difference(reshaped, missing, extra), len(missing) + len(reshaped) + len(extra))
    return {name: stored for name, stored in stored_names.items() if shapes[stored] == expected[name]}


def _difference(reshaped: list[str], missing: list[str], extra: list[str]) -> str:
    """Describe the first differences in words."""
    differences = (("", reshaped, None), ("it lacks ", missing, None), ("it also has ", extra, 60))
    return "; ".join(
        f"{words}{one_line(items[0], most)}{f' (and {len(items) - 1} more)' if len(items) > 1 else ''}"
        for words, items, most in differences
        if items
    )


def _band_count(expected: Shapes, shapes: Shapes) -> int | None:
    """Return the number of bands, from a tensor that differs from that for three bands only in its second axis."""
    for name, stored in _stored_names(expected, shapes).items():
        old, new = expected[name], shapes[stored]
        if not name.startswith("encoder."):  # UPerNet04's decoder has an unused tensor with an axis of bands
            continue
        if len(old) == len(new) > 1 and old[1] == 3 != new[1] and old[:1] + old[2:] == new[:1] + new[2:]:
            return new[1]
    return None


def _stored_names(expected: Shapes, shapes: Shapes) -> dict[str, str]:
    """Map a network's tensors to names in the file: dots and underscores are equal, and old versions lack `model.`."""
    plain = {plain_name(name): name for name in shapes}
    stored_names = {}
    for name in expected:
        stored = plain.get(plain_name(name)) or plain.get(plain_name(name.replace("encoder.model.", "encoder.", 1)))
        if stored is not None:
            stored_names[name] = stored
    return stored_names


def _is_unused(architecture: str, name: str, expected: Shapes) -> bool:
    """Return whether a tensor is never read: the last level of UPerNet04, whose shape varies between programs."""
    last = _numbers(expected, r"decoder\.fpn_stages\.(\d+)\.skip_conv\.0\.weight")[-1:]
    return architecture == "UPerNet04" and name == f"decoder.fpn_stages.{last[0]}.skip_conv.0.weight"


def _is_of_same_part(name: str, expected: Shapes) -> bool:
    """Return whether an extra tensor is in a part that the network has, so that the file is for a larger network."""
    if name.startswith(_OTHER_HEADS) or name.endswith(COMPUTED) or is_classifier(name.removeprefix("encoder.")):
        return False
    part = name.partition(".")[0]
    return any(own_name.startswith(f"{part}.") for own_name in expected)


def _left_out_stages(architecture: str, arguments: Mapping[str, Any], shapes: Shapes) -> set[str]:
    """Return the tensors of stages that a shallow network leaves out; smp before 0.5 saved them for many encoders."""
    arguments = {name: value for name, value in arguments.items() if name != "decoder_channels"} | {"encoder_depth": 5}
    try:
        expected = parameter_shapes(architecture, arguments)
    except ModelError:  # it has no depth, or no such depth
        return set()
    stored_names = _stored_names({name: expected[name] for name in expected if name.startswith("encoder.")}, shapes)
    return {stored for name, stored in stored_names.items() if shapes[stored] == expected[name]}


_WIDTHS: dict[str, dict[str, str]] = {
    "MAnet": {"decoder_pab_channels": "decoder.center.top_conv"},
    "PSPNet": {"psp_out_channels": "decoder.conv.0"},
    "DeepLabV3": {"decoder_channels": "decoder.aspp.convs.0.0"},
    "DeepLabV3Plus": {"decoder_channels": "decoder.aspp.0.convs.0.0"},
    "PAN": {"decoder_channels": "decoder.fpa.branch1.1.conv"},
    "UPerNet": {"decoder_channels": "decoder.fusion_block.0"},
    "UPerNet04": {
        "decoder_pyramid_channels": "decoder.psp.out_conv.0",
        "decoder_segmentation_channels": "decoder.fpn_bottleneck.0",
    },
    "LightFPN": {"decoder_channels": "decoder.laterals.0.0"},
}
"""Arguments of an architecture that are the number of output channels of a layer, and that layer."""


def _width(shapes: Shapes, layer: str) -> int:
    shape = shapes.get(f"{layer}.weight")
    return shape[0] if shape else 1


def _unet(shapes: Shapes, blocks: str = "decoder.blocks.") -> dict[str, Any]:
    levels = _numbers(shapes, rf"{re.escape(blocks)}(\d+)\.conv2\.0\.weight")
    channels = [_width(shapes, f"{blocks}{level}.conv2.0") for level in levels]
    arguments: dict[str, Any] = {"encoder_depth": len(levels), "decoder_channels": channels}
    if any(".attention1.attention.cSE" in name for name in shapes):
        arguments["decoder_attention_type"] = "scse"
    return arguments


def _unet_plus_plus(shapes: Shapes) -> dict[str, Any]:
    """Return the arguments from the blocks x_0_0, x_0_1, ..., which alone determine the widths."""
    return _unet(shapes, "decoder.blocks.x_0_")


def _linknet(shapes: Shapes) -> dict[str, Any]:
    return {"encoder_depth": len(_numbers(shapes, r"decoder\.blocks\.(\d+)\.block\.0\.0\.weight"))}


def _fpn(shapes: Shapes) -> dict[str, Any]:
    segmentation = _width(shapes, "decoder.seg_blocks.0.block.0.block.0")
    head = shapes.get("segmentation_head.0.weight", (1, segmentation))[1]
    return {
        "decoder_pyramid_channels": _width(shapes, "decoder.p5"),
        "decoder_segmentation_channels": segmentation,
        "decoder_merge_policy": "cat" if head != segmentation else "add",
    }


def _deeplab(shapes: Shapes) -> dict[str, Any]:
    return {"decoder_aspp_separable": True} if "decoder.aspp.convs.1.0.1.weight" in shapes else {}


def _deeplab_plus(shapes: Shapes) -> dict[str, Any]:
    return {} if "decoder.aspp.0.convs.1.0.1.weight" in shapes else {"decoder_aspp_separable": False}


def _segformer(shapes: Shapes) -> dict[str, Any]:
    return {"decoder_segmentation_channels": shapes.get("segmentation_head.0.weight", (1, 256))[1]}


def _dpt(shapes: Shapes) -> dict[str, Any]:
    levels = _numbers(shapes, r"decoder\.reassemble_blocks\.(\d+)\.project_to_out_channel\.weight")
    blocks = [f"decoder.reassemble_blocks.{level}" for level in levels]
    return {
        "encoder_depth": len(levels),
        "decoder_intermediate_channels": [_width(shapes, f"{block}.project_to_out_channel") for block in blocks],
        "decoder_fusion_channels": _width(shapes, f"{blocks[0]}.project_to_feature_dim") if blocks else 256,
        "decoder_readout": "cat" if any("projection_blocks" in name for name in shapes) else "ignore",
    }


def _plain_unet(shapes: Shapes) -> dict[str, Any]:
    depth = len(_numbers(shapes, r"decoder\.(\d+)\.convolutions\.0\.weight"))
    channels = _width(shapes, "encoder.0.0")
    input_channels = shapes.get(f"decoder.{depth - 1}.convolutions.0.weight", (1, 2 * channels))[1]
    return {
        "depth": depth,
        "channels": channels,
        "batch_norm": "encoder.0.1.running_mean" in shapes,
        "skip": input_channels == 2 * channels,
    }


_OTHER_SIZES: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "Unet": _unet,
    "UnetPlusPlus": _unet_plus_plus,
    "MAnet": _unet,
    "Linknet": _linknet,
    "FPN": _fpn,
    "DeepLabV3": _deeplab,
    "DeepLabV3Plus": _deeplab_plus,
    "Segformer": _segformer,
    "DPT": _dpt,
    "PlainUnet": _plain_unet,
}
"""Functions that derive an architecture's other arguments from shapes."""
_UNREVEALED: dict[str, tuple[str, ...]] = {
    "Unet": ("decoder_interpolation",),
    "UnetPlusPlus": ("decoder_interpolation",),
    "MAnet": ("decoder_interpolation",),
    "FPN": ("decoder_interpolation",),
    "DeepLabV3": ("encoder_output_stride", "decoder_atrous_rates"),
    "DeepLabV3Plus": ("encoder_output_stride", "decoder_atrous_rates"),
    "PAN": ("encoder_output_stride", "decoder_interpolation"),
    "PSPNet": ("encoder_depth",),
    "DPT": ("decoder_readout",),
}
"""Arguments of an architecture that affect its computation, but not its tensors."""


def _unrevealed(architecture: str, arguments: Mapping[str, Any], hints: Hints) -> tuple[str, ...]:
    names = _UNREVEALED.get(architecture, ())
    if arguments.get("decoder_readout") == "cat":  # the only readout of a DPT that has its own tensors
        names = ()
    if "encoder_depth" in names and not _fits_other_depth(architecture, arguments):
        names = ()
    return tuple(name for name in names if name not in hints.arguments)


def _fits_other_depth(architecture: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether a network of another depth has the same tensors: VGG has 512 channels at three depths."""
    shapes = parameter_shapes(architecture, dict(arguments))
    own_depth = arguments.get("encoder_depth", architecture_named(architecture).depth)
    for depth in {1, 2, 3, 4, 5} - {own_depth}:
        with suppress(ModelError):  # it has no such depth
            if parameter_shapes(architecture, {**arguments, "encoder_depth": depth}) == shapes:
                return True
    return False


def _numbers(shapes: Shapes, pattern: str) -> list[int]:
    """Return the numbers in names that match a pattern, ascending."""
    return sorted({int(match[1]) for name in shapes if (match := re.fullmatch(pattern, name))})
