from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.kernels import rbf
from medssl.losses.fair import fair_kl
from medssl.losses.pairs import cosine, same
from tests.oracles import fair_loops as loops
from tests.oracles.batches import ages, embeddings

FORMS = ({"form": "kl"}, {"form": "moments"}, {"form": "moments", "kappa": 3.0}, {"form": "kl", "eps": 0.01})


def batch(rows=9, sites=3, weighted=True, seed=0, dtype=torch.float64):
    """Cosines that ask for gradient, class weights, same site, each pair once."""
    z = embeddings(rows, seed=seed, dtype=dtype)
    y = ages(rows, seed, dtype=dtype)
    w = rbf(20.0)(y, y)[1].exp() if weighted else same(y > 40, y > 40).to(dtype)
    site = torch.arange(rows) % sites
    return cosine(z, z, 1.0).requires_grad_(), w, same(site, site), torch.ones(rows, rows).triu(1).bool()


def value_and_gradient(loss, sim, *rest, **options):
    value = loss(sim, *rest, **options)
    return value.detach(), torch.autograd.grad(value, sim)[0]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_the_loops(options, weighted, seed):
    sim, w, site, valid = batch(weighted=weighted, seed=seed)
    valid = valid & (torch.rand(valid.shape, generator=torch.Generator().manual_seed(seed)) > 0.2)
    for ours, expected in zip(
        value_and_gradient(fair_kl, sim, w, site, valid, **options),
        value_and_gradient(loops.fair_kl, sim, w, site, valid, **options),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("options", FORMS)
def test_gradcheck(options):
    sim, w, site, valid = batch(rows=6, sites=2)
    free = sim.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: fair_kl(s, w, site, valid, **options), (free,))


def pairs(same_site, other_site):
    """Positives only, one row: similarities of pairs of one site and of two sites."""
    sim = torch.tensor([same_site + other_site], dtype=torch.float64)
    one = torch.ones_like(sim)
    site = torch.tensor([[True] * len(same_site) + [False] * len(other_site)])
    return sim, one, site, one.bool()


def test_equal_moments_cost_nothing():
    for options in FORMS:
        assert float(fair_kl(*pairs([0.1, 0.5], [0.5, 0.1, 0.1, 0.5]), **options)) == pytest.approx(0.0, abs=1e-12)


def test_where_only_means_differ_it_is_the_squared_difference_over_twice_the_variance():
    args = pairs([0.1, 0.3], [0.5, 0.7])
    variance = 0.01 + 1e-4
    assert float(fair_kl(*args)) == pytest.approx(0.4**2 / (2 * variance), rel=1e-9)
    assert float(fair_kl(*args, form="moments")) == pytest.approx(0.16, rel=1e-9)


def test_the_divergence_is_that_of_two_normal_distributions():
    one, other = (
        torch.distributions.Normal(0.2, math.sqrt(0.01 + 1e-4)),
        torch.distributions.Normal(0.5, math.sqrt(0.04 + 1e-4)),
    )
    expected = torch.distributions.kl_divergence(one, other)
    assert float(fair_kl(*pairs([0.1, 0.3], [0.3, 0.7]))) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("options", FORMS)
def test_it_is_never_negative_and_names_of_sites_do_not_matter(options):
    for seed in range(8):
        sim, w, _, valid = batch(seed=seed)
        sim = sim.detach()
        site = torch.randint(0, 3, (9,), generator=torch.Generator().manual_seed(seed))
        found = [fair_kl(sim, w, same(s, s), valid, **options) for s in (site, (site + 1) % 3)]
        assert float(found[0]) == float(found[1]) >= 0


@pytest.mark.parametrize("options", FORMS)
def test_one_site_no_pairs_and_tiny_groups_give_zero_with_a_live_graph(options):
    sim, w, site, valid = batch()
    only_one = torch.zeros_like(valid)
    only_one[0, 1] = only_one[0, 3] = True  # one pair between sites, one within
    for same_site, used in ((torch.ones_like(site), valid), (torch.zeros_like(site), valid),
                            (site, torch.zeros_like(valid)), (site, only_one)):  # fmt: skip
        value, gradient = value_and_gradient(fair_kl, sim, w, same_site, used, **options)
        assert float(value) == 0
        assert float(gradient.abs().sum()) == 0


def test_equal_similarities_have_a_finite_gradient():
    sim, w, site, valid = batch()
    flat = torch.ones_like(sim).requires_grad_()
    for options in FORMS:
        value, gradient = value_and_gradient(fair_kl, flat, w, site, valid, **options)
        assert float(value) == pytest.approx(0.0, abs=1e-12)
        assert torch.isfinite(gradient).all()


def test_invalid_pairs_receive_no_gradient_and_may_hold_anything():
    sim, w, site, valid = batch()
    value, gradient = value_and_gradient(fair_kl, sim, w, site, valid)
    assert float(gradient[~valid].abs().sum()) == 0
    broken = torch.where(valid, sim.detach(), torch.nan).requires_grad_()
    again, slope = value_and_gradient(fair_kl, broken, w, site, valid)
    assert float(again) == float(value)
    assert torch.isfinite(slope).all()


def test_half_precision_is_computed_in_single():
    sim, w, site, valid = batch(dtype=torch.float32)
    half = fair_kl(sim.bfloat16(), w.bfloat16(), site, valid)
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(fair_kl(sim, w, site, valid).detach()), rel=0.2, abs=0.02)


def test_permuting_rows_changes_nothing():
    z, y, site = embeddings(8), ages(8), torch.arange(8) % 2
    order = torch.tensor([3, 1, 7, 0, 6, 2, 5, 4])
    once = torch.ones(8, 8).triu(1).bool()

    def loss(p):
        return fair_kl(cosine(z[p], z[p], 1.0), rbf(9.0)(y[p], y[p])[1].exp(), same(site[p], site[p]), once)

    assert float(loss(order)) == pytest.approx(float(loss(torch.arange(8))), rel=1e-10)


def test_a_step_along_the_gradient_brings_the_groups_together():
    sim, one, site, valid = pairs([0.6, 0.8], [0.1, 0.3])
    sim.requires_grad_()
    for options in FORMS:
        gradient = torch.autograd.grad(fair_kl(sim, one, site, valid, **options), sim)[0]
        assert gradient[site].mean() > 0 > gradient[~site].mean()


def test_what_is_no_form_or_mask_is_named():
    sim, w, site, valid = batch()
    with pytest.raises(UserError, match="form is 'jensen'; it is kl or moments"):
        fair_kl(sim, w, site, valid, form="jensen")
    with pytest.raises(UserError, match="must be boolean"):
        fair_kl(sim, w, site.float(), valid)
