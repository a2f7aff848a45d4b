"""What crosses rooms: the shape legend and the frozen records that carry tensors between them.

Shape legend (letters behind the underscore of a tensor's name): N anchors (scans x views), M candidates,
B scans, V views, C channels, D embedding or depth (by context), E encoder width, K clusters or classes,
T tokens. Volumes are (C, D, H, W) in RAS; ages in years; spacing in mm; a larger similarity is closer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Features(NamedTuple):
    """What an encoder returns.

    pooled: (N, E), always there. map: (N, E, d, h, w) of a convolutional encoder, else None.
    tokens: (N, T, E) of a transformer without its class token, else None.
    """

    pooled: Tensor
    map: Tensor | None = None
    tokens: Tensor | None = None


@dataclass(frozen=True)
class Shown:
    """What of a scan a method asks to be shown: a view maker by name (``medssl.views.table``) and its arguments.

    free: arguments that a recipe may change (``views: {n_local: 4}``); the others are part of the method.
    """

    maker: str = "pair"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    free: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What a method may see of B scans.

    views: V tensors (B, C, D, H, W), which may differ in size; ``roles`` says what each is.
    index: (B,) int64, row in the cohort table; banks and clusters are keyed by it.
    meta: manifest columns as (B,); floats such as "age" [years] are NaN when missing, codes such as "sex",
        "site" are int64 and -1 when missing; "subject" groups scans of one person (never -1).
    target: answers drawn by the view maker, first dimension B ("token_noise", "latent", "rotation", ...).
    roles: what every view is ("global", "local", "patch", "clean", "corrupted", "context"), also where the views
        themselves are left out; () where nobody said.
    """

    views: tuple[Tensor, ...]
    index: Tensor
    meta: Mapping[str, Tensor]
    target: Mapping[str, Tensor] = field(default_factory=dict)
    roles: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of scans B."""
        return int(self.index.shape[0])


@dataclass(frozen=True)
class Step:
    """Result of one forward pass.

    losses: one scalar per player (ordinary methods: "loss"). log: detached numbers worth plotting.
    carry: detached tensors that ``after_step`` needs.
    """

    losses: Mapping[str, Tensor]
    log: Mapping[str, Tensor] = field(default_factory=dict)
    carry: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Joint:
    """What a regulariser may see of a step: z_ND, view-major rows of length 1 (row r = v * B + b), and their scans.

    raw() gives the projector's output before it is normalised, for the views that receive gradient.
    """

    z_ND: Tensor
    batch: Batch
    raw: Callable[[], Tensor]

    @property
    def views(self) -> int:
        """Views V that are stacked in ``z_ND``."""
        return len(self.z_ND) // len(self.batch)

    @property
    def view_N(self) -> Tensor:
        """Which view a row is, (N,)."""
        return torch.arange(self.views, device=self.z_ND.device).repeat_interleave(len(self.batch))

    def rows(self, column: str) -> Tensor:
        """A manifest column of every row, (N,)."""
        return self.batch.meta[column].repeat(self.views)


@dataclass(frozen=True)
class Progress:
    """Where the training stands: optimiser steps done, total steps, current epoch, total epochs."""

    step: int
    steps: int
    epoch: int
    epochs: int

    @property
    def fraction(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.steps))


@dataclass(frozen=True)
class Facts:
    """What a method may know of the cohort before the first batch.

    scans: rows of the cohort table (size of a bank keyed by ``Batch.index``). train: (N,) rows used in training.
    batch: scans per step, of all processes together. shape: (C, D, H, W) of one view. latent etc. are method arguments.
    labels: manifest columns of all rows as float arrays (scans,), NaN when missing or not in ``train``.
    coded: the columns whose numbers stand for names (site, sex, any column of text), so that their order means nothing.
    """

    scans: int
    train: np.ndarray
    batch: int
    shape: tuple[int, ...]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    coded: frozenset[str] = frozenset()


Rows = tuple[Tensor, ...]
"""What a method keeps of the views of B scans: tensors (V, B, ...); see ``Method.embed``."""

Embed = Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]]
"""``embed(f) -> (index_N, out_ND)``: f over every training scan once, without augmentation, without gradient."""
