from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from medssl.errors import UserError
from medssl.evaluation import site as site_probe
from medssl.evaluation.site import fit_site


def data(rows: int = 80, width: int = 6, sites: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    code = np.arange(rows) % sites
    features = rng.normal(size=(rows, width)) + rng.normal(size=(sites, width))[code]
    return features, np.array([f"s{c}" for c in code])


def test_probe_is_the_grid_search_of_the_challenge_and_silent() -> None:
    features, site = data()
    search = GridSearchCV(
        LogisticRegression(solver="saga", max_iter=150, random_state=7),
        {"C": 10.0 ** np.arange(-2, 3)},
        cv=5,
        scoring="balanced_accuracy",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(features[:60], site[:60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = fit_site(features[:60], site[:60], seed=7)
    assert probe.c == search.best_params_["C"]
    assert np.array_equal(probe.model[-1].coef_, search.best_estimator_.coef_)
    assert probe.predict(features[60:]).tolist() == search.predict(features[60:]).tolist()
    assert probe.levels == ("s0", "s1", "s2", "s3")


def test_voxels_in_the_basis_of_the_rows_follow_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    features, site = data(rows=50, width=300)
    features[:, 5:] *= 0.3
    plain = LogisticRegression(solver="saga", max_iter=30, tol=0.0, random_state=0)
    basis = np.linalg.qr(features[:40].T)[0]
    turned = LogisticRegression(solver="saga", max_iter=30, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain.fit(features[:40], site[:40])
        turned.fit(features[:40] @ basis, site[:40])
    assert np.allclose(plain.coef_ @ basis, turned.coef_, atol=1e-12)
    direct = fit_site(features[:40], site[:40])
    monkeypatch.setattr(site_probe, "WIDE", 100)
    rotated = fit_site(features[:40], site[:40])
    assert direct.basis_FR is None
    assert rotated.basis_FR is not None
    assert rotated.basis_FR.shape == (300, 40)
    assert (direct.predict(features[40:]) == rotated.predict(features[40:])).mean() >= 0.9


def test_small_sites_reduce_the_folds_and_say_so() -> None:
    features, _ = data(rows=9)
    probe = fit_site(features, ["a", "a", "a", "b", "b", "b", "c", "c", "c"])
    assert probe.folds == 3
    assert "3 folds instead of 5" in probe.notes[0]


def test_one_small_site_keeps_five_folds_and_is_named() -> None:
    features, _ = data(rows=20)
    probe = fit_site(features, ["a"] * 9 + ["b"] * 9 + ["c"] * 2)
    assert probe.folds == 5
    assert probe.notes == ("site probe: 1 of 3 sites has fewer than 5 training rows",)


@pytest.mark.parametrize("site", [["a", "b", "c"], ["a", "a", "a", "b"]])
def test_sites_of_one_row_are_fitted_without_a_search(site: list[str]) -> None:
    features, _ = data(rows=len(site))
    probe = fit_site(features, site)
    assert (probe.folds, probe.c) == (0, 1.0)
    assert set(probe.predict(features)) <= set(site)


def test_same_seed_same_result_with_any_number_of_threads() -> None:
    features, site = data()
    one, two = fit_site(features, site, seed=3), fit_site(features, site, seed=3, n_jobs=2)
    assert np.array_equal(one.model[-1].coef_, two.model[-1].coef_)
    assert not np.array_equal(one.model[-1].coef_, fit_site(features, site, seed=4).model[-1].coef_)


def test_a_single_site_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="at least two sites"):
        fit_site(np.ones((4, 2)), ["a"] * 4)
