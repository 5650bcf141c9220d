"""What a folder written by smp's save_pretrained does not say, as given on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import UsageError
from geoseg.legend import Legend

if TYPE_CHECKING:
    from geoseg.model import ModelBundle


def complete_model(
    folder: str | None,
    legend: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    bands: tuple[int | str, ...] | None,
) -> ModelBundle:
    """Return the model of a folder.

    legend: a JSON file, its classes in the order of the output channels. mean, std: of values 0 to 255, or of 0 to 1.
    bands: those to read; names also name the model's.
    """
    if folder is None or legend is None or mean is None or std is None:
        raise UsageError(
            "--legend, --mean and --std go together, and with --model FOLDER as written by save_pretrained"
        )
    from geoseg.model import ModelBundle, Normalization

    classes, codes = read_legend_file(Path(legend))
    normalization = Normalization(*_stored_units(mean, std))
    return ModelBundle.from_pretrained(
        folder, legend=classes, output_codes=codes, normalization=normalization, bands=_names(bands, len(mean))
    )


def read_legend_file(path: Path) -> tuple[Legend, tuple[int, ...]]:
    """Return the legend of a JSON file, which is sorted by code, and the codes in the order of the file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--legend {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--legend {path} is not JSON: {error}") from None
    return Legend.from_json(rows), tuple(row["code"] for row in rows)


def _names(bands: tuple[int | str, ...] | None, count: int) -> tuple[str, ...] | None:
    """Return names for the model's bands, None where what is to be read does not give them."""
    names = tuple(band for band in bands or () if isinstance(band, str))
    return names if len(set(names)) == len(bands or ()) == count else None


def _stored_units(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of bytes; where all are at most 1 (ImageNet's 0.485,0.456,0.406) they are of 0 to 1."""
    if max(*mean, *std) > 1:
        return mean, std
    return tuple(255 * value for value in mean), tuple(255 * value for value in std)
