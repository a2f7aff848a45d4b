from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Resize, SpatialCrop

from medssl.transforms import Crop, crop_resize


@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (2, 41, 47, 39)])
def test_equals_monai_crop_and_trilinear_resize(shape, brain_of):
    x = brain_of(shape)
    crop = Crop(scale=(0.5, 0.9))
    for seed in range(5):
        params = crop.sample(np.random.default_rng(seed), shape)
        slices = [slice(s, s + n) for s, n in zip(params["start"], params["size"], strict=True)]
        expected = Resize(shape[1:], mode="trilinear")(SpatialCrop(roi_slices=slices)(x)).as_tensor()
        assert torch.equal(crop.apply(x, params), expected)


def test_the_papers_box_is_three_quarters_of_each_axis_rounded_up():
    params = Crop(scale=0.75).sample(np.random.default_rng(0), (1, 121, 145, 121))
    assert params["size"] == [91, 109, 91]


def test_the_box_lies_inside_and_reaches_both_ends_of_each_axis():
    shape, crop = (1, 10, 13, 9), Crop(scale=(0.6, 0.8))
    rng = np.random.default_rng(0)
    draws = [crop.sample(rng, shape) for _ in range(400)]
    starts, sizes = np.array([d["start"] for d in draws]), np.array([d["size"] for d in draws])
    ends = starts + sizes
    assert starts.min() == 0
    assert (ends <= np.array(shape[1:])).all()
    assert (ends.max(axis=0) == shape[1:]).all()
    assert (sizes >= np.ceil(0.6 * np.array(shape[1:]) - 1e-9)).all()
    assert (sizes <= np.ceil(0.8 * np.array(shape[1:]))).all()


def test_one_fraction_for_all_axes_keeps_proportions_and_one_per_axis_does_not():
    shape = (1, 100, 100, 100)
    same = Crop(scale=(0.3, 0.9)).sample(np.random.default_rng(0), shape)["size"]
    free = Crop(scale=(0.3, 0.9), same_scale=False).sample(np.random.default_rng(0), shape)["size"]
    assert len(set(same)) == 1
    assert len(set(free)) == 3


def test_the_whole_volume_is_the_identity(brain):
    crop = Crop(scale=1.0)
    params = crop.sample(np.random.default_rng(0), tuple(brain.shape))
    assert params == {"start": [0, 0, 0], "size": list(brain.shape[1:])}
    assert torch.equal(crop.apply(brain, params), brain)


def test_a_linear_ramp_is_magnified_linearly():
    ramp = torch.arange(20.0)[None, :, None, None].expand(1, 20, 8, 8)
    y = crop_resize(ramp, (5, 0, 0), (10, 8, 8), (20, 8, 8))[0, :, 0, 0]
    assert torch.allclose(y[1:-1], torch.arange(0.25, 9.25, 0.5) + 5.0)
    assert y[0] == 5.0
    assert y[-1] == 14.0


def test_the_box_may_be_resized_to_another_shape(brain):
    assert crop_resize(brain, (2, 3, 4), (8, 8, 8), (6, 7, 5)).shape == (1, 6, 7, 5)
    assert torch.equal(crop_resize(brain, (2, 3, 4), (8, 8, 8), (8, 8, 8)), brain[:, 2:10, 3:11, 4:12])
