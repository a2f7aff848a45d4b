from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from monai.transforms import GaussianSmooth
from scipy.ndimage import gaussian_filter

from medssl.transforms import Blur


@pytest.mark.parametrize("sigma", [0.1, 0.45, 1.0, 2.3])
@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (2, 9, 13, 7)])
def test_equals_monai_separable_filtering_with_its_kernel(sigma, shape, brain_of):
    x = brain_of(shape) + 0.7
    kernel = gaussian_1d(torch.tensor(sigma), approx="sampled", normalize=True)
    expected = separable_filtering(x[None], [kernel] * 3, mode="replicate")[0]
    assert torch.allclose(Blur().apply(x, {"sigma": sigma}), expected, atol=1e-5)


def test_equals_monai_gaussian_smooth_where_the_border_is_empty(brain):
    x = torch.nn.functional.pad(brain, (5,) * 6)
    expected = GaussianSmooth(sigma=1.0, approx="sampled")(x).as_tensor()
    assert torch.allclose(Blur().apply(x, {"sigma": 1.0}), expected, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.0])
def test_equals_scipy_as_the_published_y_aware_code_uses_it(sigma, brain):
    expected = gaussian_filter(brain[0].numpy(), sigma, mode="nearest")
    assert np.abs(Blur().apply(brain, {"sigma": sigma})[0].numpy() - expected).max() < 1e-5


def test_a_constant_volume_stays_constant_up_to_the_border():
    y = Blur().apply(torch.full((1, 6, 3, 9), 2.0), {"sigma": 3.0})
    assert torch.allclose(y, torch.full_like(y, 2.0), atol=1e-5)


def test_foreground_keeps_the_mask(brain):
    y = Blur(foreground=True).apply(brain, {"sigma": 1.0})
    assert torch.count_nonzero(y[brain == 0]) == 0
    assert torch.equal(y[brain != 0], Blur().apply(brain, {"sigma": 1.0})[brain != 0])


def test_sigma_is_uniform_in_the_range():
    blur, rng = Blur(sigma=(0.1, 1.0)), np.random.default_rng(0)
    drawn = np.array([blur.sample(rng, (1, 4, 4, 4))["sigma"] for _ in range(2000)])
    assert drawn.min() >= 0.1
    assert drawn.max() <= 1.0
    assert abs(drawn.mean() - 0.55) < 0.02
