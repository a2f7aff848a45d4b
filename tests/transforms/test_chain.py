from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from medssl.transforms import Blur, Crop, Cutout, Flip, Noise, ZScore, apply_chain
from medssl.views import build_policy

MIXED = [
    {"blur": {"p": 0.7, "sigma": [0.1, 3.0]}},
    {"flip": {"p": 0.7, "axes": [0, 1, 2]}},
    {"lowres": {"p": 0.5, "factor": [1, 3], "same_factor": False}},
    {"crop": {"p": 0.7, "scale": [0.3, 1.0]}},
    {"affine": {"p": 0.5, "rotate": 0}},
    {"noise": {"p": 0.5, "sd": 0.3}},
    {"gamma": {"p": 0.5, "foreground": False}},
    {"crop": {"p": 0.5}},
    {"blur": {"p": 0.3, "foreground": True}},
    {"bias": {"p": 0.5, "foreground": False}},
    {"affine": {"p": 0.3}},
    {"cutout": {"p": 0.5, "value": 0.3}},
    {"crop": {"p": 0.5}},
]
CROP = {"start": [4, 0, 9], "size": [12, 20, 11]}


def one_by_one(x, policy, drawn):
    for slot, entry in zip(policy.slots, drawn, strict=True):
        if entry is not None:
            x = slot.transform.apply(x, entry["params"])
    return x


@pytest.mark.parametrize(
    "spec", ["yaware", "robust", "crop", "cutout", MIXED], ids=["yaware", "robust", "crop", "cutout", "mixed"]
)
@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (2, 41, 47, 39), (1, 5, 3, 4), (1, 40, 17, 66)])
def test_a_policy_equals_its_transforms_one_after_another(spec, shape, brain_of):
    x = brain_of(shape)
    before = x.clone()
    policy = build_policy(spec)
    for seed in range(10):
        drawn = policy.sample(np.random.default_rng(seed), shape)
        expected, got = one_by_one(x, policy, drawn), policy.apply(x, drawn)
        assert (got - expected).abs().max() <= 1e-5 * (expected.max() - expected.min() + 1e-3)
        assert got.is_contiguous()
        assert got.data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


@dataclass(frozen=True)
class Witness:
    """Changes nothing, and keeps the shapes of the parts that it was given."""

    name: ClassVar[str] = "witness"
    seen: list = field(default_factory=list)

    def sample(self, rng, shape):
        return {}

    def apply(self, x, params):
        return x.clone()

    def change_(self, part, params, start, shape):
        self.seen.append((tuple(start), tuple(part.shape[1:])))


def test_before_a_crop_only_its_box_is_made(brain):
    witness = Witness()
    steps = [(ZScore(), {}), (Flip(), {"axis": 0}), (Blur(), {"sigma": 1.0}), (witness, {}), (Crop(), CROP)]
    apply_chain(brain, steps)
    ((start, size),) = witness.seen
    assert all(a >= low for a, low in zip(start, CROP["start"], strict=True))
    assert all(a + n <= low + m for a, n, low, m in zip(start, size, *CROP.values(), strict=True))


def test_noise_and_cutout_before_a_crop_are_cropped_with_the_scan(brain):
    noise, hole = {"sd": 0.5, "seed": 3}, {"start": [8, 8, 8], "size": [9, 9, 9], "value": 7.0}
    y = apply_chain(brain, [(Noise(), noise), (Cutout(), hole), (Crop(), CROP)])
    expected = Crop().apply(Cutout().apply(Noise().apply(brain, noise), hole), CROP)
    moved = Cutout().apply(Noise().apply(Crop().apply(brain, CROP), noise), hole)
    assert torch.allclose(y, expected, atol=1e-5)
    assert (y - moved).abs().max() > 0.5


def test_a_transform_of_somebody_else_takes_part(brain):
    class Double:
        name = "double"

        def sample(self, rng, shape):
            return {}

        def apply(self, x, params):
            return x * 2

    y = apply_chain(brain, [(Double(), {}), (Crop(), CROP), (Double(), {})])
    assert torch.allclose(y, 4 * Crop().apply(brain, CROP), atol=1e-5)


def test_a_strided_scan_and_no_step_at_all(brain):
    strided = brain.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    steps = [(Noise(), {"sd": 0.1, "seed": 1}), (Crop(), CROP)]
    assert torch.equal(apply_chain(strided, steps), apply_chain(brain, steps))
    assert torch.equal(apply_chain(strided, []), brain)
    assert apply_chain(brain, []).data_ptr() != brain.data_ptr()
