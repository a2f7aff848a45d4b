"""Weakly supervised contrastive losses: positives by degree, w_ik = K(y_i, y_k), given as log-weights.

All take ``sim_NM`` (similarity / temperature), ``logw_NM`` (log-weights; -1e9 or -inf is weight zero) and
``valid_NM`` (False: never used). A(i) are the valid candidates of anchor i, W_ik = w_ik / sum_{t in A} w_it.
An anchor counts when it has a term with w > 0 and a denominator. Candidates may be more than the anchors
(gathered rows, a queue) except for ``threshold(variant="isbi_code")``. Large matrices are evaluated some rows at a
time, where log-weights receive no gradient; ``*_rows`` are the losses of every anchor, for ``rows.blockwise``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses import line
from medssl.losses.contrastive import check_shapes, weighted_rows
from medssl.losses.lse import (
    NO_WEIGHT,
    carries,
    leave_one_out_lse,
    masked_lse,
    prefix_lse,
    softmax_over,
    wide,
)
from medssl.losses.rows import Rows, by_rows, mean_over_anchors


def y_aware(sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor) -> Tensor:
    r"""y-aware InfoNCE: -sum_k W_ik log( e^{s_ik} / sum_{t in A} e^{s_it} ), mean over anchors.

    The weights are normalised per row, as printed; the authors' code divides by column sums and returns twice the
    mean. Limits: delta kernel, NT-Xent; class kernel, SupCon L_out; box kernel, a hard threshold on the label;
    sigma -> inf, uniform weights. s -> s + c changes nothing. Source: Dufumier et al. 2021, arXiv 2106.08808.

    >>> sim, logw = torch.tensor([[9.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, -0.5]])
    >>> round(y_aware(sim, logw, torch.tensor([[False, True, True]])).item(), 4)
    0.6908
    """
    check_shapes(sim_NM, valid_NM, logw=logw_NM)
    return by_rows(y_aware_rows, sim_NM, logw_NM, valid_NM)


def y_aware_rows(sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor) -> Rows:
    """``y_aware`` of every anchor (N,), and whether it counts."""
    sim_NM, logw_NM = _checked(sim_NM, logw_NM, valid_NM)
    weight_NM = softmax_over(logw_NM, valid_NM).to(sim_NM.dtype)
    den_N1 = masked_lse(sim_NM, valid_NM)[:, None]
    return weighted_rows(sim_NM, weight_NM, den_N1, valid_NM & carries(logw_NM))


def threshold(
    sim_NM: Tensor,
    logw_NM: Tensor,
    valid_NM: Tensor,
    *,
    norm: Literal["anchor", "slide"] = "anchor",
    variant: Literal["slide", "isbi_code"] = "slide",
    ratio_max: float | None = None,
    order_M: Tensor | None = None,
) -> Tensor:
    r"""L_thr: -sum_k [w_k / Z_k] log( e^{s_k} / sum_{t in A, w_t < w_k} e^{s_t} ), mean over anchors.

    Z_k = sum_{t in A} w_t (``norm="anchor"``) or sum_{w_t < w_k} w_t (``"slide"``, as printed, whose ratio
    explodes for narrow kernels; it stops at ``ratio_max``, or else where its square overflows). Ties neither
    attract nor repel each other; a k with no less similar partner is dropped, without renormalising.
    w in {0, 1}: decoupled SupCon; delta kernel, two views: DCL; all labels equal: 0. Exact, O(N M log M) time and
    O(N M) memory: by one sort per row, or, given ``order_M`` (``pairs.label_order``: candidates sorted by label),
    by sums from both ends of that order for every row that rises and falls along it; the others are sorted.
    ``isbi_code``: see ``_isbi_rows``. Source: Barbano et al. 2023, arXiv 2211.08326.

    >>> sim, logw = torch.tensor([[9.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, -0.5]])
    >>> round(threshold(sim, logw, torch.tensor([[False, True, True]])).item(), 4)
    -0.6225
    """
    _check_threshold(norm, variant, ratio_max)
    check_shapes(sim_NM, valid_NM, logw=logw_NM)
    if variant == "isbi_code":
        count_NM = _less_similar_to_candidates(logw_NM, valid_NM, order_M)
        return by_rows(_isbi_rows, sim_NM, logw_NM, valid_NM, count_NM)
    rows = partial(threshold_rows, norm=norm, ratio_max=ratio_max, order_M=order_M)
    visit_N = None if order_M is None or not sim_NM.numel() else line.visiting_order(logw_NM, order_M)
    return by_rows(rows, sim_NM, logw_NM, valid_NM, visit_N=visit_N)


def threshold_rows(
    sim_NM: Tensor,
    logw_NM: Tensor,
    valid_NM: Tensor,
    *,
    norm: Literal["anchor", "slide"] = "anchor",
    variant: Literal["slide", "isbi_code"] = "slide",
    ratio_max: float | None = None,
    order_M: Tensor | None = None,
) -> Rows:
    """``threshold`` of every anchor (N,), and whether it counts."""
    _check_threshold(norm, variant, ratio_max)
    sim_NM, logw_NM = _checked(sim_NM, logw_NM, valid_NM)
    if variant == "isbi_code":
        return _isbi_rows(sim_NM, logw_NM, valid_NM, _less_similar_to_candidates(logw_NM, valid_NM, order_M))
    most = math.log(ratio_max) if ratio_max else math.log(torch.finfo(sim_NM.dtype).max) / 2
    limit = None if norm == "anchor" else most
    if order_M is None or logw_NM.requires_grad or not sim_NM.numel():
        return _sorted_rows(sim_NM, logw_NM, valid_NM, limit)
    loss_N, has_N, fit_N = line.line_rows(sim_NM, logw_NM, valid_NM, order_M, limit)
    if fit_N.all():
        return loss_N, has_N
    rest = (~fit_N).nonzero().squeeze(1)
    far_R, has_R = _sorted_rows(sim_NM[rest], logw_NM[rest], valid_NM[rest], limit)
    return loss_N.index_put((rest,), far_R), has_N.index_put((rest,), has_R)


def _sorted_rows(sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor, most: float | None) -> Rows:
    """L_thr by one sort of every row; ``most`` as in ``line.line_loss``."""
    below_NM, order_NM = _less_similar(logw_NM, valid_NM)
    sim_NM, logw_NM, valid_NM = (x.gather(1, order_NM) for x in (sim_NM, logw_NM, valid_NM))
    if most is None:
        weight_NM = softmax_over(logw_NM, valid_NM)
    else:
        weight_NM = (logw_NM - prefix_lse(logw_NM, valid_NM, below_NM)).clamp(max=most).exp()
    den_NM = prefix_lse(sim_NM, valid_NM, below_NM)
    return weighted_rows(sim_NM, weight_NM.to(sim_NM.dtype), den_NM, valid_NM & (below_NM > 0))


def _check_threshold(norm: str, variant: str, ratio_max: float | None) -> None:
    _one_of("norm", norm, ("anchor", "slide"))
    _one_of("variant", variant, ("slide", "isbi_code"))
    if variant == "isbi_code" and norm != "anchor":
        raise UserError("threshold: variant isbi_code divides by all weights of the anchor; leave norm at anchor")
    if ratio_max is not None and not ratio_max > 0:
        raise UserError(f"threshold: ratio_max is {ratio_max}; it must be positive, or None for no limit")


def _less_similar(logw_NM: Tensor, valid_NM: Tensor) -> tuple[Tensor, Tensor]:
    """Per row, sorted by weight: how many valid partners are strictly less similar, and the sorting order."""
    key_NM, order_NM = torch.where(valid_NM, logw_NM, math.inf).sort(dim=1, stable=True)
    return torch.searchsorted(key_NM, key_NM), order_NM


def _less_similar_to_candidates(logw_NN: Tensor, valid_NN: Tensor, order_N: Tensor | None) -> Tensor:
    """c_it = #{c : w_tc < w_ti}, (N, N) float32: how many are less similar to candidate t than anchor i is."""
    if logw_NN.shape[0] != logw_NN.shape[1]:
        raise UserError(
            f"threshold: variant isbi_code counts in the rows of the candidates and needs a square matrix, got "
            f"{tuple(logw_NN.shape)}; use variant slide with a queue or several processes"
        )
    logw_NN = wide(logw_NN.detach()).clamp(min=NO_WEIGHT)
    count_NN = torch.empty(logw_NN.shape, dtype=torch.float32, device=logw_NN.device)
    visit_N = torch.arange(len(logw_NN), device=logw_NN.device)
    if order_N is not None and logw_NN.numel():
        visit_N = line.visiting_order(logw_NN, order_N)
    for part in visit_N.split(64):
        key, valid = logw_NN[part], valid_NN[part]
        if order_N is not None:
            count, fit = line.line_counts(key, valid, order_N)
        if order_N is None or not fit.all():
            count = torch.searchsorted(torch.where(valid, key, math.inf).sort(dim=1).values, key).float()
        count_NN[part] = count
    return count_NN.T.contiguous()


def _isbi_rows(sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor, count_NM: Tensor) -> Rows:
    r"""What the published L_thr code computes: -sum_k W_ik (s_ik - log sum_{t in A} c_it e^{s_it}).

    c_it = #{c : w_tc < w_ti} is counted in the row of t, not of the anchor, so both must be the same rows. An
    anchor all of whose counts are 0 (log 0 in that code) is left out. Weights are compared as logarithms, so two
    weights that underflow to 0 still differ here. Source: the ISBI 2023 authors' code, method "threshold".
    """
    sim_NM, logw_NM = _checked(sim_NM, logw_NM, valid_NM)
    repels_NM = valid_NM & (count_NM > 0)
    log_count_NM = count_NM.to(sim_NM.dtype).clamp(min=1).log()
    den_N1 = masked_lse(sim_NM + log_count_NM, repels_NM)[:, None]
    usable_NM = valid_NM & carries(logw_NM) & repels_NM.any(1, keepdim=True)
    return weighted_rows(sim_NM, softmax_over(logw_NM, valid_NM).to(sim_NM.dtype), den_N1, usable_NM)


def exponential(
    sim_NM: Tensor,
    logw_NM: Tensor,
    valid_NM: Tensor,
    *,
    variant: Literal["slide", "include_k", "isbi_code"] = "slide",
) -> Tensor:
    r"""L_exp: -sum_k W_ik log( e^{s_k} / sum_{t in A, t != k} e^{s_t (1 - w_t)} ), mean over anchors.

    A sample with w = 1 is never repelled. ``include_k`` sums over all t in A. ``isbi_code`` is what the published
    code runs: ``include_k`` with s - m_i in place of s, where m_i is the maximum of the whole row of ``sim_NM``,
    the anchor itself included (1/tau), without gradient; that code's weights are those of the kernel ``gaussian``
    (rbf / (sqrt(2 pi) sigma)), whose factor matters here. These are different losses, since L_exp changes under
    s -> s + c. Delta kernel, two views: DCL (``slide``). Needs two candidates (``slide``) to have a denominator.
    Source: Barbano et al. 2023, arXiv 2211.08326.

    >>> sim, logw = torch.tensor([[9.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, -0.5]])
    >>> round(exponential(sim, logw, torch.tensor([[False, True, True]])).item(), 4)
    -1.3775
    """
    check_shapes(sim_NM, valid_NM, logw=logw_NM)
    return by_rows(partial(exponential_rows, variant=variant), sim_NM, logw_NM, valid_NM)


def exponential_rows(
    sim_NM: Tensor,
    logw_NM: Tensor,
    valid_NM: Tensor,
    *,
    variant: Literal["slide", "include_k", "isbi_code"] = "slide",
) -> Rows:
    """``exponential`` of every anchor (N,), and whether it counts."""
    _one_of("variant", variant, ("slide", "include_k", "isbi_code"))
    sim_NM, logw_NM = _checked(sim_NM, logw_NM, valid_NM)
    if variant == "isbi_code":
        sim_NM = sim_NM - sim_NM.detach().amax(1, keepdim=True)
    repelled_NM = sim_NM * -torch.expm1(logw_NM.to(sim_NM.dtype))
    if variant == "slide":
        den = leave_one_out_lse(repelled_NM, valid_NM)
    else:
        den = masked_lse(repelled_NM, valid_NM)[:, None]
    enough_N1 = valid_NM.sum(1, keepdim=True) >= (2 if variant == "slide" else 1)
    weight_NM = softmax_over(logw_NM, valid_NM).to(sim_NM.dtype)
    return weighted_rows(sim_NM, weight_NM, den, valid_NM & carries(logw_NM) & enough_N1)


def effective_positives(logw_NM: Tensor, valid_NM: Tensor) -> Tensor:
    """exp of the entropy of the weights, mean over anchors with any: how many positives an anchor really has.

    >>> effective_positives(torch.tensor([[0.0, 0.0, -1e9]]), torch.ones(1, 3, dtype=torch.bool)).item()
    2.0
    """
    return mean_over_anchors(*effective_rows(logw_NM, logw_NM, valid_NM))


def effective_rows(_: Tensor, logw_NM: Tensor, valid_NM: Tensor) -> Rows:
    """``effective_positives`` of every anchor (N,), and whether it has any; the first argument is not read."""
    weight_NM = softmax_over(logw_NM.detach(), valid_NM)
    return torch.special.entr(weight_NM).sum(1).exp(), weight_NM.sum(1) > 0


def threshold_dropped(logw_NM: Tensor, valid_NM: Tensor) -> Tensor:
    """Share of the weight that ``threshold`` drops (no less similar partner), mean over anchors with any weight.

    >>> threshold_dropped(torch.tensor([[0.0, 0.0, -1e9]]), torch.ones(1, 3, dtype=torch.bool)).item()
    0.0
    """
    return mean_over_anchors(*dropped_rows(logw_NM, logw_NM, valid_NM))


def dropped_rows(_: Tensor, logw_NM: Tensor, valid_NM: Tensor) -> Rows:
    """``threshold_dropped`` of every anchor (N,), and whether it has any weight; the first argument is not read."""
    logw_NM = wide(logw_NM.detach()).clamp(min=NO_WEIGHT)
    weight_NM = softmax_over(logw_NM, valid_NM)
    least_N1 = logw_NM.masked_fill(~valid_NM, math.inf).amin(1, keepdim=True)  # nobody is less similar than these
    return torch.where(logw_NM == least_N1, weight_NM, 0.0).sum(1), weight_NM.sum(1) > 0


def _checked(sim_NM: Tensor, logw_NM: Tensor, valid_NM: Tensor) -> tuple[Tensor, Tensor]:
    check_shapes(sim_NM, valid_NM, logw=logw_NM)
    sim_NM = wide(sim_NM)
    logw_NM = logw_NM.to(torch.promote_types(sim_NM.dtype, logw_NM.dtype))  # no digit of either is lost
    return sim_NM, logw_NM.clamp(min=NO_WEIGHT)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r}; it is one of {', '.join(known)}")
