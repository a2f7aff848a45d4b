"""One remembered vector per scan of the cohort, addressed by its row in the manifest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.errors import UserError


def last_occurrences(index_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct indices and the position of the last occurrence of each: in a batch, the last one wins.

    >>> index, position = last_occurrences(torch.tensor([5, 2, 5]))
    >>> index.tolist(), position.tolist()
    ([2, 5], [1, 2])
    """
    distinct, group_N = torch.unique(index_N, return_inverse=True)
    position_N = torch.arange(len(index_N), device=index_N.device)
    return distinct, torch.zeros_like(distinct).scatter_reduce_(0, group_N, position_N, "amax")


class Bank(nn.Module):
    """``rows`` unit vectors of ``dim`` numbers, random at first: b_i <- normalise(m b_i + (1 - m) z_i).

    momentum: m; 0 replaces. seed: of the random start. Buffers: ``z`` (R, D); ``written`` (R,) the update that
    wrote each row last, -1 for never; ``updates``, the number of updates so far.
    Source: Wu et al. 2018, arXiv 1805.01978.
    """

    z: Tensor
    written: Tensor
    updates: Tensor

    def __init__(self, rows: int, dim: int, momentum: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if rows < 1 or dim < 1 or not 0 <= momentum <= 1:
            raise UserError(f"bank of {rows} x {dim} with momentum {momentum}: sizes >= 1, momentum in [0, 1]")
        start_RD = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
        self.momentum = momentum
        self.register_buffer("z", F.normalize(start_RD, dim=1))
        self.register_buffer("written", torch.full((rows,), -1))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, index_N: Tensor, z_ND: Tensor) -> None:
        """Move the rows ``index_N`` towards ``z_ND``, then renormalise them; no other row changes a bit.

        z need not be normalised. Of an index that occurs twice, the last occurrence counts, and only once.
        """
        index, position = last_occurrences(index_N)
        z = F.normalize(z_ND.detach().to(self.z)[position], dim=1)
        moved = F.normalize(self.momentum * self.z[index] + (1 - self.momentum) * z, dim=1)
        self.z.index_copy_(0, index, moved)
        self.written.index_copy_(0, index, self.updates.expand_as(index).clone())
        self.updates += 1

    def staleness(self) -> Tensor:
        """(R,) updates since each row was written; -1 for rows that never were."""
        return torch.where(self.written < 0, self.written, self.updates - 1 - self.written)
