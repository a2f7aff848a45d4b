"""Terms against collapse and redundancy of the D dimensions of an embedding ``z_ND`` (N >= 2 rows of one view).

They are functions of the embedding, not of pairs: a spread and a correlation belong to a dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses.lse import wide


def variance(z_ND: Tensor, *, gamma: float = 1.0, eps: float = 1e-4) -> Tensor:
    r"""VICReg's hinge on the spread: (1/D) sum_j max(0, gamma - sqrt(Var_j + eps)), Var unbiased.

    Constant rows: gamma - sqrt(eps); a spread of gamma in every dimension: 0. z is not normalised in the paper; rows of
    length 1 have a spread of at most 1 / sqrt(D). Source: Bardes et al. 2022, arXiv 2105.04906, eq. 1.

    >>> round(variance(torch.ones(3, 5)).item(), 4)
    0.99
    """
    return (gamma - (_centred(z_ND).square().sum(0) / (len(z_ND) - 1) + eps).sqrt()).clamp(min=0).mean()


def covariance(z_ND: Tensor) -> Tensor:
    r"""VICReg's decorrelation: (1/D) sum_{i != j} Cov_ij^2 with Cov = Zc^T Zc / (N - 1), the centred covariance.

    Uncorrelated dimensions: 0; doubling z multiplies it by 16. Source: Bardes et al. 2022, arXiv 2105.04906, eq. 3, 4.

    >>> covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])).item()
    4.0
    """
    centred_ND = _centred(z_ND)
    with torch.autocast(centred_ND.device.type, enabled=False):
        cov_DD = centred_ND.T @ centred_ND / (len(z_ND) - 1)
    return (cov_DD.square().sum() - cov_DD.diagonal().square().sum()) / cov_DD.shape[0]


def _centred(z_ND: Tensor) -> Tensor:
    if z_ND.ndim != 2 or len(z_ND) < 2:
        raise UserError(f"z has shape {tuple(z_ND.shape)}; a spread takes a matrix of two rows or more")
    z_ND = wide(z_ND)
    return z_ND - z_ND.mean(0)
