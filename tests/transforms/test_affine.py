from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.transforms import Affine as MonaiAffine

from medssl.transforms import Affine

STILL = {"rotate": [0.0, 0.0, 0.0], "translate": [0.0, 0.0, 0.0], "scale": 1.0}


@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (2, 15, 11, 18)])
def test_equals_monai_affine(shape, brain_of):
    x = brain_of(shape)
    affine = Affine(rotate=(-20, 20), translate=(-0.1, 0.1), scale=(0.8, 1.2))
    for seed in range(4):
        params = affine.sample(np.random.default_rng(seed), shape)
        reference = MonaiAffine(
            rotate_params=[math.radians(a) for a in params["rotate"]],
            translate_params=params["translate"],
            scale_params=[1 / params["scale"]] * 3,
            padding_mode="border",
            mode="bilinear",
            image_only=True,
        )
        assert torch.allclose(affine.apply(x, params), reference(x).as_tensor(), atol=2e-4)


def test_no_movement_is_the_identity(brain):
    assert torch.allclose(Affine().apply(brain, STILL), brain, atol=1e-4)


def test_a_whole_voxel_translation_shifts_by_it(brain):
    y = Affine().apply(brain, STILL | {"translate": [2.0, 0.0, 0.0]})
    assert torch.allclose(y[:, :-2], brain[:, 2:], atol=1e-3)


def test_scale_is_a_magnification(brain):
    def filled(scale):
        return (Affine().apply(brain, STILL | {"scale": scale}).abs() > 1e-3).float().mean()

    assert filled(1.2) > filled(1.0) > filled(0.8)


def test_a_quarter_turn_about_an_axis_turns_the_array(brain_of):
    x = brain_of((1, 16, 16, 16))
    y = Affine(rotate=90).apply(x, STILL | {"rotate": [0.0, 0.0, 90.0]})
    turned = [torch.rot90(x, k, (1, 2)) for k in (1, 3)]
    assert min((y - t).abs().max().item() for t in turned) < 1e-3


def test_draws_stay_in_their_ranges_in_degrees_and_voxels():
    affine, rng = Affine(rotate=(-5, 5), translate=(-0.1, 0.1), scale=(0.9, 1.1)), np.random.default_rng(0)
    draws = [affine.sample(rng, (1, 20, 40, 10)) for _ in range(500)]
    rotate, shift = np.array([d["rotate"] for d in draws]), np.array([d["translate"] for d in draws])
    assert np.abs(rotate).max() <= 5
    assert np.abs(rotate).max() > 4.9
    assert (np.abs(shift).max(axis=0) <= [2, 4, 1]).all()
    assert (np.abs(shift).max(axis=0) >= [1.9, 3.8, 0.95]).all()
    assert all(0.9 <= d["scale"] <= 1.1 for d in draws)


def test_outside_the_volume_its_border_goes_on():
    y = Affine().apply(torch.full((1, 8, 8, 8), -0.6), STILL | {"translate": [3.0, 0.0, 0.0], "scale": 0.5})
    assert torch.allclose(y, torch.full_like(y, -0.6))
