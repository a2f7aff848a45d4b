"""The Lightning trainer of some options: devices, strategy, checkpoint files."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    Strategy,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from medssl.errors import UserError
from medssl.training.checkpoints import read_checkpoint, write_checkpoint
from medssl.training.hardware.device import processes, settle
from medssl.training.options import TrainerOptions


class SafeFiles(TorchCheckpointIO):
    """Checkpoints by write-then-rename, read without unpickling anything but tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write atomically."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read with ``weights_only=True``."""
        return dict(read_checkpoint(Path(path), map_location or "cpu"))


class Sharded(ModelParallelStrategy):
    """Weights, gradients and optimiser states in shards (FSDP 2); a checkpoint is one whole file, as without shards."""

    def __init__(self, processes: int, timeout: timedelta) -> None:
        super().__init__(processes, 1, save_distributed_checkpoint=False, timeout=timeout)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Give every process its shard of a checkpoint, whether that was written with shards or without.

        Lightning's own reader takes parameters in the order of the model; a file counts them in that of the optimiser.
        """
        from torch.distributed.checkpoint import state_dict as parts

        state = SafeFiles().load_checkpoint(self.broadcast(str(checkpoint_path)))
        whole = parts.StateDictOptions(full_state_dict=True)
        parts.set_model_state_dict(self.model, state.pop("state_dict"), options=whole)
        names = {id(p): name for name, p in self.lightning_module.named_parameters()}
        for optimizer, saved in zip(self.optimizers, state["optimizer_states"], strict=True):
            here = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
            groups = [g | {"params": ps} for g, ps in zip(saved["param_groups"], here, strict=True)]
            there = [number for group in saved["param_groups"] for number in group["params"]]
            named = zip(there, (name for ps in here for name in ps), strict=True)
            values = {name: saved["state"][number] for number, name in named if number in saved["state"]}
            optimum: Any = {"state": values, "param_groups": groups}
            parts.set_optimizer_state_dict(self.model, optimizer, optimum, options=whole)
        return state


def alone(trainer: pl.Trainer, until_last: bool) -> AbstractContextManager[Any]:
    """Keep gradients of this process to itself, but for the last backward pass of an optimiser step."""
    if until_last or not isinstance(trainer.strategy, ParallelStrategy):
        return nullcontext()
    blocked: AbstractContextManager[Any] = trainer.strategy.block_backward_sync()
    return blocked


def end_helpers(trainer: pl.Trainer) -> None:
    """End the processes that this one started, also where they hang; others end with their own launcher."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)


def build_trainer(options: TrainerOptions, callbacks: list[pl.Callback]) -> pl.Trainer:
    """The Lightning trainer of these options; UserError for a device or strategy that this machine does not have."""
    options = settle(options)  # nothing to do where the recipe was settled
    try:
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy=_strategy(options),
            precision=options.precision,
            sync_batchnorm=options.sync_batchnorm,
            max_epochs=1,
            deterministic="warn" if options.deterministic else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[SafeFiles()],
        )
    except (MisconfigurationException, ValueError) as problem:
        raise UserError(
            f"this machine cannot train with trainer.accelerator={options.accelerator}, devices={options.devices}, "
            f"strategy={options.strategy}, precision={options.precision} ({' '.join(str(problem).split())}); change "
            f"these options, such as trainer.accelerator=auto"
        ) from problem


def _strategy(options: TrainerOptions) -> str | Strategy:
    """Our own settings of data parallelism and of shards; other names are Lightning's.

    Buffers are not broadcast before every step, as torch would: memory moves alike on every process, and a bank of a
    large cohort would cost more than the gradients.
    """
    number, wait = processes(options), timedelta(seconds=options.timeout)
    if options.strategy == "fsdp":
        return Sharded(number, wait)
    if options.strategy == "ddp" or (options.strategy == "auto" and number > 1):
        start = "fork" if hasattr(sys, "ps1") else "popen"  # in a notebook there is no script to start again
        return DDPStrategy(timeout=wait, broadcast_buffers=False, start_method=start)
    return options.strategy
