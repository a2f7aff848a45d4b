from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.evaluation.harmonized import harmonized
from medssl.evaluation.rows import read_rows
from medssl.evaluation.scorecard import scorecard
from medssl.evaluation.scores import Scores
from medssl.features.table import FeatureTable
from medssl.harmonize.combat import ComBat
from medssl.harmonize.residual import Residual

MakeCohort = Callable[..., FeatureTable]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])


def short(table: FeatureTable, harmonize: object) -> Scores:
    return scorecard(table, resamples=0, harmonize=harmonize)  # type: ignore[arg-type]


def test_features_are_harmonised_by_the_train_rows_and_the_raw_ones_stay_as_a_row(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    rows = read_rows(table.meta)
    fit = rows.train
    combat = ComBat("none").fit(table.values[fit], site=rows.site[fit], covariates={"age": rows.age[fit]})
    by_hand = FeatureTable(table.meta, combat.transform(table.values, rows.site), {})
    found, expected, plain = short(table, ComBat("none")), short(by_hand, None), short(table, None)
    for metric in ("mae_internal", "mae_external", "site_bacc"):
        assert found.main[metric] == pytest.approx(expected.main[metric], rel=1e-3)
        assert found.references["unharmonised"][metric] == plain.main[metric]
    assert found.main["site_bacc"] < plain.main["site_bacc"]
    assert short(table, combat).main == found.main, "one that was fitted on exactly these rows is taken as it is"


@pytest.mark.parametrize("kind", [ComBat, Residual])
def test_one_that_was_fitted_on_all_rows_is_refused(make_cohort: MakeCohort, kind: type) -> None:
    table = make_cohort()
    site, age = table.meta["site"].to_numpy(), table.meta["age"].to_numpy()
    train = (table.meta["split"] == "train").to_numpy()
    for rows in (np.ones(len(site), bool), train | (table.meta["split"] == "internal_test").to_numpy(),
                 train & (np.arange(len(site)) > 0)):  # fmt: skip
        fitted = kind("none").fit(table.values[rows], site=site[rows], covariates={"age": age[rows]})
        with pytest.raises(UserError, match="fitted on other rows than the 90 training rows"):
            short(table, fitted)


def test_permuting_test_ages_does_not_change_test_features_or_predictions(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    test = np.flatnonzero(table.meta["split"] != "train")
    age = table.meta["age"].to_numpy().copy()
    age[test] = age[np.random.default_rng(0).permutation(test)]
    mixed = FeatureTable(table.meta.assign(age=age), table.values, {})
    raw = table.values.astype(float)
    one, two = (harmonized(ComBat("none"), raw, read_rows(t.meta), t.meta) for t in (table, mixed))
    assert (one.values[: test[0]] != raw[: test[0]]).any()
    np.testing.assert_array_equal(one.values, two.values)
    said = [short(t, ComBat("transductive")).predictions.query("features == 'encoder'") for t in (table, mixed)]
    np.testing.assert_array_equal(said[0]["predicted"], said[1]["predicted"])
    assert (said[0]["age"].to_numpy() != said[1]["age"].to_numpy()).any()


def test_changing_test_rows_changes_neither_the_fit_nor_other_rows(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    test = (table.meta["split"] != "train").to_numpy()
    rows = read_rows(table.meta)
    raw = table.values.astype(float)
    moved = np.where(test[:, None], 50.0 + raw, raw)
    for policy in ("none", "transductive"):
        one, two = (harmonized(ComBat(policy), x, rows, table.meta).values for x in (raw, moved))
        np.testing.assert_array_equal(one[~test], two[~test])


def test_unseen_sites_are_refused_by_default_with_the_remedy(make_cohort: MakeCohort) -> None:
    with pytest.raises(UserError, match=r"5 unseen sites \(site4, site5, site6, ...\).*'none'"):
        short(make_cohort(), ComBat())
    assert short(make_cohort(external=0), ComBat()).main["site_bacc"] is not None


@pytest.mark.parametrize(("policy", "said"), [("none", "uncorrected"), ("transductive", "transductive")])
def test_every_table_names_the_harmonisation_and_its_policy(make_cohort: MakeCohort, policy: str, said: str) -> None:
    scores = short(make_cohort(), ComBat(policy))
    text, record = scores.markdown(), scores.to_dict()
    assert f"| encoder, ComBat (unseen: {policy}) |" in text
    assert "| unharmonised |" in text
    assert f"Note: features were harmonised: ComBat, unseen sites: {policy}; fitted on 90 train rows" in text
    assert any("5 unseen sites" in note and said in note for note in record["notes"])
    assert record["protocol"]["harmonize"] == f"ComBat, unseen sites: {policy}; keeping age"
    assert "MAE on unseen sites, encoder minus unharmonised" in text
    assert short(make_cohort(), None).to_dict()["protocol"]["harmonize"] == "none"


def test_train_rows_without_an_age_take_no_part_in_the_fit_and_are_counted(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    age = table.meta["age"].to_numpy().copy()
    age[[3, 4]] = np.nan
    table = FeatureTable(table.meta.assign(age=age), table.values, {})
    scores = short(table, ComBat("none"))
    assert "2 train rows have no age and took no part in the fit of the harmonisation" in scores.notes
    nobody = FeatureTable(table.meta.assign(age=np.nan), table.values, {})
    assert "keeping no covariate" in short(nobody, ComBat("none")).protocol["harmonize"]


def test_sex_is_kept_where_every_train_row_has_one(make_cohort: MakeCohort) -> None:
    sex = np.array(["F", "M"])[np.random.default_rng(0).integers(0, 2, 166)].astype(object)
    assert short(make_cohort(sex=sex), ComBat("none")).protocol["harmonize"].endswith("keeping sex, age")
    sex[5] = ""
    partly = short(make_cohort(sex=sex), ComBat("none"))
    assert partly.protocol["harmonize"].endswith("keeping age")
    assert any("1 train row has no sex" in note for note in partly.notes)
    by_site = np.array(["F", "M"])[np.arange(166) % 2].astype(object)
    assert any("holds one sex only" in note for note in short(make_cohort(sex=by_site), ComBat("none")).notes)


def test_a_cohort_without_sites_cannot_be_harmonised(make_cohort: MakeCohort) -> None:
    with pytest.raises(UserError, match="no train row has a site"):
        short(make_cohort(site=""), ComBat("none"))
