"""A run of separable transforms as three products equals the transforms one after another, and MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from monai.transforms import Compose, Resize, SpatialCrop
from monai.transforms import Flip as MonaiFlip

from medssl.transforms import Affine, Blur, Crop, Flip, LowRes, Noise
from medssl.transforms.fused import apply_taps, batch_matrices, batch_products, compose, identity, reach, separable

SHAPES = [(1, 20, 24, 20), (2, 41, 47, 39), (1, 70, 16, 33), (1, 5, 3, 4), (1, 9, 1, 1)]
STILL = Affine(rotate=0, translate=(-0.2, 0.2), scale=(0.7, 1.4))
RUNS = {
    "flip crop": [Flip(axes=(0, 1, 2)), Crop(scale=(0.3, 1.0), same_scale=False)],
    "blur crop": [Blur(sigma=(0.1, 3.0)), Crop(scale=0.75)],
    "crop blur flip": [Crop(scale=(0.5, 0.9)), Blur(), Flip(axes=(2,))],
    "lowres affine": [LowRes(factor=(1, 4), same_factor=False), STILL],
    "all": [Flip(axes=(1,)), STILL, Blur(), LowRes(), Crop(scale=(0.4, 1.0)), Flip(axes=(0,)), Blur(sigma=2.0)],
}


def whole(shape):
    return tuple((0, n) for n in shape[1:])


def fused(x, steps, dtype=torch.float32):
    maps = [separable(t, p, tuple(x.shape[1:])) for t, p in steps]
    taps = maps[0]
    for inner in maps[1:]:
        taps = compose(inner, taps)
    inside = reach(taps, whole(x.shape))
    d, h, w = (slice(a, b) for a, b in inside)
    return apply_taps(x[:, d, h, w], taps, inside, whole(x.shape), dtype)


def one_by_one(x, steps):
    for transform, params in steps:
        x = transform.apply(x, params)
    return x


def drawn(run, shape, seed):
    rng = np.random.default_rng(seed)
    return [(t, t.sample(rng, shape)) for t in RUNS[run]]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_equal_the_transforms_one_after_another(run, shape, brain_of):
    x = brain_of(shape) + 0.7 if shape[2] > 1 else torch.randn(shape)  # no empty border, so that borders count
    for seed in range(4):
        steps = drawn(run, shape, seed)
        expected = one_by_one(x, steps)
        assert (fused(x, steps) - expected).abs().max() < 1e-5 * (x.max() - x.min() + 1)


@pytest.mark.parametrize("shape", [(1, 20, 24, 20), (2, 41, 47, 39), (1, 24, 9, 50)])
@pytest.mark.parametrize("corner", ["low", "high", "middle"])
@pytest.mark.parametrize("sigma", [0.0, 1e-3, 0.4, 1.7])
def test_equals_monai_with_the_same_parameters(shape, corner, sigma, brain_of):
    x = brain_of(shape) + 0.7
    size = [max(1, round(0.6 * n)) for n in shape[1:]]
    room = [n - m for n, m in zip(shape[1:], size, strict=True)]
    start = {"low": [0, 0, 0], "high": room, "middle": [r // 2 for r in room]}[corner]
    kernel = gaussian_1d(torch.tensor(max(sigma, 1e-6)), approx="sampled", normalize=True)
    monai = Compose(
        [
            MonaiFlip(spatial_axis=1),
            lambda y: separable_filtering(y[None], [kernel] * 3, mode="replicate")[0],
            SpatialCrop(roi_start=start, roi_end=[a + n for a, n in zip(start, size, strict=True)]),
            Resize(spatial_size=shape[1:], mode="trilinear"),
        ]
    )
    steps = [(Flip(), {"axis": 1}), (Blur(), {"sigma": sigma}), (Crop(), {"start": start, "size": size})]
    expected = monai(x).as_tensor()
    assert (fused(x, steps) - expected).abs().max() < 1e-4 * (expected.max() - expected.min())


def test_mirrors_alone_keep_every_bit(brain):
    steps = [(Flip(), {"axis": 0}), (Flip(), {"axis": 2}), (Flip(), {"axis": None}), (Flip(), {"axis": 0})]
    assert torch.equal(fused(brain, steps), torch.flip(brain, (3,)))
    assert torch.equal(fused(brain, steps[2:3]), brain)


@pytest.mark.parametrize("run", RUNS)
def test_a_box_of_the_result_needs_what_it_reaches_only(run):
    x = torch.randn(1, 30, 34, 70, generator=torch.Generator().manual_seed(0))
    steps = drawn(run, tuple(x.shape), 1)
    taps = identity(tuple(x.shape[1:]))
    for transform, params in steps:
        taps = compose(separable(transform, params, tuple(x.shape[1:])), taps)
    box = ((3, 9), (20, 34), (31, 66))
    inside = reach(taps, box)
    spoiled = torch.full_like(x, float("nan"))
    d, h, w = (slice(a, b) for a, b in inside)
    spoiled[:, d, h, w] = x[:, d, h, w]
    part = apply_taps(spoiled[:, d, h, w], taps, inside, box)
    assert torch.allclose(part, fused(x, steps)[:, 3:9, 20:34, 31:66], atol=1e-5)


def test_results_do_not_share_memory_with_each_other_or_the_scan(brain):
    steps = drawn("all", tuple(brain.shape), 0)
    before = brain.clone()
    first = fused(brain, steps)
    kept = first.clone()
    fused(torch.zeros_like(brain), steps)
    assert torch.equal(first, kept)
    assert torch.equal(brain, before)


@pytest.mark.parametrize("run", RUNS)
def test_bfloat16_products_are_within_their_stated_error(run, brain_of):
    x = brain_of((1, 41, 47, 39))
    for seed in range(4):
        steps = drawn(run, tuple(x.shape), seed)
        exact, rough = fused(x, steps), fused(x, steps, torch.bfloat16)
        span = exact.max() - exact.min()
        assert rough.dtype == torch.float32
        assert 0 < (rough - exact).abs().max() < 0.02 * span
        assert (rough - exact).std() < 0.003 * span


def test_volumes_of_a_batch_have_their_own_matrices(brain_of):
    x = torch.stack([brain_of((2, 20, 24, 17), seed) for seed in range(3)])
    steps = [drawn("all", (2, 20, 24, 17), seed) for seed in range(3)]
    maps = []
    for some in steps:
        taps = identity((20, 24, 17))
        for transform, params in some:
            taps = compose(separable(transform, params, (20, 24, 17)), taps)
        maps.append(taps)
    made = batch_products(x, batch_matrices(maps, x.device))
    for y, volume, some in zip(made, x, steps, strict=True):
        assert torch.allclose(y, one_by_one(volume, some), atol=1e-5)


@pytest.mark.parametrize(
    ("transform", "params"),
    [
        (Affine(), {"rotate": [0.0, 1e-3, 0.0], "translate": [0.0] * 3, "scale": 1.0}),
        (Blur(foreground=True), {"sigma": 1.0}),
        (Noise(), {"sd": 1.0, "seed": 1}),
    ],
)
def test_what_is_not_separable_is_left_to_itself(transform, params):
    assert separable(transform, params, (4, 5, 6)) is None
