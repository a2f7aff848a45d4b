"""Prototypes: a linear layer whose rows are unit vectors (SwAV, DeepCluster v2, PCL)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """K unit vectors in D dimensions; scores are cosines when the input is L2-normalised.

    The stored weight is free and divided by its row norms when used, so that no step has to write into it (SwAV,
    Caron 2020, rewrites the weight before every step; the scores are the same). Rows start uniform on the sphere.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dim), dim=1))

    @property
    def unit_KD(self) -> Tensor:
        """The prototypes (K, D), each of length 1, with gradient."""
        return F.normalize(self.weight, dim=1)

    def forward(self, z_ND: Tensor) -> Tensor:
        """Scores (N, K) of z (N, D)."""
        return z_ND @ self.unit_KD.T.to(z_ND.dtype)
