"""The one file that knows Lightning: a method, its players and its memory as a LightningModule."""

from __future__ import annotations

import copy
import logging
import signal
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from medssl.distributed import follow_first_, mean_over_processes, same_everywhere
from medssl.errors import TrainingStopped, UserError
from medssl.methods.base import Method
from medssl.training.batches import joined, to_batch
from medssl.training.checkpoints import Identity, checkpoint_name, prune_checkpoints
from medssl.training.gradcache import average_gradients_, gradient_cache
from medssl.training.hardware.device import compiled, lay_out_, settle
from medssl.training.hardware.launch import Sharded, alone, build_trainer, end_helpers
from medssl.training.hardware.lost_process import is_lost, lost
from medssl.training.hardware.precision import guard_convolutions_
from medssl.training.hardware.shards import shard_, whole, whole_copy, whole_parameters
from medssl.training.hooks import Hooks
from medssl.training.optim import build_optimizer, lr_factor, set_rates_, weight_decay_at
from medssl.training.options import Optimisation, PlayerOptions, TrainerOptions
from medssl.training.restore import is_misfit, misfit, refuse_misfit, same_form
from medssl.training.seeding import step_seed
from medssl.types import Batch, Progress, Step


class MethodModule(pl.LightningModule):
    """Steps every player with its own optimiser, then lets the method move its memory.

    The whole training is one Lightning epoch of a resumable loader, so that there is one way to resume; epochs
    in the sense of the recipe are counted here.
    """

    def __init__(
        self,
        method: Method,
        optim: Optimisation,
        options: TrainerOptions,
        hooks: Hooks,
        identity: Identity | None = None,
    ) -> None:
        super().__init__()
        self.identity, self.resumed, self.restored = identity, Path(), False
        self.automatic_optimization = False
        self.method, self.optim, self.hooks = method, optim, hooks
        self.options = options = settle(options)  # where it was not done with the recipe
        if options.precision == "bf16-mixed":
            guard_convolutions_(method)
        lay_out_(method, options.memory_format)
        self.cache = gradient_cache(method, options, lambda: self.device)
        self.steps_per_epoch = 1  # known once the loader is
        self.micro, self.prepared = 0, -1  # batches of the training behind us, the epoch that was looked at last
        self.done = 0  # optimiser steps that were made; another number than at.step after a change of devices
        self.before: dict[str, int] | None = None  # how the checkpoint counted batches
        self.norm, self.sharded = float("nan"), False
        self.held: list[tuple[Step, Batch]] = []  # micro-batches since the last optimiser step
        self.names = tuple(method.players())
        if unknown := set(optim.players) - set(self.names):
            raise UserError(
                f"optim.players names {sorted(unknown)}, but the players of {type(method).__name__} are "
                f"{list(self.names)}; use one of these"
            )

    @property
    def at(self) -> Progress:
        """Where the training stands."""
        step, epochs = self.micro // self.options.accumulate, self.options.epochs
        return Progress(step, epochs * self.steps_per_epoch, min(step // self.steps_per_epoch, epochs - 1), epochs)

    def train_dataloader(self) -> Any:
        """The loader of this process, asked for once a checkpoint is taken up."""
        self.restored = True
        loader = self.hooks.loader(self.global_rank, self.trainer.world_size, self.start_epoch)
        self.steps_per_epoch = loader.plan.per_epoch // self.options.accumulate
        self.plan = {"joint": loader.plan.joint, "per_epoch": loader.plan.per_epoch}
        if self.before is not None:
            same_everywhere("steps in the checkpoint", self.micro, self.device)
            if self.before != self.plan:
                self.micro = loader.plan.resumed(self.micro, self.before)
                counted = self.trainer.fit_loop.epoch_loop.batch_progress.current
                counted.ready = counted.started = counted.processed = self.micro
                counted.completed = self.micro - 1
            self.before = None
        return loader

    def configure_model(self) -> None:
        """Under fsdp, split the weights over the processes."""
        if isinstance(self.trainer.strategy, Sharded) and not self.sharded:
            shard_(self.method, self.device_mesh["data_parallel"])
            self.sharded = True

    def start_epoch(self, epoch: int) -> np.ndarray | None:
        """Let the method look at the cohort once per epoch; returns sampling weights of the rows."""
        if epoch != self.prepared:
            follow_first_(self.method)  # batch-norm statistics may differ
            torch.manual_seed(step_seed(self.options.seed, epoch, 1_000_003))
            with whole_parameters(self.method):
                fresh = self.method.before_epoch(lambda f: self.hooks.embed(f, self.device), self.at)
            self.forget(fresh or ())
            follow_first_(self.method)  # as they agree already where all processors compute alike
            self.prepared = epoch
        weights = self.method.scan_weights()
        if weights is None:
            return self.hooks.scan_weights
        own, given = weights.detach().cpu().double().numpy(), self.hooks.scan_weights
        return own if given is None else own * given

    def forget(self, fresh: Sequence[nn.Module]) -> None:
        """Drop what the optimisers remember of the parameters of these modules (moments, counts of steps)."""
        for parameter in (p for module in fresh for p in module.parameters()):
            for optimizer in self.trainer.optimizers:
                optimizer.state.pop(parameter, None)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser per player."""
        return [
            build_optimizer(self.optim, parameters, self.player(name).lr or self.optim.lr)
            for name, parameters in self.method.players().items()
        ]

    def player(self, name: str) -> PlayerOptions:
        """Options of a player."""
        return self.optim.players.get(name, PlayerOptions())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Views that are made on the device are made here, outside autocast."""
        return self.hooks.finish(batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Bring a batch to the device; under gradient caching its views follow a few scans at a time."""
        if self.cache is None or self.hooks.late:  # views that are made on the device
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        rest = super().transfer_batch_to_device({**batch, "views": []}, device, dataloader_idx)
        return rest | {"views": batch["views"]}

    def training_step(self, item: Mapping[str, Any], batch_idx: int) -> None:
        """One forward pass, one backward pass, one step per player that is due, then memory."""
        batch, at = to_batch(item, self.options.memory_format, self.hooks.roles), self.at
        seed = partial(step_seed, self.options.seed, self.micro, self.global_rank)
        torch.manual_seed(seed())
        out = self.method.step(batch, at) if self.cache is None else self.cache.forward(batch, at, seed)
        if tuple(sorted(out.losses)) != tuple(sorted(self.names)):
            raise TypeError(f"{type(self.method).__name__}: losses {sorted(out.losses)} are not players {self.names}")
        total = torch.stack(list(out.losses.values())).sum()
        shown = Step(mean_over_processes(out.losses), mean_over_processes(out.log), out.carry)
        if not all(bool(torch.isfinite(v)) for v in shown.losses.values()):  # of any process, so that all stop
            raise TrainingStopped(self.diagnosis(batch, shown, at))
        self.backward_of(total / self.options.accumulate)
        self.micro += 1
        if self.options.accumulate > 1:
            self.held.append((Step({}, out.log, out.carry), replace(batch, views=())))
        if self.micro % self.options.accumulate:
            return
        lr = self.step_players(at)
        self.done += 1
        self.method.after_step(*(joined(self.held) if self.held else (out, batch)), at)
        self.held.clear()
        self.record(batch, shown, at, lr)

    def backward_of(self, loss: Tensor) -> None:
        """Add gradients; those of the last batch of an optimiser step are averaged over processes."""
        last = (self.micro + 1) % self.options.accumulate == 0
        if self.cache is None:
            with alone(self.trainer, until_last=last):
                self.manual_backward(loss)
            return
        self.cache.backward(self.trainer.precision_plugin.pre_backward(loss, self))  # scaled under fp16
        if last:
            average_gradients_(self.method)

    def step_players(self, at: Progress) -> float:
        """Step the optimisers that are due; returns the learning rate used for the first player."""
        optimizers = self.optimizers() if len(self.names) > 1 else [self.optimizers()]
        factor = lr_factor(self.optim, at.step, at.steps, self.steps_per_epoch)
        decay = weight_decay_at(self.optim, at.step, at.steps)
        for name, optimizer in zip(self.names, optimizers, strict=True):
            if (at.step + 1) % self.player(name).every == 0:
                set_rates_(optimizer, (self.player(name).lr or self.optim.lr) * factor, decay)
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return self.optim.lr * factor

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip by the norm of all gradients of the player (after unscaling under fp16)."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        norm = whole(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
        self.norm = float(norm)
        if not torch.isfinite(norm) and self.options.precision != "16-mixed":  # fp16's scaler skips such a step
            raise TrainingStopped(
                f"the gradient is not finite at step {self.at.step - 1} (epoch {self.at.epoch}); lower optim.lr "
                f"(it is {self.optim.lr:g}) or set trainer.clip=1"
            )
        if self.options.clip is not None and torch.isfinite(norm):
            scale = torch.clamp(self.options.clip / (norm + 1e-6), max=1.0)
            for g in gradients:
                g.mul_(scale)

    def record(self, batch: Batch, out: Step, at: Progress, lr: float) -> None:
        """Numbers of this step for the logs and the bar; probes and a checkpoint where an epoch ends."""
        single = len(out.losses) == 1
        row = {("loss" if single else f"loss_{k}"): float(v.detach()) for k, v in out.losses.items()}
        row |= {"lr": lr, "grad_norm": self.norm} | {k: float(v) for k, v in out.log.items()}
        after = self.at
        epoch_ends = after.step % self.steps_per_epoch == 0
        if self.trainer.is_global_zero:
            self.hooks.progress(after.step, after.steps, row)
            if self.done % self.options.log_steps == 0 or epoch_ends:
                chance = float("nan") if self.method.chance is None else self.method.chance
                self.hooks.on_step({"step": self.done, "epoch": at.epoch, **row, "chance": chance}, out, batch)
        if epoch_ends and (self.trainer.is_global_zero or self.sharded):  # sharded weights need everybody's part
            ends = Progress(self.done, self.done + after.steps - after.step, at.epoch, at.epochs)
            self.hooks.on_epoch(self.method, ends, self.device)

    def diagnosis(self, batch: Batch, out: Step, at: Progress) -> str:
        """Why a loss may be no number, in one sentence."""
        values = {k: float(v.detach()) for k, v in out.losses.items()}
        where = f"the loss is not finite at step {at.step} (epoch {at.epoch}): {values}; "
        if not all(bool(torch.isfinite(v).all()) for v in batch.views):
            return where + f"the views of rows {batch.index.tolist()} hold NaN or Inf: run `medssl cohort check`"
        if not all(bool(torch.isfinite(p).all()) for p in self.method.parameters()):
            return where + "weights became NaN or Inf in an earlier step: lower optim.lr or set trainer.clip=1"
        if self.options.precision == "16-mixed":
            return where + "half precision overflowed: use trainer.precision=bf16-mixed or 32-true"
        warmer = "raise method.temperature, " if hasattr(self.method, "temperature") else ""
        return where + f"lower optim.lr, {warmer}or set trainer.clip=1"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counters travel with the state."""
        own: dict[str, Any] = {"micro": self.micro, "prepared": self.prepared, "done": self.done, "plan": self.plan}
        own |= {} if self.identity is None else {"identity": dict(self.identity)}
        memory = self.hooks.memory()
        checkpoint["medssl"] = own | ({"monitor": memory} if memory else {})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counters come back with the state; a state that does not fit is refused."""
        refuse_misfit(checkpoint, self, self.configure_optimizers(), self.resumed)
        same_form(checkpoint["loops"].get("fit_loop"), self.trainer.fit_loop.state_dict(), self.resumed)
        found = checkpoint["medssl"]
        self.micro, self.prepared, self.before = found["micro"], found["prepared"], found.get("plan")
        self.done = found.get("done", self.micro // self.options.accumulate)
        if self.global_rank == 0:
            self.hooks.rewind(self.done)
            try:
                self.hooks.recall(found.get("monitor", {}))
            except UserError as problem:
                raise misfit(self.resumed, problem) from None


class Keeper(pl.Callback):
    """A checkpoint at every epoch's end and every ``checkpoint_steps`` optimiser steps."""

    def __init__(self, folder: Path, options: TrainerOptions) -> None:
        self.folder, self.options = folder, options

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save between two steps, when every counter agrees."""
        if module.micro % self.options.accumulate:
            return
        step, every = module.done, self.options.checkpoint_steps
        if module.at.step % module.steps_per_epoch == 0 or (every and step % every == 0):
            trainer.save_checkpoint(self.folder / checkpoint_name(step))
            if trainer.is_global_zero:
                prune_checkpoints(self.folder, self.options.keep_checkpoints)


def fit(module: MethodModule, run: Path, resume: Path | None = None) -> Method:
    """Train ``module``; checkpoints go to run/checkpoints. Returns the method with whole weights.

    Raises TrainingStopped on a loss that is no number, KeyboardInterrupt when stopped by hand.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    options, threads = module.options, torch.get_num_threads()
    module.resumed = resume or Path()
    torch.set_num_threads(options.threads or threads)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*(pytorch_lightning|deterministic).*")
        trainer = build_trainer(options, [Keeper(run / "checkpoints", options)])
        plain = None
        if isinstance(trainer.strategy, Sharded):
            plain = copy.deepcopy(module.method)
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            with compiled(module.method.encoder, options.compile):
                trainer.fit(module, ckpt_path=str(resume) if resume else None)
        except SystemExit as stop:  # Lightning turns Ctrl-C into an exit
            raise KeyboardInterrupt from stop
        except BaseException as problem:
            end_helpers(trainer)
            if trainer.world_size > 1 and is_lost(problem):
                raise TrainingStopped(lost(run, options.timeout)) from problem
            if resume is not None and not module.restored and is_misfit(problem):
                raise misfit(resume, problem) from problem
            raise
        finally:  # Lightning ignores Ctrl-C after the first one, for the rest of the process
            torch.set_num_threads(threads)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, on_interrupt)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return module.method if plain is None else whole_copy(module.method, plain)
