"""The weighted NT-Xent core, and the losses that are this core with another denominator.

All take ``sim_NM`` (similarity / temperature), ``pos_NM`` (True: a positive of the anchor) and ``valid_NM`` (False:
never used, such as an anchor with itself). P(i) are the valid positives, N(i) the valid rest, A(i) both.
Columns are whatever the caller puts there: the other rows of the batch, rows of other processes, a queue, a bank.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses.lse import masked_lse, wide
from medssl.losses.rows import Rows, mean_over_anchors


def weighted_rows(sim_NM: Tensor, weight_NM: Tensor, den: Tensor, usable_NM: Tensor) -> Rows:
    r"""Core: sum_k W_ik (D_ik - s_ik) over the usable k of each anchor, and whether it has any, both (N,).

    W_ik are final weights (usually normalised over k), D_ik the log-denominator, (N, M) or (N, 1).
    """
    term_NM = torch.where(usable_NM, weight_NM * (den - sim_NM), 0.0)
    return term_NM.sum(1), usable_NM.any(1)


def weighted_nt_xent(sim_NM: Tensor, weight_NM: Tensor, den: Tensor, usable_NM: Tensor) -> Tensor:
    """Mean of ``weighted_rows`` over the anchors that have a usable term; 0 with a live graph when none has."""
    return mean_over_anchors(*weighted_rows(sim_NM, weight_NM, den, usable_NM))


def nt_xent(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor) -> Tensor:
    r"""NT-Xent / InfoNCE: -(1/|P|) sum_{p in P} log( e^{s_p} / sum_{t in A} e^{s_t} ), mean over anchors.

    One positive per anchor gives SimCLR (two views) and MoCo (columns: the key, then the queue); several give
    SupCon L_out. All similarities equal with 2B rows: log(2B - 1). The published y-aware code returns twice this.
    Sources: Oord et al. 2018, arXiv 1807.03748; Chen et al. 2020, arXiv 2002.05709; He et al. 2020.

    >>> pos = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]).bool()
    >>> round(nt_xent(torch.zeros(4, 4), pos, ~torch.eye(4).bool()).item(), 4)
    1.0986
    """
    return mean_over_anchors(*nt_xent_rows(sim_NM, pos_NM, valid_NM))


def nt_xent_rows(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor) -> Rows:
    """``nt_xent`` (and SupCon L_out) of every anchor, for ``rows.blockwise``."""
    sim_NM, pos_NM = _checked(sim_NM, pos_NM, valid_NM)
    return weighted_rows(sim_NM, _uniform(pos_NM, sim_NM), masked_lse(sim_NM, valid_NM)[:, None], pos_NM)


def nearest_is_positive(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor) -> Rows:
    """1 where the most similar valid candidate of an anchor is a positive, (N,), to be watched; all anchors count."""
    best_N1 = sim_NM.detach().masked_fill(~valid_NM, -torch.inf).argmax(1, keepdim=True)
    return pos_NM.gather(1, best_N1).squeeze(1).float(), torch.ones_like(valid_NM[:, 0])


def sup_con(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor, *, mean: Literal["out", "in"] = "out") -> Tensor:
    r"""SupCon, the mean over positives outside (L_out) or inside (L_in) the logarithm.

    L_out = -(1/|P|) sum_p log( e^{s_p} / sum_A e^{s_t} ); L_in = -log( (1/|P|) sum_p e^{s_p} / sum_A e^{s_t} ).
    L_in <= L_out (Jensen); they are equal for one positive, where both are NT-Xent. No tau / tau_base factor.
    Source: Khosla et al. 2020, arXiv 2004.11362, eq. 2 and 3.

    >>> pos = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()
    >>> round(sup_con(torch.ones(3, 3), pos, ~torch.eye(3).bool(), mean="in").item(), 4)
    0.6931
    """
    return mean_over_anchors(*sup_con_rows(sim_NM, pos_NM, valid_NM, mean=mean))


def sup_con_rows(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor, *, mean: Literal["out", "in"] = "out") -> Rows:
    """``sup_con`` of every anchor, for ``rows.blockwise``."""
    if mean == "out":
        return nt_xent_rows(sim_NM, pos_NM, valid_NM)
    if mean != "in":
        raise UserError(f"mean is {mean!r}; SupCon knows out and in")
    sim_NM, pos_NM = _checked(sim_NM, pos_NM, valid_NM)
    count_N = pos_NM.sum(1)
    loss_N = masked_lse(sim_NM, valid_NM) - masked_lse(sim_NM, pos_NM) + count_N.clamp(min=1).to(sim_NM.dtype).log()
    return loss_N, count_N > 0


def decoupled(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor, *, attraction_N: Tensor | None = None) -> Tensor:
    r"""Decoupled loss (DCL, InfoL1O): -(a_i/|P|) sum_p s_p + log sum_{j in N} e^{s_j}, mean over anchors.

    The limit of the epsilon losses for eps -> inf; it may be negative, and d/ds_p is -a_i/|P| whatever s_p is.
    ``attraction_N`` (default 1) weighs the positive term: ``dcl_weights`` gives DCLW. An anchor without a negative
    has an empty denominator and is left out. Sources: Yeh et al. 2022, arXiv 2110.06848; Poole et al. 2019.

    >>> pos = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]).bool()
    >>> round(decoupled(torch.zeros(4, 4), pos, ~torch.eye(4).bool()).item(), 4)
    0.6931
    """
    sim_NM, pos_NM = _checked(sim_NM, pos_NM, valid_NM)
    neg_NM = valid_NM & ~pos_NM
    usable_NM = pos_NM & neg_NM.any(1, keepdim=True)
    attraction = 1.0 if attraction_N is None else attraction_N.to(sim_NM.dtype)[:, None]
    den_N1 = masked_lse(sim_NM, neg_NM)[:, None]
    return weighted_nt_xent(attraction * sim_NM, _uniform(pos_NM, sim_NM), den_N1, usable_NM)


def dcl_weights(cos_B: Tensor, sigma: float = 0.5) -> Tensor:
    r"""DCLW weights of the positive term: 2 - B softmax_i(<z_i, z'_i> / sigma), (B,); their sum is B.

    Gradient flows through them, as in the authors' code; detach ``cos_B`` to stop it. Source: Yeh et al. 2022.

    >>> dcl_weights(torch.tensor([0.3, 0.3])).tolist()
    [1.0, 1.0]
    """
    return 2 - len(cos_B) * torch.softmax(wide(cos_B) / sigma, dim=0)


def eps_sup_info_nce(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor, *, eps: float) -> Tensor:
    r"""epsilon-SupInfoNCE: -(1/|P|) sum_p log( e^{s_p} / (e^{s_p - eps} + sum_{j in N} e^{s_j}) ).

    Each positive competes with the negatives only. One positive: epsilon-InfoNCE, and NT-Xent at eps = 0;
    eps -> inf: ``decoupled``. eps is in units of the logits. Source: Barbano et al. 2023, arXiv 2211.05568.

    >>> pos = torch.tensor([[0, 1, 0]]).bool()
    >>> round(eps_sup_info_nce(torch.zeros(1, 3), pos, torch.tensor([[0, 1, 1]]).bool(), eps=0.25).item(), 4)
    0.5759
    """
    sim_NM, pos_NM = _checked(sim_NM, pos_NM, valid_NM)
    neg_N1 = masked_lse(sim_NM, valid_NM & ~pos_NM)[:, None]
    return weighted_nt_xent(sim_NM, _uniform(pos_NM, sim_NM), torch.logaddexp(neg_N1, sim_NM - eps), pos_NM)


def eps_sup_con(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor, *, eps: float) -> Tensor:
    r"""epsilon-SupCon: -(1/|P|) sum_p log( e^{s_p} / (sum_{t in P} e^{s_t - eps} + sum_{j in N} e^{s_j}) ).

    eps = 0 gives SupCon L_out; eps -> inf gives ``decoupled``. eps is in units of the logits.
    Source: Barbano et al. 2023, arXiv 2211.05568.

    >>> pos = torch.tensor([[0, 1, 0]]).bool()
    >>> round(eps_sup_con(torch.zeros(1, 3), pos, torch.tensor([[0, 1, 1]]).bool(), eps=0.0).item(), 4)
    0.6931
    """
    sim_NM, pos_NM = _checked(sim_NM, pos_NM, valid_NM)
    den_N1 = masked_lse(torch.where(pos_NM, sim_NM - eps, sim_NM), valid_NM)[:, None]
    return weighted_nt_xent(sim_NM, _uniform(pos_NM, sim_NM), den_N1, pos_NM)


def _checked(sim_NM: Tensor, pos_NM: Tensor, valid_NM: Tensor) -> tuple[Tensor, Tensor]:
    check_shapes(sim_NM, valid_NM, positives=pos_NM)
    return wide(sim_NM), pos_NM & valid_NM


def _uniform(pos_NM: Tensor, sim_NM: Tensor) -> Tensor:
    return pos_NM / pos_NM.sum(1, keepdim=True).clamp(min=1).to(sim_NM.dtype)


def check_shapes(
    sim_NM: Tensor, valid_NM: Tensor, *, positives: Tensor | None = None, logw: Tensor | None = None
) -> None:
    """Raise UserError unless all matrices have the shape of ``sim_NM`` and the masks are boolean."""
    given = {"valid": valid_NM, "pos": positives, "logw": logw}
    for name, matrix in given.items():
        if matrix is None:
            continue
        if sim_NM.ndim != 2 or matrix.shape != sim_NM.shape:
            raise UserError(
                f"{name} has shape {tuple(matrix.shape)} and sim has {tuple(sim_NM.shape)}; "
                "both are (anchors, candidates)"
            )
        if name != "logw" and matrix.dtype != torch.bool:
            raise UserError(f"{name} is {matrix.dtype}; it is a mask and must be boolean")
