"""L_thr along the order of labels against the sort of every row and against the loop."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from medssl.kernels import box, categorical, cauchy, delta, product, rbf
from medssl.losses import kernel, line
from medssl.losses.kernel import threshold
from medssl.losses.pairs import cosine, label_order, label_weights, not_self, same, tile
from tests.oracles import kernel_loops as loops
from tests.oracles.batches import ages, embeddings, two_views
from tests.oracles.kernel_cases import value_and_gradient

NAN = float("nan")
KERNELS = {
    "rbf": rbf(5.0), "narrow": rbf(0.4), "rounded": rbf(5.0, resolution=2.0), "cauchy": cauchy(0.1), "box": box(6.0),
    "delta": delta(), "categorical": categorical(),
}  # fmt: skip
OPTIONS = (
    {}, {"norm": "slide"}, {"norm": "slide", "ratio_max": 2.0}, {"variant": "isbi_code"},
)  # fmt: skip
LABELS = ("all different", "many equal", "two values", "one value", "some missing", "nearly all missing", "few digits")


def labels(kind, scans, generator):
    y = 10 + 60 * torch.rand(scans, generator=generator, dtype=torch.float64)
    if kind in ("many equal", "some missing"):
        y = (y / 5).round() * 5
    if kind == "two values":
        y = (y > 40).double()
    if kind == "one value":
        y = torch.full_like(y, 33.0)
    if kind == "few digits":  # distances to both sides tie, or miss each other by rounding
        y = (y * 10).round() / 10
    if "missing" in kind:
        y[torch.rand(scans, generator=generator) < (0.3 if kind == "some missing" else 0.9)] = NAN
    return y


def batch(seed, kind, function, policy="self", scans=7, views=2, others=0):
    """Similarity, log-weights, valid pairs and the order of the candidates; `others` are rows of other processes."""
    generator = torch.Generator().manual_seed(seed)
    n = scans * views
    y_M = tile(labels(kind, scans, generator), views)
    y_M = torch.cat([y_M, labels(kind, others, generator)])
    person = torch.randint(0, scans, (scans,), generator=generator) if seed % 2 else torch.arange(scans)
    subject_M = torch.cat([tile(person, views), torch.arange(others) + 100])
    kernels, own = {"y": function}, {"y": y_M[:n]}
    logw, usable, _ = label_weights(kernels, own, {"y": y_M}, same(subject_M[:n], subject_M), policy)
    sim = 3 * torch.randn(n, n + others, generator=generator, dtype=torch.float64)
    valid = usable & not_self(n, n + others)
    if seed % 3 == 0:
        valid &= torch.rand(valid.shape, generator=generator) > 0.2
    return sim.requires_grad_(), logw, valid, label_order(kernels, {"y": y_M}, subject_M)


def agree(sim, logw, valid, order, **options):
    found = value_and_gradient(lambda s: threshold(s, logw, valid, order_M=order, **options), sim)
    expected = value_and_gradient(lambda s: threshold(s, logw, valid, **options), sim)
    for ours, sorted_row in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, sorted_row, rtol=1e-11, atol=1e-12)
    return found


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", KERNELS)
def test_it_is_the_sort_of_every_row_whatever_the_labels_are(name, kind):
    for seed in range(4):
        for policy in ("self", "drop"):
            for options in OPTIONS:
                others = 0 if "variant" in options else 5 * (seed // 2)
                agree(*batch(seed, kind, KERNELS[name], policy, others=others), **options)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", ["rbf", "box", "delta"])
def test_it_is_the_cubic_loop(name, kind):
    for seed in range(2):
        sim, logw, valid, order = batch(seed, kind, KERNELS[name], scans=5, others=2)
        for norm in ("anchor", "slide"):
            if norm == "slide" and (name != "rbf" or "missing" in kind):
                continue  # the printed normaliser is 0 there
            found = value_and_gradient(partial(threshold, norm=norm, order_M=order), sim, logw, valid)
            slow = loops.threshold(sim, logw, valid, norm)
            expected = slow.detach(), torch.autograd.grad(slow, sim)[0]
            scale = max(1.0, float(expected[1].abs().max()))
            torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(found[1] / scale, expected[1] / scale, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
def test_no_row_is_sorted_where_labels_are_known(name, monkeypatch):
    monkeypatch.setattr(kernel, "_sorted_rows", None)
    for seed in range(6):
        sim, logw, valid, order = batch(seed, LABELS[seed % 4], KERNELS[name], others=3)
        assert torch.isfinite(threshold(sim, logw, valid, order_M=order))


def visits():
    """One person has a scan with and one without age; both of these rows rise twice along the order."""
    y = torch.tensor([20.0, NAN, 30.0, NAN, 50.0, NAN], dtype=torch.float64)
    subject = torch.tensor([0, 1, 2, 3, 4, 4])
    kernels = {"y": rbf(15.0)}
    logw, _, _ = label_weights(kernels, {"y": y}, {"y": y}, same(subject, subject))
    sim = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return sim.requires_grad_(), logw, not_self(6, 6), label_order(kernels, {"y": y}, subject)


def test_only_the_rows_of_a_person_with_a_known_and_a_missing_label_are_sorted(monkeypatch):
    seen = []
    sort = kernel._sorted_rows
    monkeypatch.setattr(kernel, "_sorted_rows", lambda s, w, v, most: seen.append(len(s)) or sort(s, w, v, most))
    agree(*visits())
    assert seen == [2, 6]  # two beside the ordered ones; then all six for comparison


@pytest.mark.parametrize("options", OPTIONS[:3])
def test_gradcheck(options):
    sim, logw, valid, order = batch(1, "many equal", rbf(8.0), scans=3, others=2)
    assert torch.autograd.gradcheck(lambda s: threshold(s, logw, valid, order_M=order, **options), (sim,))


def test_gradients_of_a_mixture_of_sorted_and_ordered_rows_pass_gradcheck():
    sim, logw, valid, order = visits()
    assert line.line_rows(sim, logw, valid, order, None)[2].tolist() == [True, True, True, True, False, False]
    assert torch.autograd.gradcheck(lambda s: threshold(s, logw, valid, order_M=order), (sim,))


def test_a_wrong_order_changes_nothing():
    sim, logw, valid, _ = two_views(scans=8)
    agree(sim, logw, valid, torch.randperm(16, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("spread", [1.0, 30.0, 200.0, 2000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_similarities_may_lie_as_far_apart_as_they_like(spread, dtype):
    """Beyond 40 float32 sums in float64, beyond 300 the row is sorted."""
    exact, logw, valid, order = batch(2, "many equal", rbf(8.0), scans=12)
    sim = (exact.detach() * spread / 10).to(dtype).requires_grad_()
    for options in OPTIONS[:3]:
        value, gradient = value_and_gradient(lambda s, o=options: threshold(s, logw, valid, order_M=order, **o), sim)
        wide = sim.detach().double().requires_grad_()
        expected = value_and_gradient(lambda s, o=options: threshold(s, logw, valid, **o), wide)
        assert value.dtype == gradient.dtype == dtype
        digits = 1e-10 if dtype == torch.float64 else 2e-5 if spread < 1000 else 1e-3  # 1000 +- 1e-4 in float32
        tolerance = {"rtol": digits, "atol": digits}
        torch.testing.assert_close(value.double(), expected[0], **tolerance)
        scale = max(1.0, float(expected[1].abs().max()))
        torch.testing.assert_close(gradient.double() / scale, expected[1] / scale, **tolerance)


def test_float32_is_as_exact_as_the_sort_at_the_size_of_a_large_batch():
    y = tile(ages(256, dtype=torch.float32), 2)
    z = embeddings(512, 64, dtype=torch.float32)
    sim, logw, valid = cosine(z, z, 0.07).requires_grad_(), rbf(2.0)(y, y)[1], not_self(512, 512)
    ours = value_and_gradient(lambda s: threshold(s, logw, valid, order_M=y.argsort()), sim)
    wide = sim.detach().double().requires_grad_()
    exact = value_and_gradient(lambda s: threshold(s, logw.double(), valid), wide)
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-6, atol=0)
    scale = exact[1].abs().max()
    torch.testing.assert_close(ours[1].double() / scale, exact[1] / scale, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    sim, logw, valid, order = batch(5, "many equal", rbf(8.0))
    low = sim.detach().to(dtype).requires_grad_()
    value, gradient = value_and_gradient(lambda s: threshold(s, logw.float(), valid, order_M=order), low)
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    expected = threshold(low.detach().double(), logw, valid)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(threshold(low.detach(), logw.to(dtype), valid, order_M=order))


def test_log_weights_that_ask_for_gradient_are_sorted():
    sim, logw, valid, order = batch(2, "all different", rbf(8.0))
    logw = logw.clone().requires_grad_()
    found, expected = (torch.autograd.grad(threshold(sim, logw, valid, order_M=o), logw)[0] for o in (order, None))
    torch.testing.assert_close(found, expected)
    assert found.abs().sum() > 0


def test_permuting_rows_and_columns_changes_nothing():
    sim, logw, valid, order = batch(4, "many equal", rbf(8.0), others=4)
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.randperm(14, generator=generator), torch.randperm(18, generator=generator)
    moved = [x.detach()[rows][:, columns] for x in (sim, logw, valid)]
    found = threshold(*moved, order_M=columns.argsort()[order])
    torch.testing.assert_close(found, threshold(sim, logw, valid, order_M=order).detach(), rtol=1e-12, atol=0)


# the order ------------------------------------------------------------------------------------------------


def test_classes_times_a_number_have_an_order_and_two_numbers_have_none():
    generator = torch.Generator().manual_seed(0)
    age, sex = tile(labels("all different", 9, generator), 2), tile(torch.tensor([0, 1, 2] * 3), 2)
    subject = tile(torch.arange(9), 2)
    kernels, values = {"age": rbf(5.0), "sex": categorical()}, {"age": age, "sex": sex}
    order = label_order(kernels, values, subject)
    logw, usable, _ = label_weights(kernels, values, values, same(subject, subject))
    valid = usable & not_self(18, 18)
    sim = torch.randn(18, 18, generator=generator, dtype=torch.float64).requires_grad_()
    assert line.line_rows(sim, logw, valid, order, None)[2].all()
    agree(sim, logw, valid, order)
    assert label_order({"age": rbf(5.0), "sex": rbf(1.0)}, values, subject) is None
    columns = torch.stack([age, age], 1)
    assert label_order({"both": product([rbf(5.0), delta()])}, {"both": columns}, subject) is None


def test_missing_labels_stand_at_the_end_by_subject():
    y = torch.tensor([30.0, NAN, 20.0, NAN, NAN, 20.0])
    subject = torch.tensor([5, 7, 6, 2, 7, 1])
    assert label_order({"y": rbf(1.0)}, {"y": y}, subject).tolist() == [5, 2, 0, 3, 1, 4]


def test_counts_of_the_less_similar_are_those_of_the_loop():
    _, logw, valid, order = batch(0, "few digits", rbf(8.0), others=3)
    counts, fit = line.line_counts(logw, valid, order)
    assert fit.all()
    for i in range(len(logw)):
        for k in range(logw.shape[1]):
            less = [t for t in range(logw.shape[1]) if valid[i, t] and logw[i, t] < logw[i, k]]
            assert counts[i, k] == len(less)
    assert not math.isnan(float(counts.sum()))
