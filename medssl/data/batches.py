"""Which scans stand in which batch of an epoch, on which process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medssl.data.balance import BalancedDraws
from medssl.errors import UserError, count


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

    def batches(self, epoch: int, weights: np.ndarray | None = None) -> list[list[tuple[int, int]]]:
        """Batches of (row, epoch) for this process."""
        if self.balanced is not None:
            if weights is not None:
                raise UserError(
                    "data.balance decides how often a scan is drawn, and so do the sampling weights of the manifest or "
                    "of the method's clusters; leave one of them out"
                )
            mine = [batch[self.rank :: self.processes] for batch in self.balanced.epoch(epoch)]
            return [[(int(row), epoch) for row in batch] for batch in mine]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, 0x5A17]))
        if weights is None:
            order = rng.permutation(self.rows)
        else:
            share = np.asarray(weights, float)[self.rows]
            order = rng.choice(self.rows, size=len(self.rows), p=share / share.sum())
        step, start = self.batch * self.processes, self.rank * self.batch
        chosen = (order[i * step + start : i * step + start + self.batch] for i in range(self.per_epoch))
        return [[(int(row), epoch) for row in batch] for batch in chosen]
