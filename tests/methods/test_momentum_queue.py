from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.types import Batch, Progress, Step
from tests.methods.bench import BATCH, SCANS, START, Bench

ROWS = list(range(BATCH))


def keys_of(bench: Bench, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        encoder, projector = bench.method.teacher.module.children()
        return F.normalize(projector(encoder(x).pooled), dim=1).double()


def run(bench: Bench, steps: int) -> list[Step]:
    """Real steps with SGD in between; the steps' results."""
    outs = []
    for step in range(steps):
        at = Progress(step, 9, 0, 3)
        batch = bench.batch([(step * BATCH + i) % SCANS for i in range(BATCH)])
        out = bench.method.step(batch, at)
        bench.method.zero_grad(set_to_none=True)
        out.losses["loss"].backward()
        with torch.no_grad():
            for p in bench.method.players()["loss"]:
                p -= 0.05 * p.grad
        bench.method.after_step(out, batch, at)
        outs.append(out)
    return outs


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_loss_is_infonce_of_each_query_against_its_key_and_the_queue(symmetric):
    bench = Bench("moco", symmetric=symmetric, queue=11)
    run(bench, 2)
    batch = bench.batch([16, 17, 18, 19, 20, 21, 22, 23])
    loss = float(bench.method.step(batch, START).losses["loss"].detach())
    queue, ids = bench.method.queue.keys.double(), bench.method.queue.ids
    pairs = [(0, 1), (1, 0)] if symmetric else [(0, 1)]
    total = 0.0
    for query_view, key_view in pairs:
        q = bench.method.project(bench.encoder(batch.views[query_view])).detach().double()
        k = keys_of(bench, batch.views[key_view])
        for i in range(BATCH):
            own = math.exp(float(q[i] @ k[i]) / 0.2)
            others = [
                math.exp(float(q[i] @ queue[j]) / 0.2)
                for j in range(11)
                if int(ids[j]) != int(batch.meta["subject"][i])
            ]
            total -= math.log(own / (own + sum(others))) / BATCH / len(pairs)
    assert loss == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("size", [20, 8, 5])
def test_the_queue_holds_the_last_keys_in_order_with_their_subjects(size):
    bench = Bench("moco", queue=size)
    pushed = torch.cat([out.carry["keys"] for out in run(bench, 4)])
    queue = bench.method.queue
    order = queue.order()
    assert len(queue) == size
    assert torch.equal(queue.keys[order], pushed[-size:])
    people = torch.tensor([i % SCANS for i in range(4 * BATCH)])[-size:]
    assert torch.equal(queue.ids[order], people)
    assert int(queue.pointer) == 4 * BATCH % size


def test_the_teacher_is_the_hand_computed_average():
    bench = Bench("moco", momentum=0.9)
    online = torch.nn.ModuleList([bench.encoder, bench.method.projector])
    slow = [p.detach().clone().double() for p in online.parameters()]
    for _ in range(3):
        run(bench, 1)
        slow = [0.9 * s + 0.1 * p.detach().double() for s, p in zip(slow, online.parameters(), strict=True)]
    for expected, p in zip(slow, bench.method.teacher.module.parameters(), strict=True):
        assert torch.allclose(p.double(), expected, atol=1e-6)


def test_the_key_encoder_and_the_queue_receive_no_gradient():
    bench = Bench("moco")
    out = bench.method.step(bench.batch(ROWS), START)
    out.losses["loss"].backward()
    assert all(p.grad is None for p in bench.method.teacher.parameters())
    assert not bench.method.queue.keys.requires_grad
    assert not out.carry["keys"].requires_grad


def test_keys_of_the_same_person_are_left_out():
    bench = Bench("moco", queue=6, symmetric=False)
    batch = bench.batch(ROWS)
    meta = {**batch.meta, "subject": torch.full((BATCH,), 3)}
    bench.method.queue.ids.fill_(3)
    same = Batch(batch.views, batch.index, meta, batch.target)
    assert float(bench.method.step(same, START).losses["loss"].detach()) == pytest.approx(0.0, abs=1e-6)
    bench.method.queue.ids.fill_(4)
    assert float(bench.method.step(same, START).losses["loss"].detach()) > 0.1


def test_the_default_queue_fits_the_cohort_and_an_empty_one_is_refused():
    assert len(Bench("moco").method.queue) == SCANS - BATCH
    with pytest.raises(UserError, match=r"method.queue is 0"):
        Bench("moco", queue=0)


def test_the_step_counts_the_age_of_keys_and_the_distance_of_the_teacher():
    bench = Bench("moco", queue=16)
    start = copy.deepcopy(bench.method.teacher.module)
    outs = run(bench, 3)
    assert [float(o.log["queue_age"]) for o in outs] == [0.0, 1.0, 1.5]
    assert [float(o.log["queue_filled"]) for o in outs] == [0.0, 0.5, 1.0]
    assert float(outs[0].log["teacher_distance"]) == 0.0
    assert float(outs[2].log["teacher_distance"]) > 0
    moved = zip(start.parameters(), bench.method.teacher.module.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


def test_queries_and_keys_start_spread_and_equal():
    bench = Bench("moco")
    bench.start()
    embedded = bench.method.project(bench.encoder(bench.x)).detach()
    assert (embedded @ embedded.T).mean() < 0.5
    assert bench.method.teacher.distance(bench.method._online()) == 0
