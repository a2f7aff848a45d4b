"""Reconstruction losses that look at the hidden part of a scan only."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses.lse import wide


def masked_patch_mse(pred_BTP: Tensor, target_BTP: Tensor, mask_BT: Tensor, *, norm_pix: bool = False) -> Tensor:
    r"""MAE: sum_t m_t mean_p (pred_tp - y_tp)^2 / sum_t m_t, over all patches t of the batch, m = 1 where hidden.

    ``target_BTP`` are patches of P values; with ``norm_pix`` each becomes (y - mean) / sqrt(var + 1e-6) with the
    unbiased variance of the patch. Visible patches do not enter, whatever they hold. Raises UserError when
    nothing is hidden (0 / 0). Source: He et al. 2022, arXiv 2111.06377, and its code.

    >>> pred, target = torch.zeros(1, 2, 4), torch.tensor([[[9.0] * 4, [2.0] * 4]])
    >>> masked_patch_mse(pred, target, torch.tensor([[False, True]])).item()
    4.0
    """
    pred_BTP, target_BTP = wide(pred_BTP), wide(target_BTP)
    if norm_pix:
        if target_BTP.shape[-1] < 2:
            raise UserError("norm_pix needs patches of at least two values, got patches of one")
        variance, mean = torch.var_mean(target_BTP, dim=-1, keepdim=True)
        target_BTP = (target_BTP - mean) / (variance + 1e-6).sqrt()
    return masked_l2(pred_BTP, target_BTP, mask_BT[..., None])


def masked_l1(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""SimMIM: sum_v m_v |pred_v - y_v| / sum_v m_v; ``mask`` broadcasts against ``pred``.

    A boolean mask selects, a float mask weighs. Entries of weight 0 do not enter, whatever they hold.
    Raises UserError when nothing is selected. Source: Xie et al. 2022, arXiv 2111.09886.

    >>> masked_l1(torch.zeros(3), torch.tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False])).item()
    2.0
    """
    return _weighted_mean(_difference(pred, target, mask).abs(), mask)


def masked_l2(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Hole reconstruction: sum_v m_v (pred_v - y_v)^2 / sum_v m_v; masks as in ``masked_l1``.

    Source: Pathak et al. 2016, arXiv 1604.07379, eq. 1.

    >>> masked_l2(torch.zeros(3), torch.tensor([1.0, 3.0, 99.0]), torch.tensor([1.0, 1.0, 0.0])).item()
    5.0
    """
    return _weighted_mean(_difference(pred, target, mask).square(), mask)


def _difference(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """pred - target in at least float32 where the mask is not 0; exactly 0, without gradient, elsewhere."""
    if pred.shape != target.shape:
        raise UserError(f"prediction {tuple(pred.shape)} and target {tuple(target.shape)} must have the same shape")
    return torch.where(mask != 0, wide(pred) - wide(target), 0.0)


def _weighted_mean(error: Tensor, mask: Tensor) -> Tensor:
    weight = mask.to(error.dtype).expand_as(error)
    total = weight.sum()
    if not bool(total > 0):
        raise UserError("nothing is masked, so there is nothing to reconstruct; the mask ratio must be above 0")
    return (weight * error).sum() / total
