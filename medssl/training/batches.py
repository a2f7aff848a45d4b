"""Batches as the loader collates them, as methods see them, and as memory sees those of one optimiser step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medssl.training.hardware.device import laid_out
from medssl.types import Batch, Step


def to_batch(item: Mapping[str, Any], memory_format: str = "contiguous", roles: tuple[str, ...] = ()) -> Batch:
    """The record of collated tensors as the Batch that methods see. roles: of the views, as their maker says."""
    views = tuple(laid_out(x, memory_format) for x in item["views"])
    return Batch(views, item["index"], item["meta"], item["target"], roles)


def joined(held: Sequence[tuple[Step, Batch]]) -> tuple[Step, Batch]:
    """The micro-batches of one optimiser step as memory sees them: carried rows, index and meta one after another.

    Losses and views are not kept; log and carried scalars are the last ones.
    """
    steps, batches = zip(*held, strict=True)
    last = steps[-1]
    carry = {k: torch.cat([s.carry[k] for s in steps]) if v.ndim else v for k, v in last.carry.items()}
    index = torch.cat([b.index for b in batches])
    meta = {k: torch.cat([b.meta[k] for b in batches]) for k in batches[-1].meta}
    target = {k: torch.cat([b.target[k] for b in batches]) for k in batches[-1].target}
    return Step({}, last.log, carry), Batch((), index, meta, target, batches[-1].roles)
