"""Small batches on which losses and oracles are compared."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from medssl.kernels import rbf
from medssl.losses.pairs import cosine, not_self, same, tile


def embeddings(rows, dim=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=dtype), dim=1)


def ages(scans, seed=0, ties=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 + seed)
    drawn = 10 + 60 * torch.rand(scans, generator=generator, dtype=dtype)
    if ties:
        drawn = (drawn / 15).round() * 15
    return drawn


def two_views(scans=5, views=2, sigma=8.0, tau=0.5, ties=False, seed=0, dtype=torch.float64):
    """Similarity, log-weight, valid, positives (same scan) of view-major rows; the similarity asks for gradient."""
    z = embeddings(scans * views, seed=seed, dtype=dtype)
    y = tile(ages(scans, seed, ties, dtype), views)
    sim = cosine(z, z, tau).requires_grad_()
    valid = not_self(len(z), len(z))
    scan = tile(torch.arange(scans), views)
    return sim, rbf(sigma)(y, y)[1], valid, same(scan, scan) & valid


def rectangle(rows=4, columns=9, sigma=8.0, tau=0.5, ties=False, seed=0):
    """Anchors against other candidates, with some pairs that must never be used."""
    sim = cosine(embeddings(rows, seed=seed), embeddings(columns, seed=seed + 1), tau).requires_grad_()
    logw = rbf(sigma)(ages(rows, seed, ties), ages(columns, seed + 1, ties))[1]
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(rows, columns, generator=generator) > 0.25
    return sim, logw, valid, (logw > -1.0) & valid
