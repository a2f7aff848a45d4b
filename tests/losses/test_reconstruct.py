from __future__ import annotations

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.reconstruct import masked_l1, masked_l2, masked_patch_mse


def scene(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.randn(3, 6, 8, generator=generator, dtype=dtype) for _ in range(2))
    mask = torch.rand(3, 6, generator=generator) < 0.6
    return pred.requires_grad_(), target, mask


def loop(pred, target, mask, norm_pix):
    total, count = 0.0, 0
    for b in range(pred.shape[0]):
        for t in range(pred.shape[1]):
            if not mask[b, t]:
                continue
            values = [target[b, t, p] for p in range(pred.shape[2])]
            if norm_pix:
                mean = sum(values) / len(values)
                variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
                values = [(v - mean) / (variance + 1e-6) ** 0.5 for v in values]
            total = total + sum((pred[b, t, p] - v) ** 2 for p, v in enumerate(values)) / len(values)
            count += 1
    return total / count


@pytest.mark.parametrize("norm_pix", [False, True])
def test_value_and_gradient_equal_the_loop(norm_pix):
    pred, target, mask = scene()
    ours, slow = masked_patch_mse(pred, target, mask, norm_pix=norm_pix), loop(pred, target, mask, norm_pix)
    torch.testing.assert_close(ours, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours, pred)[0], torch.autograd.grad(slow, pred)[0], rtol=1e-12, atol=1e-12
    )
    assert torch.autograd.gradcheck(lambda p: masked_patch_mse(p, target, mask, norm_pix=norm_pix), (pred,))


def test_visible_patches_do_not_enter_whatever_they_hold():
    pred, target, mask = scene()
    changed = target.clone()
    changed[~mask] = float("inf")
    assert masked_patch_mse(pred, changed, mask) == masked_patch_mse(pred, target, mask)
    gradient = torch.autograd.grad(masked_patch_mse(pred, changed, mask), pred)[0]
    assert (gradient[~mask] == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("norm_pix", [False, True])
def test_a_perfect_prediction_costs_nothing(norm_pix):
    _, target, mask = scene()
    wanted = target
    if norm_pix:
        wanted = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    assert masked_patch_mse(wanted, target, mask, norm_pix=norm_pix) < 1e-30


def test_norm_pix_ignores_gain_and_offset_of_a_patch_and_survives_constants():
    pred, target, mask = scene()
    a = masked_patch_mse(pred, target, mask, norm_pix=True)
    torch.testing.assert_close(masked_patch_mse(pred, target * 50 + 3, mask, norm_pix=True), a, rtol=1e-5, atol=1e-6)
    constant = masked_patch_mse(pred, torch.ones_like(target), mask, norm_pix=True)
    torch.testing.assert_close(constant, (pred[mask] ** 2).mean())


def test_a_mask_that_hides_nothing_is_refused():
    pred, target, mask = scene()
    with pytest.raises(UserError, match="nothing is masked"):
        masked_patch_mse(pred, target, torch.zeros_like(mask))
    with pytest.raises(UserError, match="nothing is masked"):
        masked_l1(pred, target, torch.zeros(3, 6, 1))


def test_permuting_scans_or_patches_changes_nothing():
    pred, target, mask = scene()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        masked_patch_mse(pred[order], target[order], mask[order]), masked_patch_mse(pred, target, mask)
    )
    patches = torch.tensor([5, 3, 1, 0, 2, 4])
    torch.testing.assert_close(
        masked_patch_mse(pred[:, patches], target[:, patches], mask[:, patches]),
        masked_patch_mse(pred, target, mask),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    pred, target, mask = scene()
    low = pred.detach().to(dtype).requires_grad_()
    value = masked_patch_mse(low, target.to(dtype), mask, norm_pix=True)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(low.grad).all()
    big = torch.full((1, 1, 4), 60000.0, dtype=torch.float16)
    assert torch.isfinite(masked_patch_mse(big, -big, torch.ones(1, 1, dtype=torch.bool)))


def test_masked_l1_and_l2_average_over_the_selected_voxels_of_a_broadcast_mask():
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.randn(2, 3, 4, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(2, 1, 4, 4, 4, generator=generator) < 0.3
    chosen = (pred - target)[mask.expand_as(pred)]
    torch.testing.assert_close(masked_l1(pred, target, mask), chosen.abs().mean())
    torch.testing.assert_close(masked_l2(pred, target, mask), chosen.square().mean())


def test_a_float_mask_weighs():
    pred, target = torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, float("inf")])
    weight = torch.tensor([10.0, 1.0, 1.0, 0.0])
    assert masked_l2(pred, target, weight).item() == pytest.approx((10 + 4 + 9) / 12)


def test_shapes_that_differ_are_named():
    with pytest.raises(UserError, match="same shape"):
        masked_l1(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 1))
    with pytest.raises(UserError, match="two values"):
        masked_patch_mse(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), torch.ones(1, 2).bool(), norm_pix=True)
