from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.errors import UserError
from medssl.memory import EMA


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train_step(module, seed):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
    module(x).square().mean().backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= 0.1 * p.grad
            p.grad = None


def test_it_starts_as_a_copy_that_shares_nothing_and_takes_no_gradient():
    online = network()
    teacher = EMA(online, 0.9)
    for p, q in zip(teacher.module.parameters(), online.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.data_ptr() != q.data_ptr()
        assert not p.requires_grad
    assert all(q.requires_grad for q in online.parameters())
    out = teacher(torch.randn(4, 3))
    assert not out.requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 1.0])
def test_after_k_updates_it_is_the_moving_average_by_hand(momentum):
    online = network().double()
    teacher = EMA(online, momentum)
    hand = {n: p.detach().clone() for n, p in online.named_parameters()}
    for k in range(5):
        train_step_double(online, k)
        teacher.update(online)
        hand = {n: momentum * hand[n] + (1 - momentum) * p.detach() for n, p in online.named_parameters()}
    for n, p in teacher.module.named_parameters():
        torch.testing.assert_close(p, hand[n], rtol=1e-14, atol=1e-14)
        if momentum in (0.0, 1.0):
            assert torch.equal(p, hand[n])
    assert int(teacher.updates) == 5


def train_step_double(module, seed):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    module(x).square().mean().backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= 0.1 * p.grad
            p.grad = None


def test_it_moves_only_when_it_is_told():
    online = network()
    teacher = EMA(online, 0.9)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    train_step(online, 0)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_running_statistics_are_copied_or_averaged_and_counters_are_copied():
    for policy in ("copy", "ema"):
        online = network()
        teacher = EMA(online, 0.5, buffers=policy)
        train_step(online, 0)
        teacher.update(online)
        mean, start = online[1].running_mean, torch.zeros(4)
        expected = mean if policy == "copy" else 0.5 * start + 0.5 * mean
        torch.testing.assert_close(teacher.module[1].running_mean, expected)
        assert teacher.module[1].num_batches_tracked == online[1].num_batches_tracked == 1


def test_the_schedule_goes_from_the_first_to_the_last_momentum():
    net = nn.Linear(1, 1)
    cosine = EMA(net, 0.996, 1.0, "cosine")
    assert cosine.momentum_at(0.0) == pytest.approx(0.996)
    assert cosine.momentum_at(0.5) == pytest.approx(0.998)
    assert cosine.momentum_at(1.0) == 1.0
    assert cosine.momentum_at(0.25) < EMA(net, 0.996, 1.0, "linear").momentum_at(0.25)
    linear = EMA(net, 0.5, 0.9, "linear")
    assert [linear.momentum_at(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.7, 0.9])
    assert EMA(net, 0.9).momentum_at(0.7) == 0.9
    assert EMA(net, 0.9, "same", "cosine").momentum_at(0.3) == pytest.approx(0.9)


def test_the_state_comes_back_bit_for_bit():
    online = network()
    teacher = EMA(online, 0.9)
    train_step(online, 0)
    teacher.update(online)
    other = EMA(network(7), 0.9)
    other.load_state_dict(teacher.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in teacher.state_dict().items())
    train_step(online, 1)
    teacher.update(online)
    other.update(online)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in teacher.state_dict().items())


def test_it_can_become_a_copy_again():
    online, teacher = network(0), EMA(network(7), 0.9)
    teacher.reset(online)
    assert teacher.distance(online) == 0
    train_step(online, 1)
    assert teacher.distance(online) > 0


def test_the_distance_to_the_online_network_is_euclidean():
    online = nn.Linear(2, 1)
    teacher = EMA(online, 0.9)
    assert teacher.distance(online) == 0
    with torch.no_grad():
        online.weight += torch.tensor([[3.0, 0.0]])
        online.bias += 4.0
    assert teacher.distance(online).item() == pytest.approx(5.0, abs=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"momentum": 1.5}, {"end_momentum": -1.0}, {"schedule": "step"}, {"buffers": "no"}]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        EMA(nn.Linear(1, 1), **arguments)
