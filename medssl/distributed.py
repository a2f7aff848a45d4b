"""What the processes of one training tell each other, through torch.distributed; one process alone tells nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from medssl.errors import UserError, shown

_all_gather: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor", None)
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor", None)

_TOLD: set[str] = set()
"""Notes on possible leaks that this process has printed."""


def process_rank() -> int:
    """Rank of this process; before torch.distributed is up, a number that is 0 in the first process alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    if os.environ.get("RANK", "").isdigit():
        return int(os.environ["RANK"])
    given = (os.environ.get(name, "") for name in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))
    return max([int(text) for text in given if text.isdigit()], default=0)


def process_is_first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return process_rank() == 0


def say(notes: Iterable[str], aloud: bool = True) -> None:
    """Print notes on stderr, in the first process alone."""
    if aloud and process_is_first():
        for note in notes:
            print(f"note: {shown(note)}", file=sys.stderr)


def say_leaks(notes: Iterable[str], aloud: bool = True) -> None:
    """Print notes on possible leaks, which --quiet does not hide: it is about bars.

    A process that trains quietly many times, as in a study, says each once.
    """
    fresh = [note for note in notes if aloud or note not in _TOLD]
    _TOLD.update(fresh)
    say(fresh)


def world() -> int:
    """Number of processes that train together; 1 where torch.distributed is not up."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x_ND: Tensor, *, own_first: bool = True) -> Tensor:
    """Rows of all processes with gradient; the same tensor where there is one process.

    own_first: this process's rows come first, so that column r < N is anchor r (losses); otherwise in the order of
    ranks, which is the same everywhere. Every process must give as many rows.

    Scale: the backward pass sums, over all processes, the gradient that their losses send to these rows, and the
    trainer (DDP) then averages the gradients of parameters. Together that is the gradient of the mean of the losses
    of all processes. So a loss needs no factor where it is a mean over own anchors (``over_processes`` where their
    number may differ), nor where every process computes it from all rows.
    """
    if world() == 1:
        return x_ND
    parts = list(_Gather.apply(x_ND.contiguous()))
    rank = dist.get_rank()
    return torch.cat([parts[rank], *parts[:rank], *parts[rank + 1 :]] if own_first else parts)


class _Gather(torch.autograd.Function):
    """Rows of all processes (P, N, ...); backwards, every process gets the sum of what all sent to its rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.new_empty(world(), *x.shape)
        _all_gather(out.flatten(0, 1) if x.ndim else out, x)
        return out

    @staticmethod
    def backward(ctx: Any, *sent: Tensor) -> Tensor:
        own = torch.empty_like(sent[0][0])
        _reduce_scatter(own, sent[0].contiguous().flatten(0, 1))
        return own


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, with gradient (scaled as that of ``gather``)."""
    total: Tensor = x if world() == 1 else _Sum.apply(x)
    return total


class _Sum(torch.autograd.Function):
    """Forwards and backwards the sum over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *sent: Tensor) -> Tensor:
        total = sent[0].clone()
        dist.all_reduce(total)
        return total


def gather_scans(index_B: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """Rows (B, ...) of the scans of all processes, without gradient, in the order of the manifest, for memory.

    That order is the same on every process, and the same for any number of processes and micro-batches.
    """
    with torch.no_grad():
        order = torch.argsort(gather(index_B, own_first=False), stable=True)
        return tuple(gather(x.detach(), own_first=False)[order] for x in rows)


def over_processes(mean: Tensor, count: Callable[[], Tensor]) -> Tensor:
    """A mean over ``count()`` own anchors, scaled so that its average over processes is the mean over all anchors.

    Needed where a process may have fewer anchors than others (missing labels). One process does not even count.
    """
    if world() == 1:
        return mean
    own = count().detach().to(mean.dtype)
    total = own.clone()
    dist.all_reduce(total)
    return mean * (own * world() / total.clamp(min=1))


def mean_over_processes(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars averaged over all processes, detached, in one exchange; a number that is none stays none."""
    detached = {k: v.detach() for k, v in values.items()}
    if world() == 1 or not detached:
        return detached
    row = torch.stack([v.float().mean() for v in detached.values()])
    dist.all_reduce(row)
    return dict(zip(detached, (row / world()).unbind(), strict=True))


@torch.no_grad()
def follow_first_(module: nn.Module) -> None:
    """Give every process the buffers (memory, batch-norm statistics) and parameters of the first one."""
    if world() == 1:
        return
    for tensor in (*module.buffers(), *module.parameters()):
        if type(tensor.data) is Tensor:  # sharded parameters belong to their process
            dist.broadcast(tensor.data, 0)


def embed_in_parts(
    embed: Callable[[np.ndarray], tuple[Tensor, Tensor]], rows: np.ndarray, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``embed(rows)`` with every process doing a part: index (N,) and out (N, D) of all rows, on the CPU, in order.

    All parts are equally long (the last row is repeated where the rows do not divide), so that every process makes
    the same number of forward passes.
    """
    if world() == 1:
        return embed(rows)
    each = -(-len(rows) // world())
    padded = np.concatenate([rows, np.repeat(rows[-1:], each * world() - len(rows))])
    index, out = embed(padded[dist.get_rank() * each : (dist.get_rank() + 1) * each])
    return joined(index, device)[: len(rows)], joined(out, device)[: len(rows)]


def joined(x: Tensor, device: torch.device) -> Tensor:
    """Rows of all processes in the order of ranks, on the CPU, without gradient. device: where the exchange happens."""
    own = x.to(device).contiguous()
    parts = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(parts, own)
    return torch.cat(parts).cpu()


def same_everywhere(what: str, value: int, device: torch.device) -> None:
    """UserError where processes do not agree on a number, such as the step that they continue after."""
    if world() == 1:
        return
    parts = joined(torch.tensor([value]), device).tolist()
    if len(set(parts)) > 1:
        raise UserError(
            f"the processes see different {what} ({parts}); let all nodes read the same folders, and start them again"
        )
