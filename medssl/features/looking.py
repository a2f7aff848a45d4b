"""Scans as an encoder reads them, each with what it looks like."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medssl.data.loading.dataset import Item, ScanDataset, TableDataset, plain_batches
from medssl.data.volumes.looks import look_at
from medssl.features.likeness import MOST_ROWS, Floats, Likeness


class LookingDataset(ScanDataset):
    """The scans of another dataset, without augmentation; items carry flat ``look_at`` as meta "look", (C * J,).

    It is made by the threads that read, beside the encoder, from the volume that they read anyway and the header.
    """

    def __init__(self, dataset: ScanDataset) -> None:
        self.__dict__.update(copy.copy(dataset).__dict__)
        self.maker, self.late, self.inner = None, False, dataset

    def volume(self, row: int) -> Tensor:
        """The volume of the other dataset."""
        return self.inner.volume(row)

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        """One scan: key is a ``Draw``, or (row, epoch) of a first one."""
        item = super().__getitem__(key)
        item["meta"] = {**item["meta"], "look": torch.from_numpy(self.look(key[0]))}
        return item

    def look(self, row: int) -> Floats:
        """What a row looks like, (C * J,); nothing of a table."""
        if isinstance(self.inner, TableDataset):
            return np.zeros(0)
        return look_at(self.volume(row).numpy(), self.images[row], self.preprocessing).ravel()


def likeness_of(
    forward: Callable[[Tensor], Tensor],
    dataset: ScanDataset,
    rows: np.ndarray,
    people: np.ndarray,
    device: str = "cpu",
    batch: int = 32,
) -> Likeness | None:
    """What the training rows look like, from at most ``MOST_ROWS`` of them, evenly spread; None where they are few.

    forward: a batch to its features. people: who every row of the cohort is, (scans,).
    """
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(MOST_ROWS, len(rows))).round().astype(int))]
    looks, features = [], []
    batches = [chosen[i : i + batch] for i in range(0, len(chosen), batch)]
    with torch.no_grad(), plain_batches(LookingDataset(dataset), batches) as items:
        for item in items:
            looks.append(item["meta"]["look"].numpy())
            features.append(forward(item["views"][0].to(device)).float().cpu().numpy())
    return Likeness.fit(np.concatenate(looks), np.concatenate(features), [str(people[row]) for row in chosen])
