"""What every memory of every method is told after a step, and which parts look at the cohort before an epoch.

A row of ``TOLD`` gives, per memory, the arguments of its law (``tests/memory/laws.py``), computed from the method as
it was before the step, and as it is after the optimiser's, without asking the code that moves memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medssl.methods.base import Method
from medssl.types import Batch, Progress
from tests.methods.variants import Variant

Told = Mapping[str, Any] | None
"""Arguments of a law, or None where a step leaves this memory alone."""
Tell = Callable[[Variant, Method, Method, Batch, Progress], Mapping[str, Told]]


def _moco(variant: Variant, before: Method, after: Method, batch: Batch, at: Progress) -> Mapping[str, Told]:
    """The keys of the second view by the teacher that made them, in the order of the manifest; then the teacher."""
    encoder, projector = before.teacher.module  # type: ignore[union-attr, misc]
    order = batch.index.argsort()
    with torch.no_grad():
        keys = F.normalize(projector(encoder(batch.views[1]).pooled), dim=1)[order]
    online = nn.ModuleList([after.encoder, after.projector])
    return {
        "queue": {"keys": keys, "ids": batch.meta["subject"][order], "step": at.step},
        "teacher": {"online": online, "momentum": variant.arguments.get("momentum", 0.99)},
    }


def _untouched(variant: Variant, before: Method, after: Method, batch: Batch, at: Progress) -> Mapping[str, Told]:
    return {"assigned": None}


TOLD: Mapping[str, Tell] = {"moco": _moco, "deepcluster": _untouched}
"""Catalogue names with memory. A method with a memory that is not told of here fails the common checks."""

LOOKS: Mapping[str, tuple[str, ...]] = {"deepcluster": ("assigned", "agreement", "classifier")}
"""Parts that ``before_epoch`` moves in every epoch; all others move before the first step only."""
