from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Flip as MonaiFlip

from medssl.transforms import Flip


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_equals_monai_and_twice_is_the_identity(axis, brain_of):
    x = brain_of((2, 11, 8, 9))
    y = Flip().apply(x, {"axis": axis})
    assert torch.equal(y, MonaiFlip(spatial_axis=axis)(x).as_tensor())
    assert not torch.equal(y, x)
    assert torch.equal(Flip().apply(y, {"axis": axis}), x)


def test_an_idle_draw_is_a_copy(brain):
    y = Flip(idle=1.0).apply(brain, {"axis": None})
    assert torch.equal(y, brain)
    assert y is not brain


def test_axes_are_drawn_evenly_and_a_quarter_of_the_papers_draws_is_idle():
    flip, rng = Flip(axes=(0, 1, 2), idle=0.25), np.random.default_rng(0)
    axes = [flip.sample(rng, (1, 4, 4, 4))["axis"] for _ in range(4000)]
    shares = [axes.count(a) / 4000 for a in (0, 1, 2, None)]
    assert np.abs(np.array(shares) - 0.25).max() < 0.03


def test_only_listed_axes_are_drawn():
    rng = np.random.default_rng(0)
    assert {Flip(axes=(2,)).sample(rng, (1, 4, 4, 4))["axis"] for _ in range(50)} == {2}
    assert Flip(axes=1).axes == (1,)
