"""Build what a recipe names without its memory, so that what cannot be is said before a scan is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import nn

from medssl.encoders import build_encoder
from medssl.errors import RecipeError
from medssl.methods.base import Method

_BYTES = 12
"""Of a trained number: itself, its gradient and what the optimiser keeps of it, in float32, at the least."""


@lru_cache(maxsize=256)
def rehearse_encoder(name: str, arguments: str, channels: int, shape: tuple[int, ...] | None) -> None:
    """RecipeError where an encoder cannot be built for volumes (channels, *shape).

    arguments: as JSON. shape: (D, H, W), or None where it is not known yet; an encoder that needs it is then left for
    ``rehearse``.
    """
    if shape is not None or name not in ("vit", "mlp"):
        with _nowhere():
            build_encoder(name, in_channels=channels, shape=shape, **json.loads(arguments))


def rehearse(build: Callable[[], Method], shards: bool = False) -> Method:
    """What ``build`` makes, without its memory; RecipeError where no memory of this machine would hold it.

    shards: no process holds all weights, so their size is not looked at.
    """
    with _nowhere():
        method = build()
    size, there = _size(method), memory()
    if size > there and not shards:
        raise RecipeError(
            f"this training has {_numbers(method):,} numbers to learn, which take at least {size / 1e9:,.1f} GB, but "
            f"this machine has {there / 1e9:,.1f} GB of memory; lower encoder.width, encoder.depth or the sizes under "
            f"method, or train in shards (trainer.strategy=fsdp)"
        )
    return method


@contextmanager
def _nowhere() -> Iterator[None]:
    """Tensors have a shape and no memory meanwhile, and nothing is drawn."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _size(module: nn.Module) -> int:
    """Bytes that the numbers of a module take while it is trained."""
    trained = sum(p.numel() * (_BYTES if p.requires_grad else 4) for p in module.parameters())
    return trained + sum(b.numel() * b.element_size() for b in module.buffers())


def memory() -> float:
    """Bytes of memory of this machine; infinite where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")
