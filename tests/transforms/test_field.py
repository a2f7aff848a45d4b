from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medssl.transforms.field import add_field_, batch_field

SHAPE = (1, 41, 64, 50)


def field(seed, shape=SHAPE, sd=1.0):
    y = torch.zeros(shape)
    add_field_(y, seed, sd, (0, 0, 0), shape, False)
    return y


def test_values_are_standard_normal():
    z = field(3).numpy().ravel()
    assert abs(z.mean()) * z.size**0.5 < 4
    assert abs(z.var() - 1) * (z.size / 2) ** 0.5 < 4
    assert abs(stats.skew(z)) * (z.size / 6) ** 0.5 < 4
    assert abs(stats.kurtosis(z)) * (z.size / 24) ** 0.5 < 4
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert 4.0 < np.abs(z).max() < 4.9


@pytest.mark.parametrize("lag", [(1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (20, 0, 0)])
def test_neighbours_are_independent_in_value_and_in_size(lag):
    z = field(4)[0].double()
    a, b = z[tuple(slice(k, None) for k in lag)], z[tuple(slice(0, n - k) for n, k in zip(z.shape, lag, strict=True))]
    assert abs((a * b).sum()) / a.numel() ** 0.5 < 4
    assert abs(((a**2 - 1) * (b**2 - 1)).sum()) / 2 / a.numel() ** 0.5 < 5


def test_planes_channels_and_seeds_share_nothing():
    shape = (2, 31, 30, 40)
    seeds = [0, 1, 2, 3, 2**20, 2**32, 2**33, 2**52, 2**53 - 1]
    planes = torch.cat([field(s, shape).flatten(0, 1).flatten(1) for s in seeds]).double()
    r = planes @ planes.T / planes.shape[1] ** 0.5
    off = r[~torch.eye(len(r), dtype=torch.bool)]
    assert abs(off.std() - 1) < 0.02
    assert off.abs().max() < 6


@pytest.mark.parametrize(
    ("start", "size"), [((0, 0, 0), (41, 64, 50)), ((7, 11, 13), (20, 30, 30)), ((40, 0, 9), (1, 64, 1))]
)
def test_a_part_is_the_part_of_the_whole_bit_for_bit(start, size):
    shape = (2, *SHAPE[1:])
    part = torch.zeros(2, *size)
    add_field_(part, 9, 0.7, start, shape, False)
    d, h, w = (slice(a, a + n) for a, n in zip(start, size, strict=True))
    assert torch.equal(part, field(9, shape, 0.7)[:, d, h, w])


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 5, 3), (1, 7, 1, 1), (3, 6, 40, 30)])
def test_the_form_for_devices_gives_the_same_numbers(shape):
    seeds, sds = [5, 2**40 + 1, 0], [1.0, 0.2, 0.0]
    both = batch_field(seeds, sds, shape, torch.device("cpu"))
    one_by_one = torch.stack([field(s, shape, sd) for s, sd in zip(seeds, sds, strict=True)])
    assert torch.allclose(both, one_by_one, atol=3e-6)
    assert both[2].abs().max() == 0


def test_foreground_noise_is_the_same_noise_where_there_is_something():
    y = torch.zeros(SHAPE)
    y[:, 10:20, 5:60] = 2.0
    before = y.clone()
    add_field_(y, 3, 1.0, (0, 0, 0), SHAPE, True)
    assert torch.equal(y == 0, before == 0)
    assert torch.allclose(y, torch.where(before != 0, before + field(3), 0.0))


def test_the_numbers_are_pinned():
    """They may change only on purpose: every noisy view does with them."""
    z = field(12345, (1, 3, 2, 2)).flatten()
    assert torch.allclose(
        z[[0, 1, 4, 8, 11]], torch.tensor([-2.065091, 1.49378, 0.837332, 2.213948, -1.594718]), atol=1e-5
    )
