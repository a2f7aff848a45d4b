"""Which scans stand in which batch of an epoch, on which process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from medssl.data.loading.balance import BalancedDraws
from medssl.errors import UserError, count


class Draw(NamedTuple):
    """One scan of one batch: its row, the epoch, and how often that row was drawn before in the epoch."""

    row: int
    epoch: int
    repeat: int = 0


class EpochBatches:
    """Which scans stand in which batch: a pure function of (seed, epoch, weights), split evenly over processes.

    Without weights every row comes once per epoch (what does not fill a batch, or ``accumulate`` of them, is left
    out); with weights ``len(rows)`` draws with replacement. ``batch`` is per process. groups: (scans,) codes of all
    rows of the cohort, such as sites, of which every batch then holds equal numbers (``BalancedDraws``).
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        accumulate: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        self.rows, self.batch, self.seed = np.asarray(rows), batch, seed
        self.rank, self.processes, self.accumulate = rank, processes, accumulate
        self.per_epoch = len(self.rows) // (batch * processes)
        if self.per_epoch >= accumulate:
            self.per_epoch -= self.per_epoch % accumulate
        elif self.per_epoch:
            raise UserError(
                f"trainer.accumulate={accumulate} batches of {batch} scans are more than the {len(self.rows)} training "
                f"scans; set trainer.accumulate={self.per_epoch} or a smaller data.batch_size"
            )
        if self.per_epoch == 0:
            smaller = max(1, len(self.rows) // (2 * processes))
            on = f" on each of {processes} processes" if processes > 1 else ""
            raise UserError(
                f"a batch of {count(batch, 'scan')}{on} needs at least {count(batch * processes, 'training scan')}, "
                f"not {len(self.rows)}; set data.batch_size={smaller}"
            )

        self.balanced = None
        if groups is not None:
            codes = np.asarray(groups)[self.rows]
            self.balanced = BalancedDraws(self.rows, codes, batch * processes, self.per_epoch, seed)

    @property
    def joint(self) -> int:
        """Scans of one batch, of all processes together."""
        return self.batch * self.processes

    def resumed(self, handed_out: int, before: Mapping[str, int]) -> int:
        """Batches that count as handed out, where ``before`` (joint, per_epoch) is the plan that they were made by.

        With as many scans per joint batch the same number. Otherwise as many scans of the epoch as were seen then,
        rounded down to whole optimiser steps, so that none is left out and fewer than one step are seen again.
        """
        epoch, offset = divmod(handed_out, before["per_epoch"])
        if before["joint"] != self.joint:
            offset = offset * before["joint"] // self.joint
            offset -= offset % self.accumulate
        return epoch * self.per_epoch + min(offset, self.per_epoch)

    def batches(self, epoch: int, weights: np.ndarray | None = None) -> list[list[Draw]]:
        """The draws of every batch of this process; repeats are counted over the batches of all processes."""
        if self.balanced is not None:
            if weights is not None:
                raise UserError(
                    "data.balance decides how often a scan is drawn, and so do the sampling weights of the manifest or "
                    "of the method's clusters; leave one of them out"
                )
            draws = _numbered(np.array(self.balanced.epoch(epoch)).ravel(), epoch)
            joint = (draws[i * self.joint : (i + 1) * self.joint] for i in range(self.per_epoch))
            return [batch[self.rank :: self.processes] for batch in joint]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, 0x5A17]))
        if weights is None:
            order = rng.permutation(self.rows)
        else:
            share = np.asarray(weights, float)[self.rows]
            order = rng.choice(self.rows, size=len(self.rows), p=share / share.sum())
        draws, start = _numbered(order, epoch), self.rank * self.batch
        joint = (draws[i * self.joint : (i + 1) * self.joint] for i in range(self.per_epoch))
        return [batch[start : start + self.batch] for batch in joint]


def _numbered(order: np.ndarray, epoch: int) -> list[Draw]:
    """The draws of an epoch in their order, each with the number of earlier draws of its row."""
    sorted_by_row = np.argsort(order, kind="stable")
    rows = order[sorted_by_row]
    repeat = np.empty(len(order), int)
    repeat[sorted_by_row] = np.arange(len(order)) - np.searchsorted(rows, rows)
    return [Draw(int(row), epoch, int(number)) for row, number in zip(order, repeat, strict=True)]
