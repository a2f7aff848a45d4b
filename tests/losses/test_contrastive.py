from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.losses.contrastive import (
    dcl_weights,
    decoupled,
    eps_sup_con,
    eps_sup_info_nce,
    nt_xent,
    sup_con,
    weighted_nt_xent,
)
from medssl.losses.pairs import cosine, not_self, same, tile, view_masks
from tests.oracles import contrastive_loops as loops
from tests.oracles.batches import embeddings, rectangle, two_views

LOSSES = {
    "nt_xent": (nt_xent, loops.nt_xent),
    "sup_con_out": (sup_con, loops.nt_xent),
    "sup_con_in": (lambda s, p, v: sup_con(s, p, v, mean="in"), loops.sup_con_in),
    "decoupled": (decoupled, loops.decoupled),
    "eps_sup_info_nce": (
        lambda s, p, v: eps_sup_info_nce(s, p, v, eps=0.25),
        lambda s, p, v: loops.eps_sup_info_nce(s, p, v, 0.25),
    ),
    "eps_sup_con": (
        lambda s, p, v: eps_sup_con(s, p, v, eps=0.5),
        lambda s, p, v: loops.eps_sup_con(s, p, v, 0.5),
    ),
}


def classes(scans=6, views=2):
    c = tile(torch.arange(scans) % 3, views)
    return same(c, c) & not_self(len(c), len(c))


def value_and_gradient(loss, sim, *rest):
    value = loss(sim, *rest)
    return value.detach(), torch.autograd.grad(value, sim)[0]


def agree(name, sim, pos, valid):
    fast, slow = LOSSES[name]
    for ours, expected in zip(
        value_and_gradient(fast, sim, pos, valid), value_and_gradient(slow, sim, pos, valid), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_gradient_equal_the_loops_for_views_of_a_scan(name, views):
    sim, _, valid, pos = two_views(scans=4, views=views, tau=0.2)
    agree(name, sim, pos, valid)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_gradient_equal_the_loops_for_classes(name):
    sim, _, valid, _ = two_views(scans=6, tau=0.2)
    agree(name, sim, classes(), valid)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_gradient_equal_the_loops_on_a_rectangle_with_invalid_pairs(name):
    sim, _, valid, pos = rectangle(rows=5, columns=11)
    agree(name, sim, pos, valid)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradcheck(name):
    sim, _, valid, _ = two_views(scans=4)
    free = sim.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: LOSSES[name][0](s, classes(4), valid), (free,))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_permuting_scans_anchors_or_candidates_changes_nothing(name):
    sim, _, valid, _ = two_views(scans=6)
    rows, columns = (torch.randperm(12, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    permuted = [x.detach()[rows][:, columns] for x in (sim, classes(), valid)]
    torch.testing.assert_close(LOSSES[name][0](*permuted), LOSSES[name][0](sim, classes(), valid).detach())


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_float32(name, dtype):
    sim, _, valid, _ = two_views(scans=6, tau=0.1)
    low = sim.detach().to(dtype).requires_grad_()
    value, gradient = value_and_gradient(LOSSES[name][0], low, classes(), valid)
    assert value.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(value, LOSSES[name][0](low.detach().float(), classes(), valid))


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("case", ["one scan", "no positive", "nothing valid", "only positives", "a dead row"])
def test_degenerate_batches_give_finite_losses_and_gradients(name, case):
    scans = 1 if case == "one scan" else 4
    z = embeddings(2 * scans, dtype=torch.float32).requires_grad_()
    scan = tile(torch.arange(scans), 2)
    pos, valid = view_masks(scan, scan, scan, scan)
    if case == "no positive":
        pos = torch.zeros_like(pos)
    if case == "nothing valid":
        valid = torch.zeros_like(valid)
    if case == "only positives":
        pos = valid
    if case == "a dead row":
        valid[2] = False
    value = LOSSES[name][0](cosine(z, z, 0.1), pos, valid)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    if case in ("no positive", "nothing valid"):
        assert value == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_similarities_of_a_thousand_do_not_overflow(name):
    sim, _, valid, pos = two_views(scans=4, tau=0.001, dtype=torch.float32)
    value, gradient = value_and_gradient(LOSSES[name][0], sim, pos, valid)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


# NT-Xent --------------------------------------------------------------------------------------------------


def test_nt_xent_of_perfect_positives_and_orthogonal_negatives_has_its_closed_form():
    scans, tau = 5, 0.1
    z = torch.eye(scans, dtype=torch.float64).repeat(2, 1)
    _, _, valid, pos = two_views(scans=scans)
    expected = -1 / tau + math.log(math.exp(1 / tau) + 2 * scans - 2)
    assert nt_xent(cosine(z, z, tau), pos, valid).item() == pytest.approx(expected, abs=1e-13)


def test_nt_xent_of_equal_rows_is_log_of_the_candidates():
    _, _, valid, pos = two_views(scans=5)
    z = torch.ones(10, 3, dtype=torch.float64)
    assert nt_xent(cosine(z, z, 0.1), pos, valid).item() == pytest.approx(math.log(9), abs=1e-13)


def test_nt_xent_is_the_cross_entropy_of_the_other_view():
    sim, _, valid, pos = two_views(scans=5)
    logits = sim.masked_fill(~valid, -math.inf)
    expected = torch.nn.functional.cross_entropy(logits, tile(torch.arange(5), 2) + torch.tensor([5] * 5 + [0] * 5))
    torch.testing.assert_close(nt_xent(sim, pos, valid), expected)


def test_scans_of_the_same_person_never_repel_each_other():
    z = embeddings(8)
    scan, subject = tile(torch.arange(4), 2), tile(torch.tensor([0, 0, 1, 2]), 2)
    for relatives in ("positive", "ignore"):
        pos, valid = view_masks(scan, scan, subject, subject, relatives=relatives)
        sim = cosine(z, z, 0.5).requires_grad_()
        gradient = torch.autograd.grad(nt_xent(sim, pos, valid), sim)[0]
        relative = same(subject, subject) & ~same(scan, scan)
        if relatives == "ignore":
            assert (gradient[relative] == 0).all()
        else:
            assert pos[relative].all()
    _, valid = view_masks(scan, scan, subject, subject, relatives="negative")
    assert valid[relative].all()


# SupCon ---------------------------------------------------------------------------------------------------


def test_sup_con_with_unique_labels_and_two_views_is_nt_xent():
    sim, _, valid, pos = two_views(scans=6)
    for mean in ("out", "in"):
        torch.testing.assert_close(sup_con(sim, pos, valid, mean=mean), nt_xent(sim, pos, valid), rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_sup_con_in_is_at_most_sup_con_out(seed):
    sim, _, valid, _ = two_views(scans=6, seed=seed, tau=0.1)
    assert sup_con(sim, classes(), valid, mean="in") < sup_con(sim, classes(), valid)


def test_sup_con_of_one_class_and_equal_rows_is_log_of_the_candidates():
    z = torch.ones(8, 3, dtype=torch.float64)
    valid = not_self(8, 8)
    for mean in ("out", "in"):
        assert sup_con(cosine(z, z, 0.1), valid, valid, mean=mean).item() == pytest.approx(math.log(7), abs=1e-13)


# decoupled and epsilon ------------------------------------------------------------------------------------


def test_decoupled_is_the_limit_of_the_epsilon_losses():
    sim, _, valid, pos = two_views(scans=6)
    expected = decoupled(sim, pos, valid)
    for loss in (eps_sup_info_nce, eps_sup_con):
        torch.testing.assert_close(loss(sim, pos, valid, eps=1e3), expected, rtol=0, atol=1e-13)
    many = classes()
    torch.testing.assert_close(
        eps_sup_info_nce(sim, many, valid, eps=1e3),
        eps_sup_con(sim, many, valid, eps=1e3),
        rtol=0,
        atol=1e-13,
    )


def test_the_gradient_of_decoupled_at_the_positive_is_minus_one_whatever_its_similarity():
    sim, _, valid, pos = two_views(scans=6)
    for shift in (0.0, 5.0, -5.0):
        moved = (sim + shift * pos).detach().requires_grad_()
        _, gradient = value_and_gradient(lambda s: decoupled(s, pos, valid) * 12, moved)
        torch.testing.assert_close(gradient[pos], -torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-13)
    assert decoupled(moved + 20 * pos, pos, valid) < 0


def test_dcl_weights_sum_to_the_batch_and_are_one_for_equal_similarities():
    cos = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = dcl_weights(cos)
    assert weights.sum().item() == pytest.approx(7, abs=1e-12)
    assert weights.grad_fn is not None
    torch.testing.assert_close(dcl_weights(torch.full((4,), 0.3)), torch.ones(4))
    assert dcl_weights(torch.tensor([1.0, 0.0]))[0] < 1


def test_weighted_decoupled_scales_the_positive_term_only():
    sim, _, valid, pos = two_views(scans=4)
    attraction = tile(torch.tensor([0.5, 1.0, 1.5, 1.0], dtype=torch.float64), 2)
    negatives = valid & ~pos
    lse = torch.logsumexp(sim.masked_fill(~negatives, -math.inf), 1)
    expected = (lse - attraction * sim[pos]).mean()
    torch.testing.assert_close(decoupled(sim, pos, valid, attraction_N=attraction), expected)
    ones = torch.ones(8, dtype=torch.float64)
    torch.testing.assert_close(decoupled(sim, pos, valid, attraction_N=ones), decoupled(sim, pos, valid))


def test_epsilon_zero_gives_nt_xent_and_sup_con():
    sim, _, valid, pos = two_views(scans=6)
    torch.testing.assert_close(eps_sup_info_nce(sim, pos, valid, eps=0.0), nt_xent(sim, pos, valid))
    torch.testing.assert_close(eps_sup_con(sim, classes(), valid, eps=0.0), sup_con(sim, classes(), valid))


def test_epsilon_losses_fall_with_epsilon_and_their_positive_gradient_is_minus_one_plus_q():
    sim, _, valid, pos = two_views(scans=6)
    values = [eps_sup_info_nce(sim, pos, valid, eps=e).item() for e in (0.0, 0.1, 0.5, 2.0)]
    assert values == sorted(values, reverse=True)
    _, gradient = value_and_gradient(lambda s: eps_sup_info_nce(s, pos, valid, eps=0.3) * 12, sim)
    own = (sim[pos] - 0.3).exp()
    q = own / (own + (sim.exp() * (valid & ~pos)).sum(1))
    torch.testing.assert_close(gradient[pos], q - 1)


def test_in_eps_sup_info_nce_positives_do_not_compete():
    sim, _, valid, _ = two_views(scans=6)
    pos = classes()
    moved = sim.detach().clone()
    first = pos.float().argmax(1)
    moved[torch.arange(12), first] += 3.0
    change = eps_sup_info_nce(moved, pos, valid, eps=0.1) - eps_sup_info_nce(sim, pos, valid, eps=0.1)
    neg = torch.logsumexp(sim.masked_fill(pos | ~valid, -math.inf), 1)
    own = sim[torch.arange(12), first]
    alone = (torch.logaddexp(neg, own + 2.9) - own - 3) - (torch.logaddexp(neg, own - 0.1) - own)
    torch.testing.assert_close(change, (alone / pos.sum(1)).mean())


# core and messages ----------------------------------------------------------------------------------------


def test_the_core_is_the_mean_over_anchors_of_the_weighted_sum():
    sim = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    weight = torch.tensor([[0.5, 0.5], [1.0, 9.0], [9.0, 9.0]])
    usable = torch.tensor([[True, True], [True, False], [False, False]])
    value = weighted_nt_xent(sim, weight, torch.tensor([[2.0], [5.0], [0.0]]), usable)
    assert value.item() == pytest.approx((0.5 * (1 + 0) + 1.0 * 2) / 2)


def test_wrong_shapes_types_and_options_are_named():
    sim, _, valid, pos = two_views()
    with pytest.raises(UserError, match="pos has shape"):
        nt_xent(sim, pos[:2], valid)
    with pytest.raises(UserError, match="boolean"):
        nt_xent(sim, pos.float(), valid)
    with pytest.raises(UserError, match="'middle'"):
        sup_con(sim, pos, valid, mean="middle")
