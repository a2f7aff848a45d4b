from __future__ import annotations

import pytest
import torch

from medssl.errors import RecipeError
from medssl.heads import ConvDecoder, Generator
from medssl.heads.conv import halvings
from medssl.training.hardware.precision import guard_convolutions_


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(40, 48, 40), (33, 37, 35), (8, 8, 8), (5, 3, 17)])
def test_any_shape_comes_out_exactly(shape, transposed):
    head = ConvDecoder(6, 2, shape, width=2, transposed=transposed)
    assert head(torch.randn(2, 6)).shape == (2, 2, *shape)


def test_coarse_grid_keeps_three_voxels_a_side():
    assert halvings((40, 48, 40)) == 4
    assert halvings((33, 37, 35)) == 4
    assert halvings((121, 145, 121)) == 5
    assert halvings((3, 9, 9)) == 0
    assert ConvDecoder(6, 1, (40, 48, 40), width=2).start == (16, 3, 3, 3)


@pytest.mark.parametrize("norm", ["group", "batch", "instance", "none"])
def test_every_parameter_gets_gradient_and_bf16_is_finite(norm):
    torch.manual_seed(0)
    head = guard_convolutions_(ConvDecoder(6, 1, (12, 10, 8), width=4, norm=norm))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(torch.randn(3, 6))
    (out.float() * torch.randn(out.shape)).sum().backward()
    assert torch.isfinite(out).all()
    assert all(p.grad is not None for p in head.parameters())
    silent = [k for k, p in head.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []


def test_decoder_can_learn_one_volume():
    torch.manual_seed(0)
    target = torch.randn(1, 1, 4, 4, 4)
    head, h = ConvDecoder(3, 1, (4, 4, 4), width=8, levels=1, norm="none"), torch.ones(1, 3)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss = (head(h) - target).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.05


def test_generator_fills_the_volume_and_depends_on_the_latent():
    torch.manual_seed(0)
    generator = Generator(4, 1, (20, 24, 20), width=4)
    z = torch.randn(3, 4, requires_grad=True)
    x = generator(z)
    assert x.shape == (3, 1, 20, 24, 20)
    assert x.std(0).max() > 0
    (x * torch.randn_like(x)).sum().backward()
    assert (z.grad.abs().sum(1) > 0).all()
    assert all(p.grad.abs().sum() > 0 for p in generator.parameters())


def test_a_scan_does_not_depend_on_the_others_with_group_norm():
    generator = Generator(4, 1, (8, 8, 8), width=4)
    z = torch.randn(3, 4)
    torch.testing.assert_close(generator(z)[1:2], generator(z[1:2]), rtol=1e-4, atol=1e-6)


def test_bad_arguments_are_explained():
    with pytest.raises(RecipeError, match=r"vectors \(N, 6\), but got \(2, 5\)"):
        ConvDecoder(6, 1, (8, 8, 8))(torch.zeros(2, 5))
    with pytest.raises(RecipeError, match="shape is"):
        ConvDecoder(6, 1, (8, 8))
    with pytest.raises(RecipeError, match="more than one voxel"):
        ConvDecoder(6, 1, (4, 4, 4), levels=2, norm="instance")
