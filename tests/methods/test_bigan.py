from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medssl.types import Batch
from tests.methods.bench import BATCH, SHAPE, START, Bench

ROWS = list(range(BATCH))


class Scores(nn.Module):
    """A critic with a fixed answer to real pairs (those with the true scan) and to made ones."""

    def __init__(self, real_scan: torch.Tensor, real: float, made: float) -> None:
        super().__init__()
        self.real_scan, self.real, self.made = real_scan, nn.Parameter(torch.tensor(real)), made

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        if torch.equal(x, self.real_scan):
            return self.real.expand(len(x))
        return self.real.new_full((len(x),), self.made)


def with_scores(real: float, made: float) -> tuple[Bench, Batch]:
    bench = Bench("bigan")
    batch = bench.batch(ROWS)
    bench.method.critic = Scores(batch.views[0], real, made)
    return bench, batch


def test_an_undecided_critic_costs_both_players_two_log_two():
    bench, batch = with_scores(0.0, 0.0)
    losses = bench.method.step(batch, START).losses
    assert float(losses["critic"].detach()) == pytest.approx(2 * math.log(2), rel=1e-6)
    assert float(losses["encoder"].detach()) == pytest.approx(2 * math.log(2), rel=1e-6)


def test_the_losses_are_those_of_the_logits_and_mirror_each_other():
    bench, batch = with_scores(1.5, -0.7)
    losses = bench.method.step(batch, START).losses
    real, made = torch.tensor(1.5, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    assert float(losses["critic"].detach()) == pytest.approx(float(F.softplus(-real) + F.softplus(made)))
    assert float(losses["encoder"].detach()) == pytest.approx(float(F.softplus(real) + F.softplus(-made)))
    swapped, same = with_scores(-0.7, 1.5)
    assert float(swapped.method.step(same, START).losses["critic"].detach()) == pytest.approx(
        float(losses["encoder"].detach())
    )


def test_the_accuracy_of_the_critic_is_logged():
    for real, made, right in ((2.0, -2.0, 1.0), (-2.0, 2.0, 0.0), (2.0, 2.0, 0.5)):
        bench, batch = with_scores(real, made)
        assert float(bench.method.step(batch, START).log["critic_accuracy"]) == right


def test_the_generator_makes_scans_from_the_drawn_codes_only():
    bench = Bench("bigan")
    batch = bench.batch(ROWS)
    made = bench.method.generator(batch.target["latent"])
    assert made.shape == (BATCH, *SHAPE)
    first = bench.method.step(batch, START)
    again = bench.method.step(batch, START)
    assert torch.equal(first.losses["encoder"], again.losses["encoder"]), "a step draws nothing itself"
    other = Batch(batch.views, batch.index, batch.meta, {"latent": batch.target["latent"] + 1})
    assert not torch.equal(bench.method.step(other, START).losses["encoder"], first.losses["encoder"])


def test_the_players_share_no_parameter_and_cover_all():
    method = Bench("bigan").method
    encoder, critic = ({id(p) for p in method.players()[k]} for k in ("encoder", "critic"))
    assert not encoder & critic
    assert encoder | critic == {id(p) for p in method.parameters()}
    assert critic == {id(p) for p in method.critic.parameters()}


def test_the_critic_learns_again_after_a_step_that_froze_it():
    bench = Bench("bigan")
    bench.method.step(bench.batch(ROWS), START)
    assert all(p.requires_grad for p in bench.method.critic.parameters())


def test_the_projection_is_the_raw_code_of_the_game():
    bench = Bench("bigan", latent=5)
    x = torch.randn(3, *SHAPE)
    features = bench.encoder(x)
    assert torch.equal(bench.method.project(features), bench.method.projector(features.pooled))
    assert bench.method.wants == {"latent": (5,)}
