from __future__ import annotations

import torch
from torch import nn

from medssl.encoders import build_encoder

from .checks import scans, tiny


def test_published_layers():
    encoder = build_encoder("alexnet3d")
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 192, 192, 128]
    assert [c.kernel_size[0] for c in convolutions] == [5, 3, 3, 3, 3]
    assert [c.stride[0] for c in convolutions] == [2, 1, 1, 1, 1]
    assert encoder.dim == 128


def test_works_at_32_voxels_a_side():
    assert build_encoder("alexnet3d", width=4)(torch.randn(2, 1, 32, 32, 32)).map.shape[2:] == (1, 1, 1)


def test_pooled_is_the_maximum_of_the_map():
    encoder = tiny("alexnet3d").eval()
    out = encoder(scans(encoder))
    assert torch.equal(out.pooled, torch.nn.functional.adaptive_max_pool3d(out.map, 1).flatten(1))
