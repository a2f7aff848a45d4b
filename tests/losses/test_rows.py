"""Blocks of rows against the whole matrix: value, gradient, memory."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medssl.errors import UserError
from medssl.kernels import rbf
from medssl.losses import rows
from medssl.losses.contrastive import nearest_is_positive, nt_xent, nt_xent_rows, sup_con, sup_con_rows
from medssl.losses.kernel import (
    dropped_rows,
    effective_positives,
    effective_rows,
    exponential,
    exponential_rows,
    threshold,
    threshold_dropped,
    threshold_rows,
    y_aware,
    y_aware_rows,
)
from medssl.losses.pairs import cosine, label_order, labelled_pairs, tile, view_masks
from tests.oracles.batches import ages, embeddings, rectangle, two_views
from tests.oracles.kernel_cases import LOSSES, RECTANGULAR, value_and_gradient

NAN = float("nan")
TIGHT = {"rtol": 1e-12, "atol": 1e-13}
WEAK = {
    "y_aware": (y_aware, y_aware_rows),
    "threshold": (threshold, threshold_rows),
    "threshold_slide": tuple(partial(f, norm="slide", ratio_max=50.0) for f in (threshold, threshold_rows)),
    "exponential": (exponential, exponential_rows),
    "exponential_k": tuple(partial(f, variant="include_k") for f in (exponential, exponential_rows)),
    "exponential_isbi": tuple(partial(f, variant="isbi_code") for f in (exponential, exponential_rows)),
}
CLASSES = {
    "nt_xent": (nt_xent, nt_xent_rows),
    "sup_con": (sup_con, sup_con_rows),
    "sup_con_in": tuple(partial(f, mean="in") for f in (sup_con, sup_con_rows)),
}


class Batch:
    """Rows of this process, and candidates: they and rows of other processes."""

    def __init__(self, scans=9, others=0, dtype=torch.float64, ties=True, dim=6):
        n = 2 * scans
        self.z_N = (1.7 * embeddings(n, dim, dtype=dtype)).requires_grad_()
        self.z_O = embeddings(others, dim, seed=1, dtype=dtype).requires_grad_()
        self.subject_N = tile(torch.arange(scans) % (scans - 1), 2)
        self.subject_M = torch.cat([self.subject_N, torch.arange(others) + 50])
        self.class_N = tile(torch.arange(scans) % 3, 2)
        self.class_M = torch.cat([self.class_N, torch.arange(others) % 3])
        y_N = tile(ages(scans, ties=ties, dtype=dtype), 2)
        y_N[3] = NAN
        self.kernels = {"age": rbf(9.0)}
        self.labels_N = {"age": y_N}
        self.labels_M = {"age": torch.cat([y_N, ages(others, 5, ties, dtype)])}
        self.order_M = label_order(self.kernels, self.labels_M, self.subject_M)

    def candidates(self):
        return torch.cat([self.z_N, self.z_O])

    def pairs(self, name):
        if name in WEAK:
            both = self.subject_N, self.subject_M
            return labelled_pairs(self.kernels, self.labels_N, self.labels_M, *both)
        own = (self.subject_N, self.subject_M) if name == "nt_xent" else (self.class_N, self.class_M)
        return lambda part: view_masks(own[0][part], own[1], own[0][part], own[1], rows_N=part)

    def dense(self, name, **options):
        loss = (WEAK | CLASSES)[name][0]
        value = loss(
            cosine(self.z_N, self.candidates(), 0.3), *self.pairs(name)(torch.arange(len(self.z_N))), **options
        )
        return value.detach(), *torch.autograd.grad(value, (self.z_N, self.z_O))

    def blocks(self, name, block, **options):
        loss = partial((WEAK | CLASSES)[name][1], **options.pop("loss", {}))
        found = rows.blockwise(
            loss, self.z_N, self.candidates(), self.pairs(name), temperature=0.3, block=block, **options
        )
        return found[0].detach(), *torch.autograd.grad(found[0], (self.z_N, self.z_O))


def close(found, expected, **tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **(tolerance or TIGHT))


@pytest.mark.parametrize("others", [0, 5])
@pytest.mark.parametrize("name", [*WEAK, *CLASSES])
def test_blocks_of_any_size_give_the_loss_and_gradient_of_the_matrix(name, others):
    batch = Batch(others=others)
    expected = batch.dense(name)
    for block in (1, 5, 17, 18, 1000):
        close(batch.blocks(name, block), expected)


@pytest.mark.parametrize("name", ["threshold", "threshold_slide"])
def test_blocks_and_the_order_of_labels_go_together(name):
    batch = Batch(others=5)
    visit = label_order(batch.kernels, batch.labels_N, batch.subject_N)
    for block in (1, 4, 18):
        found = batch.blocks(name, block, loss={"order_M": batch.order_M}, visit_N=visit)
        close(found, batch.dense(name))


@pytest.mark.parametrize("name", [*WEAK, *CLASSES])
def test_blocks_by_themselves_begin_beyond_so_many_pairs(name, monkeypatch):
    batch = Batch(dtype=torch.float32)
    whole = batch.blocks(name, None)
    assert all(torch.equal(a, b) for a, b in zip(whole, batch.dense(name), strict=True))
    monkeypatch.setattr(rows, "WHOLE", 100)
    monkeypatch.setattr(rows, "_FEWEST", 2)
    monkeypatch.setattr(rows, "_BLOCK", {"cpu": 40})
    close(batch.blocks(name, None), whole, rtol=1e-5, atol=1e-5)


def test_anchors_that_count_are_counted_once_over_all_blocks():
    def some(sim_NM, *pairs_NM, only=4):
        return sim_NM.sum(1), torch.arange(len(sim_NM)) < only

    batch = Batch()
    for block in (5, 18):
        counting, count = rows.counting(some)
        rows.blockwise(
            partial(counting, only=2), batch.z_N, batch.candidates(), batch.pairs("nt_xent"), temperature=1, block=block
        )
        assert int(count()) == 2 * -(-18 // block)


def test_what_is_watched_is_its_mean_and_carries_no_gradient():
    batch = Batch()
    everybody = torch.arange(18)
    for block in (5, 18):
        _, (seen, again) = rows.blockwise(
            y_aware_rows, batch.z_N, batch.z_N, batch.pairs("y_aware"),
            temperature=0.3, block=block, also=(effective_rows, dropped_rows),
        )  # fmt: skip
        torch.testing.assert_close(seen, effective_positives(*batch.pairs("y_aware")(everybody)))
        torch.testing.assert_close(again, threshold_dropped(*batch.pairs("y_aware")(everybody)))
        assert not seen.requires_grad
    pos, valid = batch.pairs("nt_xent")(everybody)
    sim = cosine(batch.z_N, batch.z_N, 0.3).detach()
    best = [max((t for t in range(18) if valid[i, t]), key=lambda t, i=i: sim[i, t]) for i in range(18)]
    share = sum(bool(pos[i, t]) for i, t in enumerate(best)) / 18
    for block in (5, 18):
        _, (seen,) = rows.blockwise(
            nt_xent_rows, batch.z_N, batch.z_N, batch.pairs("nt_xent"),
            temperature=0.3, block=block, also=(nearest_is_positive,),
        )  # fmt: skip
        assert float(seen) == pytest.approx(share)


def test_gradcheck_of_blocks():
    batch = Batch(scans=3, ties=False)

    def loss(z):
        return rows.blockwise(y_aware_rows, z, z, batch.pairs("y_aware"), temperature=0.5, block=2)[0]

    assert torch.autograd.gradcheck(loss, (batch.z_N,))


@pytest.mark.parametrize("name", [*WEAK, *CLASSES])
def test_autocast_and_half_precision_are_computed_in_float32(name):
    batch = Batch(dtype=torch.float32)
    outside = batch.blocks(name, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = batch.blocks(name, 5)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))
    half = batch.z_N.detach().bfloat16().requires_grad_()
    value, _ = rows.blockwise((WEAK | CLASSES)[name][1], half, half, batch.pairs(name), temperature=0.3, block=5)
    value.backward()
    assert (value.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value.detach(), outside[0], rtol=0.05, atol=0.05)


def test_a_batch_without_any_anchor_is_zero_with_a_live_graph():
    z = embeddings(6).requires_grad_()

    def nobody(part):
        return torch.zeros(len(part), 6, dtype=torch.float64), torch.zeros(len(part), 6, dtype=torch.bool)

    for name in WEAK:
        value, _ = rows.blockwise(WEAK[name][1], z, z, nobody, temperature=0.3, block=2)
        assert value == 0
        assert (torch.autograd.grad(value, z)[0] == 0).all()


def test_without_gradient_none_is_computed():
    batch = Batch()
    with torch.no_grad():
        value, _ = rows.blockwise(y_aware_rows, batch.z_N, batch.z_N, batch.pairs("y_aware"), temperature=0.3, block=4)
    assert not value.requires_grad
    torch.testing.assert_close(value, Batch().dense("y_aware")[0], **TIGHT)


def test_a_block_of_nothing_is_refused():
    batch = Batch()
    with pytest.raises(UserError, match="block is 0"):
        batch.blocks("y_aware", 0)


def test_the_published_threshold_refuses_blocks():
    batch = Batch()
    with pytest.raises(UserError, match="square"):
        batch.blocks("threshold", 4, loss={"variant": "isbi_code"})


# a matrix in hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"), [(n, "two views") for n in sorted(LOSSES)] + [(n, "rectangle") for n in RECTANGULAR]
)
def test_a_large_matrix_is_taken_by_rows(name, shape, monkeypatch):
    sim, logw, valid, _ = two_views(scans=9, ties=True) if shape == "two views" else rectangle(7, 12)
    expected = value_and_gradient(LOSSES[name][0], sim, logw, valid)
    monkeypatch.setattr(rows, "WHOLE", 10)
    monkeypatch.setattr(rows, "_FEWEST", 2)
    monkeypatch.setattr(rows, "_BLOCK", {"cpu": 40})
    close(value_and_gradient(LOSSES[name][0], sim, logw, valid), expected)


def test_a_large_matrix_in_the_order_of_labels_is_taken_by_rows(monkeypatch):
    batch = Batch(others=5)
    sim = cosine(batch.z_N, batch.candidates(), 0.3).detach().requires_grad_()
    given = batch.pairs("threshold")(torch.arange(18))
    expected = value_and_gradient(threshold, sim, *given)
    monkeypatch.setattr(rows, "WHOLE", 10)
    monkeypatch.setattr(rows, "_FEWEST", 2)
    monkeypatch.setattr(rows, "_BLOCK", {"cpu": 100})
    close(value_and_gradient(partial(threshold, order_M=batch.order_M), sim, *given), expected)


# memory ---------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(out) if torch.is_tensor(x)]
        self.numbers = max([self.numbers, *sizes])
        return out


def largest(name, scans, block, **options):
    batch = Batch(scans=scans, dtype=torch.float32, ties=False)
    with Largest() as seen:
        batch.blocks(name, block, **options)
    return seen.numbers


@pytest.mark.parametrize("name", [*WEAK, *CLASSES])
def test_no_tensor_is_larger_than_a_block(name):
    n, block = 512, 16
    assert largest(name, n // 2, n) >= n * n
    assert largest(name, n // 2, block) <= block * (n + 1)


def test_no_tensor_is_larger_than_a_block_in_the_order_of_labels():
    batch = Batch(scans=256, dtype=torch.float32, ties=False)
    options = {"visit_N": label_order(batch.kernels, batch.labels_N, batch.subject_N)}
    assert largest("threshold", 256, 16, loss={"order_M": batch.order_M}, **options) <= 16 * 514


@pytest.mark.slow  # a billion pairs
@pytest.mark.parametrize("name", ["nt_xent", "threshold"])
def test_32768_rows_fit(name):
    scans = 16384
    batch = Batch(scans=scans, dtype=torch.float32, ties=False, dim=16)
    options = {"loss": {"order_M": batch.order_M}} if name == "threshold" else {}
    options["visit_N"] = label_order(batch.kernels, batch.labels_N, batch.subject_N)
    with Largest() as seen:
        value, gradient, _ = batch.blocks(name, None, **options)
    assert seen.numbers <= 2**22
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    few = torch.randperm(2 * scans, generator=torch.Generator().manual_seed(0))[:64]
    pairs = batch.pairs(name)(few)
    sim = cosine(batch.z_N[few], batch.candidates(), 0.3).detach()
    exact = (WEAK | CLASSES)[name][0](sim.double(), *pairs)  # 64 anchors stand for all
    assert float(value) == pytest.approx(float(exact), rel=0.1)
