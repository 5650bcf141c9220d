"""`geoseg export`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from geoseg.machine import size_text
from geoseg_cli import foreign_model, options
from geoseg_cli.options import GroupedCommand, grouped, path_argument
from geoseg_cli.output import say

_OUTPUT, _MODEL = "Output", "Model"


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

    MODEL may be an .onnx file too: its network stays as it is, and --legend, --mean, --std, --gsd complete its
    metadata, so that it needs no options any more. Without MODEL the default model is exported: the environment
    variable GEOSEG_MODEL, else the demo model.

    Example: geoseg export model.safetensors --out model.onnx --stac model.json
    """
    settings = {name: value for name, value in given.items() if value not in {None, False}}
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
