"""The end of a run: the best weights, the temperature that makes confidence honest, the bundle, the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch

from geoseg.dataset import PreparedScene
from geoseg.evaluation import Evaluation, LeftOut, Metrics, WorstCrops
from geoseg.model import ModelBundle
from geoseg.raster import Window, WindowGrid
from geoseg.training.callbacks import TrainingState
from geoseg.training.checkpoint import RunFolder, load_checkpoint, recipe_as_run, write_bundle
from geoseg.training.loop import Learner
from geoseg.training.network import Says, bring_back, channel_table, normalized
from geoseg.training.optimization import validation_errors
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import write_training_report
from geoseg.training.validation import LiveEngine, Scores, score_scene

LOWEST, HIGHEST = 0.05, 20.0
"""Between these a temperature is looked for; a network that needs another is not worth calibrating."""
_STEPS = 60
_PRECISION = 1e-9
_CHUNK = 1 << 18
_SAMPLE_PX = 400_000
"""Pixels that fit the temperature: one number needs no more."""
_STEP_PX = 8
"""Neighbors say the same: every eighth pixel of a window."""


def finalize(  # noqa: PLR0913 - a run, and where all of it goes
    learner: Learner, folder: RunFolder, target: Path, report: Path | None, *, overwrite: bool, say: Says
) -> ModelBundle:
    """Write the bundle of the best epoch, and the report if one was asked for.

    Raises OutputError: the checkpoints stay then, and the same call writes the bundle.
    """
    plan = learner.plan
    best = load_checkpoint(folder.best)
    if best is not None:  # where no epoch was validated the last weights stay
        learner.kept.load_state_dict(best["weights"])
    network = learner.kept.eval()
    if bring_back(plan, network):
        say(f"the weights are moved back toward those at the start, {plan.recipe.start_share:.0%} of the way")
    with validation_errors(plan, str(learner.device)):
        temperature = calibrated_temperature(plan, network)
        found = _evaluated(plan, network, temperature, target.name)
    bundle = write_bundle(learner, target, folder.known, temperature=temperature, found=found)
    if found is not None and found.calibration is not None and best is not None:
        say(
            f"epoch {learner.state.best_epoch + 1} is the best: mIoU {found.metrics.miou_of_reference:.4f} on "
            f"validation, confidence off by {found.calibration.error:.3f} at temperature {temperature:.2f}"
        )
    if found is not None and (invented := found.metrics.note_on_invented):
        say(invented)
    if found is not None and found.left_out.several:
        say(f"{found.left_out.several} pixels of validation may be of several classes and are not counted")
    if report is not None and found is not None:
        _report(learner, found, report, folder.known, overwrite=overwrite, say=say)
    elif report is not None:
        say("nothing was validated, so there is no report; evaluate the bundle on a data set instead")
    return bundle


def keep_learned(learner: Learner, folder: RunFolder, *, here: bool) -> str | None:
    """Write what a run that cannot go on had learned as a bundle, and return what of it that is; None where nothing is.

    The best epoch; where none was validated what the learner has, if it learned `here` and its weights are finite, else
    the last checkpoint. Raises OutputError.
    """
    best = load_checkpoint(folder.best)
    if best is not None:
        learner.kept.load_state_dict(best["weights"])
        learner.state = TrainingState.from_text(best["course"])
    elif not (here and all(tensor.isfinite().all() for tensor in learner.kept.state_dict().values())):
        last = load_checkpoint(folder.last)
        if last is None:
            return None
        learner.resume(last)
    if not learner.state.batches:
        return None
    learner.kept.eval()
    write_bundle(learner, folder.kept, folder.known)
    batches = learner.state.batches
    return f"the best epoch, {learner.state.best_epoch + 1}," if best else f"what {batches} batches taught"


def _evaluated(plan: TrainingPlan, network: torch.nn.Module, temperature: float, name: str) -> Evaluation | None:
    """Return the figures on validation with the confidence that the bundle will have; None where no pixel counts."""
    if not plan.valid:
        return None
    engine = LiveEngine(network, plan.normalization, len(plan.output_codes), temperature)
    scores, worst = Scores.empty(plan.legend, plan.output_codes), WorstCrops(plan.legend, stretch=plan.stretch)
    for scene in plan.valid:
        scores = scores.merge(score_scene(plan, engine, scene, worst.see))
    if not scores.matrix.total_px:
        return None
    where = f"validation of {plan.data['name']}"
    left_out = LeftOut(several=scores.several_px)
    invented = Metrics.of(scores.matrix).note_on_invented
    notes = () if invented is None else (invented,)
    return Evaluation.of(
        name, where, scores.matrix, left_out=left_out, calibration=scores.calibration, notes=notes, worst=worst
    )


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
        learner.state.rows,
        found,
        json.dumps(recipe_as_run(plan, known), indent=1),
        data=data,
        overwrite=overwrite,
        announce=say,
    )


def calibrated_temperature(plan: TrainingPlan, network: torch.nn.Module) -> float:
    """Return the temperature that fits validation; 1 where there is none."""
    return fit_temperature(*sample_logits(plan, network))


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the temperature, 0.05 to 20, at which logits (pixel, class) say best how sure they may be.

    The one that minimizes the negative log likelihood of targets (pixel,), channel numbers (Guo et al. 2017, arXiv
    1706.04599, section 4.2). In 1 / T that is convex, so Newton's method, kept inside a shrinking bracket, finds it
    whatever it starts from; the same for the same pixels. Pixels with a logit that is not finite do not count; with
    none left the temperature is 1.
    """
    counted = logits.isfinite().all(dim=1)
    scores, places = logits[counted], targets[counted]
    if not len(places):
        return 1.0
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slopes(scores, places, low)[0] >= 0:
        return HIGHEST
    if _slopes(scores, places, high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curve = _slopes(scores, places, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        newton = inverse - slope / curve if curve > 0 else math.inf
        step = newton if low < newton < high else math.sqrt(low * high)
        if abs(step - inverse) <= _PRECISION * inverse:
            break
        inverse = step
    return 1 / inverse


def _slopes(scores: torch.Tensor, places: torch.Tensor, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the negative log likelihood in 1 / T.

    With p = softmax(z / T) they are the sums over the pixels of E_p[z] - z[target] and of Var_p[z].
    """
    slope = curve = 0.0
    for first in range(0, len(places), _CHUNK):
        z = scores[first : first + _CHUNK].double()
        p = (z * inverse).softmax(dim=1)
        mean = (p * z).sum(dim=1)
        slope += float((mean - z.gather(1, places[first : first + _CHUNK, None])[:, 0]).sum())
        curve += float((p * (z - mean[:, None]) ** 2).sum())
    return slope, curve


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


@torch.no_grad()
def _sampled(
    plan: TrainingPlan, network: torch.nn.Module, scene: PreparedScene, window: Window
) -> tuple[torch.Tensor, torch.Tensor]:
    patch = scene.read(window)
    device = next(network.parameters()).device
    gain, bias = (torch.from_numpy(values)[:, None, None] for values in plan.normalization.gain_bias())
    image = normalized(torch.from_numpy(patch.data[None]).float(), torch.from_numpy(patch.valid[None]), gain, bias)
    logits = network(image.to(device))[0].float().cpu()
    targets = torch.from_numpy(channel_table(plan.output_codes)[scene.codes(window)])
    thin = slice(_STEP_PX // 2, None, _STEP_PX)
    flat, reference = logits[:, thin, thin].flatten(1).T, targets[thin, thin].flatten()
    return flat[reference < 255], reference[reference < 255]
