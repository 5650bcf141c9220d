"""The verb `export_model`: write a model for other programs, as one file and as a catalog item."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from geoseg.atomic import check_target, check_unread, make_folders, write_durably, written_whole
from geoseg.catalog import FILE_EXTENSION, STAC_VERSION, file_facts, href, modified_text
from geoseg.errors import ModelError, UsageError
from geoseg.given import plain_arguments
from geoseg.model.bundle import CARD_KEY, ModelBundle, ModelCard, as_bundle, default_overlap, to_mlm
from geoseg.model.onnx_files import deepness_metadata, read_onnx_file, with_metadata
from geoseg.typed import as_path

_SUFFIXES = (".onnx", ".pt2")
"""The formats a model can be exported to."""
_EXTENSIONS = ("https://stac-extensions.github.io/mlm/v1.5.2/schema.json", FILE_EXTENSION)
_WORLD = (-180.0, -90.0, 180.0, 90.0)
"""An item must have a place, and where a model may be used is not known."""
_MEDIA_TYPE = "application/octet-stream; application={}"
_ARTIFACTS = {
    ".safetensors": ("safetensors.torch.save_file", "safetensors"),
    ".pt2": ("torch.export.save", "pytorch"),
    ".onnx": ("torch.onnx.export", "onnx"),
}
"""The writer of a file and its media type's application, by suffix."""
_BETWEEN = re.compile(r"[^A-Za-z0-9_.\s-]+", re.ASCII)


@plain_arguments()
def export_model(  # noqa: PLR0913 - what is written, and how
    model: str | os.PathLike[str] | ModelBundle | None,
    out: str | os.PathLike[str] | None = None,
    *,
    stac: str | os.PathLike[str] | None = None,
    window: int | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a model for other programs. Files appear whole or not at all.

    Parameters
    ----------
    model : path or ModelBundle
        A `.safetensors` bundle, a folder opened with `ModelBundle.from_pretrained`, or an ONNX file, whose metadata
        is completed while the network stays unchanged.
    out : path, optional
        `.onnx`: one input, normalized pixels (n, band, window, window), and probabilities (n, class, window, window),
        with the metadata of Deepness and geoseg's own. `.pt2`: the same as an archive of torch.export.
    stac : path, optional
        A STAC item (JSON) with the Machine Learning Model extension 1.5.2, for the exported file or, without `out`,
        for the model's own file.
    window : int, optional
        Edge of the windows in pixels; by default the model's. An exported network takes no other; for an ONNX file it
        is only recorded in the metadata.
    mkdir, overwrite : bool
        Make missing folders; replace existing files.

    Returns
    -------
    Path
        The exported file, or the item if only that was written.

    Raises
    ------
    UsageError
        If there is nothing to write, or a format is not supported.
    ModelError
        If the network cannot be exported.
    OutputError
        If a file exists, or cannot be written.

    Examples
    --------
    >>> geoseg.export_model("model.safetensors", "model.onnx", stac="model.json")  # doctest: +SKIP

    """
    bundle = as_bundle(model, window)
    if bundle.function is not None:
        raise UsageError(f"{bundle.name} is a function, which no other program can run; export a network", "model")
    requested = {name: target for name, target in (("out", out), ("stac", stac)) if target is not None}
    targets = {Path(as_path(name, target)).absolute(): name for name, target in requested.items()}
    if not targets:
        raise UsageError("nothing to write; give `out`, `stac` or both", "out")
    if window is not None and window != bundle.window_px:
        bundle = _with_window(bundle, window)
    _check(bundle, out, stac)
    _check_targets(targets, bundle, overwrite=overwrite, mkdir=mkdir)
    if mkdir:
        make_folders(*targets)
    first, last = next(iter(targets)), next(reversed(targets))
    if out is not None:
        _write(first, lambda path: _export(bundle, path))
    if stac is not None:
        file = bundle.weights_path if out is None else first
        item = _stac_item(bundle, file, href(file, last))
        write_durably(last, json.dumps(item, indent=2).encode())
    return first


def _with_window(bundle: ModelBundle, window_px: int) -> ModelBundle:
    """Return a model with another window; UsageError if its network does not take that size.

    The windows of an ONNX file keep the share of them that overlaps, those of a bundle overlap as usual.
    """
    from geoseg.model.engines import check_accepts_window  # noqa: PLC0415 - loads the engines, which few exports need

    check_accepts_window(bundle, window_px)
    if bundle.graph is None:
        return replace(bundle, window_px=window_px, overlap_px=default_overlap(window_px))
    overlap_px = bundle.graph.overlap_px(window_px, bundle.overlap_px / bundle.window_px)
    return replace(bundle, window_px=window_px, overlap_px=overlap_px)


def _check(bundle: ModelBundle, out: object, stac: object) -> None:
    if out is not None and Path(str(out)).suffix.lower() not in _SUFFIXES:
        raise UsageError(f"`out` must end in {' or '.join(_SUFFIXES)}, got {Path(str(out)).name!r:.80}", "out")
    if stac is not None and Path(str(stac)).suffix.lower() not in {".json", ".geojson"}:
        raise UsageError(f"`stac` must be a .json file, got {Path(str(stac)).name!r:.80}", "stac")
    if bundle.graph is not None and out is not None and Path(str(out)).suffix.lower() != ".onnx":
        raise UsageError(
            f"{bundle.weights_path.name} is an ONNX file and stays ONNX; give an `out` that ends in .onnx", "out"
        )


def _check_targets(targets: Mapping[Path, str], bundle: ModelBundle, *, overwrite: bool, mkdir: bool) -> None:
    for path, parameter in targets.items():
        check_unread(path, parameter, *bundle.files)
        check_target(path, parameter, mkdir=mkdir, overwrite=overwrite)


def _export(bundle: ModelBundle, path: Path) -> None:
    """Write the network; torch is loaded only if it is needed."""
    card = json.dumps(to_mlm(bundle))
    if bundle.graph is not None:
        file = read_onnx_file(bundle.weights_path)
        path.write_bytes(with_metadata(file, deepness_metadata(bundle) | {CARD_KEY: card}))
        return
    from geoseg.model.engines import export_alone, save_program  # noqa: PLC0415 - torch

    if path.suffix == ".pt2":
        save_program(bundle, bundle.window_px, path, {"mlm-metadata": card})
    else:
        export_alone(bundle, bundle.window_px, path, deepness_metadata(bundle) | {CARD_KEY: card})


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file whole; errors name its final path, not the temporary one."""
    with written_whole(path) as temporary:
        try:
            write(temporary)
        except ModelError as fault:
            raise ModelError(str(fault).replace(str(temporary), str(path))) from None


def _stac_item(card: ModelCard, file: Path, address: str) -> dict[str, Any]:
    """Return the STAC item of a model in a file; `address` is the file's, relative to the item.

    It follows the Machine Learning Model extension 1.5.2 (https://github.com/stac-extensions/mlm).

    A `.safetensors` bundle returns logits, an exported file probabilities. Both take stored values after
    `value_scaling`.
    """
    artifact, application = _ARTIFACTS.get(file.suffix.lower(), ("torch.onnx.export", "onnx"))
    properties = to_mlm(card)
    (output,) = properties["mlm:output"]
    by_code = {row["value"]: row for row in output["classification:classes"]}
    output["classification:classes"] = [by_code[code] for code in card.output_codes]
    if file.suffix.lower() != ".safetensors":
        output["name"] = "probabilities"
    names = ", ".join(card.legend.by_code(code).name for code in card.output_codes)
    about = f"Land cover from {', '.join(card.bands)}: {names}"
    west, south, east, north = _WORLD
    bands = [{"name": band} for band in card.bands]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(_EXTENSIONS),
        "id": _model_name(card.name).lower().replace(" ", "-"),
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        },
        "bbox": list(_WORLD),
        "properties": {
            "datetime": modified_text(file),
            "title": card.name,
            "description": f"{about}. The classes are in the order of the output channels.",
            **{name: value for name, value in properties.items() if value is not None},
            "mlm:name": _model_name(card.name),
            "bands": bands,  # MLM asks for them here; STAC allows that only if an asset has them too
        },
        "links": [],
        "assets": {
            "model": {
                "href": address,
                "title": card.name,
                "type": _MEDIA_TYPE.format(application),
                "roles": ["mlm:model", "mlm:weights", "data"],
                "mlm:artifact_type": artifact,
                "bands": bands,
                **file_facts(file),
            }
        },
    }


def _model_name(name: str) -> str:
    """Return a name that the extension allows: letters, digits and a few symbols, starting with a letter."""
    plain = " ".join(_BETWEEN.sub(" ", name).split()).strip("_.- ")
    plain = plain if plain[:1].isalpha() else f"model {plain}".strip()
    return plain if len(plain) > 2 else f"model {plain}"
