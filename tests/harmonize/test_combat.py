from __future__ import annotations

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from neuroCombat import neuroCombat

from medssl.errors import UserError
from medssl.harmonize.base import rows_digest
from medssl.harmonize.combat import ComBat

NAMES = np.array(["oslo", "bonn", "lyon"])


def cohort(rows=60, features=7, seed=0):
    """Features with effects of age, sex and site (shift and spread); sites in shuffled order and unequal sizes."""
    rng = np.random.default_rng(seed)
    code = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    code[:6] = [0, 0, 1, 1, 2, 2]
    age, sex = rng.uniform(10, 80, rows), np.array(["F", "M"])[rng.integers(0, 2, rows)]
    noise = rng.normal(size=(rows, features)) * np.array([0.5, 1.0, 2.0])[code, None]
    x = noise + np.outer(age / 20, rng.normal(size=features)) + np.outer(sex == "M", rng.normal(size=features))
    return x + 3 * rng.normal(size=(3, features))[code], NAMES[code], {"age": age, "sex": sex}


def published(x, site, covariates, **options):
    frame = pd.DataFrame({"site": site, **covariates})
    with contextlib.redirect_stdout(io.StringIO()):
        return neuroCombat(
            x.T.copy(),
            frame,
            "site",
            categorical_cols=[c for c in covariates if c != "age"],
            continuous_cols=[c for c in covariates if c == "age"],
            **options,
        )["data"].T


@pytest.mark.parametrize("options", [{}, {"parametric": False}, {"eb": False}, {"mean_only": True}])
@pytest.mark.parametrize("kept", [(), ("age",), ("sex",), ("age", "sex")])
def test_training_rows_come_out_as_neurocombat_returns_them(options, kept):
    x, site, covariates = cohort()
    covariates = {name: covariates[name] for name in kept}
    ours = ComBat(**options).fit(x, site=site, covariates=covariates).transform(x, site, covariates)
    np.testing.assert_allclose(ours, published(x, site, covariates, **options), rtol=0, atol=1e-6)


def test_fit_transform_is_fit_then_transform_and_takes_a_frame():
    x, site, covariates = cohort()
    frame = pd.DataFrame(covariates)
    one = ComBat().fit_transform(x, site=site, covariates=frame)
    np.testing.assert_array_equal(one, ComBat().fit(x, site=site, covariates=covariates).transform(x, site, frame))


def test_a_row_is_corrected_alike_alone_and_among_others():
    x, site, covariates = cohort()
    fitted = ComBat().fit(x, site=site, covariates=covariates)
    whole = fitted.transform(x, site)
    for row in (0, 17, 59):
        np.testing.assert_allclose(fitted.transform(x[row : row + 1], site[row : row + 1])[0], whole[row], atol=1e-12)


def test_changing_test_rows_never_changes_the_fit_or_other_rows():
    x, site, covariates = cohort()
    train = np.arange(len(x)) < 40
    fitted = ComBat().fit(x[train], site=site[train], covariates={k: v[train] for k, v in covariates.items()})
    before, state = (
        fitted.transform(x, site),
        [fitted.shift_SF.copy(), fitted.variance_SF.copy(), fitted.beta_PF.copy()],
    )
    moved = x.copy()
    moved[~train] += 100
    after = fitted.transform(moved, site)
    np.testing.assert_array_equal(before[train], after[train])
    for old, new in zip(state, [fitted.shift_SF, fitted.variance_SF, fitted.beta_PF], strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_site_is_gone_and_the_age_effect_stays():
    x, site, covariates = cohort(rows=600)
    clean = ComBat().fit(x, site=site, covariates=covariates).transform(x, site, covariates)
    design = np.c_[site == "bonn", site == "lyon", covariates["sex"] == "M", covariates["age"], np.ones(len(x))]
    slope = [np.linalg.lstsq(design.astype(float), v, rcond=None)[0] for v in (x, clean)]
    assert np.abs(slope[1][:2]).max() < 0.1 < np.abs(slope[0][:2]).max()
    np.testing.assert_allclose(slope[1][3], slope[0][3], atol=5e-3)


def test_without_covariates_at_hand_rows_are_taken_at_the_training_mean():
    x, site, covariates = cohort()
    fitted = ComBat().fit(x, site=site, covariates=covariates)
    mean = np.float32(covariates["age"]).astype(float).mean()
    given = fitted.transform(x, site, {"age": np.full(len(x), mean), "sex": covariates["sex"]})
    np.testing.assert_allclose(fitted.transform(x, site, {"sex": covariates["sex"]}), given, atol=1e-6)
    assert np.abs(fitted.transform(x, site) - fitted.transform(x, site, covariates)).max() > 0.01


def test_the_result_does_not_depend_on_the_order_of_rows_or_the_names_of_sites():
    x, site, covariates = cohort()
    order = np.random.default_rng(1).permutation(len(x))
    plain = ComBat().fit(x, site=site, covariates=covariates)
    mixed = ComBat().fit(x[order], site=site[order], covariates={k: v[order] for k, v in covariates.items()})
    np.testing.assert_allclose(mixed.transform(x, site), plain.transform(x, site), atol=1e-8)
    assert mixed.fitted_on_ == plain.fitted_on_ == rows_digest(x, site)
    codes = np.searchsorted(np.sort(NAMES), site).astype(float)
    np.testing.assert_allclose(ComBat().fit(x, site=codes).transform(x, codes),
                               ComBat().fit(x, site=site).transform(x, site), atol=1e-12)  # fmt: skip


def test_the_digest_changes_with_any_row():
    x, site, _ = cohort()
    found = {rows_digest(x, site), rows_digest(x[:-1], site[:-1]), rows_digest(x, np.roll(site, 1))}
    x[3, 2] += 1e-9
    assert len(found | {rows_digest(x, site)}) == 4


def test_unseen_sites_are_an_error_unless_a_policy_is_named():
    x, site, covariates = cohort()
    new = np.where(np.arange(len(site)) < 5, "rome", site)
    for given, what in ((new, r"1 unseen site \(rome\)"), (np.where(new == "rome", "", site), "5 rows without")):
        fitted = ComBat().fit(x, site=site, covariates=covariates)
        with pytest.raises(UserError, match=rf"{what}.*'none'.*'transductive'"):
            fitted.transform(x, given)


def test_the_policy_none_leaves_unseen_rows_bit_for_bit_and_says_so():
    x, site, covariates = cohort()
    fitted = ComBat(unseen="none").fit(x, site=site, covariates=covariates)
    assert (fitted.transform(x, site) != x).all(axis=1).all()
    assert fitted.notes_ == ()
    new = np.where(np.arange(len(site)) < 5, "rome", site)
    out = fitted.transform(x, new)
    np.testing.assert_array_equal(out[:5], x[:5])
    np.testing.assert_array_equal(out[5:], fitted.transform(x, site)[5:])
    fitted.transform(x, new)
    assert fitted.notes_ == ("ComBat leaves 1 unseen site (rome) uncorrected",)


def test_the_transductive_policy_estimates_a_site_from_its_rows_and_flags_it():
    x, site, covariates = cohort(rows=300)
    known = site != "lyon"
    kept = {k: v[known] for k, v in covariates.items()}
    fitted = ComBat(unseen="transductive").fit(x[known], site=site[known], covariates=kept)
    out = fitted.transform(x, site, covariates)
    assert fitted.notes_ == ("ComBat estimated 1 unseen site (lyon) from the test rows themselves (transductive)",)
    plain = ComBat(unseen="none").fit(x[known], site=site[known], covariates=kept).transform(x, site, covariates)
    np.testing.assert_array_equal(out[known], plain[known])
    gap = [np.abs(v[~known].mean(0) - v[known].mean(0)).max() for v in (plain, out)]
    assert gap[1] < 0.2 * gap[0]
    few = np.where(np.arange(len(site)) == 0, "rome", site)
    with pytest.raises(UserError, match=r"site 'rome' was not fitted and has one row"):
        fitted.transform(x, few)


def test_the_transductive_estimate_of_a_fitted_site_is_that_of_the_fit():
    x, site, covariates = cohort()
    fitted = ComBat().fit(x, site=site, covariates=covariates)
    at = site == "bonn"
    kept_NP = fitted.design_.covariates(len(x), covariates)
    for found, expected in zip(fitted._guess("bonn", x[at], kept_NP[at]), fitted._effect("bonn"), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_constant_feature_passes_unchanged_and_is_listed():
    x, site, covariates = cohort()
    x[:, 3] = 5.5
    fitted = ComBat().fit(x, site=site, covariates=covariates)
    assert fitted.constant_.tolist() == [3]
    rest = np.arange(7) != 3
    out = fitted.transform(x, site, covariates)
    np.testing.assert_array_equal(out[:, 3], x[:, 3])
    np.testing.assert_allclose(out[:, rest], published(x[:, rest], site, covariates), atol=1e-6)
    moved = x.copy()
    moved[0, 3] = 9.0
    assert fitted.transform(moved, site)[0, 3] == 9.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, s, c: (x, np.where(np.arange(60) == 7, "rome", s), c), r"site 'rome' \(row 7\) has one"),
        (lambda x, s, c: (x, np.full(60, "oslo"), c), "every training row is of site 'oslo'"),
        (lambda x, s, c: (x, np.where(np.arange(60) == 4, "", s), c), r"row 4 \(1 such\) has no site"),
        (lambda x, s, c: (x, s[:-1], c), r"site has shape \(59,\) for 60 rows"),
        (lambda x, s, c: (x, s, {"age": np.where(np.arange(60) == 9, np.nan, c["age"])}),
         r"covariate 'age' of row 9 \(1 such\) is missing"),
        (lambda x, s, c: (x, s, {"sex": np.where(np.arange(60) == 9, "", c["sex"])}), r"covariate 'sex' of row 9"),
        (lambda x, s, c: (x, s, {"scanner": s}), r"the sites determine a covariate \(scanner\)"),
        (lambda x, s, c: (x, s, {"age": c["age"][:5]}), r"covariate 'age' has shape \(5,\)"),
        (lambda x, s, c: (np.where(np.arange(60)[:, None] == 2, np.nan, x), s, c), r"features of row 2 \(1 such\)"),
        (lambda x, s, c: (np.ones((60, 2)), s, c), "no feature changes"),
        (lambda x, s, c: (np.c_[x, np.unique(s, return_inverse=True)[1]], s, c), "feature 7 .* of the site alone"),
        (lambda x, s, c: (x[:, :1], s, c), "there is 1 feature that changes; set eb=False"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_one_sentence(change, message):
    x, site, covariates = change(*cohort())
    with pytest.raises(UserError, match=message) as caught:
        ComBat().fit(x, site=site, covariates=covariates)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_applied_is_one_sentence():
    x, site, covariates = cohort()
    with pytest.raises(UserError, match="is not fitted"):
        ComBat().transform(x, site)
    with pytest.raises(UserError, match="unseen is 'maybe'"):
        ComBat(unseen="maybe").fit(x, site=site)
    fitted = ComBat().fit(x, site=site, covariates=covariates)
    with pytest.raises(UserError, match="6 features are given, but ComBat was fitted on 7"):
        fitted.transform(x[:, :6], site)
    with pytest.raises(UserError, match="covariate 'sex' is 'X', which no training row has; it is one of F, M"):
        fitted.transform(x[:2], site[:2], {"sex": np.array(["X", "F"])})
    with pytest.raises(UserError, match="covariate 'age' of row 1"):
        fitted.transform(x[:2], site[:2], {"age": np.array([3.0, np.nan])})


def test_a_feature_that_stands_still_in_one_site_does_not_blow_up():
    x, site, _ = cohort()
    x[site == "lyon", 2] = 1.0
    assert np.abs(ComBat().fit(x, site=site).transform(x, site)).max() < 100
    with pytest.raises(UserError, match="no usable estimate for site 'lyon' in feature 2"):
        ComBat(eb=False).fit(x + 0.1, site=site)


def test_parameters_are_those_of_scikit_learn():
    assert ComBat(unseen="none", eb=False).get_params() == {
        "unseen": "none", "parametric": True, "eb": False, "mean_only": False,
    }  # fmt: skip
