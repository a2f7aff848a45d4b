from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from medssl.errors import UserError
from medssl.evaluation.metrics import representation as rep


def isotropic(rows: int, dims: int, rank: int, seed: int = 0) -> np.ndarray:
    """Rows whose non-zero singular values are all equal and that have mean zero."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(np.c_[np.ones(rows), rng.normal(size=(rows, rank))])[0][:, 1:]
    right = np.linalg.qr(rng.normal(size=(dims, rank)))[0]
    return 7.0 * left @ right.T


@pytest.mark.parametrize("rank", [1, 3, 10, 32])
def test_isotropic_data_of_rank_r_have_rank_r(rank: int) -> None:
    z = isotropic(200, 32, rank)
    assert rep.rankme(z) == pytest.approx(rank, rel=1e-3)
    assert rep.effective_rank(z) == pytest.approx(rank, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12, 3e8])
def test_constant_rows_have_rank_one(value: float) -> None:
    z = np.full((300, 64), value)
    assert rep.rankme(z) == pytest.approx(1.0, abs=1e-3)
    assert rep.effective_rank(z) == pytest.approx(1.0, abs=1e-6)


def test_rankme_is_the_formula_of_the_paper() -> None:
    z = np.random.default_rng(3).normal(size=(90, 20)) * np.linspace(0.1, 2, 20)
    sigma = np.linalg.svd(z, compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert rep.rankme(z) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_ranks_do_not_change_when_every_row_is_given_twice_or_rescaled() -> None:
    z = np.random.default_rng(4).normal(size=(80, 50))
    for measure in (rep.rankme, rep.effective_rank):
        assert measure(np.r_[z, z]) == pytest.approx(measure(z), rel=1e-6)
        assert measure(1e-20 * z) == pytest.approx(measure(z), rel=1e-6)


def test_ranks_of_values_that_are_not_finite_are_nan() -> None:
    z = np.ones((4, 3))
    z[2, 1] = np.nan
    assert np.isnan([rep.rankme(z), rep.effective_rank(z), rep.uniformity(z)]).all()


def test_equal_views_are_aligned_and_opposite_views_are_two_apart() -> None:
    z = np.random.default_rng(0).normal(size=(30, 5))
    assert rep.alignment(z, 3.0 * z) == pytest.approx(0.0, abs=1e-30)
    assert rep.alignment(z, -z) == pytest.approx(4.0)
    assert rep.alignment(z, -z, alpha=1.0) == pytest.approx(2.0)


def test_collapsed_rows_have_uniformity_zero() -> None:
    assert rep.uniformity(np.tile([0.3, -2.0, 0.7], (40, 1))) == pytest.approx(0.0, abs=1e-12)


def test_an_antipodal_pair_has_uniformity_minus_eight() -> None:
    assert rep.uniformity([[0.6, 0.8], [-6.0, -8.0]]) == pytest.approx(-8.0, abs=1e-12)


def test_uniformity_is_the_mean_over_pairs_also_across_blocks() -> None:
    z = np.random.default_rng(1).normal(size=(1500, 6))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    expected = np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean())
    assert rep.uniformity(z) == pytest.approx(expected, rel=1e-10)


def test_uniformity_of_one_row_is_undefined() -> None:
    assert np.isnan(rep.uniformity([[1.0, 2.0]]))


def test_std_is_that_of_the_sphere_for_random_directions_and_zero_for_one_direction() -> None:
    z = np.random.default_rng(2).normal(size=(4000, 64))
    assert rep.std(z) == pytest.approx(1 / 8, rel=0.02)
    assert rep.std(np.outer(np.arange(1, 9), np.ones(16))) == pytest.approx(0.0, abs=1e-15)


def test_a_row_of_zeros_stays_zero() -> None:
    assert np.array_equal(rep.normalise([[0.0, 0.0], [0.0, 2.0]]), [[0.0, 0.0], [0.0, 1.0]])


def test_measures_are_quick_for_4096_rows() -> None:
    z = np.random.default_rng(0).normal(size=(4096, 256)).astype(np.float32)
    start = time.process_time()
    values = [rep.rankme(z), rep.effective_rank(z), rep.std(z), rep.uniformity(z), rep.alignment(z, z)]
    assert time.process_time() - start < 8.0
    assert np.isfinite(values).all()


def test_shapes_are_checked_in_words() -> None:
    with pytest.raises(UserError, match="matrix"):
        rep.std(np.ones(4))
    with pytest.raises(UserError, match="same scan"):
        rep.alignment(np.ones((3, 2)), np.ones((4, 2)))
