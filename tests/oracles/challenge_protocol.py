"""The OpenBHB protocol written out with scikit-learn alone, one fold: nothing of medssl is called here."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, mean_squared_error
from sklearn.model_selection import GridSearchCV


def fold_scores(
    z: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    internal: np.ndarray,
    external: np.ndarray,
    random_state: int,
    n_sites: int,
) -> dict[str, float]:
    """Scores of features z (N, F); y (N, 2) holds age and the site's number (NaN unknown); train etc.: row numbers."""
    age, site = y.T
    regression = GridSearchCV(Ridge(), param_grid={"alpha": [0.01, 0.1, 1.0, 10.0, 100.0]}, cv=5, scoring="r2")
    regression.fit(z[train], age[train])
    classifier = GridSearchCV(
        LogisticRegression(solver="saga", max_iter=150, random_state=random_state),
        param_grid={"C": [0.01, 0.1, 1.0, 10.0, 100.0]},
        cv=5,
        scoring="balanced_accuracy",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(z[train], site[train].astype(int))
    test = np.concatenate([internal, external])  # internal rows first, split_index tells them apart
    split_index = len(internal)
    age_predicted = regression.predict(z[test])
    probabilities = np.zeros((len(test), n_sites))
    probabilities[:, classifier.classes_] = classifier.predict_proba(z[test])
    label = probabilities.argmax(axis=1)
    true_label = np.array([-1 if np.isnan(s) else int(s) for s in site[test]])
    true_label, label = true_label[:split_index], label[:split_index]
    known = true_label != -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bacc = balanced_accuracy_score(true_label[known], label[known])
    mae_external = mean_absolute_error(age[test][split_index:], age_predicted[split_index:])
    return {
        "mae_internal": mean_absolute_error(age[test][:split_index], age_predicted[:split_index]),
        "rmse_internal": np.sqrt(mean_squared_error(age[test][:split_index], age_predicted[:split_index])),
        "mae_external": mae_external,
        "site_bacc": bacc,
        "challenge": bacc**0.3 * mae_external,
    }
