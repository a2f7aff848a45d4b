"""Errors of a predicted number, in the unit of the label (years for age)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medssl.errors import UserError


def mae(true_N: ArrayLike, predicted_N: ArrayLike) -> float:
    """Mean absolute error ``mean |p - y|``; NaN where there is no row.

    >>> mae([20.0, 30.0], [21.0, 27.0])
    2.0
    """
    true, predicted = _pair(true_N, predicted_N)
    return float(np.abs(predicted - true).mean()) if true.size else float("nan")


def rmse(true_N: ArrayLike, predicted_N: ArrayLike) -> float:
    """Root of the mean squared error; NaN where there is no row.

    >>> rmse([20.0, 30.0], [23.0, 33.0])
    3.0
    """
    true, predicted = _pair(true_N, predicted_N)
    return float(np.sqrt(((predicted - true) ** 2).mean())) if true.size else float("nan")


def r2(true_N: ArrayLike, predicted_N: ArrayLike) -> float:
    """Share of variance explained, ``1 - sum (y - p)^2 / sum (y - mean y)^2``; NaN where all y are equal.

    >>> r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    0.0
    """
    true, predicted = _pair(true_N, predicted_N)
    spread = float(((true - true.mean()) ** 2).sum()) if true.size else 0.0
    return 1.0 - float(((true - predicted) ** 2).sum()) / spread if spread > 0 else float("nan")


def _pair(true_N: ArrayLike, predicted_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 (N,); UserError where the lengths differ."""
    true = np.asarray(true_N, dtype=np.float64)
    predicted = np.asarray(predicted_N, dtype=np.float64)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise UserError(
            f"true and predicted values have shapes {true.shape} and {predicted.shape}; "
            "both must be (N,), so pass one number per row"
        )
    return true, predicted
