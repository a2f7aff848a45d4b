"""The solvers for many rows against the exact ones."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV

import medssl.evaluation.large as module
import medssl.evaluation.scorecard as card
import medssl.evaluation.site as probe
from medssl.evaluation.age import fit_age
from medssl.evaluation.large import LargeLogistic, fit_logistic, fit_ridge, softmax_regression
from medssl.evaluation.site import fit_site
from medssl.features.table import FeatureTable


def data(rows=403, width=12, sites=5, seed=0):
    rng = np.random.default_rng(seed)
    site = rng.integers(0, sites, rows)
    age = rng.uniform(20, 80, rows)
    x = rng.normal(size=(rows, width)) * rng.uniform(0.1, 5, width) + 100
    x[:, :4] += rng.normal(size=(sites, 4))[site] * 2
    x[:, 4:8] += age[:, None] * rng.normal(size=4) / 20
    return x, age, np.array([f"s{k}" for k in site], dtype=object)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rows", [403, 60])
def test_ridge_from_gram_matrices_is_the_grid_search(scale, seed, rows):
    x, age, _ = data(rows, seed=seed)
    exact, large = fit_age(x, age, scale=scale), fit_age(x, age, scale=scale, large=True)
    assert (large.alpha, large.folds) == (exact.alpha, exact.folds)
    new = data(50, seed=9)[0]
    np.testing.assert_allclose(large.predict(new), exact.predict(new), rtol=1e-7)
    assert large.predict(new[:0]).shape == (0,)


def test_ridge_survives_a_constant_and_a_doubled_feature():
    x, age, _ = data()
    x[:, 0], x[:, 1] = 3.0, x[:, 2]
    exact, large = fit_age(x, age, scale=True), fit_age(x, age, scale=True, large=True)
    np.testing.assert_allclose(large.predict(x), exact.predict(x), rtol=1e-6)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_softmax_regression_is_the_minimum_that_scikit_learn_finds(c):
    x, _, site = data(rows=600)
    x -= x.mean(0)
    code = np.unique(site, return_inverse=True)[1]
    found = softmax_regression(x, code, 5, c, np.zeros((13, 5)))
    known = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(x, code)
    share = LargeLogistic(np.zeros(12), found[:-1], found[-1]).predict_proba(x)
    np.testing.assert_allclose(share.sum(1), 1)
    np.testing.assert_allclose(share, known.predict_proba(x), atol=5e-3)


def test_chunks_do_not_change_softmax_regression(monkeypatch):
    x, _, site = data(rows=90, width=8, sites=3)
    code = np.unique(site, return_inverse=True)[1]
    one = softmax_regression(x - 100, code, 3, 0.1, np.zeros((9, 3)))
    monkeypatch.setattr(module, "_CHUNK", 7)
    np.testing.assert_allclose(softmax_regression(x - 100, code, 3, 0.1, np.zeros((9, 3))), one, atol=2e-3)


@pytest.mark.parametrize("scale", [False, True])
def test_the_large_site_probe_is_as_good_as_the_exact_one_and_says_so(scale):
    x, _, site = data(rows=1500, seed=3)
    new, _, true = data(rows=1500, seed=3)
    new = new + np.random.default_rng(8).normal(size=new.shape) * 0.1
    exact, large = fit_site(x, site, scale=scale), fit_site(x, site, scale=scale, large=True)
    one, two = (balanced_accuracy_score(true, p.predict(new)) for p in (exact, large))
    assert two > one - 0.03
    assert two > 0.4
    assert large.levels == exact.levels
    assert large.c in 10.0 ** np.arange(-2, 3)
    assert any("L-BFGS" in note for note in large.notes)
    assert large.predict(new[:0]).shape == (0,)


def test_c_is_searched_over_the_folds_of_the_exact_probe(monkeypatch):
    x, _, site = data(rows=100)
    code = np.unique(site, return_inverse=True)[1]
    code[17] = 5
    penalties, kept = 10.0 ** np.arange(-2, 3), []
    plain = softmax_regression
    monkeypatch.setattr(module, "softmax_regression", lambda x, *rest: kept.append(len(x)) or plain(x, *rest))
    model, _ = fit_logistic(x, code, penalties, seed=0, scale=False, folds=5)
    assert kept == [80] * 25 + [100]
    assert model.predict_proba(x).shape == (100, 6)
    kept.clear()
    regression = LogisticRegression(max_iter=5000, tol=1e-8)
    exact = GridSearchCV(regression, {"C": penalties}, cv=5, scoring="balanced_accuracy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact.fit(x - x.mean(0), site)
    assert (
        fit_logistic(x, np.unique(site, return_inverse=True)[1], penalties, seed=0, scale=False, folds=5)[1]
        == (exact.best_params_["C"])
    )


def test_of_many_rows_c_is_searched_on_a_part_and_a_rare_class_is_survived(monkeypatch):
    x, _, site = data(rows=500)
    code = np.unique(site, return_inverse=True)[1]
    code[17] = 5
    monkeypatch.setattr(module, "SEARCHED", 100)
    sizes = []
    plain = softmax_regression
    monkeypatch.setattr(module, "softmax_regression", lambda x, *rest: sizes.append(len(x)) or plain(x, *rest))
    model, _ = fit_logistic(x, code, 10.0 ** np.arange(-2, 3), seed=0, scale=False, folds=5)
    assert sizes == [80] * 5 + [500]
    assert model.predict_proba(x).shape == (500, 6)


def test_scaling_is_fitted_inside_the_folds():
    x, _, site = data(rows=300)
    code = np.unique(site, return_inverse=True)[1]
    one, c = fit_logistic(x, code, np.array([0.1]), seed=0, scale=True, folds=5)
    units = 10.0 ** np.arange(-6, 6)
    two, same = fit_logistic(x * units, code, np.array([0.1]), seed=0, scale=True, folds=5)
    assert c == same
    np.testing.assert_allclose(two.predict_proba(x * units), one.predict_proba(x), atol=2e-3)


def test_voxels_are_turned_into_the_span_of_their_rows_first(monkeypatch):
    monkeypatch.setattr(probe, "PENALTIES", np.array([0.1]))  # only the stopping rule sees a rotation
    x, _, site = data(rows=60, width=3000)
    turned = fit_site(x - 100, site, large=True)
    plain = fit_site(x - 100, site, large=True, rotate=False)
    assert turned.basis_FR is not None
    assert plain.basis_FR is None
    np.testing.assert_allclose(turned.probabilities(x - 100), plain.probabilities(x - 100), atol=2e-2)


def test_a_scorecard_uses_them_where_the_exact_ones_would_take_long(monkeypatch):
    x, age, site = data(rows=300)
    split = np.where(np.arange(300) < 200, "train", "internal_test")
    meta = pd.DataFrame({"participant_id": [f"p{k}" for k in range(300)], "age": age, "site": site, "split": split})
    table = FeatureTable(meta, x)
    exact = card.scorecard(table, resamples=20)
    assert not any("L-BFGS" in note for note in exact.notes)
    monkeypatch.setattr(card, "LARGE", 150)
    monkeypatch.setattr(card, "LONG", 200 * (12 + 6) * 5)
    large = card.scorecard(table, resamples=20)
    assert [note for note in large.notes if "L-BFGS" in note] == [
        "site probe: for 200 training rows of 12 features from 5 sites logistic regression is solved by L-BFGS, not by "
        "150 passes of SAGA as in the challenge"
    ]
    assert large.main["mae_internal"] == pytest.approx(exact.main["mae_internal"], rel=1e-5)
    assert large.main["site_bacc"] > exact.main["site_bacc"] - 0.1
    monkeypatch.setattr(card, "LONG", 200 * (12 + 6) * 5 + 1)
    assert not any("L-BFGS" in note for note in card.scorecard(table, resamples=20).notes)


def test_a_fold_of_one_age_still_chooses_an_alpha_by_its_errors():
    rng = np.random.default_rng(0)
    x_NF, age_N = rng.normal(size=(90, 40)), np.repeat([20.0, 40.0, 60.0], 30)
    with np.errstate(all="raise"):
        _, alpha = fit_ridge(x_NF, age_N, np.array([1e-2, 1e8]), 3, scale=True)
    assert alpha == 1e8  # noise: the mean is the best guess
