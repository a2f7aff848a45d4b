from __future__ import annotations

import doctest
from importlib import import_module

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.harmonize.build import build_harmonizer
from medssl.harmonize.residual import Residual
from tests.harmonize.test_combat import cohort


def test_the_site_part_of_a_regression_is_taken_out():
    x, site, covariates = cohort()
    design = np.c_[[site == s for s in ("bonn", "lyon", "oslo")]].T.astype(float)
    full = np.c_[design, covariates["sex"] == "M", np.float32(covariates["age"])]
    beta = np.linalg.lstsq(full, x, rcond=None)[0]
    expected = x - design @ beta[:3] + (design @ beta[:3]).mean(0)
    fitted = Residual().fit(x, site=site, covariates=covariates)
    np.testing.assert_allclose(fitted.transform(x, site), expected, atol=1e-8)
    np.testing.assert_allclose(fitted.transform(x, site, covariates), expected, atol=1e-8)


def test_site_means_are_equal_without_covariates_and_the_grand_mean_stays():
    x, site, _ = cohort()
    out = Residual().fit(x, site=site).transform(x, site)
    for name in np.unique(site):
        np.testing.assert_allclose(out[site == name].mean(0), x.mean(0), atol=1e-10)


def test_unseen_sites_follow_the_policy():
    x, site, covariates = cohort()
    new = np.where(np.arange(len(site)) < 9, "rome", site)
    with pytest.raises(UserError, match=r"Residual was not fitted on 1 unseen site \(rome\)"):
        Residual().fit(x, site=site).transform(x, new)
    none, guess = (Residual(unseen=p).fit(x, site=site, covariates=covariates) for p in ("none", "transductive"))
    np.testing.assert_array_equal(none.transform(x, new)[:9], x[:9])
    centre = guess.transform(x, new)[:9].mean(0)
    kept = guess.design_.mean_P @ guess.beta_PF
    np.testing.assert_allclose(centre, guess.mean_F + kept, atol=1e-8)
    assert "transductive" in guess.notes_[0]


def test_rows_without_a_site_stay_as_they_are_under_both_lenient_policies():
    x, site, _ = cohort()
    new = np.where(np.arange(len(site)) < 2, "", site)
    for policy in ("none", "transductive"):
        fitted = Residual(unseen=policy).fit(x, site=site)
        np.testing.assert_array_equal(fitted.transform(x, new)[:2], x[:2])
        assert fitted.notes_ == ("Residual leaves 2 rows without a site uncorrected",)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'combat'"):
        build_harmonizer("comat")
    with pytest.raises(UserError, match="did you mean 'transductive'"):
        build_harmonizer("residual", "transductiv")


@pytest.mark.parametrize("name", ["combat", "residual"])
def test_examples_print_their_numbers(name):
    module = import_module(f"medssl.harmonize.{name}")
    tests = [t for t in doctest.DocTestFinder().find(module, globs={**vars(module)}) if t.examples]
    assert tests
    assert sum(doctest.DocTestRunner().run(t).failed for t in tests) == 0
