"""Losses that are means over anchors, evaluated some anchors at a time.

A row loss takes matrices ``(sim_NM, *pairs_NM)`` and returns the loss of every anchor and whether it counts, both
(N,). The gradient of a block is taken together with its value, so that a block is never kept: with a matrix in hand
(``by_rows``) memory is the matrix and its gradient, from embeddings (``blockwise``) it is O(N * block). Gradients of
these gradients do not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medssl.errors import UserError
from medssl.losses.lse import wide

Rows = tuple[Tensor, Tensor]
RowLoss = Callable[..., Rows]
WHOLE = 1 << 18
"""Up to so many pairs (512 x 512) a loss is one expression, and beyond it is evaluated by blocks of rows."""
_BLOCK = {"cpu": 1 << 18}  # pairs of a block: what stays in the cache of a core
_FEWEST = 32  # anchors of a block: fewer make slow matrix products
_BLOCK_DEVICE = 1 << 24  # 64 MiB a matrix keep an accelerator busy


def mean_over_anchors(loss_N: Tensor, has_N: Tensor) -> Tensor:
    """Mean of ``loss_N`` where ``has_N``; 0, still attached to the graph, where there is none."""
    return torch.where(has_N, loss_N, 0.0).sum() / has_N.sum().clamp(min=1)


def counting(rows: RowLoss) -> tuple[RowLoss, Callable[[], Tensor]]:
    """The same row loss, and a function that says how many anchors counted in all blocks that it was asked for.

    Where anchors are split over processes, their means are joined by these numbers.
    """
    counts: list[Tensor] = []

    def counted(*given: Tensor, **named: Any) -> Rows:
        loss_N, has_N = rows(*given, **named)
        counts.append(has_N.sum())
        return loss_N, has_N

    return counted, lambda: torch.stack(counts).sum()


def by_rows(rows: RowLoss, sim_NM: Tensor, *pairs_NM: Tensor, visit_N: Tensor | None = None) -> Tensor:
    """``mean_over_anchors(*rows(sim_NM, *pairs_NM))``, by blocks of rows where the matrix is large.

    Pairs receive no gradient there. ``visit_N``: the order in which anchors are taken, for losses that are faster
    when neighbours are alike; the value does not depend on it.
    """
    if sim_NM.numel() <= WHOLE:
        return mean_over_anchors(*rows(sim_NM, *pairs_NM))
    found: Tensor = _ByRows.apply(rows, visit_N, sim_NM, *pairs_NM)
    return found


def blockwise(
    rows: RowLoss,
    z_ND: Tensor,
    z_MD: Tensor,
    pairs: Callable[[Tensor], tuple[Tensor, ...]],
    *,
    temperature: float,
    block: int | None = None,
    visit_N: Tensor | None = None,
    also: Sequence[RowLoss] = (),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Mean over anchors of ``rows`` on cosine similarity / temperature, without ever holding all pairs.

    ``pairs(rows_b)`` gives the other matrices (b, M) of the anchors with these indices. ``also``: numbers to watch
    (same arguments as ``rows``), whose means are returned beside the loss, without gradient.
    ``block``: anchors at a time, by itself all where pairs are few (``WHOLE``) and else what fits. In a single block
    everything is one expression; otherwise the forward pass computes the gradient too, in memory O(N D + block * M).
    ``visit_N``: as in ``by_rows``. Embeddings of other processes are columns, gathered with gradient by the caller.
    """
    if block is not None and block < 1:
        raise UserError(f"block is {block}; it is a number of anchors, at least 1, or None for what fits")
    n, m = len(z_ND), len(z_MD)
    if block is None:
        block = n if n * m <= WHOLE else _block(m, z_ND.device)
    with torch.autocast(z_ND.device.type, enabled=False):
        a_ND, b_MD = (torch.nn.functional.normalize(wide(z), dim=1) for z in (z_ND, z_MD))
        if block < n:
            parts = (torch.arange(n, device=z_ND.device) if visit_N is None else visit_N).split(block)
            loss, *seen = _Blockwise.apply(rows, also, pairs, temperature, parts, a_ND, b_MD)
            return loss, tuple(seen)
        sim_NM = a_ND @ b_MD.T / temperature
        given = pairs(torch.arange(n, device=z_ND.device))
        value = mean_over_anchors(*rows(sim_NM, *given))
        with torch.no_grad():
            return value, tuple(mean_over_anchors(*watch(sim_NM.detach(), *given)) for watch in also)


def _block(columns: int, device: torch.device) -> int:
    return max(_FEWEST, _BLOCK.get(device.type, _BLOCK_DEVICE) // columns)


def _one(rows: RowLoss, sim_bM: Tensor, pairs_bM: tuple[Tensor, ...], wanted: bool) -> tuple[Tensor, Tensor, Any]:
    """Sum of the losses of a block, how many anchors count, and the gradient of the sum if it is wanted."""
    with torch.set_grad_enabled(wanted):
        sim_bM = sim_bM.detach().requires_grad_(wanted)
        loss_b, has_b = rows(sim_bM, *pairs_bM)
        total = torch.where(has_b, loss_b, 0.0).sum()
        slope_bM = torch.autograd.grad(total, sim_bM)[0] if wanted else None
    return total.detach(), has_b.sum(), slope_bM


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: RowLoss, visit_N: Tensor | None, sim_NM: Tensor, *pairs_NM: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[2]
        ctx.pairs = len(pairs_NM)
        slope_NM = torch.empty_like(sim_NM) if wanted else None
        total, count = torch.zeros((), device=sim_NM.device), torch.zeros((), device=sim_NM.device)
        with torch.autocast(sim_NM.device.type, enabled=False):
            for part in _parts(visit_N, len(sim_NM), _block(sim_NM.shape[1], sim_NM.device)):
                value, used, slope_bM = _one(rows, sim_NM[part], tuple(x[part] for x in pairs_NM), wanted)
                total, count = total + value, count + used
                if slope_NM is not None:
                    slope_NM[part] = slope_bM
        count = count.clamp(min=1)
        ctx.save_for_backward(slope_NM, count)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope_NM, count = ctx.saved_tensors
        return None, None, slope_NM * (slope / count).to(slope_NM.dtype), *(None,) * ctx.pairs


def _parts(visit_N: Tensor | None, n: int, block: int) -> Iterator[Any]:
    """Indices of the anchors of each block: slices where the order is that of the matrix."""
    if visit_N is not None:
        yield from visit_N.split(block)
    else:
        yield from (slice(start, start + block) for start in range(0, n, block))


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: RowLoss,
        also: Sequence[RowLoss],
        pairs: Callable[[Tensor], tuple[Tensor, ...]],
        temperature: float,
        parts: tuple[Tensor, ...],
        z_ND: Tensor,
        z_MD: Tensor,
    ) -> tuple[Tensor, ...]:
        wanted = any(ctx.needs_input_grad)
        slope_ND, slope_MD = torch.zeros_like(z_ND), torch.zeros_like(z_MD)
        total, count = torch.zeros((), device=z_ND.device), torch.zeros((), device=z_ND.device)
        seen = [(total, count)] * len(also)
        for part in parts:
            z_bD = z_ND[part]
            sim_bM, given = z_bD @ z_MD.T / temperature, pairs(part)
            value, used, slope_bM = _one(rows, sim_bM, given, wanted)
            total, count = total + value, count + used
            if wanted:
                slope_ND[part] = slope_bM @ z_MD / temperature
                slope_MD.addmm_(slope_bM.T, z_bD, alpha=1 / temperature)
            for i, watch in enumerate(also):
                value, used, _ = _one(watch, sim_bM, given, False)
                seen[i] = (seen[i][0] + value, seen[i][1] + used)
        count = count.clamp(min=1)
        ctx.save_for_backward(slope_ND, slope_MD, count)
        watched = [value / used.clamp(min=1) for value, used in seen]
        ctx.mark_non_differentiable(*watched)
        return total / count, *watched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        slope_ND, slope_MD, count = ctx.saved_tensors
        scale = slope / count
        return *(None,) * 5, slope_ND * scale, slope_MD * scale
