"""The network as it learns: one batch, one validation, what is remembered between them. Lightning runs the loop."""

from __future__ import annotations

import functools
import math
import signal
import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from geoseg.errors import DivergedError, TrainingError
from geoseg.evaluation import Metrics
from geoseg.training.augment import augment, context_px
from geoseg.training.augmentation_text import augmentation_of
from geoseg.training.average import average_into, average_of
from geoseg.training.course import Course
from geoseg.training.faults import judging_faults
from geoseg.training.feed import Batch, Feed
from geoseg.training.history import EpochRow
from geoseg.training.listener import Listener
from geoseg.training.live_engine import LiveEngine
from geoseg.training.losses import loss_of
from geoseg.training.mixed_crops import crops_of
from geoseg.training.network_input import normalized, target_table
from geoseg.training.optimizer import optimizer_of
from geoseg.training.plan import TrainingPlan
from geoseg.training.schedule import rate
from geoseg.training.validate import Scores, judged_miou, score_scene

_AUXILIARY = 0.4
"""What an auxiliary head's loss counts (Zhao et al. 2017, arXiv 1612.01105, section 3.2)."""
_LOG_EVERY = 10
"""Steps."""


class Learner(pl.LightningModule):
    """A network, its running average and the optimizer's state, and the loop's hooks in the order they are called."""

    _channels: torch.Tensor
    _gain: torch.Tensor
    _bias: torch.Tensor

    def __init__(self, plan: TrainingPlan, network: torch.nn.Module, lr: float, listener: Listener) -> None:
        super().__init__()
        self.plan = plan
        self.lr = lr
        self.network = network.to(memory_format=torch.channels_last)
        self.averaged = average_of(network) if plan.recipe.average else None
        self.course = Course()
        self.listener = listener
        self._loss = loss_of(plan.recipe.loss, plan.class_weights, sets=[channels for _, channels in plan.sets])
        self._how = augmentation_of(plan.recipe.augmentation)
        self._crops = crops_of(plan)
        self._resumed: dict[str, Any] | None = None
        self._scores: Scores | None = None
        self._value = math.nan
        self._batch: Batch | None = None
        self._begun_s = time.monotonic()
        self.feed: Feed | None = None
        self.register_buffer("_channels", torch.from_numpy(target_table(plan)), persistent=False)
        gain, bias = plan.normalization.gain_bias()
        low, high = plan.stretch
        # from 0..1 of the stretch, where colours are changed, to what the network sees
        self.register_buffer("_gain", torch.from_numpy(gain * (high - low))[:, None, None], persistent=False)
        self.register_buffer("_bias", torch.from_numpy(gain * low + bias)[:, None, None], persistent=False)

    @property
    def kept(self) -> torch.nn.Module:
        """The network that is validated and kept: the running average where there is one."""
        return self.network if self.averaged is None else self.averaged

    def state(self) -> dict[str, Any]:
        """Return all that a run needs to go on, for `save_state`."""
        optimizer = self.trainer.optimizers[0].state_dict()
        return {
            "course": self.course.to_text(),
            "lr": self.lr,
            "network": self.network.state_dict(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
            "optimizer": optimizer,
            "scaler": self.trainer.precision_plugin.state_dict(),
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; the optimizer's part, and the scaler's of 16 bits, when they are made."""
        self.course = Course.from_text(state["course"]).recounted(self.plan)
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self._resumed = state

    # --- what Lightning asks for

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer, with the moments it had."""
        optimizer = optimizer_of(self.plan.recipe, self.network, self.lr)
        if self._resumed is not None:
            optimizer.load_state_dict(self._resumed["optimizer"])
            if self._resumed.get("scaler"):  # older checkpoints lack it
                self.trainer.precision_plugin.load_state_dict(self._resumed["scaler"])
            self._resumed = None
        return optimizer

    def on_fit_start(self) -> None:
        """Leave Ctrl-C to the process that started this one."""
        if self.trainer.world_size > 1:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def train_dataloader(self) -> Feed:
        """Read what is left of the epoch."""
        self.feed = self._feed(self.course.batches, (self.course.epochs + 1) * self.plan.batches)
        return self.feed

    def val_dataloader(self) -> Sequence[int]:
        """List the scenes that this device validates, as many on each: those beyond the last are none."""
        world, scenes = self.trainer.world_size, len(self.plan.valid)
        return range(self.global_rank, -(-scenes // world) * world, world)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock, with what a run before has spent on this epoch."""
        self._scores, self._begun_s = None, time.monotonic() - self.course.epoch_s

    def on_train_batch_start(self, batch: Batch, _index: int) -> None:
        """Set the rate and the seed: both depend on the number of the batch alone."""
        lr = rate(self.plan.recipe, self.lr, self.plan.step_of(batch.number), self.plan.steps, self.plan.epoch_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr
        torch.manual_seed(_mixed(self.plan.recipe.seed, batch.number, self.global_rank))

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        """Return the loss of a batch. Raises DivergedError, before any weight is touched, if it is no number."""
        image, targets = self.seen_by_network(batch)
        loss = self.loss(self.network(image), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._senseless(f"the loss is {value}", batch)
        self._value, self._batch = value, batch
        return loss

    def on_before_optimizer_step(self, _optimizer: object) -> None:
        """Raise DivergedError, before any weight is touched, if a finite loss has gradients that are no numbers."""
        if self.trainer.precision == "16-mixed":
            return  # its scaler looks for them, and leaves such steps out
        gradients = [each.grad for each in self.network.parameters() if each.grad is not None]
        if self._batch is not None and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise self._senseless("a gradient is no number", self._batch)

    def on_train_batch_end(self, _outputs: object, batch: Batch, _index: int) -> None:
        """Average the weights, tell, and keep what is due."""
        self.course.batches = batch.number + 1
        self.course.batch_size, self.course.epoch_batches = self.plan.batch_size, self.plan.batches
        self.course.accumulate = self.plan.recipe.accumulate
        within = self.course.batches % self.plan.batches
        stepped = within % self.plan.recipe.accumulate == 0
        if self.averaged is not None and stepped:
            decay, step = self.plan.recipe.average, self.plan.step_of(batch.number) + 1
            average_into(self.averaged, self.network, decay, step, began_well=self.plan.from_bundle)
        self.course.add_loss(self._mean(self._value))
        self.course.epoch_s = time.monotonic() - self._begun_s
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        step = self.plan.step_of(batch.number) + 1
        if stepped and step % _LOG_EVERY == 0:
            self._log({"smoothed_loss": self.course.shown_loss, "lr": lr}, step)
        if self.global_rank == 0:
            self.listener.batch(self.course, lr)
            if stepped and within and (self.listener.due() or self.listener.stop()):
                self.listener.keep(self)
                if self.listener.stop():
                    raise self._stopped()

    def validation_step(self, index: int, _batch: int) -> None:
        """Map one scene with the weights that would be kept, where the epoch is one to be validated."""
        epoch = self.course.epochs + 1
        is_due = epoch % self.plan.recipe.valid_every == 0 or epoch == self.plan.recipe.epochs
        if not is_due or index >= len(self.plan.valid):
            return
        engine = LiveEngine(self.kept.eval(), self.plan.normalization, len(self.plan.output_codes))
        with judging_faults(self.plan, str(self.device)):
            scores = score_scene(self.plan, engine, self.plan.valid[index], self.listener.seen)
        self._scores = scores if self._scores is None else self._scores.merge(scores)

    def on_train_epoch_end(self) -> None:
        """Close the epoch: its row, the best weights, the checkpoint, and whether to stop early."""
        row = self._row(summed(self._scores, self))
        better = self.course.close_epoch(row)
        figures = {"train_loss": row.train_loss, "valid_loss": row.valid_loss, "miou": row.miou}
        self._log(figures | {f"iou/{name}": value for name, value in row.iou.items()}, row.step)
        if self.global_rank == 0:
            if better:
                self.listener.keep_best(self)
            self.listener.keep(self)
            self.listener.epoch(row)
            if self.listener.stop():
                raise self._stopped()
        if self.is_over:
            self.trainer.should_stop = True

    # --- parts of these

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left, or patience has ended."""
        recipe, course = self.plan.recipe, self.course
        waited = course.epochs - 1 - course.best_epoch if course.best_epoch >= 0 else 0
        return course.epochs >= recipe.epochs or (recipe.patience is not None and waited >= recipe.patience)

    def _stopped(self) -> BaseException:
        """Return what ends the run; of several processes one that ends so in silence would leave the others waiting."""
        return KeyboardInterrupt() if self.trainer.world_size == 1 else TrainingError("stopped")

    def _senseless(self, what: str, batch: Batch) -> DivergedError:
        return DivergedError(
            f"{what} at batch {batch.number % self.plan.batches + 1} of {self.plan.batches} of epoch "
            f"{self.course.epochs + 1} ({'; '.join(batch.places[:2])}{'; ...' * (len(batch.places) > 2)}). "
            "A smaller `lr`, a `clip=1` or `precision='32'` may cure it; look at these places for values beyond all "
            "sense"
        )

    def batch(self, number: int) -> Batch:
        """Draw one batch of the training."""
        return self._feed(number, number + 1).draw(number)

    def loss(self, answer: Any, targets: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - logits, or those of two heads
        """Return the loss of what the network answers, logits (n,class,row,col), with an auxiliary head a pair."""
        logits, *auxiliary = answer if isinstance(answer, tuple) else (answer,)
        loss: torch.Tensor = self._loss(logits.float(), targets)
        for further in auxiliary:
            loss = loss + _AUXILIARY * self._loss(further.float(), targets)
        return loss

    def _feed(self, first: int, stop: int) -> Feed:
        read_px = context_px(self._how, self.plan.recipe.crop_px)
        margin_px = (read_px - self.plan.recipe.crop_px + 1) // 2
        return Feed(self.plan, self._crops, margin_px, first, stop, self.global_rank)

    def seen_by_network(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented, normalized image (n,band,row,col) and the targets (n,row,col) of the loss."""
        low, high = self.plan.stretch
        image = (batch.image.float() - low) / (high - low)
        generator = torch.Generator().manual_seed(_mixed(self.plan.recipe.seed, batch.number, self.global_rank))
        with torch.autocast(image.device.type, enabled=False):  # half of the digits are too few for colours
            image, valid, codes = augment(
                image,
                batch.valid,
                batch.codes,
                self._how,
                generator,
                bands=self.plan.bands,
                out_px=self.plan.recipe.crop_px,
            )
        return normalized(image, valid, self._gain, self._bias), self._channels[codes.long()]

    def _row(self, scores: Scores | None) -> EpochRow:
        iou: dict[str, float] = {}
        loss = miou = math.nan
        if scores is not None and scores.matrix.total_px:
            classes = Metrics.of(scores.matrix).classes
            iou = {each.name: each.iou if each.reference_px else math.nan for each in classes}
            loss, miou = scores.loss, judged_miou(scores.matrix)
        return EpochRow(
            epoch=self.course.epochs,
            step=(self.course.epochs + 1) * self.plan.epoch_steps,
            train_loss=self.course.loss_sum / self.plan.batches,
            valid_loss=loss,
            miou=miou,
            iou=iou,
            lr=self.trainer.optimizers[0].param_groups[0]["lr"],
            seconds=time.monotonic() - self._begun_s,
        )

    def _mean(self, value: float) -> float:
        """Return the mean of what each device has."""
        if self.trainer.world_size == 1:
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self.device), reduce_op="mean"))

    def _log(self, figures: dict[str, float], step: int) -> None:
        """Hand figures to the loggers, by the steps of the whole training: Lightning counts those of this run."""
        for logger in self.trainer.loggers:
            logger.log_metrics({name: value for name, value in figures.items() if not math.isnan(value)}, step)
            logger.save()  # a kill loses none


def summed(scores: Scores | None, learner: Learner) -> Scores | None:
    """Return the sum of what all devices counted; None where none did."""
    parts: list[Scores | None] = [scores]
    if learner.trainer.world_size > 1:
        parts = [None] * learner.trainer.world_size
        torch.distributed.all_gather_object(parts, scores)
    counted = [part for part in parts if part is not None]
    return functools.reduce(Scores.merge, counted) if counted else None


def _mixed(*numbers: int) -> int:
    """Return one seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
