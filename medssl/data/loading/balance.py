"""Batches in which every site has as many scans as every other, as far as its scans reach."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class _Deck:
    """Where the drawing stands after some epochs."""

    epoch: int
    drawn_S: np.ndarray
    left: list[list[int]] = field(default_factory=list)  # per site: rows still to come in this round, next one last


class BalancedDraws:
    """Rows of every batch: a pure function of (rows, groups, batch, batches, seed, epoch).

    rows: training rows; groups: their sites as codes (rows without a site, code -1, count as one site more). A batch
    of G scans holds no scan twice and is as even as it can be: every site gives min(its scans, k) for the largest k
    that fits, and the r places left go one each to r sites that have more scans, those drawn least often so far first
    (ties by chance). With S sites of k scans or more that is k = G // S per site, and one more for G % S of them; with
    more sites than places, every batch holds G different sites. Within a site scans come in shuffled rounds, each scan
    once before any twice, across batches and epochs: in the long run every scan is used, and one of a small site more
    often than one of a large site.

    An epoch is drawn after the epochs before it, which are replayed where they were not asked for in order (after a
    resume); the answer is the same.
    """

    def __init__(self, rows: np.ndarray, groups: np.ndarray, batch: int, batches: int, seed: int) -> None:
        self.members = [np.asarray(rows)[groups == code] for code in np.unique(groups)]
        self.size_S = np.array([len(m) for m in self.members])
        self.batch, self.batches, self.seed = batch, batches, seed
        self._deck = self._new()

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Rows of every batch of an epoch, site by site; row j :: P of a batch is the part of process j of P."""
        if epoch < self._deck.epoch:
            self._deck = self._new()
        while self._deck.epoch < epoch:
            self._draw()
        return self._draw()

    def counts(self, drawn_S: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Scans that every site gives to the next batch, (S,)."""
        count_S = np.zeros(len(self.size_S), int)
        places = self.batch
        while places:
            ready = np.flatnonzero(count_S < self.size_S)
            if len(ready) > places:
                ready = ready[np.lexsort([rng.random(len(ready)), (drawn_S + count_S)[ready]])[:places]]
            count_S[ready] += 1
            places -= len(ready)
        return count_S

    def _new(self) -> _Deck:
        return _Deck(0, np.zeros(len(self.members), int), [[] for _ in self.members])

    def _draw(self) -> list[np.ndarray]:
        deck = self._deck
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, deck.epoch, 0xBA1A]))
        out = []
        for _ in range(self.batches):
            count_S = self.counts(deck.drawn_S, rng)
            deck.drawn_S = deck.drawn_S + count_S
            out.append(np.array([row for s, n in enumerate(count_S) for row in self._take(deck, s, int(n), rng)]))
        deck.epoch += 1
        return out

    def _take(self, deck: _Deck, site: int, number: int, rng: np.random.Generator) -> list[int]:
        """The next scans of a site; a new round begins where the last one ends, without a scan twice in a batch."""
        left = deck.left[site]
        taken = [left.pop() for _ in range(min(number, len(left)))]
        if len(taken) < number:
            fresh = rng.permutation(self.members[site]).tolist()
            later = [row for row in fresh if row in taken]
            left[:] = later + [row for row in fresh if row not in taken]
            taken += [left.pop() for _ in range(number - len(taken))]
        return taken
