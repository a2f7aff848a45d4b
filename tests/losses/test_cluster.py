from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.cluster import pseudo_label_loss, sinkhorn


def scores(n=12, k=4, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_loss_is_the_mean_negative_log_probability_of_the_known_labels():
    logits, labels = scores().requires_grad_(), torch.tensor([0, 1, 2, 3, -1, -1, 0, 1, 2, 3, 0, -1])
    slow, count = 0.0, 0
    for i, label in enumerate(labels.tolist()):
        if label >= 0:
            slow, count = slow - torch.log(logits[i, label].exp() / logits[i].exp().sum()), count + 1
    value = pseudo_label_loss(logits, labels)
    torch.testing.assert_close(value, slow / count, rtol=1e-12, atol=1e-12)
    assert (torch.autograd.grad(value, logits)[0][labels == -1] == 0).all()


def test_zero_logits_cost_log_k_and_no_label_at_all_costs_nothing():
    assert pseudo_label_loss(torch.zeros(5, 8), torch.arange(5)).item() == pytest.approx(math.log(8))
    logits = torch.randn(4, 8, requires_grad=True)
    value = pseudo_label_loss(logits, torch.full((4,), -1))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    assert pseudo_label_loss(scores().to(dtype), torch.zeros(12, dtype=torch.int64)).dtype == torch.float32
    assert sinkhorn(scores().to(dtype)).dtype == torch.float32


def test_rows_of_sinkhorn_sum_to_one_and_prototypes_are_used_equally_in_the_end():
    q = sinkhorn(scores(), epsilon=0.3, iterations=3)
    torch.testing.assert_close(q.sum(1), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-14)
    q = sinkhorn(scores(), epsilon=0.3, iterations=500)
    torch.testing.assert_close(q.sum(0), torch.full((4,), 3.0, dtype=torch.float64), rtol=0, atol=1e-10)


def test_sinkhorn_equals_the_alternating_normalisation_of_the_exponentials():
    q = (scores() / 0.5).exp()
    for _ in range(3):
        q = q / q.sum(0, keepdim=True) * 12 / 4
        q = q / q.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(scores(), epsilon=0.5), q, rtol=1e-12, atol=1e-12)


def test_equal_scores_give_equal_shares_and_small_epsilon_gives_one_hot():
    torch.testing.assert_close(sinkhorn(torch.ones(6, 3)), torch.full((6, 3), 1 / 3))
    sharp = sinkhorn(scores(), epsilon=1e-4, iterations=2000)
    assert (sharp.max(1).values > 0.99).all()
    assert sharp.argmax(1).bincount(minlength=4).tolist() == [3, 3, 3, 3]


def test_huge_scores_do_not_overflow_and_no_gradient_flows():
    free = scores(scale=1e4, dtype=torch.float32).requires_grad_()
    q = sinkhorn(free)
    assert torch.isfinite(q).all()
    assert not q.requires_grad


def test_tolerance_stops_when_the_prototypes_are_balanced():
    balanced = sinkhorn(scores(), epsilon=0.3, iterations=1000, tolerance=1e-3)
    assert ((balanced.sum(0) / 3 - 1).abs() < 1e-3).all()
    assert not torch.equal(balanced, sinkhorn(scores(), epsilon=0.3, iterations=1000))


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="epsilon"):
        sinkhorn(scores(), epsilon=0.0)
