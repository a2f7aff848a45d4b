from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.errors import RecipeError
from medssl.methods.base import stack_views
from medssl.methods.contrastive.two_view import TwoView
from medssl.types import Batch, Facts, Progress
from tests.methods.bench import BATCH, START, Bench
from tests.oracles import contrastive_loops as loops

ROWS = list(range(BATCH))


def masks(scan_B: Tensor, subject_B: Tensor, relatives: str) -> tuple[Tensor, Tensor]:
    """Positives and valid pairs of two views per scan, by loops."""
    scan, subject = scan_B.repeat(2).tolist(), subject_B.repeat(2).tolist()
    n = len(scan)
    pos, valid = torch.zeros(n, n, dtype=torch.bool), torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        for t in range(n):
            own, person = scan[i] == scan[t], subject[i] == subject[t]
            valid[i, t] = i != t and (own or not person or relatives != "ignore")
            pos[i, t] = valid[i, t] and (own or (person and relatives == "positive"))
    return pos, valid


def with_subjects(batch: Batch, subjects: list[int]) -> Batch:
    return Batch(batch.views, batch.index, {**batch.meta, "subject": torch.tensor(subjects)}, batch.target)


@pytest.mark.parametrize("relatives", ["ignore", "positive", "negative"])
def test_the_loss_is_nt_xent_of_its_own_z(relatives):
    bench = Bench("simclr", relatives=relatives)
    batch = with_subjects(bench.batch(ROWS), [0, 1, 2, 0, 4, 5, 2, 7])
    loss = bench.method.step(batch, START).losses["loss"]
    z = bench.method.project(stack_views(bench.encoder, batch.views)).double()
    expected = loops.nt_xent(z @ z.T / 0.1, *masks(batch.index, batch.meta["subject"], relatives))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_perfect_positives_and_orthogonal_negatives_have_the_closed_form():
    bench = Bench("simclr")
    bench.method.project = lambda features: torch.eye(BATCH).repeat(2, 1).requires_grad_()
    out = bench.method.step(bench.batch(ROWS), START)
    expected = -10 + math.log(math.exp(10) + 2 * BATCH - 2)
    assert float(out.losses["loss"].detach()) == pytest.approx(expected, abs=1e-5)
    assert float(out.log["pair_accuracy"]) == 1.0


def test_equal_embeddings_cost_the_chance_level():
    bench = Bench("simclr")
    bench.method.project = lambda features: torch.ones(2 * BATCH, 4).requires_grad_()
    loss = float(bench.method.step(bench.batch(ROWS), START).losses["loss"].detach())
    assert loss == pytest.approx(math.log(2 * BATCH - 1), rel=1e-6)
    assert bench.method.chance == pytest.approx(loss, rel=1e-6)


def test_scans_of_one_person_do_not_repel_each_other():
    bench = Bench("simclr")
    batch = bench.batch(ROWS)
    alone = float(bench.method.step(batch, START).losses["loss"].detach())
    family = with_subjects(batch, [0] * BATCH)
    assert float(bench.method.step(family, START).losses["loss"].detach()) == pytest.approx(0.0, abs=1e-6)
    assert alone > 0.1


def test_a_batch_of_one_scan_is_refused_with_a_remedy():
    bench = Bench("simclr")
    with pytest.raises(RecipeError, match=r"data\.batch_size is 1"):
        TwoView(bench.encoder, Facts(4, torch.arange(4).numpy(), 1, (1, 8, 8, 8)))


def test_the_cohort_is_spread_once_before_the_first_step():
    bench = Bench("simclr")

    def spread() -> float:
        with torch.no_grad():
            z = bench.method.project(bench.encoder(bench.x))
        return float(z.std(0).mean()) * z.shape[1] ** 0.5

    before = spread()
    bench.start()
    assert spread() > max(0.5, 2 * before)
    kept = bench.method.projector.state_dict()["net.0.weight"].clone()
    bench.method.before_epoch(bench.embed, Progress(3, 9, 1, 3))
    assert torch.equal(bench.method.projector.state_dict()["net.0.weight"], kept)


@pytest.mark.parametrize("relatives", ["ignore", "positive", "negative"])
def test_blocks_of_anchors_change_neither_loss_nor_gradient_nor_what_is_logged(relatives):
    found = []
    for block in (None, 1, 5, 2 * BATCH):
        bench = Bench("simclr", relatives=relatives, block=block)
        out = bench.method.step(with_subjects(bench.batch(ROWS), [0, 1, 2, 0, 4, 5, 2, 7]), START)
        out.losses["loss"].backward()
        gradient = torch.cat([p.grad.flatten() for p in bench.method.projector.parameters()])
        found.append((out.losses["loss"].detach(), out.log["pair_accuracy"], gradient))
    for one in found[1:]:
        for ours, whole in zip(one, found[0], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-6)
