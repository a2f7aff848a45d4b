from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from medssl.errors import UserError
from medssl.evaluation.metrics.classification import balanced_accuracy, chance


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    true = rng.choice(list("abcd"), 200, p=[0.7, 0.1, 0.1, 0.1])
    predicted = rng.choice(list("abcd"), 200)
    assert balanced_accuracy(true, predicted) == pytest.approx(balanced_accuracy_score(true, predicted), rel=1e-12)


def test_a_predicted_class_that_is_never_true_has_no_recall_of_its_own() -> None:
    assert balanced_accuracy(["a", "a", "b", "b"], ["a", "z", "b", "b"]) == 0.75


def test_one_answer_for_all_scores_chance() -> None:
    true = ["a"] * 90 + ["b"] * 9 + ["c"]
    assert balanced_accuracy(true, ["a"] * 100) == pytest.approx(chance(true))


def test_no_rows_give_nan() -> None:
    assert np.isnan(balanced_accuracy([], []))
    assert np.isnan(chance([]))


def test_different_lengths_are_refused_in_words() -> None:
    with pytest.raises(UserError, match="one class per row"):
        balanced_accuracy(["a"], ["a", "b"])
