"""L_thr where labels lie on a line: one global order of the candidates in place of a sort per anchor.

Along the candidates sorted by label, the log-weights of an anchor rise up to its own label and fall behind it, for
every kernel that falls with |y - y'|. So the candidates less similar than k are the first ``left_ik`` and the last
``right_ik`` columns, and sums over them come from two cumulative sums, one from each end. Every sum is of positive
terms and none is a difference, so no digit is lost. Who is less similar is decided by comparing log-weights, exactly
as a sort of the row would. Masks are numbers here (``share_NM``, 1 or 0), which is faster than booleans on CPUs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from medssl.losses.lse import NO_WEIGHT

SPAN = {torch.float32: 40.0, torch.float64: 300.0}
"""How far apart the similarities of a row may lie so that sums of exponentials keep all digits and a square fits."""


def line_rows(
    sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor, order_M: Tensor, most: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """L_thr of every anchor, whether it has a term, and whether these two can be trusted; all (N,).

    ``order_M`` sorts the candidates by label. ``most``: None divides weights by all weights of the anchor; a number
    divides by those of the less similar, and clamps the logarithm of the ratio to it. An anchor cannot be trusted,
    and gives no gradient, where its log-weights do not rise and fall, or similarities are further apart than SPAN.
    Log-weights receive no gradient.
    """
    span_N = sim_NM.detach().amax(1) - sim_NM.detach().amin(1)
    broad = bool((span_N > SPAN[sim_NM.dtype]).any())
    wide_NM = sim_NM.double() if broad else sim_NM
    close_N = span_N <= SPAN[wide_NM.dtype]
    loss_N, has_N, fit_N = _Line.apply(wide_NM, logw_NM, valid_NM, close_N, order_M, most)
    return loss_N.to(sim_NM.dtype), has_N, fit_N


def visiting_order(logw_NM: Tensor, order_M: Tensor) -> Tensor:
    """Anchors (N,) sorted by where their largest log-weight lies: neighbours then search the same columns."""
    return order_M.argsort()[logw_NM.argmax(1)].argsort()


def line_counts(logw_NM: Tensor, valid_NM: Tensor, order_M: Tensor) -> tuple[Tensor, Tensor]:
    """How many valid candidates are less similar than k (N, M) float32, and the rows (N,) where that can be trusted."""
    logw_NM, share_NM = logw_NM.index_select(1, order_M), valid_NM.float().index_select(1, order_M)
    less, ends, fit_N = _less_similar(logw_NM)
    sums = _from_ends(share_NM, *ends)
    count_NM = sums[0].gather(1, less[0]).add_(sums[1].gather(1, less[1]))
    return count_NM.index_select(1, order_M.argsort()), fit_N


def _less_similar(logw_NM: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int], Tensor]:
    """How many of the first, and of the last, columns have a smaller log-weight than column k, both (N, M) int64.

    Also two columns: all rows rise up to the first and fall from the second on; and the rows (N,) that rise and fall
    as a whole, for which alone the numbers hold. Columns alike in all rows (of one label) are searched once.
    """
    m = logw_NM.shape[1]
    peak_N1 = logw_NM.argmax(1, keepdim=True)
    first, last = int(peak_N1.min()), int(peak_N1.max()) + 1
    step_NM = F.pad(logw_NM[:, 1:] - logw_NM[:, :-1], (1, 1))  # column j: from j - 1 to j
    fit_N = _rises_and_falls(step_NM, peak_N1, first, last)
    new_M = (step_NM[:, :-1].amax(0) > 0) | (step_NM[:, :-1].amin(0) < 0)
    new_M[0] = True
    starts = F.pad(new_M.nonzero().squeeze(1), (0, 1), value=m)
    if len(starts) > 0.8 * m:
        return _count_less(logw_NM, peak_N1, first, last), (first, last), fit_N
    group_M = new_M.cumsum(0) - 1
    first_group, last_group = int(group_M[first]), int(group_M[last - 1]) + 1
    left, right = _count_less(logw_NM.index_select(1, starts[:-1]), group_M[peak_N1], first_group, last_group)
    right = m - starts[len(starts) - 1 - right]
    less = starts[left].index_select(1, group_M), right.index_select(1, group_M)
    return less, (first, int(starts[last_group])), fit_N


def _rises_and_falls(step_NM: Tensor, peak_N1: Tensor, first: int, last: int) -> Tensor:
    """Whether each row (N,) never falls before its peak and never rises behind; peaks lie in first .. last - 1."""
    rising = torch.arange(first, last + 1, device=step_NM.device)[None, :] <= peak_N1
    between = step_NM[:, first : last + 1]
    fit_N = torch.where(rising, between >= 0, between <= 0).all(1)
    return fit_N & (step_NM[:, : first + 1].amin(1) >= 0) & (step_NM[:, last:].amax(1) <= 0)


def _count_less(logw_NM: Tensor, peak_N1: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """The numbers of ``_less_similar``, from every column.

    On its own side of the peak that is where the run of log-weights equal to that of k begins; on the other side it
    is searched. All rows rise up to column ``first`` and fall from ``last`` on; in between both sides are searched.
    """
    m = logw_NM.shape[1]
    rising = torch.arange(m, device=logw_NM.device)[None, :] <= peak_N1
    left_NM, right_NM = (torch.empty(logw_NM.shape, dtype=torch.int64, device=logw_NM.device) for _ in range(2))
    left_NM[:, : first + 1] = _run_starts(logw_NM[:, : first + 1])
    key = logw_NM[:, :last].clone()
    key[:, first + 1 :].masked_fill_(~rising[:, first + 1 : last], math.inf)
    left_NM[:, first + 1 :] = torch.searchsorted(key, logw_NM[:, first + 1 :].contiguous())
    right_NM[:, last:] = _run_starts(logw_NM[:, last:].flip(1)).flip(1)
    key = logw_NM[:, first + 1 :].clone()
    key[:, : last - first - 1].masked_fill_(rising[:, first + 1 : last], math.inf)
    right_NM[:, :last] = torch.searchsorted(key.flip(1), logw_NM[:, :last].contiguous())
    return left_NM, right_NM


def _run_starts(x_NM: Tensor) -> Tensor:
    """Column where the run of equal numbers around each column begins."""
    starts = F.pad(x_NM[:, 1:] != x_NM[:, :-1], (1, 0)) * torch.arange(x_NM.shape[1], device=x_NM.device)
    return starts.cummax(1).values if x_NM.shape[1] else starts


def _from_ends(x_NM: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Sums of the first 0, 1, ... ``last`` columns, and of the last 0, 1, ... M - 1 - ``first``."""
    return F.pad(x_NM[:, :last].cumsum(1), (1, 0)), F.pad(x_NM[:, first + 1 :].flip(1).cumsum(1), (1, 0))


def _of_anchor(logw_NM: Tensor, share_NM: Tensor) -> Tensor:
    """w_ik / sum_t w_it over valid pairs, 0 elsewhere."""
    known_NM = torch.addcmul(logw_NM, share_NM - 1, logw_NM.new_tensor(1e30))
    top_N1 = known_NM.amax(1, keepdim=True)
    weight_NM = (known_NM - top_N1).exp_()
    total_N1 = weight_NM.sum(1, keepdim=True)
    return weight_NM.mul_(torch.where(top_N1 > 0.9 * NO_WEIGHT, 1 / total_N1, 0.0))


def _of_less_similar(
    logw_NM: Tensor, share_NM: Tensor, less: tuple[Tensor, Tensor], ends: tuple[int, int], most: float
) -> Tensor:
    """w_ik / sum of the weights of the less similar, in logarithms and at most e^most."""
    floor = torch.finfo(logw_NM.dtype).min
    known_NM = torch.where(share_NM > 0, logw_NM, floor)
    rise = F.pad(known_NM[:, : ends[1]].logcumsumexp(1), (1, 0), value=floor).gather(1, less[0])
    fall = F.pad(known_NM[:, ends[0] + 1 :].flip(1).logcumsumexp(1), (1, 0), value=floor).gather(1, less[1])
    return (logw_NM - torch.logaddexp(rise, fall)).clamp_(max=most).exp_()


class _Line(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sim_NM: Tensor,
        logw_NM: Tensor,
        valid_NM: Tensor,
        close_N: Tensor,
        order_M: Tensor,
        most: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        sim_NM, logw_NM = sim_NM.index_select(1, order_M), logw_NM.index_select(1, order_M)
        share_NM = valid_NM.to(sim_NM.dtype).index_select(1, order_M)
        less, ends, fit_N = _less_similar(logw_NM)
        fit_N = fit_N & close_N
        top_N1 = sim_NM.amax(1, keepdim=True)
        mass_NM = (sim_NM - top_N1).exp_().mul_(share_NM)
        from_left, from_right = _from_ends(mass_NM, *ends)
        below_NM = from_left.gather(1, less[0]).add_(from_right.gather(1, less[1]))
        has_NM = below_NM.sign().mul_(share_NM)
        if most is None:
            weight_NM = _of_anchor(logw_NM, share_NM.to(logw_NM.dtype)).to(sim_NM.dtype)
        else:
            weight_NM = _of_less_similar(logw_NM, share_NM, less, ends, most).to(sim_NM.dtype)
        weight_NM.mul_(has_NM)
        below_NM.clamp_(min=torch.finfo(below_NM.dtype).tiny)  # a sum of nothing has weight 0
        loss_N = (below_NM.log().sub_(sim_NM).add_(top_N1)).mul_(weight_NM).sum(1)
        has_N = has_NM.amax(1) > 0
        if ctx.needs_input_grad[0]:
            slope_NM = _slope(less, ends, weight_NM, below_NM, mass_NM)
            slope_NM[~fit_N] = 0.0
            ctx.save_for_backward(slope_NM.index_select(1, order_M.argsort()))
        ctx.mark_non_differentiable(has_N, fit_N)
        return loss_N, has_N, fit_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_N: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (slope_NM,) = ctx.saved_tensors
        return slope_NM * slope_N[:, None], None, None, None, None, None


def _slope(
    less: tuple[Tensor, Tensor], ends: tuple[int, int], weight_NM: Tensor, below_NM: Tensor, mass_NM: Tensor
) -> Tensor:
    """d loss_i / d s_it = e^{s_t} sum_{k: t less similar than k} W_k / below_k - W_t, columns in the given order."""
    pull_NM = weight_NM / below_NM
    (n, m), (first, last) = pull_NM.shape, ends
    by_left = pull_NM.new_zeros(n, last + 1).scatter_add_(1, less[0], pull_NM)[:, 1:]
    by_right = pull_NM.new_zeros(n, m - first).scatter_add_(1, less[1], pull_NM)[:, 1:]
    slope_NM = -weight_NM
    slope_NM[:, :last].addcmul_(by_left.flip(1).cumsum(1).flip(1), mass_NM[:, :last])
    slope_NM[:, first + 1 :].addcmul_(by_right.flip(1).cumsum(1), mass_NM[:, first + 1 :])
    return slope_NM
