from __future__ import annotations

import numpy as np
import torch

from medssl.transforms import Noise


def test_noise_has_the_drawn_standard_deviation_and_no_mean(brain_of):
    x = brain_of((1, 40, 40, 40))
    difference = Noise().apply(x, {"sd": 0.3, "seed": 11}) - x
    assert abs(difference.std().item() - 0.3) < 0.005
    assert abs(difference.mean().item()) < 0.005


def test_foreground_noise_leaves_the_background_empty(brain):
    y = Noise(foreground=True).apply(brain, {"sd": 0.5, "seed": 1})
    assert torch.count_nonzero(y[brain == 0]) == 0
    assert (y[brain != 0] != brain[brain != 0]).float().mean() > 0.99
    assert abs((y - brain)[brain != 0].std().item() - 0.5) < 0.03


def test_another_seed_is_another_noise_and_channels_differ(brain_of):
    x = torch.zeros(2, 8, 8, 8)
    first = Noise().apply(x, {"sd": 1.0, "seed": 1})
    assert not torch.equal(first, Noise().apply(x, {"sd": 1.0, "seed": 2}))
    assert not torch.equal(first[0], first[1])


def test_sd_is_uniform_in_the_range_and_seeds_are_exact_in_json():
    noise, rng = Noise(sd=(0.1, 1.0)), np.random.default_rng(0)
    draws = [noise.sample(rng, (1, 4, 4, 4)) for _ in range(2000)]
    sd = np.array([d["sd"] for d in draws])
    assert 0.1 <= sd.min() < 0.12
    assert 0.98 < sd.max() <= 1.0
    assert abs(sd.mean() - 0.55) < 0.02
    assert max(d["seed"] for d in draws) < 2**53
    assert len({d["seed"] for d in draws}) == 2000
