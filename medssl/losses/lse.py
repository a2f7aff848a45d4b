"""Log-sum-exp over masked entries, prefixes, and all entries but one: what denominators are made of.

Masked entries are replaced by the most negative finite number, never by -inf, so an empty sum is that number
and its gradient is 0, not NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_WEIGHT = -1e9
"""Log-weight of a pair that has no weight; anything at or below 0.9 times it counts as zero (bfloat16 rounds)."""


def wide(x: Tensor) -> Tensor:
    """Float32 for half precision, unchanged otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def carries(logw_NM: Tensor) -> Tensor:
    """True where a pair has a weight above zero."""
    return logw_NM > 0.9 * NO_WEIGHT


def masked_lse(x_NM: Tensor, valid_NM: Tensor) -> Tensor:
    """log sum_k e^{x_ik} over valid k, (N,); the most negative finite number for a row without any.

    >>> x = torch.tensor([[0.0, 0.0, 9.0]])
    >>> round(masked_lse(x, torch.tensor([[True, True, False]])).item(), 4)
    0.6931
    """
    return torch.logsumexp(torch.where(valid_NM, x_NM, torch.finfo(x_NM.dtype).min), dim=1)


def softmax_over(logw_NM: Tensor, valid_NM: Tensor) -> Tensor:
    """w_ik / sum_t w_it over valid t, from log-weights; exactly 0 for invalid pairs and for log-weight -1e9.

    >>> softmax_over(torch.tensor([[0.0, 0.0, -1e9, 5.0]]), torch.tensor([[True, True, True, False]])).tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    """
    logw_NM = wide(logw_NM).clamp(min=NO_WEIGHT)
    floor = torch.finfo(logw_NM.dtype).min
    share_NM = logw_NM - masked_lse(logw_NM, valid_NM)[:, None]
    return torch.where(valid_NM & carries(logw_NM), share_NM, floor).exp()


def leave_one_out_lse(x_NM: Tensor, valid_NM: Tensor) -> Tensor:
    r"""D_ik = log sum_{t valid, t != k} e^{x_it}, (N, M), in O(N M) time and memory.

    D_k = L + log(1 - e^{x_k - L}) with L over the whole row loses digits only where one entry holds more than
    half of the sum. That can only be the row's largest, for which the rest is summed again, so the result is
    accurate everywhere. The most negative finite number where nothing is left.

    >>> leave_one_out_lse(torch.tensor([[0.0, 50.0]]), torch.ones(1, 2, dtype=torch.bool)).tolist()
    [[50.0, 0.0]]
    """
    floor = torch.finfo(x_NM.dtype).min
    filled_NM = torch.where(valid_NM, x_NM, floor)
    top_NM = torch.zeros_like(valid_NM).scatter(1, filled_NM.argmax(1, keepdim=True), True)
    total_N1 = torch.logsumexp(filled_NM, dim=1, keepdim=True)
    rest_N1 = masked_lse(x_NM, valid_NM & ~top_NM)[:, None]
    share_NM = torch.where(valid_NM & ~top_NM, x_NM - total_N1, floor).exp()
    return torch.where(top_NM, rest_N1, total_N1 + torch.log1p(-share_NM))


def prefix_lse(x_NM: Tensor, valid_NM: Tensor, length_NM: Tensor) -> Tensor:
    """log sum of e^{x_it} over the first length_ik valid entries of row i, (N, M).

    The entry for length 0 is meaningless (the caller masks it) but finite, and so is its gradient.

    >>> x = torch.zeros(1, 3)
    >>> y = prefix_lse(x, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[1, 2, 3]]))
    >>> [round(v, 4) for v in y[0].tolist()]
    [0.0, 0.6931, 1.0986]
    """
    filled_NM = torch.where(valid_NM, x_NM, torch.finfo(x_NM.dtype).min)
    return torch.logcumsumexp(filled_NM, dim=1).gather(1, (length_NM - 1).clamp(min=0))
