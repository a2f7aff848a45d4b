"""Exact large batches in the memory of a micro-batch: gradient caching (Gao et al. 2021, arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.errors import UserError
from medssl.methods.base import Method
from medssl.training.options import TrainerOptions
from medssl.types import Batch, Progress, Rows, Step


class GradientCache:
    """The step of a method, its encoder seeing ``size`` scans at a time.

    ``forward`` embeds all micro-batches without a graph and compares all rows; ``backward`` takes the gradient of the
    loss by the rows, embeds every micro-batch again, now with a graph and the same random numbers, and sends it the
    gradient of its rows. Gradients add up to those of the whole batch: exactly but for rounding, where a scan's rows
    depend on no other scan. Batch norm of the encoder couples scans, so there the result is that of norms that see
    one micro-batch (``norm`` "batch"; running statistics move once per micro-batch, in the first pass) or running
    statistics ("frozen"). The projector always sees the whole batch.

    Views may stay in the main memory: each micro-batch goes to ``device`` when its turn comes.
    """

    def __init__(self, method: Method, size: int, norm: str, device: Callable[[], torch.device]) -> None:
        self.method, self.size, self.norm, self.device = method, size, norm, device
        self.batch: Batch | None = None
        self.rows: Rows = ()

    def forward(self, batch: Batch, progress: Progress, seed: Callable[[int], int]) -> Step:
        """The method's step; ``seed(part)`` seeds what micro-batch ``part`` draws."""
        self.batch, self.seed = batch, seed
        with torch.no_grad(), _norms(self.method, self.norm, counting=True):
            made = [self._embed(part) for part in range(self._parts(batch))]
        self.rows = tuple(torch.cat(rows, 1).requires_grad_() for rows in zip(*made, strict=True))
        torch.clear_autocast_cache()  # it holds weights that were cast without a graph
        return self.method.compare(self.rows, replace(batch, views=()), progress)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, a multiple of what ``forward`` gave, to those of all parameters."""
        loss.backward()
        assert self.batch is not None
        with torch.enable_grad(), _norms(self.method, self.norm, counting=False):
            for part in range(self._parts(self.batch)):
                scans = slice(part * self.size, (part + 1) * self.size)
                pairs = [
                    (rows, whole.grad[:, scans])
                    for rows, whole in zip(self._embed(part), self.rows, strict=True)
                    if rows.requires_grad and whole.grad is not None
                ]
                torch.autograd.backward([rows for rows, _ in pairs], [up for _, up in pairs])
        self.batch, self.rows = None, ()

    def _parts(self, batch: Batch) -> int:
        return -(-len(batch) // self.size)

    def _embed(self, part: int) -> Rows:
        assert self.batch is not None
        torch.manual_seed(self.seed(part))
        return self.method.embed(cut(self.batch, slice(part * self.size, (part + 1) * self.size), self.device()))


def gradient_cache(method: Method, options: TrainerOptions, device: Callable[[], torch.device]) -> GradientCache | None:
    """The cache that ``trainer.micro_batch`` asks for, None where it asks for none; UserError where it cannot be."""
    if options.micro_batch is None:
        return None
    if not method.embeds():
        raise UserError(
            f"trainer.micro_batch={options.micro_batch} needs a loss of the embeddings, which {type(method).__name__} "
            f"does not have; use trainer.accumulate"
        )
    return GradientCache(method, options.micro_batch, options.micro_norm, device)


def cut(batch: Batch, scans: slice, device: torch.device) -> Batch:
    """Some scans of a batch, on a device."""

    def some(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: v[scans].to(device, non_blocking=True) for k, v in values.items()}

    views = tuple(x[scans].to(device, non_blocking=True) for x in batch.views)
    return Batch(views, batch.index[scans].to(device), some(batch.meta), some(batch.target), batch.roles)


@contextmanager
def _norms(module: nn.Module, kind: str, counting: bool) -> Iterator[None]:
    """Batch norms as a pass over micro-batches needs them: frozen, or counting a micro-batch or not."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    try:
        for m in norms:
            if kind == "frozen":
                m.eval()
            elif not counting:
                m.track_running_stats = False  # normalises by the batch, and leaves the running statistics
        yield
    finally:
        for m in norms:
            m.train()
            m.track_running_stats = True


@torch.no_grad()
def average_gradients_(module: nn.Module) -> None:
    """Mean over processes of every gradient, as DDP's hooks would make it; they do not run here."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for p in module.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()
