"""The views of a batch together equal those of one volume after another, to 1e-4 of the range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.views import build_policy
from tests.transforms.test_chain import MIXED

SHAPES = [(1, 20, 24, 20), (2, 21, 17, 30)]


def batch(brain_of, shape, n=6):
    return torch.stack([brain_of(shape, seed) for seed in range(n)])


def largest(a, b):
    """Largest difference over the range of each volume."""
    axes = (1, 2, 3, 4)
    return ((a - b).abs().amax(axes) / (a.amax(axes) - a.amin(axes)).clamp(min=1e-3)).max()


@pytest.mark.parametrize("spec", ["yaware", "robust", "none", MIXED], ids=["yaware", "robust", "none", "mixed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_equals_its_volumes(spec, shape, brain_of):
    x = batch(brain_of, shape)
    before = x.clone()
    policy = build_policy(spec)
    for seed in range(4):
        drawn = [policy.sample(np.random.default_rng(10 * seed + b), shape) for b in range(len(x))]
        alone = torch.stack([policy.apply(x_b, d) for x_b, d in zip(x, drawn, strict=True)])
        together = policy.apply_batch(x, drawn)
        assert together.dtype == torch.float32
        assert largest(alone, together) < 1e-4
    assert torch.equal(x, before)


def test_a_constant_and_an_empty_volume_stay_as_finite_as_alone(brain_of):
    x = batch(brain_of, SHAPES[0])
    x[0], x[1] = 0.0, 2.5
    policy = build_policy(MIXED)
    drawn = [policy.sample(np.random.default_rng(b), SHAPES[0]) for b in range(len(x))]
    alone = torch.stack([policy.apply(x_b, d) for x_b, d in zip(x, drawn, strict=True)])
    assert torch.isfinite(policy.apply_batch(x, drawn)).all()
    assert largest(alone, policy.apply_batch(x, drawn)) < 1e-4


def test_what_has_no_batched_form_is_applied_to_each(brain_of):
    x = torch.randn(6, 1, 40, 1, 1, generator=torch.Generator().manual_seed(0))
    policy = build_policy("table")
    drawn = [policy.sample(np.random.default_rng(b), (1, 40, 1, 1)) for b in range(len(x))]
    alone = torch.stack([policy.apply(x_b, d) for x_b, d in zip(x, drawn, strict=True)])
    assert torch.allclose(policy.apply_batch(x, drawn), alone, atol=1e-5)


def test_mirrors_alone_keep_every_bit(brain_of):
    x = batch(brain_of, SHAPES[0])
    policy = build_policy([{"flip": {"p": 0.7, "axes": [0, 1, 2]}}])
    drawn = [policy.sample(np.random.default_rng(b), SHAPES[0]) for b in range(len(x))]
    assert torch.equal(
        policy.apply_batch(x, drawn), torch.stack([policy.apply(a, d) for a, d in zip(x, drawn, strict=True)])
    )


def test_neither_autocast_nor_coarse_products_reach_the_views(brain_of):
    x = batch(brain_of, (1, 40, 48, 40))
    policy = build_policy([{"crop": {"scale": 0.6}}, {"blur": {}}])
    drawn = [policy.sample(np.random.default_rng(b), (1, 40, 48, 40)) for b in range(len(x))]
    together, alone = policy.apply_batch(x, drawn), policy.apply(x[0], drawn[0])
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(policy.apply_batch(x, drawn), together)
        assert torch.equal(policy.apply(x[0], drawn[0]), alone)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_switch_for_coarse_products_on_gpus_is_neither_an_error_nor_lost(brain_of):
    x = batch(brain_of, SHAPES[0])
    policy = build_policy([{"crop": {"scale": 0.6}}])
    drawn = [policy.sample(np.random.default_rng(b), SHAPES[0]) for b in range(len(x))]
    before, expected = torch.backends.cuda.matmul.allow_tf32, policy.apply_batch(x, drawn)
    try:
        for allowed in (True, False):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            assert torch.equal(policy.apply_batch(x, drawn), expected)
            assert torch.backends.cuda.matmul.allow_tf32 == allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
