from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from medssl.training.optim import LARS, build_optimizer, lr_factor, parameter_groups
from medssl.training.options import Optimisation


def moved(optimizer_of, p: nn.Parameter, gradients: list[torch.Tensor]) -> torch.Tensor:
    optimizer = optimizer_of([p])
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
    return p.detach().clone()


def gradients(*shape: int, steps: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for _ in range(steps)]


def test_lars_follows_the_printed_formula():
    p = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
    expected, velocity = p.detach().double(), torch.zeros(2, 3, dtype=torch.float64)
    for g in gradients(2, 3):
        full = g.double() + 0.1 * expected
        ratio = 1e-3 * expected.norm() / full.norm()
        velocity = 0.9 * velocity + ratio * full
        expected = expected - 0.5 * velocity
    got = moved(lambda ps: LARS(ps, lr=0.5, weight_decay=0.1), p, gradients(2, 3))
    assert torch.allclose(got.double(), expected, atol=1e-7)


def test_lars_is_sgd_with_momentum_for_one_dimensional_parameters():
    start = torch.linspace(-1, 1, 5)
    ours = moved(lambda ps: LARS(ps, lr=0.1, weight_decay=0.3), nn.Parameter(start.clone()), gradients(5))
    theirs = moved(lambda ps: SGD(ps, lr=0.1, momentum=0.9), nn.Parameter(start.clone()), gradients(5))
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_lars_without_weight_decay_does_not_see_the_scale_of_the_gradient():
    start = torch.linspace(-1, 1, 6).reshape(3, 2)
    small, large = (
        moved(lambda ps: LARS(ps, lr=0.5), nn.Parameter(start.clone()), [k * g for g in gradients(3, 2)])
        for k in (1.0, 1000.0)
    )
    assert torch.allclose(small, large, rtol=1e-5)
    assert not torch.equal(small, start)


def test_lars_survives_a_zero_gradient_and_zero_weights():
    still = moved(lambda ps: LARS(ps, lr=0.5), nn.Parameter(torch.ones(2, 2)), [torch.zeros(2, 2)])
    assert torch.equal(still, torch.ones(2, 2))
    from_zero = moved(lambda ps: LARS(ps, lr=0.5), nn.Parameter(torch.zeros(2, 2)), [torch.ones(2, 2)])
    assert torch.equal(from_zero, torch.full((2, 2), -0.5)), "where a norm is 0 the ratio is 1"


def test_lars_leaves_parameters_without_gradient_alone_and_resumes_from_its_state():
    p, idle = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([p, idle], lr=0.1)
    first, second = gradients(2, 2, steps=2)
    p.grad = first
    optimizer.step()
    twin = nn.Parameter(p.detach().clone())
    other = LARS([twin, nn.Parameter(torch.ones(2, 2))], lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    p.grad, twin.grad = second, second.clone()
    optimizer.step(), other.step()
    assert torch.equal(p, twin)
    assert torch.equal(idle, torch.ones(2, 2))
    assert idle not in optimizer.state


def test_weight_decay_is_for_matrices_and_kernels_only():
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 2))
    decayed, plain = parameter_groups(net.parameters(), 0.25)
    assert {p.ndim for p in decayed["params"]} == {5, 2}
    assert {p.ndim for p in plain["params"]} == {1}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(list(net.parameters()))
    assert len(parameter_groups([net[0].weight], 0.25)) == 1


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lars"])
def test_no_optimiser_shrinks_a_norm_or_bias(name: str):
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    options = Optimisation(name=name, weight_decay=0.5)
    optimizer = build_optimizer(options, [matrix, bias], 0.1)
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(bias, torch.ones(2))
    assert (matrix < 1).all()


def test_the_options_arrive_in_the_optimiser():
    p = [nn.Parameter(torch.ones(2, 2))]
    kinds = {"adamw": AdamW, "adam": Adam, "sgd": SGD, "lars": LARS}
    for name, kind in kinds.items():
        optimizer = build_optimizer(Optimisation(name=name, betas=(0.5, 0.9), momentum=0.7), p, 0.3)
        assert type(optimizer) is kind
        group = optimizer.param_groups[0]
        assert group["lr"] == 0.3
        assert group.get("betas", (0.5, 0.9)) == (0.5, 0.9)
        assert group.get("momentum", 0.7) == 0.7


def factors(steps: int = 100, per_epoch: int = 10, **options: object) -> list[float]:
    optim = Optimisation(lr=0.1, **options)
    return [lr_factor(optim, step, steps, per_epoch) for step in range(steps + 1)]


def test_cosine_starts_at_one_and_ends_at_the_final_rate():
    f = factors(final_lr=0.01)
    assert f[0] == 1.0
    assert f[50] == pytest.approx(0.1 + 0.9 * 0.5)
    assert f[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(f))


def test_warm_up_rises_linearly_from_above_zero_to_the_full_rate():
    f = factors(warmup=2.0)
    assert f[0] == pytest.approx(1 / 21)
    assert f[10] == pytest.approx(11 / 21)
    assert f[20] == 1.0
    assert f[100] == pytest.approx(0.0, abs=1e-12)
    assert max(f) == 1.0


def test_onecycle_rises_for_a_third_unless_told_otherwise_and_ends_at_the_final_rate():
    f = factors(schedule="onecycle", final_lr=0.001)
    assert f[0] == pytest.approx(0.04)
    assert f[15] == pytest.approx(0.04 + 0.96 * 0.5)
    assert f[30] == pytest.approx(1.0)
    assert f[100] == pytest.approx(0.01)
    assert f.index(max(f)) == 30
    assert factors(schedule="onecycle", warmup=5.0).index(1.0) == 50


def test_step_multiplies_every_few_epochs_and_constant_stays():
    f = factors(schedule="step", gamma=0.9, every_epochs=2)
    assert (f[0], f[19], f[20], f[99]) == pytest.approx((1.0, 1.0, 0.9, 0.9**4))
    assert set(factors(schedule="constant")) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 3.0, 50.0])
def test_every_rate_is_finite_and_between_zero_and_the_written_one(schedule: str, warmup: float):
    for steps in (1, 2, 7):
        for value in factors(steps, 1, schedule=schedule, warmup=warmup):
            assert math.isfinite(value)
            assert 0 <= value <= 1
