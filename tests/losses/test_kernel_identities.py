"""Identities and limits of the weakly supervised losses."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.kernels import box, categorical, delta, rbf
from medssl.losses.contrastive import decoupled, nt_xent, sup_con
from medssl.losses.kernel import exponential, threshold, y_aware
from medssl.losses.lse import softmax_over
from medssl.losses.pairs import label_weights, same, tile
from tests.oracles.batches import ages, rectangle, two_views
from tests.oracles.kernel_cases import LOSSES, value_and_gradient

NAN = float("nan")
# y-aware --------------------------------------------------------------------------------------------------


def test_y_aware_with_the_delta_kernel_is_nt_xent():
    sim, _, valid, pos = two_views(scans=6)
    y = tile(ages(6), 2)
    torch.testing.assert_close(y_aware(sim, delta()(y, y)[1], valid), nt_xent(sim, pos, valid), rtol=0, atol=1e-14)


def test_y_aware_with_classes_is_sup_con_out():
    sim, _, valid, _ = two_views(scans=6)
    c = tile(torch.tensor([0, 1, 0, 2, 1, 0]), 2)
    expected = sup_con(sim, same(c, c) & valid, valid)
    torch.testing.assert_close(y_aware(sim, categorical()(c, c)[1], valid), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("strict", [False, True])
def test_y_aware_with_a_box_is_the_hard_threshold_on_the_label(strict):
    sim, _, valid, pos = two_views(scans=6, ties=True)
    y = tile(ages(6, ties=True), 2)
    distance, logw = box(15.0, strict)(y, y)
    near = (distance < 15.0 if strict else distance <= 15.0) & valid
    torch.testing.assert_close(y_aware(sim, logw, valid), sup_con(sim, near | pos, valid), rtol=0, atol=1e-14)


def test_hard_threshold_goes_to_nt_xent_for_narrow_and_to_all_pairs_for_wide_boxes():
    sim, _, valid, pos = two_views(scans=6)
    y = tile(ages(6), 2)
    torch.testing.assert_close(y_aware(sim, box(1e-9)(y, y)[1], valid), nt_xent(sim, pos, valid))
    everything = y_aware(sim, box(1e9)(y, y)[1], valid)
    mean_s = (sim * valid).sum(1) / valid.sum(1)
    lse = torch.logsumexp(sim.masked_fill(~valid, -math.inf), 1)
    torch.testing.assert_close(everything, (lse - mean_s).mean())


def test_y_aware_weights_become_uniform_for_wide_kernels_and_sum_to_one():
    _, _, valid, _ = two_views(scans=6)
    y = tile(ages(6), 2)
    weight = softmax_over(rbf(1e9)(y, y)[1], valid)
    torch.testing.assert_close(weight, valid.double() / 11)
    narrow = softmax_over(rbf(0.1)(y, y)[1], valid)
    torch.testing.assert_close(narrow.sum(1), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-14)


def test_y_aware_ignores_a_shift_of_similarities_and_a_scale_of_weights():
    sim, logw, valid, _ = two_views(scans=6)
    shift = torch.randn(12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = y_aware(sim + shift, logw + 2 * shift, valid)
    torch.testing.assert_close(moved, y_aware(sim, logw, valid), rtol=0, atol=1e-12)


def test_column_normalised_weights_are_another_loss():
    sim, logw, valid, _ = two_views(scans=6)
    w = logw.exp() * valid
    by_column = -((w / w.sum(0)) * (sim - torch.logsumexp(sim.masked_fill(~valid, -1e300), 1, keepdim=True))).sum()
    assert abs(by_column / 12 - y_aware(sim, logw, valid)) > 1e-3


# threshold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["anchor", "slide"])
def test_threshold_gradient_sums_to_zero_per_anchor_and_spares_the_diagonal(norm):
    sim, logw, valid, _ = two_views(scans=6, ties=True)
    _, gradient = value_and_gradient(lambda s: threshold(s, logw, valid, norm=norm), sim)
    relative = gradient.sum(1) / gradient.abs().sum(1)
    torch.testing.assert_close(relative, torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-14)
    assert (gradient.diagonal() == 0).all()


def test_threshold_with_weights_of_zero_and_one_is_the_decoupled_sup_con():
    sim, _, valid, _ = two_views(scans=6)
    c = tile(torch.tensor([0, 1, 0, 2, 1, 0]), 2)
    expected = decoupled(sim, same(c, c) & valid, valid)
    torch.testing.assert_close(threshold(sim, categorical()(c, c)[1], valid), expected, rtol=0, atol=1e-13)


def test_threshold_with_the_delta_kernel_is_dcl():
    sim, _, valid, pos = two_views(scans=6)
    y = tile(ages(6), 2)
    torch.testing.assert_close(threshold(sim, delta()(y, y)[1], valid), decoupled(sim, pos, valid), rtol=0, atol=1e-13)


def test_threshold_is_zero_when_all_labels_are_equal():
    sim, _, valid, _ = two_views(scans=6)
    y = torch.full((12,), 40.0, dtype=torch.float64)
    for options in ({}, {"norm": "slide"}, {"variant": "isbi_code"}):
        value, gradient = value_and_gradient(lambda s, o=options: threshold(s, rbf(5.0)(y, y)[1], valid, **o), sim)
        assert value == 0
        assert (gradient == 0).all()


def test_only_the_order_of_labels_matters_for_the_denominators_of_threshold():
    sim, logw, valid, _ = two_views(scans=6)
    weight = softmax_over(logw, valid)
    mapped = logw * 3 - 1  # keeps the order, changes the weights

    def denominators(key):
        # the loss is sum_k W_k (den_k - s_k): with the weights of each call divided out, only den is left
        out = torch.zeros_like(sim.detach())
        for i in range(12):
            for k in range(12):
                less = valid[i] & (key[i] < key[i, k])
                if valid[i, k] and less.any():
                    out[i, k] = torch.logsumexp(sim.detach()[i, less], 0) - sim.detach()[i, k]
        return out

    torch.testing.assert_close(denominators(logw), denominators(mapped))
    expected = (weight * denominators(mapped)).sum(1).mean()
    torch.testing.assert_close(threshold(sim, logw, valid).detach(), expected)
    expected = (softmax_over(mapped, valid) * denominators(logw)).sum(1).mean()
    torch.testing.assert_close(threshold(sim, mapped, valid).detach(), expected)


def test_threshold_keeps_the_order_of_weights_that_underflow():
    sim, _, valid, _ = two_views(scans=10, views=1)
    y = ages(10)
    logw = rbf(0.05)(y, y)[1]
    assert (logw.exp()[valid] == 0).sum() > 80
    narrow = threshold(sim, logw, valid)
    nearest = logw.masked_fill(~valid, -math.inf).argmax(1)
    expected = [
        torch.logsumexp(sim[i][valid[i] & (logw[i] < logw[i, k])], 0) - sim[i, k] for i, k in enumerate(nearest)
    ]
    torch.testing.assert_close(narrow, torch.stack(expected).mean())


def test_isbi_threshold_equals_its_printed_denominator():
    sim, logw, valid, _ = two_views(scans=5)
    w = logw.exp()
    count = (w[:, None, :] < w[:, :, None]).sum(-1).T  # [i, t]: partners c of t with w_tc < w_ti
    den = ((count * valid) * sim.exp()).sum(1).log()
    weight = w * valid / (w * valid).sum(1, keepdim=True)
    expected = -(weight * (sim - den[:, None])).sum(1).mean()
    torch.testing.assert_close(threshold(sim, logw, valid, variant="isbi_code"), expected)


def test_isbi_threshold_refuses_a_rectangle_and_the_other_normaliser():
    sim, logw, valid, _ = rectangle()
    with pytest.raises(UserError, match="square"):
        threshold(sim, logw, valid, variant="isbi_code")
    sim, logw, valid, _ = two_views()
    with pytest.raises(UserError, match="norm"):
        threshold(sim, logw, valid, variant="isbi_code", norm="slide")


def test_missing_labels_make_threshold_and_exponential_the_decoupled_loss_of_that_row():
    sim, _, valid, pos = two_views(scans=5)
    y = tile(ages(5), 2)
    y[[1, 6]] = NAN
    logw, known, _ = label_weights({"age": rbf(8.0)}, {"age": y}, {"age": y}, pos | ~valid)
    for loss in (threshold, exponential):
        _, gradient = value_and_gradient(lambda s, f=loss: f(s, logw, valid & known) * 10, sim)
        row = torch.autograd.grad(decoupled(sim[[1]], pos[[1]], valid[[1]]), sim)[0]
        torch.testing.assert_close(gradient[1], row[1])
        others = [i for i in range(10) if i not in (1, 6)]
        assert (gradient[others][:, [1, 6]] > 0).all()  # the unlabelled scan is repelled by all labelled ones


def test_dropped_rows_are_no_anchor_and_no_candidate():
    sim, _, valid, pos = two_views(scans=5)
    y = tile(ages(5), 2)
    y[[1, 6]] = NAN
    logw, known, _ = label_weights({"age": rbf(8.0)}, {"age": y}, {"age": y}, pos | ~valid, "drop")
    keep = [i for i in range(10) if i not in (1, 6)]
    for loss in (y_aware, threshold, exponential):
        value, gradient = value_and_gradient(lambda s, f=loss: f(s, logw, valid & known), sim)
        alone = loss(*(x.detach()[keep][:, keep] for x in (sim, logw, valid)))
        torch.testing.assert_close(value, alone)
        assert (gradient[[1, 6]] == 0).all()
        assert (gradient[:, [1, 6]] == 0).all()


# exponential ----------------------------------------------------------------------------------------------


def test_exponential_with_the_delta_kernel_is_dcl():
    sim, _, valid, pos = two_views(scans=6)
    y = tile(ages(6), 2)
    torch.testing.assert_close(
        exponential(sim, delta()(y, y)[1], valid), decoupled(sim, pos, valid), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize(("variant", "extra"), [("slide", -1), ("include_k", 0)])
def test_exponential_with_weights_of_zero_and_one_counts_the_other_positives(variant, extra):
    sim, _, valid, _ = two_views(scans=6)
    c = tile(torch.tensor([0, 1, 0, 2, 1, 0]), 2)
    pos = same(c, c) & valid
    losses = []
    for i in range(12):
        p = pos[i].sum()
        den = (sim[i].exp() * (valid[i] & ~pos[i])).sum() + p + extra
        losses.append(-(sim[i][pos[i]] - den.log()).mean())
    value = exponential(sim, categorical()(c, c)[1], valid, variant=variant)
    torch.testing.assert_close(value, torch.stack(losses).mean(), rtol=0, atol=1e-12)


def test_exponential_never_repels_a_sample_of_weight_one():
    sim, _, valid, _ = two_views(scans=6)
    y = tile(torch.tensor([30.0, 30.0, 35.0, 50.0, 60.0, 70.0], dtype=torch.float64), 2)
    logw = rbf(5.0)(y, y)[1]
    _, gradient = value_and_gradient(lambda s: exponential(s, logw, valid) * 12, sim)
    weight = softmax_over(logw, valid)
    ones = (logw == 0) & valid
    torch.testing.assert_close(gradient[ones], -weight[ones])


def test_the_gradient_of_exponential_is_one_minus_w_times_the_softmax():
    sim, logw, valid, _ = two_views(scans=5)
    _, gradient = value_and_gradient(lambda s: exponential(s, logw, valid) * 10, sim)
    w, share = logw.exp(), softmax_over(logw, valid)
    a = (sim * (1 - w)).detach()
    expected = -share.clone()
    for i in range(10):
        for k in range(10):
            if valid[i, k]:
                others = valid[i].clone()
                others[k] = False
                soft = torch.softmax(a[i].masked_fill(~others, -math.inf), 0)
                expected[i] += share[i, k] * (1 - w[i]) * soft
    torch.testing.assert_close(gradient, expected)


def test_exponential_changes_under_a_shift_and_its_variants_differ():
    sim, logw, valid, _ = two_views(scans=6)
    slide, with_k, code = (exponential(sim, logw, valid, variant=v) for v in ("slide", "include_k", "isbi_code"))
    assert slide < with_k < code
    assert abs(exponential(sim + 1, logw, valid) - slide) > 0.05
    torch.testing.assert_close(exponential(sim + 1, logw, valid, variant="isbi_code"), code)


def test_isbi_exponential_is_the_slide_sum_on_shifted_similarities():
    sim, logw, valid, _ = two_views(scans=6, tau=0.1)
    expected = exponential(sim - 10.0, logw, valid, variant="include_k")
    torch.testing.assert_close(exponential(sim, logw, valid, variant="isbi_code"), expected, rtol=1e-12, atol=1e-12)


def test_exponential_in_float32_stays_exact_when_one_candidate_dominates():
    sim = torch.tensor([[60.0, 1.0, 0.5, -1.0]], requires_grad=True)
    logw = torch.tensor([[-3.0, -0.1, -1.0, -2.0]])
    valid = torch.ones(1, 4, dtype=torch.bool)
    value, gradient = value_and_gradient(exponential, sim, logw, valid)
    exact, exact_gradient = value_and_gradient(
        LOSSES["exponential"][1], sim.detach().double().requires_grad_(), logw.double(), valid
    )
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-5, atol=1e-6)
