from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.transforms import MaskFeatures, Noise

ROW = torch.arange(1, 1001, dtype=torch.float32).reshape(1, 1000, 1, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_about_the_drawn_share_of_the_features_is_hidden_and_no_other_is_touched(share: float):
    transform = MaskFeatures(share=share)
    y = transform.apply(ROW, transform.sample(np.random.default_rng(0), (1, 1000, 1, 1)))
    hidden = y == 0
    assert torch.equal(y[~hidden], ROW[~hidden])
    assert abs(hidden.float().mean().item() - share) < 0.05
    assert share not in (0.0, 1.0) or hidden.float().mean().item() == share


def test_hidden_features_get_the_value():
    transform = MaskFeatures(share=1.0, value=-2.0)
    assert (transform.apply(ROW, transform.sample(np.random.default_rng(0), (1, 1000, 1, 1))) == -2.0).all()


def test_the_share_is_uniform_in_the_range_and_features_are_hidden_independently():
    transform, rng = MaskFeatures(share=(0.1, 0.5)), np.random.default_rng(0)
    draws = [transform.sample(rng, (1, 1000, 1, 1)) for _ in range(300)]
    share = np.array([d["share"] for d in draws])
    assert 0.1 <= share.min() < 0.12
    assert 0.48 < share.max() <= 0.5
    hidden = torch.stack([transform.apply(ROW, d).reshape(-1) == 0 for d in draws]).float()
    assert hidden.mean(0).std() < 0.05, "no feature is preferred"
    assert abs(np.corrcoef(hidden[:, :2].numpy().T)[0, 1]) < 0.2


def test_noise_suits_a_row_of_a_table_too():
    y = Noise(sd=0.5).apply(ROW, {"sd": 0.5, "seed": 3})
    assert y.shape == ROW.shape
    assert abs((y - ROW).std().item() - 0.5) < 0.05
