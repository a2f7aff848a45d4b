from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from medssl.challenge.board import challenge_board
from medssl.challenge.folds import HELD_OUT, TEST, read_folds
from medssl.challenge.probes import fit_probes, in_order, predict_fold
from medssl.challenge.table import Board
from medssl.errors import UserError
from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.features.table import FeatureTable
from tests.evaluation.conftest import SITES, official
from tests.oracles.challenge_protocol import fold_scores

MakeCohort = Callable[..., FeatureTable]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One penalty instead of five: for tests that are not about the search."""
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])


def board(table: FeatureTable, **options: object) -> Board:
    given = {"resamples": 0, "every_site": False, **options}
    return challenge_board(table, {"features": table.values}, **given)  # type: ignore[arg-type]


def changed(table: FeatureTable, values: np.ndarray | None = None, **columns: object) -> FeatureTable:
    return FeatureTable(table.meta.assign(**columns), table.values if values is None else values)


def test_every_fold_and_both_test_sets_are_those_of_a_literal_transcription() -> None:
    table = official()
    table = FeatureTable(table.meta.drop(columns="fold2"), table.values)
    found = board(table, seed=3).lines["features"]
    z = table.values.astype(float)
    y = np.c_[table.meta["age"], pd.to_numeric(table.meta["site"], errors="coerce")]
    split = table.meta["split"].to_numpy()
    for k, parts in ((0, (TEST,)), (1, (HELD_OUT, TEST))):
        fold = table.meta[f"fold{k}"].to_numpy()
        for part in parts:
            column = fold if part == HELD_OUT else split
            internal, external = (np.flatnonzero(column == f"{name}_test") for name in ("internal", "external"))
            expected = fold_scores(z, y, np.flatnonzero(fold == "train"), internal, external, 3, SITES)
            said = found[part]["folds"][k]
            for name in ("mae_internal", "rmse_internal", "mae_external"):
                assert said[name] == pytest.approx(expected[name], abs=1e-12), (k, part, name)
            assert said["site_bacc"] == expected["site_bacc"], (k, part)
            assert said["challenge"] == pytest.approx(expected["challenge"], abs=1e-12)
    for part in (HELD_OUT, TEST):
        values = [fold["mae_external"] for fold in found[part]["folds"]]
        assert found[part]["mean"]["mae_external"] == pytest.approx(np.mean(values))
        assert found[part]["sd"]["mae_external"] == pytest.approx(np.std(values))


def test_probabilities_stand_in_the_column_of_their_site_and_unseen_sites_have_none() -> None:
    rng = np.random.default_rng(0)
    z, age = rng.normal(size=(40, 3)), rng.uniform(6, 86, 40)
    site = np.array([["10", "2", "7"][i % 3] for i in range(40)], dtype=object)
    probes = fit_probes(z, age, site, sites=["2", "10", "3", "7"])
    assert probes.sites == ("2", "3", "7", "10")
    probability = probes.site_probabilities(z)
    assert probability.shape == (40, 4)
    assert (probability[:, 1] == 0).all()
    assert probability.sum(1) == pytest.approx(1.0)
    assert set(probes.predict_site(z)) <= {"2", "7", "10"}


def test_wide_features_are_not_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_probe, "WIDE", 5)
    rng = np.random.default_rng(0)
    z, age = rng.normal(size=(20, 30)), rng.uniform(6, 86, 20)
    site = np.array(["a", "b"] * 10, dtype=object)
    assert fit_probes(z, age, site).site.basis_FR is None
    assert fit_probes(z, age, site, rotate=True).site.basis_FR is not None


def test_sites_are_ordered_as_numbers_before_names() -> None:
    assert in_order(["b", "10", "9", "", "a", "0"]) == ("0", "9", "10", "a", "b")


@pytest.mark.parametrize("scale", [0.0, 3.5])
def test_constant_features_score_one_over_sites_and_the_error_of_the_train_mean(scale: float) -> None:
    table = official()
    inside = (table.meta["site"] != "7").to_numpy()  # every site of the internal rows has training rows
    table = table.subset(inside)
    flat = changed(table, np.full((len(table), 4), scale))
    found = board(flat, only_folds=2)
    for name in ("features", "constant"):
        for k in range(2):
            fold, meta = found.lines[name][HELD_OUT]["folds"][k], table.meta
            mean = meta.loc[meta[f"fold{k}"] == "train", "age"].mean()
            for part in ("internal", "external"):
                age = meta.loc[meta[f"fold{k}"] == f"{part}_test", "age"]
                assert fold[f"mae_{part}"] == pytest.approx(np.abs(age - mean).mean(), rel=1e-9)
            assert fold["site_bacc"] == pytest.approx(1 / 6)  # seven sites, one of them external in the fold
    assert found.folds[0]["chance"] == pytest.approx(1 / 6)


@pytest.mark.usefixtures("quick")
def test_internal_rows_of_a_site_without_training_rows_are_misses_as_in_the_challenge() -> None:
    table = official()
    everything = board(table).lines["age_oracle"][TEST]["folds"][0]["site_bacc"]
    known = table.subset((table.meta["site"] != "7").to_numpy() & (table.meta["site"] != "0").to_numpy())
    classes = len(set(known.meta.loc[known.meta["split"] == "internal_test", "site"]))
    alone = board(known.subset(np.ones(len(known), dtype=bool))).lines["age_oracle"][TEST]["folds"][0]["site_bacc"]
    assert everything == pytest.approx(alone * classes / (classes + 2))  # sites 0 (external in fold 0) and 7


@pytest.mark.usefixtures("quick")
def test_rows_of_unknown_site_are_dropped_and_external_rows_are_never_scored_for_site() -> None:
    table = official()
    plain = board(table)
    external = (table.meta["split"] == "external_test").to_numpy()
    named = table.meta["site"].to_numpy().copy()
    named[external] = "a site that no probe has seen"
    assert (
        board(changed(table, site=named)).lines["features"][TEST]["folds"][0]["site_bacc"]
        == plain.lines["features"][TEST]["folds"][0]["site_bacc"]
    )
    row = int(np.flatnonzero(table.meta["split"] == "internal_test")[0])
    missing = table.meta["site"].to_numpy().copy()
    missing[row] = ""
    without = table.subset(np.arange(len(table)) != row)
    assert (
        board(changed(table, site=missing)).lines["features"][TEST]["folds"][0]["site_bacc"]
        == board(without).lines["features"][TEST]["folds"][0]["site_bacc"]
    )


def test_changing_test_rows_never_changes_the_fitted_probes() -> None:
    table = official()
    fold = read_folds(table.meta)[1]
    sites = in_order(fold.rows.site)
    one = predict_fold(fold.rows, table.values.astype(float), fold.asked, sites=sites)
    moved = np.flatnonzero(fold.asked)[::2]
    kept = np.flatnonzero(fold.asked)[1::2]
    values, meta = table.values.astype(float), table.meta.copy()
    values[moved] = 1e3
    meta.loc[moved, "age"] = 99.0
    external = meta["split"].to_numpy()[moved] == "external_test"
    meta.loc[moved, "site"] = np.where(external, "elsewhere", "5")
    again = read_folds(meta)[1]
    two = predict_fold(again.rows, values, again.asked, sites=sites)
    assert (one.alpha, one.c) == (two.alpha, two.c)
    assert np.array_equal(one.age[kept], two.age[kept])
    assert one.site[kept].tolist() == two.site[kept].tolist()
    assert not np.array_equal(one.age[moved], two.age[moved])


def test_an_external_site_with_training_rows_is_refused() -> None:
    table = official()
    site = table.meta["site"].to_numpy().copy()
    site[table.meta["split"] == "external_test"] = site[table.meta["split"] == "train"][0]
    with pytest.raises(UserError, match=r"1 site with external_test rows .* also have train rows, but external"):
        board(changed(table, site=site))


@pytest.mark.parametrize("part", ["internal_test", "external_test"])
@pytest.mark.parametrize("column", ["fold1", "split"])
def test_a_subject_on_both_sides_is_refused(column: str, part: str) -> None:
    table = official()
    subject = table.meta["participant_id"].to_numpy().copy()
    train = int(np.flatnonzero(table.meta["fold1"] == "train")[0])
    test = int(np.flatnonzero(table.meta[column] == part)[0])
    subject[test] = subject[train]
    words = rf"fold[01] as the split: subject {subject[train]} is in train .* and in (internal|external)_test"
    with pytest.raises(UserError, match=words):
        read_folds(changed(table, subject=subject).meta)


def test_a_test_row_of_the_split_in_a_fold_is_refused() -> None:
    table = official()
    fold = table.meta["fold2"].to_numpy().copy()
    fold[-1] = "train"
    with pytest.raises(UserError, match="is external_test in the column split but train in fold2"):
        read_folds(changed(table, fold2=fold).meta)


@pytest.mark.usefixtures("quick")
def test_without_fold_columns_the_split_is_the_one_fold_and_has_no_sd(make_cohort: MakeCohort) -> None:
    found = board(make_cohort())
    assert [fold["name"] for fold in found.folds] == ["split"]
    assert found.parts == [TEST]
    assert found.lines["features"][TEST]["sd"]["challenge"] is None
    assert "One fold, so no sd" in found.markdown()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": ""}, "make folds with --folds 3"),
        ({"site": ""}, "name no site, but the site probe needs at least 2"),
        ({"site": "here"}, r"name one site \(here\)"),
        ({"age": np.nan}, "0 training rows have an age, but cv=5"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(make_cohort: MakeCohort, change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        board(changed(make_cohort(), **change))


def test_too_few_rows_for_five_folds_are_refused(make_cohort: MakeCohort) -> None:
    with pytest.raises(UserError, match=r"split: 9 training rows have an age, but cv=5 with r2 needs 10"):
        board(make_cohort(train=9))
    with pytest.raises(UserError, match=r"largest of 4 sites has 3 training rows .* cv=5 stratified by site"):
        board(make_cohort(train=12))


def test_features_that_are_no_numbers_or_too_wide_are_refused(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    values = table.values.copy()
    values[3, 2] = np.inf
    with pytest.raises(UserError, match="features: the features of 1 rows are NaN or infinite: row 5"):
        board(changed(table, values))
    wide = np.zeros((len(table), 10_001), dtype=np.float32)
    with pytest.raises(UserError, match="10001 features, but the challenge admits at most 10000"):
        board(changed(table, wide))


@pytest.mark.usefixtures("quick")
def test_quick_says_what_it_left_out_and_scores_the_first_fold_alike() -> None:
    table = official()
    one, all_three = board(table, only_folds=1, reduced=("no intervals",)), board(table)
    assert one.reduced == ("1 of 3 folds", "no intervals")
    assert "**Reduced, not the full protocol: 1 of 3 folds; no intervals.**" in one.markdown()
    assert "Reduced" not in all_three.markdown()
    assert one.lines["features"][TEST]["folds"][0] == all_three.lines["features"][TEST]["folds"][0]


@pytest.mark.usefixtures("quick")
def test_record_is_plain_and_marks_what_the_challenge_does_not_have(tmp_path) -> None:
    import json

    found = board(official(), resamples=50, every_site=True)
    found.write(tmp_path)
    record = json.loads((tmp_path / "openbhb.json").read_text())
    assert list(record["lines"]) == ["features", "constant", "age_oracle", "site_median"]
    assert "within_site_r" in record["not_part_of_the_challenge"]
    text = (tmp_path / "openbhb.md").read_text()
    assert text.index("Test rows of the split") < text.index("Rows that each fold holds out")
    assert text.count("Columns that are not part of the challenge") == 2
    assert "Every site left out once (not part of the challenge)" in text
    assert "site median (not part of the challenge)" in text
    low, high = record["lines"]["features"][TEST]["ci"]["mae_external"]
    assert low < record["lines"]["features"][TEST]["mean"]["mae_external"] < high
    assert record["lines"]["age_oracle"][TEST]["mean"]["challenge"] < 1e-2
    assert record["lines"]["site_median"][TEST]["mean"]["site_bacc"] is None
