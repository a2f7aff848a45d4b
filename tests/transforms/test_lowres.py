from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from medssl.transforms import LowRes


def test_whole_factors_are_block_means_enlarged_again(brain):
    y = LowRes().apply(brain, {"size": [10, 12, 10]})
    means = brain.reshape(1, 10, 2, 12, 2, 10, 2).mean((2, 4, 6))
    expected = F.interpolate(means[None], size=(20, 24, 20), mode="trilinear", align_corners=False)[0]
    assert torch.allclose(y, expected, atol=1e-6)


def test_factor_one_is_a_copy_and_one_voxel_is_the_mean(brain):
    assert torch.equal(LowRes().apply(brain, {"size": [20, 24, 20]}), brain)
    y = LowRes().apply(brain, {"size": [1, 1, 1]})
    assert torch.allclose(y, brain.mean().expand_as(y), atol=1e-6)


def test_detail_goes_and_the_mean_stays(brain):
    y = LowRes().apply(brain, {"size": [7, 9, 8]})
    assert y.std() < 0.8 * brain.std()
    assert abs(y.mean() - brain.mean()) < 0.05


def test_one_factor_for_all_axes_or_one_for_each():
    rng = np.random.default_rng(0)
    same = [LowRes(factor=(1, 4)).sample(rng, (1, 40, 40, 40))["size"] for _ in range(50)]
    each = [LowRes(factor=(1, 4), same_factor=False).sample(rng, (1, 40, 40, 40))["size"] for _ in range(50)]
    assert all(len(set(size)) == 1 for size in same)
    assert any(len(set(size)) == 3 for size in each)
    assert min(min(s) for s in same + each) >= 10
    assert max(max(s) for s in same + each) <= 40
    assert LowRes(factor=9).sample(rng, (1, 3, 40, 40))["size"] == [1, 4, 4]
