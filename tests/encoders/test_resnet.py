from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medssl.encoders import build_encoder
from medssl.encoders.base import mean_over_voxels

from .checks import scans, tiny


def test_published_sizes():
    resnet18, resnet50 = build_encoder("resnet18"), build_encoder("resnet50")
    assert (resnet18.dim, resnet50.dim) == (512, 2048)
    assert sum(p.numel() for p in resnet18.parameters()) == 33_160_000
    convolutions = [m for m in resnet18.modules() if isinstance(m, nn.Conv3d) and m.kernel_size != (1, 1, 1)]
    assert len(convolutions) == 17
    assert sum(isinstance(m, nn.Conv3d) for m in resnet50.modules()) == 1 + 16 * 3 + 4


@pytest.mark.parametrize(
    ("arguments", "grid"),
    [
        ({"stem": "imagenet"}, (2, 2, 1)),
        ({"stem": "small"}, (3, 3, 2)),
        ({"stem": "small", "stem_stride": 1}, (5, 6, 4)),
        ({"stem": "small", "depth": [1, 1]}, (10, 12, 8)),
    ],
)
def test_stem_and_depth_decide_the_grid(arguments, grid):
    encoder = build_encoder("resnet18", **{"width": 4, "depth": [1, 1, 1, 1], **arguments}).eval()
    assert encoder(torch.zeros(1, 1, 40, 48, 32)).map.shape[2:] == grid


def test_accepts_16_voxels_a_side_with_either_stem():
    for stem in ("imagenet", "small"):
        encoder = build_encoder("resnet18", width=4, norm="group", stem=stem)
        assert encoder(torch.randn(2, 1, 16, 16, 16)).pooled.shape == (2, 32)


def test_group_norm_features_of_one_voxel_still_tell_scans_apart():
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", width=4, norm="group").eval()
    out = encoder(torch.randn(4, 1, 16, 16, 16))
    assert out.map.shape[2:] == (1, 1, 1)
    assert out.pooled.std(0).max() > 0.1


def test_weights_start_kaiming_fan_out():
    conv = build_encoder("resnet18", width=64).stages[3][1].conv2
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 27)), rel=0.01)


def test_gradient_flows_through_shortcuts():
    encoder = tiny("resnet18", norm="group")
    for m in encoder.stages[1]:
        nn.init.zeros_(m.bn2.weight)
    x = scans(encoder).requires_grad_()
    encoder(x).pooled.sum().backward()
    assert encoder.stages[1][0].downsample[0].weight.grad.abs().sum() > 0
    assert x.grad.abs().sum() > 0


def test_pooled_vectors_of_a_coarse_map_are_not_rounded_with_it():
    map_NE = torch.stack([torch.full((2, 3, 3, 3), 1.0), torch.full((2, 3, 3, 3), 1.0)]).bfloat16()
    map_NE[1, :, 0, 0, 0] = 1.0078125  # the next bfloat16: the means differ by less than that
    pooled = mean_over_voxels(map_NE)
    assert pooled.dtype == torch.float32
    assert pooled[1, 0] - pooled[0, 0] == pytest.approx(0.0078125 / 27, rel=1e-3)
    assert mean_over_voxels(map_NE.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder = build_encoder("resnet18", in_channels=1, width=4, depth=[1, 1], stem="small")
        assert encoder(torch.randn(2, 1, 16, 16, 16)).pooled.dtype == torch.float32
