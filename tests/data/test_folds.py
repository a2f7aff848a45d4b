from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medssl.data.folds import challenge_folds, split_cohort, subject_folds
from medssl.errors import UserError


def cohort(sites: int = 10, each: int = 20, scans: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"participant_id": f"{site}-{person}", "site": f"s{site}", "age": age, "session": str(scan)}
        for site in range(sites)
        for person, age in enumerate(rng.uniform(10, 80, each))
        for scan in range(scans)
    ]
    return pd.DataFrame(rows)


def test_folds_never_share_a_subject_and_hold_every_row_out_once():
    subjects = np.repeat([f"p{k}" for k in range(23)], 3)
    held = []
    for fit, out in subject_folds(subjects, n=4, seed=3):
        assert not set(subjects[fit]) & set(subjects[out])
        assert len(fit) + len(out) == len(subjects)
        held += out.tolist()
    assert sorted(held) == list(range(len(subjects)))


def test_every_fold_covers_the_whole_range_of_ages():
    ages = np.random.default_rng(1).permutation(np.arange(100.0))
    for _, out in subject_folds(np.arange(100), ages, n=5, seed=0):
        assert len(out) == 20
        assert ages[out].min() < 5
        assert ages[out].max() >= 95
        assert abs(ages[out].mean() - 49.5) < 2


def test_missing_strata_are_spread_over_the_folds_too():
    ages = np.where(np.arange(40) % 2, np.nan, np.arange(40.0))
    assert [int(np.isnan(ages[out]).sum()) for _, out in subject_folds(range(40), ages, n=4)] == [5, 5, 5, 5]


def test_labels_can_be_strata():
    site = np.array(["a"] * 30 + ["b"] * 10)
    assert [int((site[out] == "b").sum()) for _, out in subject_folds(range(40), site, n=10)] == [1] * 10


def test_folds_are_a_function_of_the_seed():
    def outs(seed: int) -> list[list[int]]:
        return [out.tolist() for _, out in subject_folds(range(30), seed=seed)]

    assert outs(1) == outs(1)
    assert outs(1) != outs(2)


@pytest.mark.parametrize(("n", "message"), [(1, "2 or more"), (9, "at least 9 subjects")])
def test_impossible_numbers_of_folds_are_refused(n, message):
    with pytest.raises(UserError, match=message):
        list(subject_folds(range(8), n=n))


def test_external_sites_are_whole_and_seen_nowhere_else():
    table = cohort()
    split = split_cohort(table, seed=1)
    external = set(table["site"][split == "external_test"])
    assert len(external) == 2
    assert (split[table["site"].isin(external)] == "external_test").all()
    assert set(split) == {"train", "internal_test", "external_test"}


def test_no_subject_is_in_two_splits():
    table = cohort()
    split = split_cohort(table, seed=5)
    assert (split.groupby(table["participant_id"]).nunique() == 1).all()


def test_internal_test_has_its_share_of_every_site_and_of_the_ages():
    table = cohort(sites=8, each=40, scans=1)
    split = split_cohort(table, external_sites=[], internal_fraction=0.25)
    share = (split == "internal_test").groupby(table["site"]).mean()
    assert share.between(0.2, 0.3).all()
    ages = table["age"].groupby(split).mean()
    assert abs(ages["train"] - ages["internal_test"]) < 3


def test_named_sites_are_external():
    table = cohort()
    split = split_cohort(table, external_sites=["s3"])
    assert set(table["site"][split == "external_test"]) == {"s3"}


def test_a_single_site_has_no_external_part():
    assert set(split_cohort(cohort(sites=1))) == {"train", "internal_test"}
    assert set(split_cohort(cohort().drop(columns=["site", "age"]))) == {"train", "internal_test"}


def test_of_two_sites_one_stays_for_training():
    table = cohort(sites=2)
    assert table["site"][split_cohort(table) == "external_test"].nunique() == 1


def test_other_scans_of_an_external_traveller_are_used_nowhere():
    table = cohort(sites=3, each=10, scans=1)
    table.loc[0, "participant_id"] = table["participant_id"].iloc[-1]
    split = split_cohort(table, external_sites=["s2"])
    assert split.iloc[0] == ""
    assert split.iloc[-1] == "external_test"


def test_a_split_is_a_function_of_the_seed():
    table = cohort()
    assert split_cohort(table, seed=1).equals(split_cohort(table, seed=1))
    assert not split_cohort(table, seed=1).equals(split_cohort(table, seed=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"external_sites": ["mars"]}, "'mars' is not in the table"),
        ({"external_sites": [f"s{k}" for k in range(10)]}, "nothing left to train on"),
        ({"internal_fraction": 1.0}, "below 1"),
        ({"external_fraction": -0.1}, "at least 0"),
    ],
)
def test_impossible_splits_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        split_cohort(cohort(), **arguments)


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed must be 0 or more, not -1"):
        split_cohort(cohort(), seed=-1)
    with pytest.raises(UserError, match="seed must be 0 or more, not -2"):
        next(subject_folds(range(10), seed=-2))


def many_sites(rows: int = 600, sites: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "participant_id": [f"p{i // 2}" for i in range(rows)],  # two scans of each person
            "site": [f"s{(i // 2) % sites}" for i in range(rows)],
            "age": rng.uniform(6, 86, rows),
        }
    )


def test_challenge_folds_have_the_sizes_of_the_official_ones_and_other_external_sites() -> None:
    table = many_sites()
    folds = challenge_folds(table, seed=1)
    assert list(folds) == ["fold0", "fold1", "fold2"]
    abroad = []
    for name in folds:
        share = folds[name].value_counts(normalize=True)
        assert share["train"] == pytest.approx(0.81, abs=0.02)
        assert share["internal_test"] == pytest.approx(0.09, abs=0.01)
        assert share["external_test"] == pytest.approx(0.10, abs=0.02)
        external = set(table.loc[folds[name] == "external_test", "site"])
        assert not external & set(table.loc[folds[name] != "external_test", "site"])
        assert set(table.loc[folds[name] == "internal_test", "site"]) <= set(table.loc[folds[name] == "train", "site"])
        assert table.assign(part=folds[name]).groupby("participant_id")["part"].nunique().max() == 1
        abroad.append(external)
    assert not abroad[0] & abroad[1] | abroad[0] & abroad[2] | abroad[1] & abroad[2]
    assert folds.equals(challenge_folds(table, seed=1))
    assert not folds.equals(challenge_folds(table, seed=2))


def test_challenge_folds_divide_the_train_rows_of_a_split_only() -> None:
    table = many_sites().assign(split=["train"] * 400 + ["internal_test"] * 100 + [""] * 100)
    folds = challenge_folds(table)
    assert (folds.iloc[400:] == "").all().all()
    assert (folds.iloc[:400] != "").all().all()


def test_three_large_sites_are_external_in_turn() -> None:
    table = many_sites(sites=3)
    folds = challenge_folds(table)
    assert {name for f in folds for name in table.loc[folds[f] == "external_test", "site"]} == {"s0", "s1", "s2"}


def test_challenge_folds_need_three_sites() -> None:
    with pytest.raises(UserError, match=r"name 2 sites, but a fold needs"):
        challenge_folds(many_sites(sites=2))
