"""Weights in shards over processes (torch's fully_shard, "FSDP 2"), for transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.memory.ema import EMA
from medssl.methods.base import Method


def refuse_shards(method: Method) -> None:
    """UserError for encoders without transformer blocks, for teachers (two networks that move together), for games."""
    blocks = getattr(method.encoder, "blocks", None)
    teacher = any(isinstance(m, EMA) for m in method.modules())
    if not isinstance(blocks, nn.ModuleList) or teacher or len(method.players()) > 1:
        what = type(method).__name__ if isinstance(blocks, nn.ModuleList) else type(method.encoder).__name__
        raise UserError(
            f"trainer.strategy=fsdp shards a vit under a method without teacher and without players, not {what}; use "
            f"trainer.strategy=ddp, or encoder.name=vit with a method such as mae, simclr or y_aware"
        )


def shard_(method: Method, mesh: Any) -> None:
    """Split every transformer block, the rest of the encoder and every head over the processes of ``mesh``."""
    from torch.distributed.fsdp import fully_shard

    for part in (*method.encoder.blocks, method.encoder, *_heads(method)):  # type: ignore[misc]
        fully_shard(part, mesh=mesh)


@contextmanager
def whole_parameters(method: Method) -> Iterator[None]:
    """Let a method read and change the parameters of its heads as if they were whole; nothing without shards.

    Every process must make the same changes.
    """
    heads = [m for m in _heads(method) if hasattr(m, "unshard")]
    for m in heads:
        m.unshard()  # type: ignore[operator]
    yield
    changed = [{k: p.detach().clone() for k, p in m.named_parameters()} for m in heads]
    for m, values in zip(heads, changed, strict=True):
        m.reshard()  # type: ignore[operator]
        for name, p in m.named_parameters():
            _fill(p, values[name])


def whole_copy(method: Method, plain: Method) -> Method:
    """Give ``plain``, a copy from before the split, the weights and the memory of ``method``; all must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(method, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if state:  # on the first process only
        plain.load_state_dict(state)
    return plain.cpu()


def whole(x: Tensor) -> Tensor:
    """A tensor that may be split over processes, in one piece."""
    full: Tensor = x.full_tensor() if hasattr(x, "full_tensor") else x
    return full


@torch.no_grad()
def _fill(p: Any, value: Tensor) -> None:
    from torch.distributed.tensor import distribute_tensor

    p.to_local().copy_(distribute_tensor(value, p.device_mesh, p.placements).to_local())


def _heads(method: Method) -> list[nn.Module]:
    """Parts of a method beside its encoder that have parameters."""
    return [m for m in method.children() if m is not method.encoder and any(True for _ in m.parameters())]
