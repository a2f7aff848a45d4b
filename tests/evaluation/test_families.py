"""Families in scores: no family on both sides, intervals resample them, and without families nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.challenge.board import challenge_board
from medssl.challenge.extras import fold_intervals, leave_site_out, left_out_sites
from medssl.challenge.folds import TEST, read_folds
from medssl.errors import UserError
from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.evaluation.intervals import Prediction, judge
from medssl.evaluation.rows import read_rows
from medssl.evaluation.scorecard import scorecard
from medssl.features.table import FeatureTable
from tests.evaluation.conftest import official

MakeCohort = Callable[..., FeatureTable]
FAMILY = 6


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One penalty instead of five: for tests that are not about the search."""
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])


def with_meta(table: FeatureTable, **columns: object) -> FeatureTable:
    return FeatureTable(table.meta.assign(**columns), table.values, table.provenance)


def alone(table: FeatureTable) -> FeatureTable:
    """The table with every row another person."""
    return FeatureTable(table.meta.drop(columns="subject", errors="ignore"), table.values, table.provenance)


def families(table: FeatureTable) -> np.ndarray:
    """Families of six rows with one age and one error each, within their split; every third row has none."""
    number = np.arange(len(table)) // (FAMILY * 1.5)
    names = [f"{split}{k:.0f}" for split, k in zip(table.meta["split"], number, strict=True)]
    return np.where(np.arange(len(table)) % 3 == 2, "", names)


@pytest.mark.oddity("family-on-both-sides")
def test_a_family_on_both_sides_of_the_split_is_a_leak(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    family = np.full(len(table), np.nan)
    family[[6, 9]] = 12
    read_rows(with_meta(table, family=family).meta)
    family[[100, 153]] = 12  # row 101 is of the same person
    with pytest.raises(UserError) as told:
        read_rows(with_meta(table, family=family).meta)
    assert str(told.value).startswith(
        "family 12 is in train (row 8 (0006)) and in internal_test (row 102 (0100)) (and 2 more test rows): a family "
    )
    text = pd.Series(family, dtype=object).map({12.0: "12"}).to_numpy()
    text[[100, 153]] = ["12.0", ""]
    with pytest.raises(UserError, match="family 12 is in train"):
        read_rows(with_meta(table, Family=text).meta)


@pytest.mark.oddity("person-in-two-families")
def test_families_that_one_person_links_are_a_leak_too(make_cohort: MakeCohort) -> None:
    meta = make_cohort().meta
    meta["family"] = ""
    meta.loc[[6, 132], "family"] = ["F", "G"]
    read_rows(meta)
    bridge = pd.DataFrame(
        {"participant_id": ["b", "b"], "subject": ["b", "b"], "family": ["F", "G"], "split": ["", ""]}
    )
    with pytest.raises(UserError, match=r"through people who belong to two families, .*\(row 8 .*\(row 134 "):
        read_rows(pd.concat([meta, bridge], ignore_index=True))


@pytest.mark.oddity("family-names-of-two-datasets")
def test_equal_names_of_two_datasets_are_no_leak(make_cohort: MakeCohort) -> None:
    meta = make_cohort().meta
    meta["family"] = ""
    meta.loc[[5, 130], "family"] = "1"
    with pytest.raises(UserError, match=r"family 1 is in train .* fill the column dataset"):
        read_rows(meta)
    meta.loc[130, "dataset"] = "NAR"
    assert len(set(read_rows(meta).group)) == len(set(read_rows(meta).subject))


def test_intervals_resample_families_and_the_scores_stay(make_cohort: MakeCohort) -> None:
    table = alone(make_cohort())
    family = families(table)
    found = read_rows(with_meta(table, family=family).meta)
    single = read_rows(table.meta)
    label = np.where(family == "", table.meta["participant_id"], family)
    as_people = read_rows(with_meta(table, subject=label).meta)  # a family as one person: what must come out
    age = np.where(found.test, 40.0, np.nan)
    guess = np.random.default_rng(0).permutation(found.site)
    site = np.where(found.site_scored, guess, "").astype(object)
    said = Prediction(age, site)
    one, two, people = (judge(rows, said, seed=0, resamples=300) for rows in (found, as_people, single))
    assert one.metric == two.metric == people.metric
    for name in ("mae_internal", "mae_external", "site_bacc"):
        assert np.std(one.draws[name]) == pytest.approx(np.std(two.draws[name]), rel=0.2), name
        assert len(np.unique(one.draws[name])) > 10
    rows = found.group[found.internal]
    assert len(set(rows)) < 0.6 * len(rows)
    same = with_meta(table, family=[f"one-{split}" for split in table.meta["split"]])
    whole = judge(read_rows(same.meta), said, seed=0, resamples=50)
    assert np.ptp(whole.draws["mae_external"]) < 1e-12  # a single family is drawn every time
    assert np.ptp(whole.draws["site_bacc"]) < 1e-12


@pytest.mark.usefixtures("quick")
def test_a_scorecard_says_what_was_resampled(make_cohort: MakeCohort) -> None:
    table = alone(make_cohort())
    family = families(table)
    found = scorecard(with_meta(table, family=family), resamples=20)
    test = (table.meta["split"] != "train").to_numpy()
    groups = len(set(family[test]) - {""}) + (family[test] == "").sum()
    (note,) = [note for note in found.notes if "families" in note]
    assert note.startswith(f"intervals resample {groups} families of {test.sum()} people")
    assert "intervals resample families." in found.markdown()
    assert found.to_dict()["protocol"]["resampled"] == "families"
    without = scorecard(table, resamples=20)
    assert not [note for note in without.notes if "famil" in note]
    assert "intervals resample people." in without.markdown()
    assert "resampled" not in without.protocol
    assert without.main["mae_external"] == found.main["mae_external"]
    assert not [note for note in scorecard(with_meta(table, family=family), resamples=0).notes if "famil" in note]


def test_intervals_without_families_are_those_of_before(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    ci = scorecard(with_meta(table, family=np.nan), resamples=50).main["ci"]
    assert ci["mae_external"] == pytest.approx([4.695145481643712, 8.948451792835503], rel=1e-6)
    assert ci["site_bacc"] == pytest.approx([0.677318722943723, 0.9735937499999999], rel=1e-6)
    board = challenge_board(official(), {"h": official().values}, resamples=50, only_folds=1)
    assert board.lines["h"]["test"]["ci"]["mae_internal"] == pytest.approx(
        [4.01984413539951, 6.087230285462836], rel=1e-6
    )
    assert "samples of people (one" in board.markdown()


def test_a_family_is_one_draw_in_every_fold() -> None:
    table = official()
    family = (
        table.meta["split"].where(table.meta["split"] != "train", "").map({"internal_test": "F", "external_test": "F"})
    )
    parts = [fold.parts[TEST] for fold in read_folds(with_meta(table, family=family).meta)]
    said = [
        Prediction(np.where(rows.test, 40.0, np.nan), np.where(rows.test, "1", "").astype(object)) for rows in parts
    ]
    low, high = fold_intervals(parts, said, resamples=50, seed=0)["mae_internal"]
    assert high - low < 1e-9
    alone = [fold.parts[TEST] for fold in read_folds(table.meta)]
    low, high = fold_intervals(alone, said, resamples=50, seed=0)["mae_internal"]
    assert high - low > 1


def test_a_family_on_both_sides_of_a_fold_is_named_with_the_fold() -> None:
    table = official()
    out = np.flatnonzero(table.meta["fold1"] == "external_test")[0]
    inside = np.flatnonzero((table.meta["fold1"] == "train") & (table.meta["fold0"] == table.meta["fold0"][out]))[0]
    family = np.full(len(table), "", dtype=object)
    family[[out, inside]] = "F"
    with pytest.raises(UserError, match=r"fold1 as the split: family F is in train .* and in external_test"):
        read_folds(with_meta(table, family=family).meta)


@pytest.mark.usefixtures("quick")
def test_a_board_says_what_was_resampled() -> None:
    table = official()
    family = np.where(table.meta["split"] == "internal_test", np.arange(len(table)) // 2, np.nan)
    found = challenge_board(
        with_meta(table, family=family), {"h": table.values}, resamples=20, every_site=False, only_folds=1
    )
    notes = [note for note in found.notes if "resample" in note]
    assert len(notes) == 1  # the held-out rows of the folds have no families
    assert notes[0].startswith("Test rows of the split")
    assert "intervals resample 39 families of 54 people" in notes[0]
    assert "bootstrap samples of families (one sample" in found.markdown()


def test_leave_site_out_never_sees_the_families_of_the_site() -> None:
    table = official(tests=False)
    at = (table.meta["site"] == "2").to_numpy()
    family = np.full(len(table), "", dtype=object)
    kin = np.flatnonzero(at)[:5]
    abroad = np.flatnonzero(table.meta["site"] == "5")[:5]
    family[kin] = family[abroad] = [f"F{k}" for k in range(5)]
    meta = table.meta.assign(split=np.where(np.isin(table.meta["site"], ["2", "5"]), "internal_test", "train"))
    rows = read_rows(meta.assign(family=family).drop(columns=["fold0", "fold1", "fold2"]))
    used, _ = left_out_sites([rows])
    (median,) = leave_site_out(None, rows, used, ["2"])
    rest = ~at
    rest[abroad] = False
    assert (median[at] == np.median(rows.age[rest])).all()
    assert np.median(rows.age[rest]) != np.median(rows.age[~at])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".npz"])
@pytest.mark.oddity("family-numbers-with-gaps")
def test_a_family_survives_the_file_of_a_features_table(make_cohort: MakeCohort, tmp_path: Path, suffix: str) -> None:
    table = make_cohort()
    family = np.full(len(table), np.nan)
    family[[5, 9, 20]] = [1234567, 1234567, 1234568]
    for given in (
        family,
        pd.Series(family).map(lambda v: "" if np.isnan(v) else f"{v:.1f}"),
        ["" if np.isnan(v) else f"0{v:.0f}" for v in family],
    ):
        made = with_meta(table, family=given)
        path = made.write(tmp_path / f"f{suffix}")
        again = FeatureTable.read(path)
        assert read_rows(again.meta).group.tolist() == read_rows(made.meta).group.tolist()
        first = read_rows(again.meta).group
        assert first[5] == first[9] != first[20]
