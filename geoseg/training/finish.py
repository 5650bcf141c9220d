"""A run's last hour: the best weights, honest confidence, the bundle, the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from geoseg.dataset import PreparedScene
from geoseg.evaluation import Evaluation, LeftOut, WorstCrops
from geoseg.model import ModelBundle, save_bundle
from geoseg.raster import Window, WindowGrid
from geoseg.training.checkpoint import load_state
from geoseg.training.course import Course
from geoseg.training.faults import judging_faults
from geoseg.training.folder import ENCODER_WEIGHTS, INIT_WEIGHTS, RunFolder
from geoseg.training.learner import Learner
from geoseg.training.live_engine import LiveEngine
from geoseg.training.network_input import channel_table, normalized
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import write_training_report
from geoseg.training.start import bring_back
from geoseg.training.temperature import fit_temperature
from geoseg.training.validate import Scores, judged_miou, score_scene

_SAMPLE_PX = 400_000
"""Pixels that fit the temperature: one number needs no more."""
_STEP_PX = 8
"""Neighbours say the same: every eighth pixel of a window."""
Says = Callable[[str], None]


def finish(  # noqa: PLR0913 - a run, and where all of it goes
    learner: Learner, folder: RunFolder, target: Path, report: Path | None, *, overwrite: bool, say: Says
) -> ModelBundle:
    """Write the bundle of the best epoch, and the report if one is wanted.

    Raises OutputError: the checkpoints stay then, and the same call writes the bundle.
    """
    plan = learner.plan
    _take_best(learner, folder)
    network = learner.kept.eval()
    if bring_back(plan, network):
        say(f"the weights are brought back towards those they began with, {plan.recipe.start_share:.0%} of the way")
    with judging_faults(plan, str(learner.device)):
        temperature = _temperature(plan, network)
        found = _judged(plan, network, temperature, target.name)
    bundle = _save(learner, network, temperature, found, target, folder.known)
    if found is not None and found.calibration is not None:
        say(
            f"epoch {learner.course.best_epoch + 1} is the best: mIoU {judged_miou(found.matrix):.4f} on "
            f"validation, confidence off by {found.calibration.error:.3f} at temperature {temperature:.2f}"
        )
    if found is not None and found.left_out.several:
        say(f"{found.left_out.several} pixels of validation may be of several classes and are not counted")
    if report is not None and found is not None:
        _report(learner, found, report, folder.known, overwrite=overwrite, say=say)
    elif report is not None:
        say("nothing was validated, so there is no report; `geoseg evaluate` judges the bundle on a data set")
    return bundle


def keep_best_bundle(learner: Learner, folder: RunFolder) -> None:
    """Write the weights that would be kept now as a bundle, at temperature 1. Raises OutputError."""
    _save(learner, learner.kept, 1.0, None, folder.best_bundle, folder.known)


def keep_learnt(learner: Learner, folder: RunFolder, *, here: bool) -> str | None:
    """Write what a run that cannot go on had learnt as a bundle, and return what of it that is; None where nothing is.

    The best epoch; where none was validated what the learner has, if it learnt `here` and its numbers are numbers, else
    the last checkpoint. Raises OutputError.
    """
    best = load_state(folder.best)
    if best is not None:
        learner.kept.load_state_dict(best["weights"])
        learner.course = Course.from_text(best["course"])
    elif not (here and all(tensor.isfinite().all() for tensor in learner.kept.state_dict().values())):
        state = load_state(folder.last)
        if state is None:
            return None
        learner.go_on_from(state)
    if not learner.course.batches:
        return None
    _save(learner, learner.kept.eval(), 1.0, None, folder.kept, folder.known)
    batches = learner.course.batches
    return f"the best epoch, {learner.course.best_epoch + 1}," if best else f"what {batches} batches taught"


def _report(  # noqa: PLR0913 - a run, and where its report goes
    learner: Learner, found: Evaluation, folder: Path, known: Mapping[str, object], *, overwrite: bool, say: Says
) -> None:
    plan = learner.plan
    split = plan.data["split"]
    data = {
        "data set": plan.data["name"],
        "split": f"{split['name']}: {len(plan.train)} scenes train, {len(plan.valid)} validate",
        "digests": f"data set {plan.data['digest'][:16]}, split {split['digest'][:16]}",
        "pixels": f"{plan.gsd_m:g} m" if plan.gsd_m else "of unknown size",
    }
    write_training_report(
        folder,
        learner.course.rows,
        found,
        json.dumps(_told(plan, known), indent=1),
        data=data,
        overwrite=overwrite,
        announce=say,
    )


def _told(plan: TrainingPlan, known: Mapping[str, object]) -> dict[str, Any]:
    """Return the recipe as plain values; a file of weights by its name and hash, for its path is this machine's."""
    return plan.recipe.to_json() | {key: known[key] for key in (ENCODER_WEIGHTS,) if key in known}


def _take_best(learner: Learner, folder: RunFolder) -> None:
    """Load the weights of the best epoch; where none was validated the last ones stay."""
    state = load_state(folder.best)
    if state is not None:
        learner.kept.load_state_dict(state["weights"])


@torch.no_grad()
def _temperature(plan: TrainingPlan, network: torch.nn.Module) -> float:
    """Return the temperature that fits validation; 1 where there is none."""
    logits, targets = sample_logits(plan, network)
    return fit_temperature(logits, targets) if len(targets) else 1.0


def sample_logits(plan: TrainingPlan, network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (pixel, class) and channel numbers (pixel,) of pixels spread over the validation areas."""
    windows = [(scene, window) for scene in plan.valid for window in _windows(plan, scene)]
    share = (plan.window_px // _STEP_PX) ** 2
    every = max(1, len(windows) * share // _SAMPLE_PX)
    found = [_sampled(plan, network, scene, window) for scene, window in windows[::every]]
    if not found:
        return torch.empty(0, len(plan.output_codes)), torch.empty(0, dtype=torch.int64)
    logits, targets = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(targets)


def _windows(plan: TrainingPlan, scene: PreparedScene) -> list[Window]:
    """Return windows as predict cuts them, without overlap, that touch an area; one that touches two, once."""
    grid = WindowGrid(*scene.shape, plan.window_px, 0)
    return list(dict.fromkeys(window for area in scene.areas for window in grid.windows_touching(area)))


def _sampled(
    plan: TrainingPlan, network: torch.nn.Module, scene: PreparedScene, window: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    patch = scene.read(window)
    device = next(network.parameters()).device
    gain, bias = (torch.from_numpy(values)[:, None, None] for values in plan.normalization.gain_bias())
    image = normalized(torch.from_numpy(patch.data[None]).float(), torch.from_numpy(patch.valid[None]), gain, bias)
    with torch.no_grad():
        logits = network(image.to(device))[0].float().cpu()
    targets = torch.from_numpy(channel_table(plan.output_codes)[scene.codes(window)])
    thin = slice(_STEP_PX // 2, None, _STEP_PX)
    flat, wanted = logits[:, thin, thin].flatten(1).T, targets[thin, thin].flatten()
    return flat[wanted < 255], wanted[wanted < 255]


def _judged(plan: TrainingPlan, network: torch.nn.Module, temperature: float, name: str) -> Evaluation | None:
    """Return the figures on validation with the confidence that the bundle will have; None without validation."""
    if not plan.valid:
        return None
    engine = LiveEngine(network, plan.normalization, len(plan.output_codes), temperature)
    scores, worst = Scores.empty(plan.legend, plan.output_codes), WorstCrops(plan.legend, stretch=plan.stretch)
    for scene in plan.valid:
        scores = scores.merge(score_scene(plan, engine, scene, worst.see))
    where = f"validation of {plan.data['name']}"
    left_out = LeftOut(several=scores.several_px)
    return Evaluation.of(name, where, scores.matrix, left_out=left_out, calibration=scores.calibration, worst=worst)


def _save(  # noqa: PLR0913, PLR0917 - the sides of a bundle
    learner: Learner,
    network: torch.nn.Module,
    temperature: float,
    found: Evaluation | None,
    target: Path,
    known: Mapping[str, object],
) -> ModelBundle:
    plan, course = learner.plan, learner.course
    init_weights = known.get(INIT_WEIGHTS)
    return save_bundle(
        target,
        network,
        architecture=plan.architecture,
        arguments=plan.arguments,
        legend=plan.legend,
        output_codes=plan.output_codes,
        bands=plan.bands,
        dtype=plan.dtype,
        normalization=plan.normalization,
        statistics=plan.statistics,
        gsd_m=plan.gsd_m,
        window_px=plan.window_px,
        overlap_px=plan.overlap_px,
        temperature=temperature,
        provenance={
            "recipe": _told(plan, known),
            "data": plan.data,
            **({} if init_weights is None else {"init_weights_hash": init_weights}),
            "batch_size": plan.batch_size,
            "batches": course.batches,
            "lr": learner.lr,
            "epoch": course.best_epoch + 1 if course.best_epoch >= 0 else course.epochs,
        },
        metrics={} if found is None else {"validation": found.metrics.to_json()},
    )
