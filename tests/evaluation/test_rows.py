from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medssl.challenge.folds import read_folds
from medssl.errors import UserError
from medssl.evaluation import age as age_probe
from medssl.evaluation import site as site_probe
from medssl.evaluation.rows import read_rows
from medssl.evaluation.scorecard import scorecard
from medssl.features.table import FeatureTable

MakeCohort = Callable[..., FeatureTable]


def aged(table: FeatureTable, **ages: object):
    """The meta data with some ages changed: row3=..., as objects."""
    cells = table.meta["age"].astype(object).tolist()
    for row, age in ages.items():
        cells[int(row.removeprefix("row"))] = age
    return table.meta.assign(age=cells)


@pytest.mark.oddity("age-code")
@pytest.mark.parametrize("cell", [-9999, "-9999", 999.0, "n/a", "unknown"])
def test_codes_and_words_of_ages_are_never_scored(make_cohort: MakeCohort, cell: object) -> None:
    rows = read_rows(aged(make_cohort(), row3=cell))
    assert np.isnan(rows.age[3])
    assert rows.count()["age_missing_train"] == 1
    said = [note for note in rows.notes if "codes of missing values" in note]
    assert len(said) == (str(cell).strip("-.0") in ("9999", "999"))


@pytest.mark.oddity("age-impossible-in-use")
def test_a_stray_impossible_age_is_left_out_and_the_first_row_named(make_cohort: MakeCohort) -> None:
    rows = read_rows(aged(make_cohort(), row3=-3.0, row5=452.0))
    assert np.isnan(rows.age[[3, 5]]).all()
    assert np.isfinite(rows.age).sum() == len(rows.age) - 2
    (said,) = [note for note in rows.notes if "left out: age" in note]
    assert said == "2 ages are left out: age -3 of row 5 (0003) is not between 0 and 120 years; correct the table"


@pytest.mark.oddity("age-unit-in-use")
def test_ages_in_another_unit_are_not_scored_but_refused(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    with pytest.raises(
        UserError, match=r"166 ages \(.*\) look like months, but ages are read as years; divide them by 12"
    ):
        read_rows(table.meta.assign(age=table.meta["age"] * 12))
    with pytest.raises(UserError, match="look like days"):
        read_folds(table.meta.assign(age=table.meta["age"] * 365.25))
    with pytest.raises(UserError, match=r"look like years of birth.*year of the scan less year of birth"):
        read_rows(table.meta.assign(age=2020 - table.meta["age"].round()))


@pytest.mark.oddity("age-code")
def test_a_code_as_age_leaves_the_scores_where_they_are_without_that_row(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(age_probe, "ALPHAS", [1.0])
    monkeypatch.setattr(site_probe, "PENALTIES", [1.0])
    table = make_cohort()
    unknown = FeatureTable(aged(table, row2=np.nan, row100=""), table.values)
    coded = FeatureTable(aged(table, row2=-9999.0, row100=-9999.0), table.values)
    one, other = scorecard(unknown, resamples=0), scorecard(coded, resamples=0)
    assert one.main["mae_external"] < 60
    for name, value in one.main.items():
        if isinstance(value, float):
            assert other.main[name] == value
    assert "2 ages of the table were left empty, being codes of missing values: -9999" in other.notes


@pytest.mark.oddity("words-for-missing")
def test_words_and_codes_are_no_sites_and_no_splits(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    site, split = table.meta["site"].tolist(), table.meta["split"].tolist()
    site[0], site[1], site[2] = "-", "Unknown", "-9"
    split[5] = "none"
    rows = read_rows(table.meta.assign(site=site, split=split))
    assert rows.site[:3].tolist() == ["", "", ""]
    assert len(rows.sites) == 4
    assert rows.count()["unassigned"] == 1


@pytest.mark.oddity("words-for-missing")
def test_folds_know_the_same_words(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    meta = table.meta.assign(fold0=["none", "?", *table.meta["split"].tolist()[2:]], fold1="n/a", split="-")
    (fold,) = read_folds(meta)
    assert fold.name == "fold0"
    assert fold.rows.count()["unassigned"] == 2


@pytest.mark.oddity("family-in-two-spellings")
def test_families_that_differ_in_spelling_alone_are_a_note(make_cohort: MakeCohort) -> None:
    table = make_cohort()
    split = table.meta["split"].to_numpy()
    train, test = (int(np.flatnonzero(mask)[0]) for mask in (split == "train", split == "internal_test"))
    family = [""] * len(split)
    family[train], family[test] = "F1", "f01"
    (note,) = [note for note in read_rows(table.meta.assign(family=family)).notes if "two spellings" in note]
    assert note.startswith("two families may be one family in two spellings ('F1' at row ")
    assert "in train and in a test split, a leak if they are one family" in note
