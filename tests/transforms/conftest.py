from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor


def make_brain(shape: tuple[int, ...] = (1, 20, 24, 20), seed: int = 0) -> Tensor:
    """An ellipsoid of smooth texture, z-scored inside, exactly 0 outside."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape[1:]]
    radius = sum(g**2 for g in np.meshgrid(*axes, indexing="ij"))
    inside = np.broadcast_to(radius < 0.7, shape)
    texture = rng.standard_normal(shape) + 2 * np.cos(5 * radius)
    values = np.where(inside, texture, np.nan)
    mean = np.nanmean(values, axis=(1, 2, 3), keepdims=True)
    sd = np.nanstd(values, axis=(1, 2, 3), keepdims=True)
    return torch.from_numpy(np.nan_to_num((values - mean) / sd, nan=0.0).astype(np.float32))


@pytest.fixture
def brain() -> Tensor:
    return make_brain()


@pytest.fixture
def brain_of():
    return make_brain
