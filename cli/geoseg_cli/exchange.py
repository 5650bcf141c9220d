"""`geoseg import` and `geoseg export`: models from and for other programs.

Also the options with which any command completes a model from another program, and the completed model.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import GeosegWarning, UsageError
from geoseg.machine import size_text
from geoseg_cli import options
from geoseg_cli import parameter_types as types
from geoseg_cli.options import Decorator, GroupedCommand, grouped, path_argument, together
from geoseg_cli.output import say

if TYPE_CHECKING:
    from geoseg.model import ModelBundle, Normalization

_OUTPUT, _NETWORK, _MODEL, _KNOWN = "Output", "Network", "Model", "What the file does not say"
_NAMES = ("legend", "mean", "std", "dtype", "gsd_m", "activation", "network_output")
"""Options that complete a model from another program, as arguments."""


def foreign_options(heading: str) -> Decorator:
    """Return the options for what an ONNX file, or a folder written by save_pretrained, does not state itself."""
    option = grouped(heading)
    return together(
        option(
            "--legend", metavar="FILE",
            help="Classes of an ONNX file or a save_pretrained folder: .json, "
            '[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...] in the order of the output channels, or .csv, '
            ".qml, .sld, .clr.",
        ),
        option(
            "--mean", type=types.numbers, metavar="N,N,N",
            help="Mean of each band for such a model, as stored; for uint8 also on a scale of 0 to 1.",
        ),
        option(
            "--std", type=types.numbers_or_none, metavar="N,N,N",
            help="Standard deviation of each band for such a model, likewise; none: subtract the mean only, divide by "
            "nothing.",
        ),
        option(
            "--dtype", type=types.one_of("dtype", types.DATA_TYPES), metavar="NAME",
            help=f"Data type of its training imagery: {types.listed(types.DATA_TYPES)}. [default: uint8; uint16 for "
            "numbers above 255]",
        ),
        option("--gsd", "gsd_m", type=float, metavar="M", help="Pixel size of its training imagery, in meters."),
        option(
            "--activation", type=types.word("activation", *types.ACTIVATIONS), metavar="NAME",
            help="What turns an ONNX file's output into probabilities: softmax, sigmoid or none. [default: detected]",
        ),
        option(
            "--network-output", metavar="NAME",
            help="Output of an ONNX file to use. [default: the only one that fits]",
        ),
    )  # fmt: skip


def _list_presets(context: click.Context, _parameter: click.Parameter, requested: bool) -> None:  # noqa: FBT001 - click's
    if not requested or context.resilient_parsing:
        return
    from geoseg.model import PRESETS

    for preset in PRESETS.values():
        click.echo(f"{preset.name}\n    {preset.title}; {preset.gsd_m:g} m\n    {preset.license}\n    {preset.url}")
    context.exit()


@click.command("import", cls=GroupedCommand, short_help="Make a model of weights trained elsewhere.")
@path_argument("weights")
@options.out(_OUTPUT, "Bundle to write: model.safetensors.")
@grouped(_OUTPUT)("--name", metavar="TEXT", help="The model's name. [default: the file's]")
@options.replacing(_OUTPUT, "Replace an existing file.")
@options.telling(_OUTPUT, "Print the bundle's card as JSON.", has_progress=False)
@grouped(_KNOWN)(
    "--preset", metavar="NAME",
    help="Weights that geoseg knows by name: classes, normalization, pixel size. [default: found by the file]",
)  # fmt: skip
@grouped(_KNOWN)(
    "--list-presets", is_flag=True, is_eager=True, expose_value=False, callback=_list_presets,
    help="Print the presets and exit.",
)  # fmt: skip
@grouped(_KNOWN)(
    "--legend", metavar="FILE",
    help='Classes in the order of the output channels: .json ([{"code": 0, "name": "water", "color": [0, 0, 255]}, '
    "...]), .csv, .qml, .sld or .clr.",
)  # fmt: skip
@grouped(_KNOWN)(
    "--mean",
    type=types.numbers,
    metavar="N,N,N",
    help="Mean of each band, as stored; for uint8 also on a scale of 0 to 1.",
)
@grouped(_KNOWN)(
    "--std", type=types.numbers_or_none, metavar="N,N,N",
    help="Standard deviation of each band, likewise; none: subtract the mean only, divide by nothing.",
)  # fmt: skip
@options.bands(_KNOWN, "Names of the bands: red,green,blue,nir. [default: red,green,blue where there are three]")
@grouped(_KNOWN)(
    "--dtype", type=types.one_of("dtype", types.DATA_TYPES), metavar="NAME",
    help=f"Data type of the imagery: {types.listed(types.DATA_TYPES)}. [default: uint8; uint16 for numbers above 255]",
)  # fmt: skip
@grouped(_KNOWN)("--gsd", "gsd_m", type=float, metavar="M", help="Pixel size of the imagery in meters.")
@grouped(_KNOWN)(
    "--window", "window_px", type=int, metavar="PX", help="Side of the windows. [default: 512, if the network takes it]"
)
@grouped(_KNOWN)(
    "--overlap",
    "overlap_px",
    type=int,
    metavar="PX",
    help="Pixels shared by neighboring windows. [default: a quarter of the window]",
)
@grouped(_NETWORK)("--architecture", metavar="NAME", help="Unet, FPN, ... [default: from the tensors]")
@grouped(_NETWORK)("--encoder", metavar="NAME", help="resnet34, tu-convnext_tiny, ... [default: from the tensors]")
@grouped(_NETWORK)(
    "--arguments",
    type=types.JsonObject(),
    metavar="JSON",
    help='More arguments of the architecture: {"encoder_output_stride": 8}.',
)
def import_weights(weights: str, out: str, *, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401 - click's
    """Turn WEIGHTS that were trained elsewhere into a model.

    WEIGHTS is a state dict or a Lightning checkpoint (.pth, .pt, .ckpt, .bin), a plain .safetensors file, or a folder
    written by save_pretrained, on the disk or on the Hugging Face hub (hf://owner/name/file). Nothing in it is run.
    geoseg recognizes the network by its tensors. Weights that geoseg knows (--list-presets) need no other options.

    Example: geoseg import FLAIR-INC_rgb_15cl_resnet34-unet_weights.pth --out flair.safetensors

    Example: geoseg import weights.pth --out model.safetensors --legend legend.json --mean 0.485,0.456,0.406
    --std 0.229,0.224,0.225
    """
    from geoseg.legend import legend_in_order
    from geoseg.model import import_weights as imported

    settings = options.used(arguments)
    legend, mean, std = (settings.pop(name, None) for name in ("legend", "mean", "std"))
    if legend is not None:
        settings["legend"], settings["output_codes"] = legend_in_order(legend)
    normalization = _stored_normalization(mean, std, settings.get("dtype"))
    if normalization is not None:
        settings["normalization"] = normalization
        settings.setdefault("dtype", _dtype(normalization))
    if "bands" in settings:
        settings["bands"] = _names(settings["bands"])
    bundle = imported(weights, out, announce=None if quiet else say, **settings)
    if not quiet:
        say(f"wrote {out}")
    if as_json:
        click.echo(json.dumps(bundle.to_json(), indent=2))


def _names(bands: tuple[int | str, ...]) -> tuple[str, ...]:
    numbers = [band for band in bands if isinstance(band, int)]
    if numbers:
        raise UsageError(f"`bands` must be names here, such as red,green,blue, got {numbers[0]}", "bands")
    return tuple(str(band) for band in bands)


@click.command(cls=GroupedCommand, short_help="Write a model for other programs.")
@path_argument("model", required=False)
@grouped(_OUTPUT)(
    "--out", "-o", metavar="FILE",
    help=".onnx: one input, probabilities, and the metadata that Deepness reads; or .pt2, an archive of torch.export.",
)  # fmt: skip
@grouped(_OUTPUT)(
    "--stac", metavar="JSON",
    help="Also write a STAC item (Machine Learning Model extension 1.5.2); without --out, of MODEL itself.",
)  # fmt: skip
@options.replacing(_OUTPUT, "Replace existing files.")
@options.telling(_OUTPUT, has_progress=False)
@grouped(_MODEL)(
    "--window", type=int, metavar="PX",
    help="Side of the windows. An exported network takes no other; for an .onnx file it is only recorded in the "
    "metadata. [default: the model's]",
)  # fmt: skip
@foreign_options(_MODEL)
def export(*, as_json: bool, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401
    """Write MODEL, a .safetensors bundle, for other programs: Deepness in QGIS, servers, catalogs.

    MODEL may also be an .onnx file: its network is unchanged, and --legend, --mean, --std and --gsd complete its
    metadata, so that it needs no options afterwards. Without MODEL the default model is exported: the environment
    variable GEOSEG_MODEL, else the demo model.

    Example: geoseg export model.safetensors --out model.onnx --stac model.json
    """
    settings = options.used(arguments)
    written = {name: settings[name] for name in ("out", "stac") if name in settings}
    from geoseg.model import export_model

    began = time.monotonic()
    settings = complete_model(settings)
    export_model(settings.pop("model", None), **settings)
    if not quiet:
        sizes = (f"{name} ({size_text(Path(name).stat().st_size)})" for name in written.values())
        say(f"wrote {' and '.join(sizes)} in {time.monotonic() - began:.1f} s")
    if as_json:
        click.echo(json.dumps(written, indent=2))


def complete_model(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a command's settings, with the model's path replaced by the model completed with `foreign_options`."""
    model_options = {name: settings[name] for name in _NAMES if name in settings}
    others = {name: value for name, value in settings.items() if name not in _NAMES}
    if not model_options:
        return others
    path = settings.get("model") or os.environ.get("GEOSEG_MODEL")
    return others | {"model": _completed_model(path, model_options, settings.get("bands"), settings.get("window"))}


def _completed_model(
    path: str | None, model_options: dict[str, Any], bands: tuple[int | str, ...] | None, window_px: int | None
) -> ModelBundle:
    """Return the model at a path; names in `bands` also name the model's bands."""
    from geoseg.legend import legend_in_order
    from geoseg.model import ModelBundle, fetch, is_demo, is_hub_address, is_onnx, open_at_need

    if path is None:
        raise UsageError(
            f"`{next(iter(model_options))}` is for an ONNX file or a folder; give that with `model`", "model"
        )
    fetched = fetch(path) if is_hub_address(path) else None
    path = path if fetched is None else str(fetched.address)  # with its file name, whose suffix gives the format
    legend, codes = legend_in_order(model_options["legend"]) if "legend" in model_options else (None, None)
    dtype = model_options.get("dtype")
    normalization = _stored_normalization(model_options.get("mean"), model_options.get("std"), dtype)
    metadata: dict[str, Any] = {
        "legend": legend, "output_codes": codes, "normalization": normalization, "dtype": dtype
    }  # fmt: skip
    if normalization is not None:
        names = tuple(band for band in bands or () if isinstance(band, str))
        named = len(set(names)) == len(bands or ()) == len(normalization.mean)
        metadata |= {"bands": names if named else None, "dtype": dtype or _dtype(normalization)}
    metadata["gsd_m"] = model_options.get("gsd_m")
    if is_onnx(Path(path)):
        onnx_options = {name: model_options.get(name) for name in ("activation", "network_output")}
        return open_at_need(
            lambda size_px: ModelBundle.from_onnx(path, window_px=size_px, **onnx_options, **metadata), window_px
        )
    for name in ("activation", "network_output"):
        if name in model_options:
            raise UsageError(f"`{name}` is for an ONNX file; {path} is not one, so leave it out", name)
    if is_demo(path) or (Path(path) if fetched is None else fetched.path).is_file():
        ModelBundle.open(path)  # for bare weights, its error explains how to make a model from them
        first = next(iter(model_options))
        raise UsageError(f"`{first}` is for an ONNX file or a folder; {path} has its own, so leave it out", first)
    if legend is None or normalization is None:
        raise UsageError("`legend`, `mean` and `std` go together, with `model=FOLDER` as written by save_pretrained")
    return ModelBundle.from_pretrained(path, **metadata)


def _stored_normalization(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | str | None, dtype: str | None = None
) -> Normalization | None:
    """Return mean and std in stored units, if both are given; for uint8 those on a scale of 0 to 1 are scaled.

    If `std` is the word none, nothing is divided, and the mean is in stored units.
    """
    from geoseg.model import VALUE_RANGES, Normalization

    if mean is None and std is None:
        return None
    if mean is None or std is None:
        lacking = "mean" if mean is None else "std"
        raise UsageError(f"`mean` and `std` go together; add `{lacking}`", lacking)
    if isinstance(std, str):
        std = (1.0,) * len(mean)
    elif dtype != "float32" and max(map(abs, (*mean, *std))) <= 1:  # like ImageNet's 0.485,0.456,0.406
        if dtype not in {None, "uint8"}:
            name, values = ("mean", mean) if any(mean) else ("std", std)
            raise UsageError(
                f"`{name}` of {max(values, key=abs):g} is on a scale of 0 to 1; give `mean` and `std` in stored units "
                f"for {dtype} (`std=none` divides by nothing)",
                name,
            )
        if not any(mean) and set(std) == {1.0}:
            warnings.warn(
                "a `mean` of 0 and a `std` of 1 are taken as those of values divided by 255; for a network that takes "
                "stored values as they are, use `std=none`",
                GeosegWarning,
                stacklevel=2,
            )
        mean, std = (tuple(255 * value for value in values) for values in (mean, std))
    if dtype == "uint8" and max(mean) > VALUE_RANGES[dtype][1]:
        raise UsageError(f"`mean` of {max(mean):g} is above 255, the largest uint8; give `dtype=uint16`", "mean")
    return Normalization(mean, std, VALUE_RANGES[dtype or ("uint16" if max(*mean, *std) > 255 else "uint8")])


def _dtype(normalization: Normalization) -> str:
    return "uint16" if normalization.value_range[1] > 255 else "uint8"
