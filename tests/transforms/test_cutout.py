from __future__ import annotations

import numpy as np
import torch

from medssl.transforms import Cutout


def test_the_papers_box_is_a_quarter_of_each_axis_rounded_up():
    params = Cutout(size=0.25).sample(np.random.default_rng(0), (1, 121, 145, 121))
    assert params["size"] == [31, 37, 31]
    assert params["value"] == 0.0


def test_exactly_the_drawn_box_is_overwritten_in_every_channel(brain_of):
    x = brain_of((2, 12, 14, 10)) + 10.0
    cutout = Cutout(size=(0.2, 0.5), value=-3.0)
    params = cutout.sample(np.random.default_rng(3), (2, 12, 14, 10))
    y = cutout.apply(x, params)
    changed = (y != x).nonzero()
    assert (y == -3.0).sum() == 2 * np.prod(params["size"])
    assert changed[:, 1:].amin(0).tolist() == params["start"]
    assert (changed[:, 1:].amax(0) + 1 - changed[:, 1:].amin(0)).tolist() == params["size"]
    assert len(changed) == 2 * np.prod(params["size"])


def test_the_box_lies_inside_at_places_from_border_to_border():
    cutout, shape = Cutout(size=(0.2, 0.4)), (1, 11, 9, 10)
    rng = np.random.default_rng(0)
    draws = [cutout.sample(rng, shape) for _ in range(400)]
    starts, sizes = np.array([d["start"] for d in draws]), np.array([d["size"] for d in draws])
    assert starts.min(axis=0).tolist() == [0, 0, 0]
    assert (starts + sizes).max(axis=0).tolist() == [11, 9, 10]
    assert sizes.min(axis=0).tolist() == [3, 2, 3]
    assert sizes.max(axis=0).tolist() == [5, 4, 4]


def test_places_are_uniform_over_all_that_fit():
    cutout, rng = Cutout(size=0.5), np.random.default_rng(0)
    starts = [cutout.sample(rng, (1, 10, 10, 10))["start"][0] for _ in range(3000)]
    shares = np.bincount(starts) / 3000
    assert len(shares) == 6
    assert np.abs(shares - 1 / 6).max() < 0.03


def test_a_box_of_the_whole_volume_leaves_nothing(brain):
    cutout = Cutout(size=1.0)
    y = cutout.apply(brain, cutout.sample(np.random.default_rng(0), tuple(brain.shape)))
    assert torch.count_nonzero(y) == 0
