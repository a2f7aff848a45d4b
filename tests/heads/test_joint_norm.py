from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.heads import joint_norm
from medssl.heads.joint_norm import JointBatchNorm1d


def test_one_process_computes_as_torch_does():
    torch.manual_seed(0)
    ours, theirs = JointBatchNorm1d(5), nn.BatchNorm1d(5)
    for _ in range(3):
        x = torch.randn(7, 5)
        assert torch.equal(ours(x), theirs(x))
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)


@pytest.mark.parametrize("affine", [True, False])
def test_the_joint_path_is_batch_norm_where_the_other_process_has_no_more_to_say(affine, monkeypatch):
    """Two processes with the same rows: sums double, so means and outputs are those of one (loop-free oracle)."""
    monkeypatch.setattr(joint_norm, "world", lambda: 2)
    monkeypatch.setattr(joint_norm, "sum_over_processes", lambda x: 2 * x)
    torch.manual_seed(0)
    ours, theirs = JointBatchNorm1d(5, affine=affine).double(), nn.BatchNorm1d(5, affine=affine).double()
    x = torch.randn(7, 5, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    spread = x.detach().repeat(2, 1).var(0)  # of the 14 rows of both processes
    torch.testing.assert_close(ours.running_var, 0.9 * torch.ones(5, dtype=torch.double) + 0.1 * spread)
    assert ours.num_batches_tracked == 1
    torch.testing.assert_close(ours.local(x), theirs(x))
    assert ours.num_batches_tracked == 1
    ours.eval()
    torch.testing.assert_close(
        ours(x), nn.functional.batch_norm(x, ours.running_mean, ours.running_var, ours.weight, ours.bias)
    )
