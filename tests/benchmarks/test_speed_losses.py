"""What the loss benchmark compares is the same work."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import losses as bench
from medssl.losses.kernel import threshold
from medssl.losses.pairs import cosine
from tests.oracles.batches import two_views
from tests.oracles.kernel_cases import value_and_gradient


@pytest.mark.parametrize("ties", [False, True])
def test_the_cubic_reference_is_the_threshold_loss(ties):
    sim, logw, valid, _ = two_views(scans=6, ties=ties)
    ours = value_and_gradient(threshold, sim, logw, valid)
    for found, expected in zip(value_and_gradient(bench.cubic, sim, logw, valid), ours, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    torch.testing.assert_close(bench.on_matrix("entropy", 32)(), bench.on_matrix("ntxent", 32)(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["ntxent", *bench.KEYS])
def test_blocks_from_embeddings_do_the_work_of_the_matrix(name):
    z, *_ = bench.rows_of(32)
    z.requires_grad_()
    through = torch.autograd.grad(cosine(z, z, 0.1), z, bench.on_matrix(name, 32)())[0]
    torch.testing.assert_close(bench.by_blocks(name, 32)(), through, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", bench.VARIANTS)
def test_every_variant_runs_on_the_same_matrix(name):
    found = bench.on_matrix(name, 32)()
    assert found.shape == (32, 32)
    assert found.abs().sum() > 0
    sorted_rows = bench.on_matrix("thr", 32)()
    assert torch.allclose(found, sorted_rows, atol=1e-6) == (name == "thr_sorted")
