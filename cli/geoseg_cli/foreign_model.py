"""Options that complete a model which others made, and the model that they complete."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import UsageError
from geoseg_cli import parameter_types as types
from geoseg_cli.options import Decorator, grouped, together

if TYPE_CHECKING:
    from geoseg.legend import Legend
    from geoseg.model import ModelBundle, Normalization

_NAMES = ("legend", "mean", "std", "gsd_m", "activation", "network_output")
_ACTIVATIONS = ("softmax", "sigmoid", "none")


def options(heading: str) -> Decorator:
    """Return the options that say what an ONNX file, or a folder of save_pretrained, does not say of itself."""
    option = grouped(heading)
    return together(
        option(
            "--legend", metavar="FILE",
            help="Classes of an ONNX file or a save_pretrained folder: .json, "
            '[{"code": 0, "name": "water", "color": [0, 0, 255]}, ...] in the order of the output channels, or .csv, '
            ".qml, .clr.",
        ),
        option(
            "--mean", type=types.numbers, metavar="N,N,N",
            help="Mean of each band for such a model, on a scale of 0 to 1, 0 to 255, or 16 bits if one is above 255.",
        ),
        option("--std", type=types.numbers, metavar="N,N,N", help="Standard deviation of each band for such a model."),
        option("--gsd", "gsd_m", type=float, metavar="M", help="Pixel size of its training imagery, in meters."),
        option(
            "--activation", type=types.word("activation", *_ACTIVATIONS), metavar="NAME",
            help="What turns an ONNX file's output into probabilities: softmax, sigmoid or none. [default: detected]",
        ),
        option(
            "--network-output", metavar="NAME",
            help="Output of an ONNX file to use. [default: the only one that fits]",
        ),
    )  # fmt: skip


def complete(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a command's settings with the model that those of `options` complete in the place of its path."""
    given = {name: settings[name] for name in _NAMES if name in settings}
    rest = {name: value for name, value in settings.items() if name not in _NAMES}
    if not given:
        return rest
    path = settings.get("model") or os.environ.get("GEOSEG_MODEL")
    return rest | {"model": _completed(path, given, settings.get("bands"))}


def _completed(path: str | None, given: dict[str, Any], bands: tuple[int | str, ...] | None) -> ModelBundle:
    """Return the model at a path; names in `bands` also name the model's bands."""
    from geoseg.model import ModelBundle, fetch, is_demo, is_hub_address, is_onnx

    if path is None:
        raise UsageError(f"`{next(iter(given))}` is for an ONNX file or a folder; name it with `model`", "model")
    fetched = fetch(path) if is_hub_address(path) else None
    path = path if fetched is None else str(fetched.address)  # with its file, which says what it is
    legend, codes = read_legend(Path(given["legend"])) if "legend" in given else (None, None)
    normalization = stored_normalization(given.get("mean"), given.get("std"))
    sides: dict[str, Any] = {"legend": legend, "output_codes": codes, "normalization": normalization}
    if normalization is not None:
        names = tuple(band for band in bands or () if isinstance(band, str))
        named = len(set(names)) == len(bands or ()) == len(normalization.mean)
        sides |= {"bands": names if named else None, "dtype": _dtype(normalization)}
    sides["gsd_m"] = given.get("gsd_m")
    if is_onnx(Path(path)):
        return ModelBundle.from_onnx(
            path, activation=given.get("activation"), network_output=given.get("network_output"), **sides
        )
    for name in ("activation", "network_output"):
        if name in given:
            raise UsageError(f"`{name}` is for an ONNX file, {path} is not one; leave it out", name)
    if is_demo(path) or (Path(path) if fetched is None else fetched.path).is_file():
        ModelBundle.open(path)  # weights alone say how they become a model
        first = next(iter(given))
        raise UsageError(f"`{first}` is for an ONNX file or a folder, {path} states it itself; leave it out", first)
    if legend is None or normalization is None:
        raise UsageError("`legend`, `mean` and `std` go together, with `model=FOLDER` as written by save_pretrained")
    return ModelBundle.from_pretrained(path, **sides)


def stored_normalization(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, dtype: str | None = None
) -> Normalization | None:
    """Return mean and std in stored units, where both are given; of 0 to 1 they are of 8 bits, if `dtype` lets them."""
    from geoseg.model import VALUE_RANGES, Normalization

    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UsageError("`mean` and `std` go together", "mean" if mean is None else "std")
    if dtype is not None and dtype not in VALUE_RANGES:
        raise UsageError(f"`dtype` must be one of {', '.join(VALUE_RANGES)}, got {dtype!r:.40}", "dtype")
    if dtype in {None, "uint8"} and max(*mean, *std) <= 1:  # of 0 to 1, as ImageNet's 0.485,0.456,0.406
        mean, std = (tuple(255 * value for value in each) for each in (mean, std))
    return Normalization(mean, std, VALUE_RANGES[dtype or ("uint16" if max(*mean, *std) > 255 else "uint8")])


def _dtype(normalization: Normalization) -> str:
    return "uint16" if normalization.value_range[1] > 255 else "uint8"


def read_legend(path: Path) -> tuple[Legend, tuple[int, ...]]:
    """Return the legend of a file, sorted by code, and the codes in the order of the file where it is JSON."""
    from geoseg.legend import Legend, given_legend

    if path.suffix.lower() != ".json":
        legend = given_legend(path)
        return legend, legend.codes
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"`legend={path}` cannot be read: {error.strerror or error}", "legend") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"`legend={path}` is not JSON: {error}", "legend") from None
    return Legend.from_json(rows), tuple(row["code"] for row in rows)
