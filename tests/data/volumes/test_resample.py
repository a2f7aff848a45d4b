from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medssl.data.volumes.resample import centred, fill_holes, nonzero_mask, otsu_threshold


def brain(shape=(20, 24, 18)):
    """Positive intensities inside an ellipsoid, 0 outside."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij"))
    return np.where((grid**2).sum(0) < 1, np.random.default_rng(0).random(shape) * 50 + 100, 0).astype(np.float32)


@pytest.mark.parametrize("shape", [(24, 24, 24), (10, 12, 9), (21, 11, 18), (1, 40, 3)])
def test_crop_and_pad_keep_the_centre_and_whole_voxels(shape):
    x = brain()
    out = centred(x, (1, 1, 1), shape)
    assert out.shape == shape
    for axis in range(3):
        n, m = x.shape[axis], shape[axis]
        if m >= n:
            before = (m - n) // 2
            assert not np.take(out, range(before), axis).any()
    if all(m >= n for n, m in zip(x.shape, shape, strict=True)):
        np.testing.assert_array_equal(centred(out, (1, 1, 1), x.shape), x)


def test_cropping_takes_the_middle():
    x = np.arange(6 * 6 * 6).reshape(6, 6, 6).astype(np.float32)
    np.testing.assert_array_equal(centred(x, (1, 1, 1), (2, 4, 6)), x[2:4, 1:5])
    padded = centred(x, (1, 1, 1), (8, 6, 7))
    np.testing.assert_array_equal(padded[1:7, :, :6], x)
    assert padded.sum() == x.sum()


def test_otsu_separates_head_from_air_like_the_definition_says():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(5, 2, 4000), rng.normal(100, 20, 1000)])
    count, edges = np.histogram(x, bins=256)
    centre = (edges[:-1] + edges[1:]) / 2
    scores = []
    for cut in range(1, 256):
        w0, w1 = count[:cut].sum(), count[cut:].sum()
        m0, m1 = np.average(centre[:cut], weights=count[:cut]), np.average(centre[cut:], weights=count[cut:])
        scores.append(w0 * w1 * (m0 - m1) ** 2)
    threshold = otsu_threshold(x)
    best = np.flatnonzero(np.isclose(scores, max(scores), rtol=1e-12)) + 1
    assert np.isclose(edges[best], threshold).any()
    assert 12 < threshold < 60


def test_only_background_that_is_cut_off_from_the_border_is_filled():
    hole = np.ones((5, 5, 5), bool)
    hole[2, 2, 2] = hole[0, 0, 0] = False
    filled = fill_holes(hole)
    assert filled[2, 2, 2]
    assert not filled[0, 0, 0]
    assert fill_holes(np.ones((2, 2, 2), bool)).all()
    assert not fill_holes(np.zeros((2, 2, 2), bool)).any()
    np.testing.assert_array_equal(nonzero_mask(brain()), brain() != 0)


@pytest.mark.parametrize("density", [0.02, 0.4, 0.75, 0.95])
def test_filling_is_scipys_for_masks_anywhere_in_the_grid(density):
    rng = np.random.default_rng(3)
    for low in rng.integers(0, 5, (20, 3)):
        mask = np.zeros((9, 8, 10), bool)
        size = rng.integers(1, 5, 3)
        place = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        mask[place] = rng.random(mask[place].shape) < density
        np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_linear_interpolation_reproduces_a_ramp_and_keeps_a_constant():
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], (20, 4, 4))
    out = centred(ramp, (0.5, 1, 1), (38, 4, 4))
    np.testing.assert_allclose(out[:, 0, 0], 9.5 + (np.arange(38) - 18.5) * 0.5, atol=1e-5)
    np.testing.assert_allclose(centred(np.full((9, 9, 9), 3.0), (2.5, 0.4, 1.7), (4, 22, 5)), 3, atol=1e-5)


def test_one_voxel_axes_can_be_resampled():
    assert centred(np.full((1, 3, 3), 2.0), (0.5, 1, 1), (2, 3, 3)).tolist() == np.full((2, 3, 3), 2.0).tolist()
