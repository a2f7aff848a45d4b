from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast

from medssl.transforms import Gamma


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.7])
def test_equals_monai_adjust_contrast_on_the_foreground_of_each_channel(gamma, brain_of):
    x = brain_of((2, 12, 14, 12)) * torch.tensor([1.0, 3.0])[:, None, None, None]
    y = Gamma().apply(x, {"gamma": gamma})
    for x_c, y_c in zip(x, y, strict=True):
        inside = x_c != 0
        expected = AdjustContrast(gamma)(x_c[inside][None]).as_tensor()[0]
        assert torch.allclose(y_c[inside], expected, atol=1e-5)
        assert torch.count_nonzero(y_c[~inside]) == 0


def test_without_foreground_equals_monai_on_the_volume(brain):
    expected = AdjustContrast(0.6)(brain).as_tensor()
    assert torch.allclose(Gamma(foreground=False).apply(brain, {"gamma": 0.6}), expected, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_order_and_range_are_kept(offset, brain):
    x = torch.where(brain != 0, brain + offset, brain)
    inside = brain != 0
    before, after = x[inside], Gamma().apply(x, {"gamma": 1.6})[inside]
    order = before.argsort()
    assert (after[order].diff() >= 0).all()
    assert after.min().item() == pytest.approx(before.min().item(), abs=1e-5)
    assert after.max().item() == pytest.approx(before.max().item(), abs=1e-5)


def test_below_one_brightens_and_above_one_darkens(brain):
    inside = brain != 0
    assert Gamma().apply(brain, {"gamma": 0.7})[inside].mean() > brain[inside].mean()
    assert Gamma().apply(brain, {"gamma": 1.4})[inside].mean() < brain[inside].mean()


def test_log_gamma_is_uniform_so_that_both_directions_are_equally_likely():
    transform, rng = Gamma(gamma=(0.5, 2.0)), np.random.default_rng(0)
    drawn = np.array([transform.sample(rng, (1, 4, 4, 4))["gamma"] for _ in range(3000)])
    assert drawn.min() >= 0.5
    assert drawn.max() <= 2.0
    assert abs((drawn < 1).mean() - 0.5) < 0.03
    assert abs(np.log(drawn).std() - 2 * math.log(2) / math.sqrt(12)) < 0.02


def test_a_constant_channel_is_copied():
    x = torch.zeros(2, 4, 4, 4)
    x[0, 1:3] = 5.0
    assert torch.equal(Gamma().apply(x, {"gamma": 0.5}), x)
