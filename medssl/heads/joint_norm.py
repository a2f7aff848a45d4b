"""Batch normalisation over the rows of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.distributed import sum_over_processes, world


class JointBatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` whose mean and variance are those of the rows of all processes, forwards and backwards.

    So a head does to its rows what one process with the joint batch would do, whatever the number of processes
    (Ioffe and Szegedy 2015, arXiv 1502.03167, with the joint batch as the batch). Same parameters and buffers; every
    process must call it equally often while it trains. One process computes as torch does.
    """

    def forward(self, x_NF: Tensor) -> Tensor:
        """(N, F) -> (N, F); N may differ between processes."""
        if not self.training or world() == 1:
            return super().forward(x_NF)
        count = sum_over_processes(x_NF.new_full((), len(x_NF)))
        mean_F = sum_over_processes(x_NF.sum(0)) / count
        variance_F = sum_over_processes((x_NF - mean_F).square().sum(0)) / count
        self._remember(mean_F.detach(), variance_F.detach() * count / (count - 1))
        out_NF = (x_NF - mean_F) * torch.rsqrt(variance_F + self.eps)
        return out_NF if self.weight is None else out_NF * self.weight + self.bias

    def local(self, x_NF: Tensor) -> Tensor:
        """Normalised by the rows of this process alone, and nothing is remembered; for rows that all processes have."""
        return F.batch_norm(x_NF, None, None, self.weight, self.bias, True, 0.0, self.eps)

    @torch.no_grad()
    def _remember(self, mean_F: Tensor, variance_F: Tensor) -> None:
        """Move the running statistics, as torch does; variance_F: unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_F.to(self.running_mean), momentum)
        self.running_var.lerp_(variance_F.to(self.running_var), momentum)
