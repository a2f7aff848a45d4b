"""Alignment and uniformity: positives close, everything else spread over the sphere, as two separate terms.

Both take ``sq_NM``, squared distances of L2-normalised rows (2 - 2 cos, in [0, 4]), ``w_NM`` (in [0, 1], how much a
pair is a positive) and ``valid_NM`` (False: never used). Every pair counts once, so a square matrix gets a triangle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses.contrastive import check_shapes
from medssl.losses.lse import wide


def alignment(sq_NM: Tensor, w_NM: Tensor, valid_NM: Tensor, *, alpha: float = 2.0) -> Tensor:
    r"""sum w_ij |z_i - z_j|^alpha / sum w_ij over valid pairs; 0, with a live graph, without any weight.

    w marks the two views of a scan: alignment; w is a kernel on labels: conditional alignment. Equal positives: 0.
    Sources: Wang and Isola 2020, arXiv 2005.10242; Dufumier et al. 2021, NeurIPS workshop (conditional).

    >>> one = torch.ones(1, 2)
    >>> alignment(torch.tensor([[4.0, 0.0]]), one, one.bool()).item()
    2.0
    """
    check_shapes(sq_NM, valid_NM, logw=w_NM)
    if not alpha > 0:
        raise UserError(f"alpha is {alpha}; the power of a distance must be positive")
    sq_NM, w_NM = wide(sq_NM), torch.where(valid_NM, wide(w_NM), 0.0)
    apart_NM = valid_NM & (sq_NM > 1e-12)  # the root has no slope at 0
    power_NM = torch.where(apart_NM, torch.where(apart_NM, sq_NM, 1.0) ** (alpha / 2), sq_NM if alpha == 2 else 0.0)
    return torch.where(valid_NM, w_NM * power_NM, 0.0).sum() / w_NM.sum().clamp(min=1e-12)


def uniformity(sq_NM: Tensor, w_NM: Tensor, valid_NM: Tensor, *, t: float = 2.0) -> Tensor:
    r"""log( sum (1 - w_ij) e^{-t |z_i - z_j|^2} / sum (1 - w_ij) ) over valid pairs; 0 where no pair repels.

    w = 0 is uniformity of Wang and Isola; w a kernel on labels repels only what has dissimilar labels. Collapsed rows:
    0, the largest value; one antipodal pair: -4t; w = 1 everywhere leaves nothing to repel: 0.
    Sources: Wang and Isola 2020, arXiv 2005.10242; Dufumier et al. 2021, NeurIPS workshop (conditional; its weights
    are our reading of the abstract).

    >>> uniformity(torch.tensor([[4.0]]), torch.zeros(1, 1), torch.ones(1, 1).bool()).item()
    -8.0
    """
    check_shapes(sq_NM, valid_NM, logw=w_NM)
    sq_NM, share_NM = wide(sq_NM), torch.where(valid_NM, (1 - wide(w_NM)).clamp(0, 1), 0.0)
    used_NM = share_NM > 0
    tiny = torch.finfo(share_NM.dtype).tiny
    logs_NM = torch.where(used_NM, share_NM.clamp(min=tiny).log() - t * torch.where(used_NM, sq_NM, 0.0), -1e9)
    found = torch.logsumexp(logs_NM.flatten(), dim=0) - share_NM.sum().clamp(min=tiny).log()
    return torch.where(used_NM.any(), found, 0.0 * torch.where(valid_NM, sq_NM, 0.0).sum())
