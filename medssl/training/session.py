"""One training from assembled parts: loader, clean embedding, monitors and the bar around the adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medssl.data.loading.batches import EpochBatches
from medssl.data.loading.dataset import ResumableLoader, ScanDataset
from medssl.distributed import embed_in_parts, process_is_first
from medssl.errors import UserError
from medssl.features.embed import embed_rows
from medssl.methods.base import Method
from medssl.training.adapter import Hooks, MethodModule, fit
from medssl.training.bar import Bar
from medssl.training.checkpoints import Identity
from medssl.training.hardware.device import processes
from medssl.training.monitors import Monitor
from medssl.training.options import MonitorOptions, Optimisation, TrainerOptions

FEW_STEPS = 100
"""Trainings of fewer optimiser steps are told that they are short."""


def train(
    method: Method,
    dataset: ScanDataset,
    rows: np.ndarray,
    table: pd.DataFrame,
    run: Path,
    *,
    title: str,
    batch: int,
    workers: int,
    optim: Optimisation,
    trainer: TrainerOptions,
    monitors: MonitorOptions,
    draw: Callable[[pd.DataFrame, str, Path], None] | None = None,
    balance: np.ndarray | None = None,
    resume: Path | None = None,
    identity: Identity | None = None,
    progress: bool = True,
    notes: Sequence[str] = (),
) -> Method:
    """Train ``method`` on ``rows`` of ``dataset`` and fill the run folder; returns the trained method.

    The method is changed in place, unless its weights are split over processes (trainer.strategy=fsdp).

    table: manifest columns of all rows (age, site, sex, subject, participant_id, weight). balance: codes of all
    rows, such as sites, that every batch holds alike. resume: a checkpoint. identity: of the run, for its checkpoints.
    notes: sentences about its scans, which were printed already and are kept in logs/messages.
    """
    first, number = process_is_first(), processes(trainer)
    progress = progress and first
    weights = _weights(table["weight"].to_numpy(float), rows)
    made: list[ResumableLoader] = []

    def loader(rank: int, world: int, before_epoch: Callable[[int], np.ndarray | None]) -> ResumableLoader:
        plan = EpochBatches(rows, batch, trainer.seed, rank, world, trainer.accumulate, balance)
        made.append(ResumableLoader(dataset, plan, trainer.epochs, workers, before_epoch, torch.cuda.is_available()))
        return made[-1]

    def embed(f: Callable[[Tensor], Tensor], device: torch.device, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        modes = {m: m.training for m in method.modules()}
        method.eval()
        try:
            return embed_rows(f, dataset, chosen, device, batch)
        finally:
            for module, training in modes.items():
                module.training = training

    with Bar(title, batch * number * trainer.accumulate, progress) as bar:
        monitor = Monitor(
            run,
            monitors,
            table,
            rows,
            embed,
            bar.say if progress else lambda text: bar.say(f"{run}: {text}"),  # several may train at once
            draw=draw,
            tensorboard=trainer.tensorboard,
            seed=trainer.seed,
            accumulate=trainer.accumulate * number,
            writes=first,
        )
        short = []
        if optim.schedule != "constant" and optim.warmup >= trainer.epochs:
            short.append(
                f"the warm-up of {optim.warmup:g} epochs is not over when the training of {trainer.epochs} ends, so "
                f"the rate never reaches optim.lr={optim.lr:g}; set optim.warmup lower for more than a trial"
            )
        steps = trainer.epochs * (len(rows) // (batch * number * trainer.accumulate))
        if steps < FEW_STEPS:
            short.append(
                f"{steps} optimiser steps in all ({len(rows)} scans, batches of {batch}) are few: methods that compare "
                f"scans need some hundreds, such as trainer.epochs={math.ceil(trainer.epochs * 300 / max(1, steps))}"
            )
        if resume is None and first:
            monitor.rewind(0)  # what an attempt left that died before its first checkpoint
            for text in (*notes, *short):
                monitor.note(text)
        for text in short if progress else ():
            bar.say(text)
        hooks = Hooks(
            loader=loader,
            embed=lambda f, device: embed_in_parts(lambda part: embed(f, device, part), rows, device),
            scan_weights=weights,
            on_step=monitor.on_step,
            on_epoch=monitor.on_epoch,
            rewind=monitor.rewind,
            progress=bar,
            finish=dataset.finish,
            late=dataset.late,
            memory=monitor.memory,
            recall=monitor.recall,
            roles=() if dataset.maker is None else dataset.maker.roles,
        )
        try:
            return fit(MethodModule(method, optim, trainer, hooks, identity), run, resume)
        finally:
            monitor.close()
            for used in made:
                used.close()


def _weights(column: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """Sampling weights of all rows, or None where every training scan counts the same."""
    if (column[rows] < 0).any() or column[rows].sum() <= 0:
        raise UserError("the weights of the training scans must be 0 or more and not all 0; mend the column weight")
    return None if np.ptp(column[rows]) == 0 else column
