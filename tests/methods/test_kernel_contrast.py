from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.losses import kernel
from medssl.methods.base import stack_views
from medssl.types import Batch
from tests.methods.bench import BATCH, SCANS, START, Bench, columns
from tests.oracles import contrastive_loops, kernel_loops

ROWS = list(range(BATCH))
NONE = -1e9
ORACLES = {
    ("y_aware", "slide"): kernel_loops.y_aware,
    ("threshold", "slide"): lambda s, w, v: kernel_loops.threshold(s, w, v, "anchor"),
    ("threshold", "isbi_code"): kernel_loops.threshold_isbi,
    ("exponential", "slide"): lambda s, w, v: kernel_loops.exponential(s, w, v, "slide"),
    ("exponential", "include_k"): lambda s, w, v: kernel_loops.exponential(s, w, v, "include_k"),
    ("exponential", "isbi_code"): lambda s, w, v: kernel_loops.exponential(s, w, v, "isbi_code"),
}


def rbf(age_B: Tensor, sigma: float = 5.0) -> Tensor:
    """Log-weights of all pairs of two views per scan, by loops; -1e9 where an age is missing."""
    ages = age_B.double().repeat(2).tolist()
    n, scans = len(ages), len(age_B)
    logw = torch.empty(n, n, dtype=torch.float64)
    for i in range(n):
        for t in range(n):
            known = not (math.isnan(ages[i]) or math.isnan(ages[t]))
            missing = 0.0 if i % scans == t % scans else NONE
            logw[i, t] = -((ages[i] - ages[t]) ** 2) / (2 * sigma**2) if known else missing
    return logw


def off_diagonal(n: int) -> Tensor:
    return ~torch.eye(n, dtype=torch.bool)


def loss_of(bench: Bench, batch: Batch) -> float:
    return float(bench.method.step(batch, START).losses["loss"].detach())


def similarity(bench: Bench, batch: Batch) -> Tensor:
    z = bench.method.project(stack_views(bench.encoder, batch.views)).detach().double()
    return z @ z.T / 0.1


def aged(batch: Batch, age_B: Tensor) -> Batch:
    return Batch(batch.views, batch.index, {**batch.meta, "age": age_B}, batch.target)


@pytest.mark.parametrize(("name", "variant"), list(ORACLES))
def test_the_loss_is_the_loop_over_its_own_z_and_the_tiled_ages(name: str, variant: str):
    changes: dict[str, Any] = {} if name == "y_aware" else {"variant": variant}
    bench = Bench(name, **changes)
    batch = bench.batch(ROWS)
    expected = ORACLES[name, variant](similarity(bench, batch), rbf(batch.meta["age"]), off_diagonal(2 * BATCH))
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", ["y_aware", "threshold", "exponential"])
def test_a_scan_without_age_attracts_only_itself(name: str):
    bench = Bench(name)
    age = bench.meta["age"][:BATCH].clone()
    age[[1, 4]] = float("nan")
    batch = aged(bench.batch(ROWS), age)
    oracle = ORACLES[name, "slide"]
    expected = oracle(similarity(bench, batch), rbf(age), off_diagonal(2 * BATCH))
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", ["y_aware", "threshold", "exponential"])
def test_the_drop_policy_leaves_scans_without_age_out(name: str):
    bench = Bench(name, missing="drop")
    age = bench.meta["age"][:BATCH].clone()
    age[[0, 6]] = float("nan")
    batch = aged(bench.batch(ROWS), age)
    known = ~age.isnan().repeat(2)
    valid = off_diagonal(2 * BATCH) & known[:, None] & known[None, :]
    expected = ORACLES[name, "slide"](similarity(bench, batch), rbf(age), valid)
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", ["y_aware", "threshold", "exponential"])
def test_without_any_age_or_with_a_delta_kernel_only_the_two_views_attract(name: str):
    """y-aware becomes NT-Xent, L_thr and L_exp the decoupled loss."""
    pos = torch.eye(BATCH, dtype=torch.bool).repeat(2, 2) & off_diagonal(2 * BATCH)
    oracle = contrastive_loops.nt_xent if name == "y_aware" else contrastive_loops.decoupled
    bench = Bench(name)
    batch = bench.batch(ROWS)
    expected = float(oracle(similarity(bench, batch), pos, off_diagonal(2 * BATCH)))
    assert loss_of(bench, aged(batch, torch.full((BATCH,), float("nan")))) == pytest.approx(expected, rel=1e-4)
    delta = Bench(name, kernels={"age": {"kernel": "delta"}})
    assert loss_of(delta, batch) == pytest.approx(expected, rel=1e-4)


def test_several_labels_multiply():
    bench = Bench("y_aware", kernels={"age": {"kernel": "rbf", "bandwidth": 5.0}, "sex": {}})
    batch = bench.batch(ROWS)
    sex = batch.meta["sex"].repeat(2)
    logw = torch.where(sex[:, None] == sex[None, :], rbf(batch.meta["age"]), NONE)
    expected = kernel_loops.y_aware(similarity(bench, batch), logw, off_diagonal(2 * BATCH))
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-4)
    assert bench.method.reads == ("age", "sex")


def test_all_ages_equal_leaves_the_threshold_loss_without_terms():
    bench = Bench("threshold")
    assert loss_of(bench, aged(bench.batch(ROWS), torch.full((BATCH,), 40.0))) == 0.0


def test_a_rule_of_thumb_bandwidth_comes_from_the_training_labels():
    bench = Bench("y_aware", kernels={"age": {"kernel": "rbf", "bandwidth": "scott"}})
    sigma = np.std(columns()["age"].numpy().astype(float), ddof=1) * SCANS ** (-1 / 5)
    batch = bench.batch(ROWS)
    expected = kernel_loops.y_aware(
        similarity(bench, batch), rbf(batch.meta["age"], float(sigma)), off_diagonal(2 * BATCH)
    )
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("y_aware", {"variant": "isbi_code"}, "y_aware has no variants"),
        ("threshold", {"variant": "include_k"}, "threshold has slide and isbi_code"),
        ("threshold", {"norm": "slide"}, "ratio_max"),
        ("threshold", {"norm": "slide", "variant": "isbi_code", "ratio_max": 9}, "leave method.norm at anchor"),
        ("exponential", {"kernels": {}}, "method.kernels is {}, but it must be a mapping such as {age"),
        (
            "exponential",
            {"kernels": {"agee": {"kernel": "rbf", "bandwidth": 1.0}}},
            "not have; did you mean 'age'",
        ),
        ("exponential", {"kernels": {"age": {"kernel": "rbff"}}}, "rbf"),
        ("exponential", {"kernels": {"age": {"kernel": "rbf", "bandwidth": -1.0}}}, "bandwidth|sigma"),
        ("exponential", {"loss": "y_aware"}, "fixed by the name"),
        ("threshold", {"variant": "isbi_code", "block": 4}, "remove block"),
        ("exponential", {"missing": "ignore"}, "'self' or 'drop'"),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, changes: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        Bench(name, **changes)


def test_effective_positives_are_logged_and_count_the_alike():
    bench = Bench("y_aware")
    batch = bench.batch(ROWS)
    alone = bench.method.step(aged(batch, 100.0 * torch.arange(BATCH)), START).log["effective_positives"]
    alike = bench.method.step(aged(batch, torch.full((BATCH,), 40.0)), START).log["effective_positives"]
    assert float(alone) == pytest.approx(1.0, abs=1e-4)
    assert float(alike) == pytest.approx(2 * BATCH - 1, rel=1e-4)


def test_the_threshold_loss_logs_the_share_that_it_drops():
    bench = Bench("threshold")
    batch = bench.batch(ROWS)
    alike = bench.method.step(aged(batch, torch.full((BATCH,), 40.0)), START).log["thr_dropped"]
    assert float(alike) == pytest.approx(1.0), "everybody is equally alike, so nobody is repelled"
    two = torch.tensor([40.0, 45.0]).repeat(BATCH // 2)  # w = 1 for the own age, e^-0.5 for the other
    other = BATCH * math.exp(-0.5)
    dropped = bench.method.step(aged(batch, two), START).log["thr_dropped"]
    assert float(dropped) == pytest.approx(other / (other + BATCH - 1), rel=1e-4)
    assert "thr_dropped" not in Bench("exponential").method.step(batch, START).log


@pytest.mark.parametrize(("name", "variant"), [key for key in ORACLES if key != ("threshold", "isbi_code")])
@pytest.mark.parametrize("missing", ["self", "drop"])
def test_blocks_of_anchors_change_neither_loss_nor_gradient_nor_what_is_logged(name: str, variant: str, missing: str):
    changes: dict[str, Any] = {"missing": missing} | ({} if name == "y_aware" else {"variant": variant})
    age = columns()["age"][:BATCH].clone()
    age[[0, 3]] = float("nan")
    found = []
    for block in (None, 1, 5, 2 * BATCH):
        bench = Bench(name, block=block, **changes)
        out = bench.method.step(aged(bench.batch(ROWS), age), START)
        out.losses["loss"].backward()
        gradient = torch.cat([p.grad.flatten() for p in bench.method.projector.parameters()])
        found.append((out.losses["loss"].detach(), *out.log.values(), gradient))
    for one in found[1:]:
        for ours, whole in zip(one, found[0], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-6)


def test_one_label_on_a_line_spares_the_threshold_loss_every_sort(monkeypatch: pytest.MonkeyPatch):
    bench = Bench("threshold", kernels={"age": {"kernel": "rbf", "bandwidth": 5.0}, "sex": {}})
    batch = bench.batch(ROWS)
    both = rbf(batch.meta["age"])
    sex = batch.meta["sex"].repeat(2)
    logw = torch.where(sex[:, None] == sex[None, :], both, NONE)
    expected = kernel_loops.threshold(similarity(bench, batch), logw, off_diagonal(2 * BATCH), "anchor")
    monkeypatch.setattr(kernel, "_sorted_rows", None)
    assert loss_of(bench, batch) == pytest.approx(float(expected), rel=1e-4)
    assert loss_of(Bench("threshold"), batch) > 0
