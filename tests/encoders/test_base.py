from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.encoders.base import norm_name, recalibrate_
from medssl.encoders.file import weights_digest
from medssl.errors import UserError

from .checks import scans, tiny


def explode(encoder: nn.Module) -> None:
    """Statistics as small batches of nearly constant scans leave them: variances far too small."""
    for m in encoder.modules():
        if isinstance(m, nn.BatchNorm3d):
            m.running_var.fill_(1e-3)
            m.running_mean.fill_(0.5)


def train_mode_output(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    with torch.no_grad():
        out = encoder.train()(x).pooled
    encoder.load_state_dict(state)
    encoder.eval()
    return out


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "alexnet3d"])
def test_recalibration_repairs_features_that_explode_in_evaluation(name):
    encoder = tiny(name)
    x = scans(encoder, 16)
    good = train_mode_output(encoder, x)
    explode(encoder)
    with torch.no_grad():
        assert encoder.eval()(x).pooled.abs().max() > 50 * good.abs().max()
        assert recalibrate_(encoder, [x]) == 1
        repaired = encoder(x).pooled
    torch.testing.assert_close(repaired, good, rtol=0.1, atol=0.1)


def test_statistics_are_the_plain_average_over_batches():
    encoder = nn.Sequential(nn.BatchNorm3d(2))
    batches = [torch.randn(4, 2, 3, 3, 3) * (i + 1) for i in range(3)]
    recalibrate_(encoder, iter(batches))
    mean = torch.stack([b.mean((0, 2, 3, 4)) for b in batches]).mean(0)
    var = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    torch.testing.assert_close(encoder[0].running_mean, mean)
    torch.testing.assert_close(encoder[0].running_var, var)


def test_same_batches_give_the_same_bits_whatever_was_there_before():
    one, two = tiny("resnet18"), tiny("resnet18")
    explode(two)
    batches = [scans(one, 4), scans(one, 3)]
    recalibrate_(one, batches)
    recalibrate_(two, batches)
    assert weights_digest(one) == weights_digest(two)


def test_recalibration_touches_only_the_statistics():
    encoder = tiny("resnet18").train()
    encoder.stages.eval()
    modes = [m.training for m in encoder.modules()]
    parameters = [p.clone() for p in encoder.parameters()]
    recalibrate_(encoder, [scans(encoder)])
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(parameters, encoder.parameters(), strict=True))
    assert all(m.momentum == 0.1 for m in encoder.modules() if isinstance(m, nn.BatchNorm3d))
    assert all(p.grad is None for p in encoder.parameters())


def test_group_norm_needs_no_recalibration_and_reads_no_batch():
    encoder = tiny("resnet18", norm="group")
    x = scans(encoder)
    with torch.no_grad():
        assert torch.equal(encoder.train()(x).pooled, encoder.eval()(x).pooled)

    def never():
        raise AssertionError("was read")
        yield

    before = weights_digest(encoder)
    assert recalibrate_(encoder, never()) == 0
    assert weights_digest(encoder) == before


def test_single_scans_are_skipped_and_nothing_changes_when_nothing_is_left():
    encoder = tiny("resnet18")
    assert recalibrate_(encoder, [scans(encoder, 1), scans(encoder, 2)]) == 1
    before = weights_digest(encoder)
    with pytest.raises(UserError, match="at least one batch of 2 scans"):
        recalibrate_(encoder, [scans(encoder, 1)])
    assert weights_digest(encoder) == before


def test_a_failure_half_way_leaves_everything_as_it_was():
    encoder = tiny("resnet18").train()
    recalibrate_(encoder, [scans(encoder)])
    before = weights_digest(encoder)
    with pytest.raises(UserError):
        recalibrate_(encoder, [scans(encoder), torch.zeros(2, 5, 16, 16, 16)])
    assert weights_digest(encoder) == before
    assert encoder.training


def test_one_number_of_groups_suits_all_layers():
    assert norm_name("group", (64, 32, 96)) == ("group", {"num_groups": 8})
    assert norm_name("group", (16, 24)) == ("group", {"num_groups": 4})
    assert norm_name("group", (6,)) == ("group", {"num_groups": 1})
    assert norm_name("batch", (6,)) == "batch"
