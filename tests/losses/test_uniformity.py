from __future__ import annotations

import pytest
import torch

from medssl.errors import UserError
from medssl.kernels import rbf
from medssl.losses.pairs import same, tile
from medssl.losses.uniformity import alignment, uniformity
from tests.oracles import fair_loops as loops
from tests.oracles.batches import ages, embeddings


def squares(z):
    return (2 - 2 * z @ z.T).clamp(min=0)


def setting(scans=4):
    z = embeddings(2 * scans)
    scan = tile(torch.arange(scans), 2)
    y = tile(ages(scans), 2)
    return z, same(scan, scan).double(), rbf(15.0)(y, y)[1].exp(), torch.ones(len(z), len(z)).triu(1).bool()


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment_and_its_gradient_equal_the_loops(alpha, conditional):
    z, own, kernel, once = setting()
    w = kernel if conditional else own
    free = z.clone().requires_grad_()
    value = alignment(squares(free), w, once, alpha=alpha)
    slow = free.detach().clone().requires_grad_()
    expected = loops.alignment(slow, w, alpha)
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-10)
    on_sphere = [g - (g * z).sum(1, keepdim=True) * z for g in (torch.autograd.grad(value, free)[0],
                                                                torch.autograd.grad(expected, slow)[0])]  # fmt: skip
    torch.testing.assert_close(*on_sphere, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("t", [1.0, 2.0])
def test_uniformity_equals_the_loops(t, conditional):
    z, own, kernel, once = setting()
    w = kernel if conditional else 0 * own
    expected = loops.uniformity(z, w, t)
    assert float(uniformity(squares(z), w, once, t=t)) == pytest.approx(float(expected), rel=1e-10)


def test_gradcheck():
    z, own, kernel, once = setting(3)
    sq = squares(z).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: alignment(s, own, once, alpha=1.5), (sq,))
    assert torch.autograd.gradcheck(lambda s: uniformity(s, kernel, once), (sq,))


def test_limits_of_the_papers():
    one = torch.ones(1, 1)
    assert float(alignment(0 * one, one, one.bool())) == 0
    assert float(uniformity(0 * one, 0 * one, one.bool())) == 0
    assert float(uniformity(4 * one, 0 * one, one.bool(), t=2.0)) == -8
    z, own, _, once = setting()
    labels = own
    without = uniformity(squares(z), labels, once)
    assert float(without) == pytest.approx(float(uniformity(squares(z), 0 * own, once & ~own.bool())), rel=1e-10)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_equal_rows_and_empty_batches_give_zero_with_a_finite_gradient(alpha):
    sq = torch.zeros(3, 3, requires_grad=True)
    once, one = torch.ones(3, 3).triu(1).bool(), torch.ones(3, 3)
    never = torch.zeros_like(once)
    values = [alignment(sq, one, once, alpha=alpha), alignment(sq, one, never, alpha=alpha),
              alignment(sq, 0 * one, once), uniformity(sq, one, once), uniformity(sq, 0 * one, never)]  # fmt: skip
    for value in values:
        assert float(value.detach()) == 0
        assert torch.isfinite(torch.autograd.grad(value, sq, retain_graph=True)[0]).all()


def test_half_precision_is_computed_in_single():
    z, own, kernel, once = (x.float() if x.is_floating_point() else x for x in setting())
    for loss, w in ((alignment, own), (uniformity, kernel)):
        half = loss(squares(z).bfloat16(), w.bfloat16(), once)
        assert half.dtype == torch.float32
        assert float(half) == pytest.approx(float(loss(squares(z), w, once)), rel=0.05)


def test_a_power_that_is_not_positive_is_named():
    z, own, _, once = setting()
    with pytest.raises(UserError, match="alpha is 0"):
        alignment(squares(z), own, once, alpha=0)
