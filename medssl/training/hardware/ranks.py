"""What the processes of one training tell each other, through torch.distributed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from medssl.errors import UserError
from medssl.methods.base import world
from medssl.training.checkpoints import list_checkpoints


def is_lost(problem: BaseException) -> bool:
    """Whether an error says that the exchange with another process broke."""
    words = ("gloo", "NCCL", "peer", "Timed out", "process group", "ProcessGroup")
    return isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)


def lost(run: Path, timeout: float) -> str:
    """One sentence after another process was lost, and how to go on from what ``run`` holds."""
    kept = list_checkpoints(run / "checkpoints")
    remedy = f"continue with `medssl pretrain --resume {run}`" if kept else "there is no checkpoint yet, so start again"
    return (
        f"another process of this training ended, or did not answer within trainer.timeout={timeout:g} s; what it said "
        f"stands above or in its own log; {remedy}"
    )


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
    return _joined(index, device)[: len(rows)], _joined(out, device)[: len(rows)]


def _joined(x: Tensor, device: torch.device) -> Tensor:
    own = x.to(device).contiguous()
    parts = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(parts, own)
    return torch.cat(parts).cpu()


def same_everywhere(what: str, value: int, device: torch.device) -> None:
    """UserError where processes do not agree on a number, such as the step that they continue after."""
    if world() == 1:
        return
    parts = _joined(torch.tensor([value]), device).tolist()
    if len(set(parts)) > 1:
        raise UserError(
            f"the processes see different {what} ({parts}); let all nodes read the same folders, and start them again"
        )
