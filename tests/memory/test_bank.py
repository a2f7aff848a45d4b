from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medssl.errors import UserError
from medssl.memory import Bank


def batch(n=3, dim=4, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_it_starts_with_random_unit_rows_from_its_own_seed():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a, b, c = Bank(5, 4, seed=3), Bank(5, 4, seed=3), Bank(5, 4, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a.z, b.z)
    assert not torch.equal(a.z, c.z)
    torch.testing.assert_close(a.z.norm(dim=1), torch.ones(5))


def test_only_the_rows_of_the_batch_change_a_bit():
    bank = Bank(8, 4)
    before = bank.z.clone()
    bank.update(torch.tensor([6, 1, 3]), batch())
    untouched = [0, 2, 4, 5, 7]
    assert torch.equal(bank.z[untouched], before[untouched])
    assert (bank.z[[6, 1, 3]] != before[[6, 1, 3]]).any(1).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
def test_rows_move_by_the_momentum_and_keep_norm_one(momentum):
    bank = Bank(8, 4, momentum)
    index, z = torch.tensor([6, 1, 3]), batch()
    expected = F.normalize(momentum * bank.z[index] + (1 - momentum) * F.normalize(z, dim=1), dim=1)
    bank.update(index, z)
    torch.testing.assert_close(bank.z[index], expected)
    torch.testing.assert_close(bank.z.norm(dim=1), torch.ones(8))
    if momentum == 0:
        torch.testing.assert_close(bank.z[index], F.normalize(z, dim=1))


def test_of_a_doubled_index_the_last_counts_and_only_once():
    index, z = torch.tensor([2, 5, 2, 2, 5]), batch(5)
    doubled, single = Bank(8, 4), Bank(8, 4)
    doubled.update(index, z)
    single.update(torch.tensor([2, 5]), z[[3, 4]])
    assert torch.equal(doubled.z, single.z)


def test_gradient_does_not_reach_the_bank():
    bank = Bank(4, 4)
    z = batch(2).requires_grad_()
    bank.update(torch.tensor([0, 1]), z * 2)
    assert not bank.z.requires_grad
    (z @ bank.z.T).sum().backward()
    assert bank.z.grad is None


def test_staleness_counts_updates_since_a_row_was_written():
    bank = Bank(4, 4)
    for index in ([0, 1], [1], [2]):
        bank.update(torch.tensor(index), batch(len(index)))
    assert bank.staleness().tolist() == [2, 1, 0, -1]
    assert int(bank.updates) == 3


def test_the_state_comes_back_bit_for_bit():
    bank = Bank(6, 4, seed=1)
    bank.update(torch.tensor([0, 5]), batch(2))
    other = Bank(6, 4, seed=2)
    other.load_state_dict(bank.state_dict())
    for b in (bank, other):
        b.update(torch.tensor([3]), batch(1, seed=9).bfloat16())
    assert set(bank.state_dict()) == {"z", "written", "updates"}
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in bank.state_dict().items())


def test_a_zero_vector_does_not_make_nan():
    bank = Bank(2, 4, momentum=0.5)
    bank.update(torch.tensor([0]), torch.zeros(1, 4))
    assert torch.isfinite(bank.z).all()


def test_bad_sizes_are_named():
    with pytest.raises(UserError, match="momentum 2"):
        Bank(3, 3, 2)
