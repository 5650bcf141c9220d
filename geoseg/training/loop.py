"""The training loop: the learning network, the hooks that Lightning calls, and Lightning's trainer.

Lightning runs the loop: devices, mixed precision, loggers. Checkpoints are geoseg's own.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from geoseg.errors import DivergedError, ResumeError, TrainingError, UsageError, numbered
from geoseg.evaluation import Metrics
from geoseg.model import cuda_devices, quiet_logs
from geoseg.training.augment import augment, augmentation_of, context_px
from geoseg.training.callbacks import Callbacks, TrainingState, relayed
from geoseg.training.data_loader import CropBatch, CropLoader, crops_of
from geoseg.training.losses import loss_of
from geoseg.training.network import normalized, target_table
from geoseg.training.optimization import (
    average_into,
    average_of,
    find_lr,
    learning_errors,
    optimizer_of,
    rate,
    validation_errors,
)
from geoseg.training.plan import TrainingPlan
from geoseg.training.recipe import Recipe
from geoseg.training.report import EpochRow
from geoseg.training.validation import LiveEngine, Scores, score_scene

_AUXILIARY = 0.4
"""Weight of an auxiliary head's loss (Zhao et al. 2017, arXiv 1612.01105, section 3.2)."""
_LOG_EVERY = 10
"""Steps between log entries."""
_TALKATIVE = ("lightning.pytorch", "lightning.fabric", "lightning_utilities")


class Learner(pl.LightningModule):
    """A network, its running average and the optimizer's state, and the loop's hooks in the order they are called."""

    _channels: torch.Tensor
    _gain: torch.Tensor
    _bias: torch.Tensor

    def __init__(self, plan: TrainingPlan, network: torch.nn.Module, lr: float, callbacks: Callbacks) -> None:
        super().__init__()
        self.plan = plan
        self.lr = lr
        self.network = network.to(memory_format=torch.channels_last)
        self.averaged = average_of(network) if plan.recipe.average else None
        self.state = TrainingState()
        self.callbacks = callbacks
        self._loss = loss_of(plan.recipe.loss, plan.class_weights, sets=[channels for _, channels in plan.sets])
        self._augmentation = augmentation_of(plan.recipe.augmentation)
        self._crops = crops_of(plan)
        self._resumed: dict[str, Any] | None = None
        self._scores: Scores | None = None
        self._value = math.nan
        self._batch: CropBatch | None = None
        self._begun_s = time.monotonic()
        self.loader: CropLoader | None = None
        self.register_buffer(
            "_channels", torch.from_numpy(target_table(plan.output_codes, plan.sets)), persistent=False
        )
        gain, bias = plan.normalization.gain_bias()
        low, high = plan.stretch
        # from 0 to 1 of the stretch, where colors are augmented, to the network's input
        self.register_buffer("_gain", torch.from_numpy(gain * (high - low))[:, None, None], persistent=False)
        self.register_buffer("_bias", torch.from_numpy(gain * low + bias)[:, None, None], persistent=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the learner in the process of a device, where Lightning's advice is unwanted too."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)

    @property
    def kept(self) -> torch.nn.Module:
        """The network to validate and keep: the running average if there is one."""
        return self.network if self.averaged is None else self.averaged

    def checkpoint(self) -> dict[str, Any]:
        """Return everything that a run needs to resume, for `save_checkpoint`."""
        optimizer = self.trainer.optimizers[0].state_dict()
        return {
            "course": self.state.to_text(),
            "lr": self.lr,
            "network": self.network.state_dict(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
            "optimizer": optimizer,
            "scaler": self.trainer.precision_plugin.state_dict(),
        }

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Restore the content of `checkpoint`; the optimizer, and the scaler for 16 bits, follow when they are created.

        Raises ResumeError for a checkpoint of another network.
        """
        self.state = TrainingState.from_text(checkpoint["course"]).recounted(self.plan)
        try:
            self.network.load_state_dict(checkpoint["network"])
            if self.averaged is not None:
                self.averaged.load_state_dict(checkpoint["averaged"])
        except RuntimeError:  # names or shapes of tensors differ
            raise ResumeError("the checkpoint belongs to another network; start over with `overwrite=True`") from None
        self._resumed = checkpoint

    # --- hooks that Lightning calls

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create the optimizer, with its moments if the run resumes."""
        optimizer = optimizer_of(self.plan.recipe, self.network, self.lr)
        if self._resumed is not None:
            optimizer.load_state_dict(self._resumed["optimizer"])
            if self._resumed["scaler"]:
                self.trainer.precision_plugin.load_state_dict(self._resumed["scaler"])
            self._resumed = None
        return optimizer

    def on_fit_start(self) -> None:
        """Ignore Ctrl-C here, so that the parent process handles it."""
        if self.trainer.world_size > 1:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def train_dataloader(self) -> CropLoader:
        """Return the remaining batches of the epoch."""
        self.loader = self._loader(self.state.batches, (self.state.epochs + 1) * self.plan.batches)
        return self.loader

    def val_dataloader(self) -> Sequence[int]:
        """List the scenes that this device validates, equally many per device; indexes past the last are skipped."""
        processes, scenes = self.trainer.world_size, len(self.plan.valid)
        return range(self.global_rank, -(-scenes // processes) * processes, processes)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock, including the time that an earlier run spent on this epoch."""
        self._scores, self._begun_s = None, time.monotonic() - self.state.epoch_s

    def on_train_batch_start(self, batch: CropBatch, _index: int) -> None:
        """Set the learning rate and the seed; both depend only on the batch number."""
        lr = rate(self.plan.recipe, self.lr, self.plan.step_of(batch.number), self.plan.steps, self.plan.epoch_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr
        torch.manual_seed(_seed_of(self.plan.recipe.seed, batch.number, self.global_rank))

    def training_step(self, batch: CropBatch, _index: int) -> torch.Tensor:
        """Return the loss of a batch. Raises DivergedError, before any weight changes, if it is not finite."""
        image, targets = self.seen_by_network(batch)
        loss = self.loss(self.network(image), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}", batch)
        self._value, self._batch = value, batch
        # Lightning divides by `accumulate`, also in an epoch's last step, which may have fewer batches
        return loss * (self.plan.recipe.accumulate / self.plan.step_batches(batch.number))

    def on_before_optimizer_step(self, _optimizer: object) -> None:
        """Raise DivergedError, before any weight changes, if a finite loss has gradients that are not finite."""
        if self.trainer.precision == "16-mixed":
            return  # its scaler checks for them, and skips such steps
        gradients = [each.grad for each in self.network.parameters() if each.grad is not None]
        if self._batch is not None and not torch.nn.utils.get_total_norm(gradients).isfinite():
            raise self._diverged("a gradient is not a number", self._batch)

    def on_train_batch_end(self, _outputs: object, batch: CropBatch, _index: int) -> None:
        """Average the weights, report, and write a checkpoint if one is due."""
        self.state.batches = batch.number + 1
        self.state.batch_size, self.state.epoch_batches = self.plan.batch_size, self.plan.batches
        self.state.accumulate = self.plan.recipe.accumulate
        within = self.state.batches % self.plan.batches
        is_optimizer_step = within % self.plan.recipe.accumulate == 0
        if self.averaged is not None and is_optimizer_step:
            decay, step = self.plan.recipe.average, self.plan.step_of(batch.number) + 1
            average_into(self.averaged, self.network, decay, step, began_well=self.plan.from_bundle)
        self.state.add_loss(self._mean(self._value))
        self.state.epoch_s = time.monotonic() - self._begun_s
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        step = self.plan.step_of(batch.number) + 1
        if is_optimizer_step and step % _LOG_EVERY == 0:
            self._log({"smoothed_loss": self.state.shown_loss, "lr": lr}, step)
        if self.global_rank == 0:
            self.callbacks.batch(self.state, lr)
            if is_optimizer_step and within and (self.callbacks.due() or self.callbacks.stop()):
                self.callbacks.keep(self)
                if self.callbacks.stop():
                    raise self._stopped()

    def validation_step(self, index: int, _batch: int) -> None:
        """Map one scene with the weights that would be kept, if this epoch is to be validated."""
        epoch = self.state.epochs + 1
        is_due = epoch % self.plan.recipe.valid_every == 0 or epoch == self.plan.recipe.epochs
        if not is_due or index >= len(self.plan.valid):
            return
        engine = LiveEngine(self.kept.eval(), self.plan.normalization, len(self.plan.output_codes))
        with validation_errors(self.plan, str(self.device)):
            scores = score_scene(self.plan, engine, self.plan.valid[index], self.callbacks.seen)
        self._scores = scores if self._scores is None else self._scores.merge(scores)

    def on_train_epoch_end(self) -> None:
        """End the epoch: record its row, keep the best weights, write a checkpoint, decide whether to stop."""
        row = self._row(summed(self._scores, self))
        better = self.state.close_epoch(row)
        figures = {"train_loss": row.train_loss, "valid_loss": row.valid_loss, "miou": row.miou}
        self._log(figures | {f"iou/{name}": value for name, value in row.iou.items()}, row.step)
        if self.global_rank == 0:
            if better:
                self.callbacks.keep_best(self)
            self.callbacks.keep(self)
            self.callbacks.epoch(row)
            if self.callbacks.stop():
                raise self._stopped()
        if self.is_over:
            self.trainer.should_stop = True

    # --- parts of the hooks

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left, or patience has run out at a validation."""
        recipe, state = self.plan.recipe, self.state
        if state.epochs >= recipe.epochs:
            return True
        waited = state.epochs - 1 - state.best_epoch if state.best_epoch >= 0 else 0
        return recipe.patience is not None and waited >= recipe.patience and not math.isnan(state.rows[-1].miou)

    def _stopped(self) -> BaseException:
        """Return the exception that ends the run; with several processes, a silent end would leave others waiting."""
        return KeyboardInterrupt() if self.trainer.world_size == 1 else TrainingError("stopped")

    def _diverged(self, problem: str, batch: CropBatch) -> DivergedError:
        return DivergedError(
            f"{problem} at batch {batch.number % self.plan.batches + 1} of {self.plan.batches} of epoch "
            f"{self.state.epochs + 1} ({'; '.join(batch.places[:2])}{'; ...' * (len(batch.places) > 2)}). "
            "A smaller `lr`, `clip=1` or `precision='32'` may help; look at these places for extreme or undeclared "
            "nodata values"
        )

    def batch(self, number: int) -> CropBatch:
        """Draw one batch of the training."""
        return self._loader(number, number + 1).draw(number)

    def find_lr(self, device: str) -> float:
        """Return the learning rate found by a sweep; the learner is unchanged afterwards, on the CPU."""

        def batch_of(number: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.seen_by_network(self.transfer_batch_to_device(self.batch(number), self.device, 0))

        self.to(device)
        with learning_errors(self.plan, device):
            lr = find_lr(self.plan.recipe, self.network, batch_of, self.loss, self.plan.step_batches(0))
        self.cpu()
        return lr

    def loss(self, answer: Any, targets: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - logits, or those of two heads
        """Return the loss of the network's output: logits (n,class,row,col), or a pair with an auxiliary head."""
        logits, *auxiliary = answer if isinstance(answer, tuple) else (answer,)
        loss: torch.Tensor = self._loss(logits.float(), targets)
        for further in auxiliary:
            loss = loss + _AUXILIARY * self._loss(further.float(), targets)
        return loss

    def _loader(self, first: int, stop: int) -> CropLoader:
        read_px = context_px(self._augmentation, self.plan.recipe.crop_px)
        margin_px = (read_px - self.plan.recipe.crop_px + 1) // 2
        return CropLoader(self.plan, self._crops, margin_px, first, stop, self.global_rank)

    def seen_by_network(self, batch: CropBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented, normalized image (n,band,row,col) and the targets (n,row,col) of the loss."""
        low, high = self.plan.stretch
        image = (batch.image.float() - low) / (high - low)
        generator = torch.Generator().manual_seed(_seed_of(self.plan.recipe.seed, batch.number, self.global_rank))
        with torch.autocast(image.device.type, enabled=False):  # half precision is not enough for colors
            image, valid, codes = augment(
                image,
                batch.valid,
                batch.codes,
                self._augmentation,
                generator,
                bands=self.plan.bands,
                out_px=self.plan.recipe.crop_px,
            )
        return normalized(image, valid, self._gain, self._bias), self._channels[codes.long()]

    def _row(self, scores: Scores | None) -> EpochRow:
        iou: dict[str, float] = {}
        loss = miou = math.nan
        if scores is not None and scores.matrix.total_px:
            metrics = Metrics.of(scores.matrix)
            iou = {each.name: each.iou if each.reference_px else math.nan for each in metrics.classes}
            loss, miou = scores.loss, metrics.miou_of_reference
        return EpochRow(
            epoch=self.state.epochs,
            step=(self.state.epochs + 1) * self.plan.epoch_steps,
            train_loss=self.state.loss_sum / self.plan.batches,
            valid_loss=loss,
            miou=miou,
            iou=iou,
            lr=self.trainer.optimizers[0].param_groups[0]["lr"],
            seconds=time.monotonic() - self._begun_s,
        )

    def _mean(self, value: float) -> float:
        """Return the mean over all devices."""
        if self.trainer.world_size == 1:
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, device=self.device), reduce_op="mean"))

    def _log(self, figures: dict[str, float], step: int) -> None:
        """Log figures by the steps of the whole training; Lightning counts only those of this run."""
        for logger in self.trainer.loggers:
            logger.log_metrics({name: value for name, value in figures.items() if not math.isnan(value)}, step)
            logger.save()  # so that a kill loses nothing


def summed(scores: Scores | None, learner: Learner) -> Scores | None:
    """Return the sum of the scores of all devices; None if there are none."""
    parts: list[Scores | None] = [scores]
    if learner.trainer.world_size > 1:
        parts = [None] * learner.trainer.world_size
        torch.distributed.all_gather_object(parts, scores)
    counted = [part for part in parts if part is not None]
    return functools.reduce(Scores.merge, counted) if counted else None


def _seed_of(*numbers: int) -> int:
    """Return a single seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def fit(learner: Learner, device: str, devices: int, folder: Path, *, wandb: bool = False) -> None:
    """Run the remaining epochs. State and weights are then in the learner and in its checkpoints.

    `device`: cpu, mps, cuda or cuda:N; `devices`: how many of them. Raises TrainingError if the loss is NaN or a batch
    does not fit, any error of the learner's callbacks, and KeyboardInterrupt.
    """
    if learner.is_over:
        return
    with _quiet(), _interruptible(), learning_errors(learner.plan, device):
        trainer = pl.Trainer(
            max_epochs=learner.plan.recipe.epochs - learner.state.epochs,
            logger=_loggers(folder, learner.plan.recipe, learner.plan.step_of(learner.state.batches), wandb=wandb),
            **hardware(device, devices, learner.plan.recipe),
            accumulate_grad_batches=learner.plan.recipe.accumulate,
            gradient_clip_val=learner.plan.recipe.clip or None,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if devices == 1:
            trainer.fit(learner)
            return
        callbacks = learner.callbacks
        try:
            with relayed(callbacks) as learner.callbacks:
                trainer.fit(learner)
        finally:
            learner.callbacks = callbacks


def hardware(device: str, devices: int, recipe: Recipe) -> dict[str, Any]:
    """Return Lightning's arguments for device and precision. Raises UsageError for an invalid combination."""
    kind, _, number = device.partition(":")
    if kind == "cpu" and recipe.precision == "16":
        raise UsageError("`precision='16'` needs a GPU; give `precision='bf16'` or `precision='32'`", "precision")
    arguments: dict[str, Any] = {"accelerator": "gpu" if kind == "cuda" else kind, "devices": devices}
    if devices > 1:
        if int(number or 0):
            raise UsageError(
                f"`devices={devices}` uses the first {devices}, got `device={device!r}`; leave `device` out, and "
                "choose GPUs with CUDA_VISIBLE_DEVICES",
                "device",
            )
        count = {"cuda": cuda_devices(), "mps": 1}.get(kind, devices)
        if devices > count:
            message = f"{numbered(count, f'{kind} device')} found, got `devices={devices}`; give `devices={count}`"
            raise UsageError(message, "devices")
        # spawn: other processes load the same learner, without running the command line again
        arguments["strategy"] = "ddp_spawn_find_unused_parameters_true"
    elif number:
        arguments["devices"] = [int(number)]
    return arguments | {"precision": _precision(kind, recipe.precision)}


def _precision(kind: str, requested: str) -> Any:  # noqa: ANN401 - Lightning's own literal
    if requested == "auto":
        requested = "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[requested]


def _loggers(folder: Path, recipe: Recipe, step: int, *, wandb: bool) -> list[Logger]:
    """Return the loggers for the steps after `step`: CSV and TensorBoard always, Weights & Biases on request.

    A resumed run gets its own CSV next to the earlier one, which Lightning's logger would delete; TensorBoard hides
    the log entries of repeated steps.
    """
    loggers: list[Logger] = [
        CSVLogger(folder, name="csv", version=f"from_step_{step}" if step else ""),
        TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1 if step else None),
    ]
    if wandb:
        from lightning.pytorch.loggers import WandbLogger  # noqa: PLC0415 - an extra of an extra

        loggers.append(WandbLogger(project="geoseg", save_dir=folder, config=recipe.to_json()))
    return loggers


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice, which users of `geoseg train` cannot act on."""
    with quiet_logs(logging.ERROR, *_TALKATIVE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*(treespec|pytree|lr_scheduler|isinstance).*")
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Restore Ctrl-C: Lightning handles it, ends the process, and leaves it ignored."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)
