"""FairKL: pairs of one site must not be more alike, or differently spread, than pairs of two sites.

Takes ``sim_NM`` (cosine, no temperature), ``w_NM`` (how much a pair is one class: 1 a positive, 0 a negative, between
by a kernel on a continuous label), ``same_NM`` (True: both scans are of one site) and ``valid_NM`` (False: never used,
such as a scan with itself, or where a site is unknown). Every pair counts once, so a square matrix gets a triangle.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses.contrastive import check_shapes
from medssl.losses.lse import wide


def fair_kl(
    sim_NM: Tensor,
    w_NM: Tensor,
    same_NM: Tensor,
    valid_NM: Tensor,
    *,
    form: Literal["kl", "moments"] = "kl",
    kappa: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    r"""FairKL, a scalar: R(B+,b ; B+,b') + R(B-,b ; B-,b'), same site (b) against two sites (b'), per class relation.

    kl: R = [ (v_b + (m_b - m_b')^2) / v_b' - log(v_b / v_b') - 1 ] / 2, the divergence of two normal distributions;
    moments: R = (m_b - m_b')^2 + kappa (sqrt(v_b) - sqrt(v_b'))^2. Means m and variances v = Var + eps of the
    similarities of a group, weighted by w (positives) and 1 - w (negatives); binary w are the paper's groups, a kernel
    on age extends them. R is 0, with a live graph, where a group weighs less than two pairs: one site gives 0.
    Limits: equal moments, 0; equal variances, kl is (m_b - m_b')^2 / 2v; swapping the names of sites changes nothing.
    Unlike the authors' code: no self pairs, no zero-filled matrices, no further difference of means.
    Source: Barbano et al. 2023, ICLR, arXiv 2211.05568, section 4.

    >>> same = torch.tensor([[True, True, False, False]])
    >>> sim, one = torch.tensor([[0.5, 0.7, 0.1, 0.3]]), torch.ones(1, 4)
    >>> round(fair_kl(sim, one, same, one.bool(), form="moments").item(), 4)
    0.16
    """
    check_shapes(sim_NM, valid_NM, logw=w_NM, positives=same_NM)
    if form not in ("kl", "moments"):
        raise UserError(f"form is {form!r}; it is kl or moments")
    sim_NM, w_NM = wide(sim_NM), wide(w_NM).clamp(0, 1)
    total = 0.0 * torch.where(valid_NM, sim_NM, 0.0).sum()
    for share_NM in (w_NM, 1 - w_NM):
        groups = [torch.where(valid_NM & part_NM, share_NM, 0.0) for part_NM in (same_NM, ~same_NM)]
        enough = (groups[0].sum() >= 2) & (groups[1].sum() >= 2)
        (mean, var), (mean_other, var_other) = (_moments(sim_NM, group_NM, eps) for group_NM in groups)
        if form == "kl":
            found = ((var + (mean - mean_other) ** 2) / var_other - (var / var_other).log() - 1) / 2
        else:
            found = (mean - mean_other) ** 2 + kappa * (var.sqrt() - var_other.sqrt()) ** 2
        total = total + torch.where(enough, found, 0.0)
    return total


def _moments(sim_NM: Tensor, share_NM: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Weighted mean, and weighted variance plus eps; 0 and eps of an empty group."""
    used_NM, mass = torch.where(share_NM > 0, sim_NM, 0.0), share_NM.sum().clamp(min=1e-12)
    mean = (share_NM * used_NM).sum() / mass
    return mean, (share_NM * (used_NM - mean) ** 2).sum() / mass + eps
