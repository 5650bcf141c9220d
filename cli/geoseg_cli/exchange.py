"""`geoseg import` and `geoseg export`: models that come from other programs, and that go to them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from geoseg.errors import UsageError
from geoseg.machine import size_text
from geoseg_cli import foreign_model, options
from geoseg_cli import parameter_types as types
from geoseg_cli.foreign_model import read_legend, stored_normalization
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say

_OUTPUT, _NETWORK, _MODEL, _KNOWN = "Output", "Network", "Model", "What the file does not say"


def _list_presets(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's
    """Print the presets and exit."""
    if not asked or context.resilient_parsing:
        return
    from geoseg.model import PRESETS

    for preset in PRESETS.values():
        click.echo(f"{preset.name}\n    {preset.title}; {preset.gsd_m} m\n    {preset.license}\n    {preset.url}")
    context.exit()


@click.command("import", cls=GroupedCommand, short_help="Make a model of weights trained elsewhere.")
@path_argument("weights")
@options.out(_OUTPUT, "Bundle to write: model.safetensors.")
@grouped(_OUTPUT)("--name", metavar="TEXT", help="The model's name. [default: the file's]")
@options.mkdir(_OUTPUT)
@options.overwrite(_OUTPUT, "Replace an existing file.")
@options.as_json(_OUTPUT, "Print the bundle's card as JSON.")
@options.quiet(_OUTPUT)
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
    "...]), .csv, .qml or .clr.",
)  # fmt: skip
@grouped(_KNOWN)(
    "--mean",
    type=types.numbers,
    metavar="N,N,N",
    help="Mean of each band, as stored; for uint8 also on a scale of 0 to 1.",
)
@grouped(_KNOWN)("--std", type=types.numbers, metavar="N,N,N", help="Standard deviation of each band, likewise.")
@options.bands(_KNOWN, "Names of the bands: red,green,blue,nir. [default: red,green,blue where there are three]")
@grouped(_KNOWN)(
    "--dtype", metavar="NAME", words=("uint8", "uint16", "int16", "float32"),
    help="Data type of the imagery: uint8, uint16, int16 or float32. [default: uint8; uint16 for numbers above 255]",
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
    "--arguments", metavar="JSON", help='More arguments of the architecture: {"encoder_output_stride": 8}.'
)
def import_weights(weights: str, out: str, *, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401 - click's
    """Make a model of WEIGHTS that were trained elsewhere.

    WEIGHTS is a state dict or a Lightning checkpoint (.pth, .pt, .ckpt, .bin), a plain .safetensors file, or a folder
    written by save_pretrained, on the disk or on the Hugging Face hub (hf://owner/name/file). Nothing in it is run.
    geoseg recognizes the network by its tensors. Weights that geoseg knows (--list-presets) need no other options.

    Example: geoseg import FLAIR-INC_rgb_15cl_resnet34-unet_weights.pth --out flair.safetensors

    Example: geoseg import weights.pth --out model.safetensors --legend legend.json --mean 0.485,0.456,0.406
    --std 0.229,0.224,0.225
    """
    from geoseg.model import import_weights as imported

    settings = options.used(given)
    legend, mean, std = (settings.pop(name, None) for name in ("legend", "mean", "std"))
    if legend is not None:
        settings["legend"], settings["output_codes"] = read_legend(Path(legend))
    normalization = stored_normalization(mean, std, settings.get("dtype"))
    if normalization is not None:
        settings["normalization"] = normalization
        settings.setdefault("dtype", "uint16" if normalization.value_range[1] > 255 else "uint8")
    if "bands" in settings:
        settings["bands"] = _names(settings["bands"])
    if "arguments" in settings:
        settings["arguments"] = _object(settings["arguments"])
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


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f'`arguments` must be a JSON object such as {{"img_size": 512}}, got {text:.80}', "arguments")
    return value


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
@options.mkdir(_OUTPUT)
@options.overwrite(_OUTPUT, "Replace existing files.")
@options.as_json(_OUTPUT)
@options.quiet(_OUTPUT)
@grouped(_MODEL)(
    "--window", type=int, metavar="PX", help="Side of the windows, fixed in the exported file. [default: the model's]"
)
@foreign_model.options(_MODEL)
def export(*, as_json: bool, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Write MODEL, a .safetensors bundle, for other programs: Deepness in QGIS, servers, catalogs.

    MODEL may also be an .onnx file: its network stays as it is, and --legend, --mean, --std and --gsd complete its
    metadata, so that it needs no options afterwards. Without MODEL the default model is exported: the environment
    variable GEOSEG_MODEL, else the demo model.

    Example: geoseg export model.safetensors --out model.onnx --stac model.json
    """
    settings = options.used(given)
    written = {name: settings[name] for name in ("out", "stac") if name in settings}
    from geoseg.model import export_model

    began = time.monotonic()
    settings = foreign_model.complete(settings)
    export_model(settings.pop("model", None), **settings)
    if not quiet:
        sizes = (f"{name} ({size_text(Path(name).stat().st_size)})" for name in written.values())
        say(f"wrote {' and '.join(sizes)} in {time.monotonic() - began:.1f} s")
    if as_json:
        click.echo(json.dumps(written, indent=2))
