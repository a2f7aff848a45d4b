from __future__ import annotations

import numpy as np
import torch
from monai.transforms import NormalizeIntensity

from medssl.transforms import ZScore


def test_foreground_equals_monai_nonzero_channel_wise(brain_of):
    x = brain_of((2, 12, 14, 12))
    x = torch.where(x != 0, x * 40 + 300, x)
    expected = NormalizeIntensity(nonzero=True, channel_wise=True)(x.clone()).as_tensor()
    y = ZScore().apply(x, {})
    assert torch.allclose(y, expected, atol=1e-4)
    for y_c, x_c in zip(y, x, strict=True):
        assert abs(y_c[x_c != 0].mean()) < 1e-5
        assert abs(y_c[x_c != 0].std(correction=0) - 1) < 1e-5
        assert torch.count_nonzero(y_c[x_c == 0]) == 0


def test_whole_array_equals_monai_and_numpy(brain_of):
    x = brain_of((2, 12, 14, 12)) * 3 + 7
    expected = NormalizeIntensity()(x.clone()).as_tensor()
    y = ZScore(foreground=False, per_channel=False).apply(x, {})
    assert torch.allclose(y, expected, atol=1e-5)
    array = x.numpy().astype(np.float64)
    assert np.abs(y.numpy() - (array - array.mean()) / (array.std() + 1e-8)).max() < 1e-5


def test_pooling_channels_keeps_their_difference_and_separate_statistics_remove_it(brain_of):
    x = brain_of((2, 10, 10, 10))
    x[1] = torch.where(x[1] != 0, x[1] + 4, x[1])
    pooled = ZScore(per_channel=False).apply(x, {})
    separate = ZScore().apply(x, {})
    assert pooled[1].sum() > pooled[0].sum() + 10
    assert abs(separate[1].sum() - separate[0].sum()) < 1e-2


def test_gain_and_offset_of_a_scanner_are_removed(brain):
    other = torch.where(brain != 0, brain * 17 + 200, brain)
    assert torch.allclose(ZScore().apply(other, {}), ZScore().apply(brain, {}), atol=1e-4)


def test_a_constant_volume_becomes_zero_and_an_empty_one_stays_so():
    assert torch.count_nonzero(ZScore().apply(torch.full((1, 4, 4, 4), 0.1), {})) == 0
    assert torch.count_nonzero(ZScore(foreground=False).apply(torch.full((1, 4, 4, 4), 0.1), {})) == 0
    assert torch.count_nonzero(ZScore().apply(torch.zeros(1, 4, 4, 4), {})) == 0
