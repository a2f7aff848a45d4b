from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from medssl.errors import UserError
from medssl.evaluation.metrics.regression import mae, r2, rmse


def test_errors_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(40, 20, 57), rng.normal(40, 20, 57)
    assert mae(true, predicted) == pytest.approx(sk.mean_absolute_error(true, predicted), rel=1e-12)
    assert rmse(true, predicted) ** 2 == pytest.approx(sk.mean_squared_error(true, predicted), rel=1e-12)
    assert r2(true, predicted) == pytest.approx(sk.r2_score(true, predicted), rel=1e-12)


def test_nothing_to_score_gives_nan() -> None:
    assert np.isnan([mae([], []), rmse([], []), r2([], [])]).all()


def test_r2_of_equal_labels_is_undefined() -> None:
    assert np.isnan(r2([3.0, 3.0], [1.0, 2.0]))


def test_different_lengths_are_refused_in_words() -> None:
    with pytest.raises(UserError, match="one number per row"):
        mae([1.0, 2.0], [1.0])
