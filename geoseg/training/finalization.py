"""The end of a run: the best weights, honest confidence, the bundle, the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from geoseg.evaluation import Evaluation, LeftOut, WorstCrops
from geoseg.model import ModelBundle
from geoseg.training.calibrate import calibrated_temperature
from geoseg.training.callbacks import TrainingState
from geoseg.training.checkpoint import RunFolder, load_checkpoint, recipe_as_run, write_bundle
from geoseg.training.initialization import bring_back
from geoseg.training.loop import Learner
from geoseg.training.network import Says
from geoseg.training.optimization import validation_errors
from geoseg.training.plan import TrainingPlan
from geoseg.training.report import write_training_report
from geoseg.training.validation import LiveEngine, Scores, judged_miou, score_scene


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
        say(f"the weights are brought back towards those they began with, {plan.recipe.start_share:.0%} of the way")
    with validation_errors(plan, str(learner.device)):
        temperature = calibrated_temperature(plan, network)
        found = _evaluated(plan, network, temperature, target.name)
    bundle = write_bundle(learner, target, folder.known, temperature=temperature, found=found)
    if found is not None and found.calibration is not None:
        say(
            f"epoch {learner.state.best_epoch + 1} is the best: mIoU {judged_miou(found.matrix):.4f} on "
            f"validation, confidence off by {found.calibration.error:.3f} at temperature {temperature:.2f}"
        )
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
