from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from medssl.heads.critic import SpectralConv3d
from medssl.training.hardware.precision import guard_convolutions_


def littered() -> None:
    """Leave NaN behind in freed memory, so that reading memory that nobody wrote is seen."""
    rubbish = [torch.full((n,), float("nan")) for n in (64, 1024, 16384, 262144) for _ in range(30)]
    del rubbish


def rough(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "padding"),
    [
        (nn.Conv3d, 3, 1, 1),
        (nn.Conv3d, 3, 2, 1),
        (nn.Conv3d, 5, 1, 2),
        (nn.Conv3d, 1, 1, 0),
        (nn.ConvTranspose3d, 4, 2, 1),
        (nn.ConvTranspose3d, 3, 1, 1),
    ],
)
def test_bf16_gradients_agree_with_single_precision_at_every_depth(kind, kernel, stride, padding, depth):
    torch.manual_seed(0)
    layer = guard_convolutions_(kind(32, 16, kernel, stride=stride, padding=padding))
    x = torch.randn(4, 32, depth, 5, 5, requires_grad=True)
    exact = layer(x)
    up = torch.randn_like(exact)
    wanted = torch.autograd.grad(exact, (layer.weight, layer.bias, x), up)
    littered()
    y = rough(layer, x)
    littered()
    for a, b in zip(torch.autograd.grad(y, (layer.weight, layer.bias, x), up.to(y.dtype)), wanted, strict=True):
        assert (a.float() - b).abs().max() < 0.03 * b.abs().max() + 1e-6


def compared(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    """Output under bfloat16, after output and gradients were compared with single precision."""
    x = x.clone().requires_grad_()
    places = [p for p in (layer.weight, layer.bias, x) if p is not None]
    exact = layer(x)
    up = torch.randn_like(exact)
    wanted = torch.autograd.grad(exact, places, up)
    littered()
    y = rough(layer, x)
    assert y.shape == exact.shape
    assert (y.float() - exact).abs().max() < 0.02 * exact.abs().max()
    for a, b in zip(torch.autograd.grad(y, places, up.to(y.dtype)), wanted, strict=True):
        assert (a.float() - b).abs().max() < 0.03 * b.abs().max() + 1e-6
    return y


@pytest.mark.parametrize("size", [(16, 17, 18), (15, 12, 13)])
@pytest.mark.parametrize(("kernel", "padding"), [(7, 3), (7, 0), (5, 2), (6, 2), (5, 1)])
@pytest.mark.parametrize("channels", [1, 2])
def test_stems_on_blocks_of_voxels_are_the_same_convolution(channels, kernel, padding, size):
    torch.manual_seed(0)
    layer = guard_convolutions_(nn.Conv3d(channels, 64, kernel, stride=2, padding=padding))
    y = compared(layer, torch.randn(2, channels, *size))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("padding", [1, "same"])
def test_deep_layers_become_a_product_in_bf16_where_that_is_small(padding):
    torch.manual_seed(0)
    layer = guard_convolutions_(nn.Conv3d(8, 64, 3, padding=padding))
    assert compared(layer, torch.randn(4, 8, 2, 3, 2)).dtype == torch.bfloat16
    assert compared(layer, torch.randn(4, 8, 2, 9, 9)).dtype == torch.float32, "wide: the patches would be large"
    grouped = guard_convolutions_(nn.Conv3d(8, 64, 3, padding=padding, groups=2))
    assert compared(grouped, torch.randn(4, 8, 2, 3, 2)).dtype == torch.float32
    strided = guard_convolutions_(nn.Conv3d(8, 64, 3, stride=2, padding=1, bias=False))
    assert compared(strided, torch.randn(4, 8, 4, 3, 4)).dtype == torch.bfloat16


def test_max_pooling_stays_in_bf16_with_the_same_maxima():
    x = torch.randn(2, 3, 7, 8, 9).bfloat16()
    pool = nn.MaxPool3d(3, stride=2, padding=1)
    wanted = rough(pool, x)
    assert wanted.dtype == torch.float32
    found = rough(guard_convolutions_(pool), x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.float(), wanted)


@pytest.mark.parametrize("kind", [nn.Conv3d, SpectralConv3d])
def test_only_shallow_layers_leave_bf16(kind):
    layer = guard_convolutions_(kind(4, 4, 3, padding=1))
    assert rough(layer, torch.randn(2, 4, 2, 8, 8)).dtype == torch.float32
    assert rough(layer, torch.randn(2, 4, 8, 8, 8)).dtype == torch.bfloat16
    assert rough(guard_convolutions_(kind(4, 4, 1)), torch.randn(2, 4, 1, 1, 1)).dtype == torch.bfloat16


def test_changes_no_state_and_survives_a_deep_copy():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding="same"), nn.ConvTranspose3d(4, 1, 4, stride=2, padding=1))
    x = torch.randn(2, 1, 2, 6, 6)
    before, keys = net(x), list(net.state_dict())
    copy = deepcopy(guard_convolutions_(net))
    assert torch.equal(copy(x), before)
    assert list(copy.state_dict()) == keys
    with torch.no_grad():
        copy[0].weight.zero_()
    assert not torch.equal(copy(x), before)  # the copy computes with its own weights
    assert torch.equal(net(x), before)


def test_output_size_still_reaches_a_transposed_convolution():
    layer = guard_convolutions_(nn.ConvTranspose3d(2, 2, 3, stride=2, padding=1))
    assert rough(layer, torch.randn(1, 2, 2, 4, 4)).shape[2:] == (3, 7, 7)
    assert layer(torch.randn(1, 2, 2, 4, 4), output_size=[4, 8, 8]).shape[2:] == (4, 8, 8)
