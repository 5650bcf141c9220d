"""`evaluate` where the first is a model and the second a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from geoseg.dataset import Dataset, GivenLegend, Wanted, open_dataset
from geoseg.evaluation.calibration_picture import draw_calibration
from geoseg.evaluation.evaluation import Evaluation
from geoseg.evaluation.exam import Manner, check_manner, examine
from geoseg.evaluation.model_knobs import ModelKnobs
from geoseg.evaluation.parts import DEFAULT_PART
from geoseg.evaluation.report import check_folder, write_report
from geoseg.model import ModelBundle
from geoseg.progress import Progress
from geoseg.raster import DEFAULT_TOLERANCE


def evaluate_model(  # noqa: PLR0913 - the knobs of the verb
    model: str | os.PathLike[str] | ModelBundle,
    data: str | os.PathLike[str] | Dataset,
    report: str | os.PathLike[str] | None = None,
    *,
    ignore: str | Sequence[str | int] | None = None,
    legend: GivenLegend | None = None,
    column: str | None = None,
    layer: Wanted = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    **knobs: Unpack[ModelKnobs],
) -> Evaluation:
    """Examine a model on a data set and return all figures; with `report` write them into a folder.

    `legend`, `column`, `layer`, and of the knobs `labels`, `gsd_m` and `tolerance` are those of `open_dataset`, `split`
    and `split_rule` the part and the rule of `examine`, all others its own. Raises what they raise, and OutputError.
    """
    say = announce or (lambda _line: None)
    target = None if report is None else check_folder(report, overwrite=overwrite)
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.open(Path(model))
    part = knobs.get("split", DEFAULT_PART)
    manner: Manner = {
        "rule": knobs.get("split_rule"),
        "device": knobs.get("device", "auto"),
        "batch_size": knobs.get("batch_size"),
        "window": knobs.get("window"),
        "overlap": knobs.get("overlap"),
        "blend": knobs.get("blend"),
        "tta": knobs.get("tta", 1),
        "scale": knobs.get("scale"),
    }
    check_manner(bundle, part, **manner)
    dataset = data if isinstance(data, Dataset) else _opened(data, legend, column, layer, knobs)
    for note in dataset.notes:
        say(note)
    found = examine(
        bundle,
        dataset,
        part,
        **manner,
        ignore=ignore,
        cache=knobs.get("cache"),
        worst=target is not None,
        progress=progress,
        announce=say,
    )
    if target is not None:
        calibration = found.calibration
        drawn = {} if calibration is None else {"calibration.png": lambda path: draw_calibration(calibration, path)}
        write_report(found, target, overwrite=overwrite, extras=drawn, announce=say)
    return found


def _opened(
    data: str | os.PathLike[str],
    legend: GivenLegend | None,
    column: str | None,
    layer: Wanted,
    knobs: ModelKnobs,
) -> Dataset:
    """Open the data set with the bands that the user chose, else with all."""
    return open_dataset(
        data,
        legend=legend,
        bands=knobs.get("bands"),
        gsd_m=knobs.get("gsd_m"),
        labels=knobs.get("labels"),
        column=column,
        layer=layer,
        tolerance=knobs.get("tolerance", DEFAULT_TOLERANCE),
    )
