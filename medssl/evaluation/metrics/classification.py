"""Scores of a predicted class where classes are of unequal size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from medssl.errors import UserError


def balanced_accuracy(true_N: ArrayLike, predicted_N: ArrayLike) -> float:
    """Mean recall over the classes that occur in ``true_N``, a fraction in [0, 1]; NaN where there is no row.

    A prediction that is never true costs nothing but the recall of the class it was wrong about, as in
    scikit-learn's ``balanced_accuracy_score``.

    >>> balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"])
    0.5
    """
    true = np.asarray(true_N)
    predicted = np.asarray(predicted_N)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise UserError(
            f"true and predicted classes have shapes {true.shape} and {predicted.shape}; "
            "both must be (N,), so pass one class per row"
        )
    if not true.size:
        return float("nan")
    _, code_N = np.unique(true, return_inverse=True)
    hits_K = np.bincount(code_N, weights=(true == predicted).astype(np.float64))
    return float((hits_K / np.bincount(code_N)).mean())


def chance(labels_N: ArrayLike) -> float:
    """Balanced accuracy of guessing without looking: 1 / number of distinct labels; NaN where there is none.

    >>> chance(["a", "b", "b", "c", "d"])
    0.25
    """
    classes = len(np.unique(np.asarray(labels_N)))
    return 1.0 / classes if classes else float("nan")
