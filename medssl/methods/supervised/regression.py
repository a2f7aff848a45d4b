"""The supervised baseline: age by absolute error, in the same trainer with the same views."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medssl.checks import Column, nearest
from medssl.distributed import over_processes
from medssl.errors import RecipeError
from medssl.losses.lse import wide
from medssl.methods.base import Method, stack_views
from medssl.types import Batch, Facts, Progress, Step


class Regression(Method):
    """Predict a label from the pooled features; the features before the last layer are scored.

    Views: 1. Labels: ``label`` (default age); scans without it are left out of the loss. State: none. Collapse: not
    possible. Source: the l1 baseline of OpenBHB, Dufumier et al. 2022, NeuroImage 263:119637. 3D: as published.

    label: a numeric column. The output starts at the median of the training labels and is scaled by their spread,
    so that the learning rate does not depend on the unit.
    """

    views: ClassVar[int] = 1
    middle: Tensor
    spread: Tensor

    def __init__(self, encoder: nn.Module, facts: Facts, *, label: Column = "age") -> None:
        super().__init__(encoder, facts)
        if label not in facts.labels:
            hint = nearest(label, facts.labels)
            raise RecipeError(f"method.label is '{label}', but the manifest has no such column; {hint}")
        if label in facts.coded:
            raise RecipeError(
                f"method.label is '{label}', which holds names, and their order means nothing; "
                f"name a column of numbers, such as age"
            )
        known = facts.labels[label][np.isfinite(facts.labels[label])]
        middle = float(np.median(known)) if len(known) else 0.0
        spread = float(np.std(known)) if len(known) > 1 and np.std(known) > 0 else 1.0
        self.label, self.reads = label, (label,)
        self.head = nn.Linear(self.width, 1)
        self.register_buffer("middle", torch.tensor(middle))
        self.register_buffer("spread", torch.tensor(spread))
        self.chance = float(np.mean(np.abs(known - middle))) if len(known) else None

    def predict(self, pooled_NE: Tensor) -> Tensor:
        """Labels (N,) in their own unit."""
        return self.middle + self.spread * wide(self.head(pooled_NE).squeeze(1))

    def step(self, batch: Batch, progress: Progress) -> Step:
        """Mean absolute error over scans with a label, in the label's unit."""
        features = stack_views(self.encoder, batch.views)
        guess_B = self.predict(features.pooled)
        truth_B = batch.meta[self.label].to(guess_B.dtype)
        known_B = truth_B.isfinite()
        error_B = torch.where(known_B, (guess_B - torch.where(known_B, truth_B, guess_B.detach())).abs(), 0.0)
        loss = over_processes(error_B.sum() / known_B.sum().clamp(min=1), known_B.sum)
        return Step({"loss": loss}, {"labelled": known_B.float().mean()}, {"z": features.pooled.detach()})
