"""Losses on cluster labels, and the balanced assignment (Sinkhorn) that makes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.losses.lse import wide


def pseudo_label_loss(logits_NK: Tensor, label_N: Tensor) -> Tensor:
    r"""Cross-entropy -log softmax(logits)_label, mean over rows with a label; label -1 means none yet.

    Zero logits give log K. 0 with a live graph when no row has a label. Source: Caron et al. 2018, arXiv 1807.05520.

    >>> round(pseudo_label_loss(torch.zeros(3, 5), torch.tensor([0, 4, -1])).item(), 4)
    1.6094
    """
    total = F.cross_entropy(wide(logits_NK), label_N, ignore_index=-1, reduction="sum")
    return total / (label_N != -1).sum().clamp(min=1)


@torch.no_grad()
def sinkhorn(
    scores_NK: Tensor, *, epsilon: float = 0.05, iterations: int = 3, tolerance: float | None = None
) -> Tensor:
    r"""Balanced soft assignment q (N, K): max <q, scores> + epsilon H(q) with equal use of all K prototypes.

    a = scores / epsilon, then ``iterations`` times: a_k -= logsumexp over rows - log(N / K) per prototype,
    a_n -= logsumexp over prototypes per row; q = e^a. The last step is per row, so rows sum to 1; the sums per
    prototype tend to N / K (``tolerance``: stop once they are this close, relatively). All in the log domain, hence
    safe for any scores; no gradient. Several processes: gather the scores first. SeLa: epsilon = 1 / lambda on
    log-probabilities. Sources: Cuturi 2013, arXiv 1306.0895; Caron et al. 2020, arXiv 2006.09882.

    >>> q = sinkhorn(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> [[round(v, 4) for v in row] for row in q.tolist()]
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if not epsilon > 0 or iterations < 1:
        raise UserError(f"sinkhorn: epsilon is {epsilon} and iterations {iterations}; both must be positive")
    a_NK = wide(scores_NK) / epsilon
    each = math.log(a_NK.shape[0] / a_NK.shape[1])
    for _ in range(iterations):
        a_NK = a_NK - torch.logsumexp(a_NK, dim=0, keepdim=True) + each
        a_NK = a_NK - torch.logsumexp(a_NK, dim=1, keepdim=True)
        if tolerance is not None and bool(((a_NK.exp().sum(0) / math.exp(each) - 1).abs() < tolerance).all()):
            break
    return a_NK.exp()
