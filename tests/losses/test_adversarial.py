from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.adversarial import (
    ali_critic,
    ali_encoder_generator,
    bigbigan_critic,
    bigbigan_encoder_generator,
)


def logits(seed=0, n=7):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))


def test_the_losses_are_the_logarithms_of_the_algorithm():
    q, p = logits()
    rho_q, rho_p = (torch.sigmoid(x).tolist() for x in (q, p))
    critic = -sum(math.log(r) for r in rho_q) / 7 - sum(math.log(1 - r) for r in rho_p) / 7
    player = -sum(math.log(1 - r) for r in rho_q) / 7 - sum(math.log(r) for r in rho_p) / 7
    assert ali_critic(q, p).item() == pytest.approx(critic, abs=1e-12)
    assert ali_encoder_generator(q, p).item() == pytest.approx(player, abs=1e-12)
    assert torch.autograd.gradcheck(ali_critic, (q, p))
    assert torch.autograd.gradcheck(ali_encoder_generator, (q, p))


def test_an_undecided_critic_costs_two_log_two_for_both_players():
    zero = torch.zeros(5)
    assert ali_critic(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert ali_encoder_generator(zero, zero).item() == pytest.approx(2 * math.log(2))


def test_swapping_the_labels_swaps_the_players():
    q, p = logits()
    assert ali_critic(p, q) == ali_encoder_generator(q, p)
    total = ali_critic(q, p) + ali_encoder_generator(q, p)
    torch.testing.assert_close(total, ali_critic(p, q) + ali_encoder_generator(p, q))


def test_for_equal_joint_distributions_an_undecided_critic_is_optimal():
    same = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(ali_critic(same, same), same)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    for shift in (-0.5, 0.5):
        moved = torch.full((6,), shift, dtype=torch.float64)
        assert ali_critic(moved, moved) > ali_critic(same, same)


def test_extreme_logits_stay_finite_in_half_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        q = torch.tensor([-300.0, 300.0], dtype=dtype, requires_grad=True)
        for loss in (ali_critic, ali_encoder_generator):
            value = loss(q, -q)
            gradient = torch.autograd.grad(value, q)[0]
            assert value.dtype == torch.float32
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()


def test_hinge_scores_of_zero_cost_two_per_score_and_nothing_for_the_players():
    zero = [torch.zeros(4)] * 3
    assert bigbigan_critic(zero, zero).item() == 6
    assert bigbigan_encoder_generator(zero, zero).item() == 0


def test_hinge_margins_that_are_met_cost_nothing_and_have_no_gradient():
    q = [torch.full((4,), 1.5, requires_grad=True) for _ in range(3)]
    p = [torch.full((4,), -1.5, requires_grad=True) for _ in range(3)]
    value = bigbigan_critic(q, p)
    assert value == 0
    assert all((g == 0).all() for g in torch.autograd.grad(value, q + p))


def test_the_joint_score_alone_is_the_hinge_bigan():
    q, p = logits()
    expected = sum(max(0.0, 1 - s.item()) for s in q) / 7 + sum(max(0.0, 1 + s.item()) for s in p) / 7
    assert bigbigan_critic([q], [p]).item() == pytest.approx(expected)
    torch.testing.assert_close(bigbigan_encoder_generator([q], [p]), q.mean() - p.mean())


def test_a_critic_must_score_both_pairs():
    with pytest.raises(UserError, match="same scores"):
        bigbigan_critic([torch.zeros(2)], [])
