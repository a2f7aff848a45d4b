from __future__ import annotations

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.redundancy import covariance, variance
from tests.oracles import fair_loops as loops

TERMS = {"variance": (variance, loops.variance), "covariance": (covariance, loops.covariance)}


def rows(n=6, d=4, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("name", sorted(TERMS))
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_value_and_gradient_equal_the_loops(name, scale):
    fast, slow = TERMS[name]
    found = []
    for loss in (fast, slow):
        z = (scale * rows()).requires_grad_()
        value = loss(z)
        found.append((value.detach(), torch.autograd.grad(value, z)[0]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_gradcheck(name):
    assert torch.autograd.gradcheck(TERMS[name][0], ((0.3 * rows(4, 3)).requires_grad_(),))


def test_a_constant_embedding_costs_the_hinge_and_a_whitened_one_nothing():
    assert float(variance(torch.ones(5, 3))) == pytest.approx(0.99)
    centred = rows(20, 3) - rows(20, 3).mean(0)
    white = torch.linalg.qr(centred)[0] * 20**0.5
    assert float(variance(white)) == 0
    assert float(covariance(white)) == pytest.approx(0.0, abs=1e-20)
    assert float(covariance(torch.ones(5, 3))) == 0


def test_both_ignore_a_shift_and_covariance_grows_with_the_fourth_power():
    z = rows()
    for loss in (variance, covariance):
        assert float(loss(z + 7)) == pytest.approx(float(loss(z)), rel=1e-9)
    assert float(covariance(2 * z)) == pytest.approx(16 * float(covariance(z)), rel=1e-9)


def test_half_precision_is_computed_in_single():
    z = rows(dtype=torch.float32)
    for loss in (variance, covariance):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = loss(z.bfloat16())
        assert half.dtype == torch.float32
        assert float(half) == pytest.approx(float(loss(z)), rel=0.1, abs=0.01)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_one_row_has_no_spread(name):
    with pytest.raises(UserError, match=r"z has shape \(1, 4\)"):
        TERMS[name][0](rows(1))
