from __future__ import annotations

import math

import pytest
import torch

from medssl.errors import UserError
from medssl.kernels import box, build_kernel, rbf
from medssl.losses.kernel import (
    effective_positives,
    exponential,
    threshold,
    threshold_dropped,
    y_aware,
)
from medssl.losses.pairs import cosine, label_weights, not_self, same, tile
from tests.oracles import kernel_loops as loops
from tests.oracles.batches import ages, embeddings, rectangle, two_views
from tests.oracles.kernel_cases import LOSSES, RECTANGULAR, value_and_gradient

NAN = float("nan")


def agree(name, sim, logw, valid):
    fast, slow = LOSSES[name]
    value, gradient = value_and_gradient(fast, sim, logw, valid)
    expected, expected_gradient = value_and_gradient(slow, sim, logw, valid)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    scale = max(1.0, expected_gradient.abs().max().item())
    torch.testing.assert_close(gradient / scale, expected_gradient / scale, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_gradient_equal_the_loops_on_two_views(name, ties, seed):
    sim, logw, valid, _ = two_views(scans=5, ties=ties, seed=seed)
    agree(name, sim, logw, valid)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", RECTANGULAR)
def test_value_and_gradient_equal_the_loops_on_a_rectangle_with_invalid_pairs(name, ties):
    sim, logw, valid, _ = rectangle(ties=ties)
    agree(name, sim, logw, valid)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"threshold_slide"}))
def test_value_and_gradient_equal_the_loops_with_weights_of_zero(name):
    y = tile(torch.tensor([10.0, 10.0, 11.0, 40.0], dtype=torch.float64), 2)
    sim, _, valid, _ = two_views(scans=4)
    agree(name, sim, box(2.0)(y, y)[1], valid)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradcheck(name):
    sim, logw, valid, _ = two_views(scans=3, ties=False)
    free = sim.detach().clone().requires_grad_()
    if name == "exponential_isbi":  # the row maximum, here the diagonal, carries no gradient by definition
        off = valid.to(free.dtype)
        assert torch.autograd.gradcheck(lambda s: LOSSES[name][0](s * off + 2 * (1 - off), logw, valid), (free,))
    else:
        assert torch.autograd.gradcheck(lambda s: LOSSES[name][0](s, logw, valid), (free,))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_permuting_the_rows_and_columns_together_changes_nothing(name):
    sim, logw, valid, _ = two_views(scans=6, ties=True)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    permuted = [x.detach()[order][:, order] for x in (sim, logw, valid)]
    torch.testing.assert_close(LOSSES[name][0](*permuted), LOSSES[name][0](sim, logw, valid).detach())


@pytest.mark.parametrize("name", RECTANGULAR)
def test_permuting_anchors_and_candidates_separately_changes_nothing(name):
    sim, logw, valid, _ = rectangle()
    rows, columns = torch.tensor([2, 0, 3, 1]), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    permuted = [x.detach()[rows][:, columns] for x in (sim, logw, valid)]
    torch.testing.assert_close(LOSSES[name][0](*permuted), LOSSES[name][0](sim, logw, valid).detach())


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_float32(name, dtype):
    sim, logw, valid, _ = two_views(scans=5, ties=True)
    low = sim.detach().to(dtype).requires_grad_()
    value, gradient = value_and_gradient(LOSSES[name][0], low, logw, valid)
    wide = LOSSES[name][0](low.detach().float(), logw, valid)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(value, wide, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(LOSSES[name][0](low.detach(), logw.to(dtype), valid))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_autocast_changes_nothing(name):
    sim, logw, valid, _ = two_views(scans=5, dtype=torch.float32)
    outside = value_and_gradient(LOSSES[name][0], sim, logw, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value_and_gradient(LOSSES[name][0], sim, logw, valid)
    assert torch.equal(outside[0], inside[0])
    assert torch.equal(outside[1], inside[1])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_result_has_the_precision_of_the_similarity(name):
    sim, logw, valid, _ = two_views(scans=5)
    assert LOSSES[name][0](sim, logw.float(), valid).dtype == torch.float64
    low = LOSSES[name][0](sim.detach().float(), logw, valid)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), LOSSES[name][0](sim, logw, valid).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"threshold_slide"}))
def test_float32_is_finite_at_sigma_one(name):
    y = tile(ages(64, dtype=torch.float32), 2)
    z = embeddings(128, 32, dtype=torch.float32)
    sim = cosine(z, z, 0.1).requires_grad_()
    logw = rbf(1.0)(y, y)[1]
    value, gradient = value_and_gradient(LOSSES[name][0], sim, logw, not_self(128, 128))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    exact = LOSSES[name][0](sim.detach().double(), logw.double(), not_self(128, 128))
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_slide_normaliser_saturates_instead_of_overflowing():
    sim, _, valid, _ = two_views(scans=32, tau=0.1)
    y = tile(ages(32), 2)
    logw = rbf(0.5)(y, y)[1]
    low = sim.detach().float().requires_grad_()
    value, gradient = value_and_gradient(LOSSES["threshold_slide"][0], low, logw.float(), valid)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    clamped = threshold(sim, logw, valid, norm="slide", ratio_max=3.0)
    assert abs(clamped) < abs(threshold(sim, logw, valid, norm="slide"))


def degenerate_batches():
    one = tile(torch.tensor([30.0]), 2)
    equal = tile(torch.full((4,), 30.0), 2)
    missing = tile(torch.full((4,), NAN), 2)
    for name, y, scans, policy in (
        ("one scan", one, 1, "self"),
        ("all labels equal", equal, 4, "self"),
        ("all labels missing, self", missing, 4, "self"),
        ("all labels missing, drop", missing, 4, "drop"),
    ):
        scan = tile(torch.arange(scans), 2)
        logw, known, _ = label_weights({"age": rbf(5.0)}, {"age": y}, {"age": y}, same(scan, scan), policy)
        yield name, logw, known & not_self(len(y), len(y))
    none = torch.zeros(6, 6)
    yield "nothing valid", none, none.bool()
    some = not_self(6, 6)
    some[2] = False
    some[:, 3] = False
    yield "a row without a valid pair", none - torch.rand(6, 6), some
    yield "single candidate", torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    yield "no weight anywhere", torch.full((6, 6), -math.inf), not_self(6, 6)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("batch", list(degenerate_batches()), ids=lambda b: b[0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_batches_give_finite_losses_and_gradients(name, batch, dtype):
    _, logw, valid = batch
    z = embeddings(len(valid), 8, dtype=dtype).requires_grad_()
    value = LOSSES[name][0](cosine(z, z, 0.1), logw.to(dtype), valid)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()
    if not valid.any():
        assert value == 0
        assert (z.grad == 0).all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_row_without_usable_terms_does_not_dilute_the_mean(name):
    sim, logw, valid, _ = two_views(scans=5)
    dead = valid.clone()
    dead[3], dead[:, 3] = False, False
    keep = [0, 1, 2, 4, 5, 6, 7, 8, 9]
    small = [x[keep][:, keep] for x in (sim.detach(), logw, valid)]
    if name == "exponential_isbi":
        small[0] = torch.cat([small[0], sim.detach()[keep][:, [3]]], 1)
        small[1] = torch.cat([small[1], logw[keep][:, [3]]], 1)
        small[2] = torch.cat([small[2], torch.zeros(9, 1, dtype=torch.bool)], 1)
    torch.testing.assert_close(LOSSES[name][0](sim, logw, dead).detach(), LOSSES[name][0](*small))


@pytest.mark.parametrize(
    ("method", "loss"),
    [
        ("yaware", LOSSES["y_aware"]),
        ("threshold", LOSSES["threshold_isbi"]),
        ("expw", LOSSES["exponential_isbi"]),
    ],
)
def test_the_published_isbi_code_is_reproduced(method, loss):
    scans, sigma, tau = 6, 8.0, 0.1
    z, y = embeddings(2 * scans), ages(scans)
    published = loops.published_code(
        z.reshape(2, scans, -1).transpose(0, 1),
        y,
        lambda c: torch.exp(-((c - c.T) ** 2) / (2 * sigma**2)),
        method,
        tau,
    )
    rows = tile(y, 2)
    ours = loss[0](cosine(z, z, tau), rbf(sigma)(rows, rows)[1], not_self(12, 12))
    torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "loss"), [("yaware", "y_aware"), ("threshold", "threshold_isbi"), ("expw", "exponential_isbi")]
)
def test_the_published_gaussian_kernel_gives_the_published_losses(method, loss):
    scans, sigma, tau = 6, 1.0, 0.1
    z, y = embeddings(2 * scans), torch.tensor([20.0, 20.5, 21.0, 22.0, 24.0, 27.0], dtype=torch.float64)
    published = loops.published_code(
        z.reshape(2, scans, -1).transpose(0, 1),
        y,
        lambda c: torch.exp(-((c - c.T) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma),
        method,
        tau,
    )
    rows, sim, valid = tile(y, 2), cosine(z, z, tau), not_self(12, 12)
    ours, of_rbf = (LOSSES[loss][0](sim, build_kernel(k, sigma)(rows, rows)[1], valid) for k in ("gaussian", "rbf"))
    torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-12)
    assert bool((of_rbf - published).abs() > 0.5) == (method == "expw"), "only L_exp sees the factor"


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_dtype_decides_nothing(name, dtype):
    sim, logw, valid, _ = two_views(scans=5)
    sim, logw = sim.detach().to(dtype), logw.to(dtype)
    plain = LOSSES[name][0](sim, logw, valid)
    torch.set_default_dtype(torch.float64)
    try:
        value = LOSSES[name][0](sim, logw, valid)
    finally:
        torch.set_default_dtype(torch.float32)
    assert value.dtype == dtype
    assert torch.equal(value, plain)


# diagnostics and messages ---------------------------------------------------------------------------------


def test_effective_positives_counts_uniform_weights():
    logw = torch.tensor([[0.0, 0.0, 0.0, -1e9], [0.0, -1e9, -1e9, -1e9], [-1e9] * 4])
    valid = torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(effective_positives(logw, valid), torch.tensor(2.0))


def test_threshold_dropped_is_the_weight_of_the_least_similar_group():
    _, logw, valid, _ = two_views(scans=5, ties=True)
    shares = []
    for i in range(10):
        w = {t: math.exp(logw[i, t]) for t in range(10) if valid[i, t]}
        shares.append(sum(v for t, v in w.items() if logw[i, t] == min(logw[i, u] for u in w)) / sum(w.values()))
    assert threshold_dropped(logw, valid).item() == pytest.approx(sum(shares) / 10)


def test_unknown_options_and_shapes_are_named():
    sim, logw, valid, _ = two_views()
    with pytest.raises(UserError, match="'middle'"):
        threshold(sim, logw, valid, norm="middle")
    with pytest.raises(UserError, match="ratio_max is -1"):
        threshold(sim, logw, valid, norm="slide", ratio_max=-1.0)
    with pytest.raises(UserError, match="'paper'"):
        exponential(sim, logw, valid, variant="paper")
    with pytest.raises(UserError, match="logw has shape"):
        y_aware(sim, logw[:3], valid)
    with pytest.raises(UserError, match="boolean"):
        y_aware(sim, logw, valid.float())
