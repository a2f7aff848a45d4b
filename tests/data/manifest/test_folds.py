from __future__ import annotations

import hashlib
import re

import numpy as np
import pandas as pd
import pytest

from medssl.data.manifest.folds import challenge_folds, split_cohort, split_notes, subject_folds
from medssl.errors import UserError
from medssl.tables.people import groups_of


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


def digest(cells: object) -> str:
    return hashlib.sha256("\n".join(map(str, np.ravel(np.asarray(cells)))).encode()).hexdigest()[:16]


def sides(groups: np.ndarray, split: pd.Series) -> pd.Series:
    """How many splits every group is in, rows of none left out."""
    used = (split != "").to_numpy()
    return split[used].groupby(groups[used]).nunique()


def siblings(table: pd.DataFrame) -> pd.DataFrame:
    """Every tenth person is a sibling of the next one in the table; numbers with gaps, as pandas saves them."""
    people = table["participant_id"].drop_duplicates().tolist()
    family = {person: float(k // 10) for k, person in enumerate(people) if k % 10 < 2}
    return table.assign(family=table["participant_id"].map(family))


def test_cohorts_without_families_are_divided_as_ever():
    assert digest(split_cohort(cohort(), seed=1)) == "d15bb9ae140b113d"
    assert digest(split_cohort(cohort(), external_sites=["s3"], seed=4)) == "fd7c5be51cd134b1"
    assert digest(challenge_folds(many_sites(), 3, seed=2)) == "4cf7fee4a753c5c8"
    nobody = cohort().assign(family=[np.nan, -9.0] * (len(cohort()) // 2))
    assert digest(split_cohort(nobody, seed=1)) == "d15bb9ae140b113d"


@pytest.mark.oddity("family-numbers-with-gaps")
@pytest.mark.parametrize("seed", range(5))
def test_a_family_is_in_one_split(seed):
    table = siblings(cohort())
    groups = groups_of(table)
    alone = split_cohort(table.drop(columns="family"), external_sites=["s9"], seed=seed)
    assert (sides(groups, alone) > 1).any()  # else this test says nothing
    split = split_cohort(table, external_sites=["s9"], seed=seed)
    assert (sides(groups, split) == 1).all()
    assert (sides(groups, split_cohort(table, seed=seed)) == 1).all()
    assert 0.12 < (split[table["site"] != "s9"] == "internal_test").mean() < 0.28


@pytest.mark.oddity("family-across-sites")
def test_a_family_with_a_scan_at_an_external_site_is_external_as_a_whole():
    table = cohort(sites=3, each=10, scans=1)
    table["family"] = ""
    table.loc[[0, 29], "family"] = "F"
    split = split_cohort(table, external_sites=["s2"])
    assert split.iloc[0] == ""
    assert split.iloc[29] == "external_test"
    assert (split.iloc[1:20] != "").all()
    everybody = table.assign(family=[f"F{k % 10}" for k in range(len(table))])
    with pytest.raises(UserError, match=r"or a relative\) has a scan at an external site"):
        split_cohort(everybody, external_sites=["s2"])


@pytest.mark.oddity("person-in-two-families")
@pytest.mark.parametrize("seed", range(6))
def test_families_that_share_a_person_stay_together(seed):
    table = cohort(sites=1, each=30, scans=2)
    table["family"] = ""
    people = table["participant_id"].drop_duplicates().tolist()
    for person, first, second in ((0, "F", "F"), (10, "F", "G"), (29, "G", "G")):  # 10 has a family at each visit
        table.loc[table["participant_id"] == people[person], "family"] = [first, second]
    split = split_cohort(table, internal_fraction=0.5, seed=seed)
    whole = table["participant_id"].isin([people[k] for k in (0, 10, 29)])
    assert split[whole].nunique() == 1


@pytest.mark.oddity("family-names-of-two-datasets")
def test_families_of_two_datasets_with_one_name_are_two():
    table = cohort(sites=2, each=40, scans=1).assign(family="1")
    table["dataset"] = table["site"].map({"s0": "A", "s1": "B"})
    split = split_cohort(table, external_sites=["s1"])
    assert set(split[table["dataset"] == "B"]) == {"external_test"}
    assert set(split[table["dataset"] == "A"]) == {"train"}
    one = table.assign(dataset="A")
    with pytest.raises(UserError, match="a relative"):
        split_cohort(one, external_sites=["s1"])


@pytest.mark.oddity("family-in-capitals")
def test_a_column_family_in_other_capitals_counts():
    table = siblings(cohort())
    other = table.rename(columns={"family": "Family"})
    assert split_cohort(other, seed=1).equals(split_cohort(table, seed=1))
    assert challenge_folds(other, 2).equals(challenge_folds(table, 2))


def test_a_challenge_fold_never_divides_a_family():
    table = siblings(many_sites())
    groups = groups_of(table)
    alone = challenge_folds(table.drop(columns="family"), 3)
    assert any((sides(groups, alone[name]) > 1).any() for name in alone)
    made = challenge_folds(table, 3)
    for name in made:
        assert (sides(groups, made[name]) == 1).all(), name
        assert set(made[name]) >= {"train", "internal_test", "external_test"}


def test_families_that_a_row_of_another_split_links_stay_together_in_the_folds():
    table = many_sites()
    table["family"], table["split"] = "", "train"
    pairs = {f"p{k}": f"F{k}" for k in range(0, 300, 10)} | {f"p{k}": f"G{k - 5}" for k in range(5, 300, 10)}
    table["family"] = table["participant_id"].map(pairs).fillna("")
    bridges = [{"participant_id": f"b{k}", "site": "s0", "age": 40.0, "split": "", "family": name}
               for k in range(0, 300, 10) for name in (f"F{k}", f"G{k}")]  # fmt: skip
    whole = pd.concat([table, pd.DataFrame(bridges)], ignore_index=True)
    groups = groups_of(whole)
    assert groups[0] == groups[10]  # p0 and p5
    made = challenge_folds(whole, 3)
    assert (made[len(table) :] == "").all(axis=None)
    assert all((sides(groups, made[name]) == 1).all() for name in made)


def test_folds_of_labels_keep_groups():
    people = [f"p{k}" for k in range(40)]
    groups = [f"F{k // 4}" if k < 20 else "" for k in range(40)]
    for fit, out in subject_folds(people, n=4, seed=1, groups=groups):
        assert not {groups[k] for k in fit} & {groups[k] for k in out} - {""}
        assert len(out)
    plain = [out.tolist() for _, out in subject_folds(people, n=4, seed=1)]
    assert [out.tolist() for _, out in subject_folds(people, n=4, seed=1, groups=[""] * 40)] == plain


@pytest.mark.oddity("family-that-is-none")
def test_the_notes_of_a_split_count_groups_and_name_what_can_be_no_family():
    table = siblings(cohort()).assign(subject=lambda t: t["participant_id"])
    (said,) = [n for n in split_notes(table.assign(split=split_cohort(table))) if "group" in n]
    assert said.startswith("20 groups of more than one person (family) hold 40 of 200 people")
    assert said.endswith("the largest has 2")
    yes = table.assign(family=np.where(table["age"] > 60, "yes", ""), split="train")
    assert any("names something else than relatives" in note for note in split_notes(yes))
    assert not [n for n in split_notes(table.drop(columns="family").assign(split="train")) if "group" in n]


@pytest.mark.parametrize(("site", "only"), [("A", r"one site \(A\)"), ("", "no site")])
def test_a_split_of_one_site_says_that_none_can_be_held_out(site, only):
    table = pd.DataFrame(
        {"participant_id": list("abcdef"), "site": site, "age": range(20, 26), "subject": list("abcdef")}
    )
    table["split"] = split_cohort(table)
    notes = split_notes(table, 0.2)
    assert re.search(f"the rows name {only}, so no site can be held out", " ".join(notes))
    assert "asked for" not in " ".join(notes)
