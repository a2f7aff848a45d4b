from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.preprocessing import StandardScaler

from medssl.errors import UserError
from medssl.evaluation.age import fit_age


def data(rows: int = 60, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    age = rng.uniform(6, 86, rows)
    return rng.normal(size=(rows, width)) * np.geomspace(0.01, 100, width) + age[:, None] / 10, age


def test_probe_is_the_grid_search_of_the_challenge() -> None:
    features, age = data()
    search = GridSearchCV(Ridge(), {"alpha": 10.0 ** np.arange(-2, 3)}, cv=KFold(5, shuffle=False), scoring="r2").fit(
        features[:45], age[:45]
    )
    probe = fit_age(features[:45], age[:45])
    assert probe.alpha == search.best_params_["alpha"]
    assert np.array_equal(probe.predict(features[45:]), search.predict(features[45:]))
    assert (probe.folds, probe.notes) == (5, ())


def test_scaling_is_fitted_on_the_training_rows() -> None:
    features, age = data()
    probe = fit_age(features[:45], age[:45], scale=True)
    scaler = StandardScaler().fit(features[:45])
    expected = Ridge(alpha=probe.alpha).fit(scaler.transform(features[:45]), age[:45])
    assert np.allclose(probe.predict(features[45:]), expected.predict(scaler.transform(features[45:])))
    assert not np.allclose(probe.predict(features[45:]), fit_age(features[:45], age[:45]).predict(features[45:]))


def test_few_rows_reduce_the_folds_and_say_so() -> None:
    features, age = data()
    probe = fit_age(features[:7], age[:7])
    assert probe.folds == 3
    assert "3 folds instead of 5" in probe.notes[0]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_very_few_rows_are_fitted_without_a_search(rows: int) -> None:
    features, age = data()
    probe = fit_age(features[:rows], age[:rows])
    assert (probe.folds, probe.alpha) == (0, 1.0)
    assert np.isfinite(probe.predict(features)).all()
    assert "without" in probe.notes[0] or "too few" in probe.notes[0]


def test_constant_features_predict_the_mean_age() -> None:
    _, age = data()
    assert np.allclose(fit_age(np.ones((60, 1)), age).predict(np.ones((3, 1))), age.mean(), rtol=1e-12)


def test_threads_do_not_change_the_result() -> None:
    features, age = data()
    one, two = fit_age(features, age), fit_age(features, age, n_jobs=2)
    assert np.array_equal(one.predict(features), two.predict(features))


def test_missing_ages_are_refused_in_words() -> None:
    features, age = data()
    age[3] = np.nan
    with pytest.raises(UserError, match="rows without an age"):
        fit_age(features, age)
