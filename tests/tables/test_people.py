from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.tables.missing import without_missing
from medssl.tables.people import (
    bare,
    entity,
    families_of,
    family_cells,
    family_name,
    group_column,
    groups_of,
    id_and_session,
    kept_together,
    person_key,
    session_key,
    sizes_of,
    torn,
)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("sub-01", "01"),
        ("SUB-01", "01"),
        (" sub-01 ", "01"),
        ("01", "01"),
        (7, "7"),
        ("subject-1", "subject-1"),
        ("sub-", ""),
    ],
)
def test_a_label_without_its_key(label: object, text: str):
    assert bare(label, "sub") == text


@pytest.mark.parametrize(
    ("path", "key", "found"),
    [
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub", "sub-01"),
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "ses", "ses-2"),
        ("site-A/sub-x1/a.nii", "site", "site-A"),
        ("a\\sub-01\\t1.nii", "sub", "sub-01"),
        ("sub-01/sub-02_T1w.nii", "sub", "sub-02"),
        ("resub-01.nii", "sub", ""),
        ("IXI012-HH.nii", "sub", ""),
    ],
)
def test_the_last_label_of_a_path(path: str, key: str, found: str):
    assert entity(path, key) == found


def test_ids_meet_in_other_capitals_and_accents_but_keep_their_zeros():
    assert person_key("SUB-Ab1") == person_key("sub-aB1") == person_key("AB1")
    assert person_key("Jos\u00e9") == person_key("Jose\u0301")
    assert len({person_key(v) for v in ("1", "01", "001", "10", "sub-1x")}) == 5


def test_an_id_that_holds_a_session_is_parted():
    assert id_and_session("sub-01_ses-02") == ("sub-01", "ses-02")
    assert id_and_session("01 SES-m06") == ("01", "SES-m06")
    assert id_and_session("sub-01_run-1") == ("sub-01_run-1", "")
    assert id_and_session("ses-02") == ("ses-02", "")


@pytest.mark.parametrize(
    "same",
    [
        ("1", "01", "ses-1", "ses-01", "SES-001", 1, 1.0, "session 1"),
        ("M6", "m06", "M006", "ses-M06", "month 6", "months-06"),
        ("baseline", "BL", "bl", "ses-baseline", "M0", "M00", "month 0", "screening", "ses-M000"),
        ("V2", "visit 2", "visit-02", "ses-v02"),
        ("Y1", "year 1", "years_01"),
        ("T1", "timepoint 1", "tp1", "TP-01"),
        ("", "n/a", None, float("nan"), "ses-"),
        ("d0129", "D129", "ses-d0129"),
    ],
)
def test_spellings_of_one_session_meet(same: tuple[object, ...]):
    assert len({session_key(label) for label in same}) == 1


def test_different_sessions_stay_different():
    labels = ("1", "2", "10", "M1", "M12", "Y1", "V1", "T1", "baseline", "", "retest", "followup", "preop")
    assert len({session_key(label) for label in labels}) == len(labels)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (12, "12"), (12.0, "12"), ("12", "12"), ("12.0", "12"), (" 12.00 ", "12"), (np.float32(12), "12"),
        (np.int64(12), "12"),
        ("012", "012"), ("12.5", "12.5"), ("F12", "F12"), ("f12", "f12"), (0, "0"), (1234567.0, "1234567"),
        (None, ""), (np.nan, ""), (np.float32(np.nan), ""), (pd.NA, ""), ("", ""), ("n/a", ""), ("Unknown", ""),
        (-9, ""), (-9.0, ""), ("-99", ""), ("-999.0", ""), ("-1", "-1"),
    ],
)  # fmt: skip
def test_a_family_has_one_spelling_and_a_code_is_none(value: object, name: str):
    assert family_name(value) == name


def test_the_column_of_families_is_found_in_any_capitals():
    assert group_column(["a", "family"]) == "family"
    assert group_column(["FAMILY", "family"]) == "family"
    assert group_column(["a", "Family"]) == "Family"
    assert group_column(["FAMILY", "Family"]) == "FAMILY"  # family_cells looks into both
    assert group_column(["family_id", "familyname", 3]) is None


def test_without_families_the_labels_are_the_subjects():
    subjects = ["b", "a", 3, "b", np.str_("c")]
    for groups in (None, ["", None, np.nan, "n/a", "-9"]):
        labels = kept_together(subjects, groups)
        assert labels.dtype == object
        assert labels.tolist() == ["b", "a", "3", "b", "c"]
    assert kept_together([], []).tolist() == []


def test_people_of_a_family_share_the_label_of_its_first_person():
    assert kept_together(["a", "b", "c", "a"], ["", "F", "F", "F"]).tolist() == ["a", "a", "a", "a"]
    assert kept_together(["a", "b", "c", "d"], ["F", "", "F", "G"]).tolist() == ["a", "b", "a", "d"]


def test_a_person_links_two_families_wherever_the_row_stands():
    rows = [("a", "F"), ("b", "F"), ("b", "G"), ("c", "G"), ("d", "H"), ("e", "")]
    for order in range(20):
        shuffled = random.Random(order).sample(rows, len(rows))
        labels = kept_together([p for p, _ in shuffled], [f for _, f in shuffled])
        by_person = {person: label for (person, _), label in zip(shuffled, labels, strict=True)}
        assert by_person["a"] == by_person["b"] == by_person["c"]
        assert len({by_person[p] for p in "ade"}) == 3


def test_a_family_and_a_person_of_one_name_are_not_one():
    assert kept_together(["x", "y"], ["", "x"]).tolist() == ["x", "y"]


@pytest.mark.parametrize("seed", range(30))
def test_labels_are_the_connected_components(seed: int):
    rng = np.random.default_rng(seed)
    people = [f"p{k}" for k in rng.integers(0, 25, 40)]
    families = ["" if k > 12 else f"F{k}" for k in rng.integers(0, 25, 40)]
    together = np.equal.outer(people, people)  # the closure of "same person or same family", by brute force
    named = np.array(families)
    together |= np.equal.outer(named, named) & (named != "")[:, None]
    for _ in range(6):
        together = (together.astype(int) @ together.astype(int)) > 0
    labels = kept_together(people, families)
    assert (np.equal.outer(labels, labels) == together).all()
    assert set(labels) <= set(people)


def test_a_long_chain_is_one_group():
    people = [f"p{k // 2}" for k in range(20_000)]
    families = [f"F{(k + 1) // 2}" for k in range(20_000)]
    assert set(kept_together(people, families)) == {"p0"}


def test_families_count_within_their_dataset():
    table = pd.DataFrame(
        {"participant_id": list("abcd"), "family": [1.0, 1.0, 1.0, np.nan], "dataset": ["A", "A", "B", "B"]}
    )
    assert families_of(table).tolist() == ["A/1", "A/1", "B/1", ""]
    assert groups_of(table).tolist() == ["a", "a", "c", "d"]
    assert groups_of(table.drop(columns="dataset")).tolist() == ["a", "a", "a", "d"]
    assert groups_of(table.drop(columns="family")).tolist() == list("abcd")
    assert families_of(table.drop(columns="family")).tolist() == [""] * 4
    assert families_of(table.head(0)).tolist() == []


def test_groups_are_by_subject_where_there_is_one():
    table = pd.DataFrame(
        {"participant_id": ["1", "1", "2"], "subject": ["A/1", "B/1", "A/2"], "family": ["", "F", "F"]}
    )
    assert groups_of(table).tolist() == ["A/1", "B/1", "B/1"]


def test_a_family_999_is_one_and_minus_9_is_none():
    cells = ["1", "999", "-9", "n/a", "2"]
    assert without_missing(cells, "family")[0] == ["1", "999", "-9", "", "2"]
    assert [family_name(cell) for cell in cells] == ["1", "999", "", "", "2"]


def test_families_are_taken_from_whatever_columns_are_called_so():
    table = pd.DataFrame({"participant_id": list("abc"), "Family": ["F1", "", "-9"], "FAMILY": ["", "F1", ""]})
    assert family_cells(table) == ["F1", "F1", ""]
    assert groups_of(table).tolist() == ["a", "a", "c"]
    assert family_cells(table.assign(family="")) == ["F1", "F1", ""], "an empty family hides no other column"
    torn_in_two = table.assign(FAMILY=["", "F1", "F3"], Family=["F1", "F1", "F2"])
    with pytest.raises(UserError, match=r"'Family' and 'FAMILY' name two families of row 4 \(c\), 'F2' and 'F3';"):
        family_cells(torn_in_two)


def test_sizes_count_people_not_scans():
    people = ["a", "a", "b", "c", "d", "d"]
    groups = ["a", "a", "a", "c", "d", "d"]
    assert sizes_of(people, groups) == {"a": 2}
    assert sizes_of([], []) == {}


def test_a_torn_group_is_found_by_name_first():
    people = ["a", "b", "b", "c", "d", "e"]
    families = np.array(["F", "F", "G", "G", "H", "H"], dtype=object)
    groups = kept_together(people, families.tolist())
    one = np.array([1, 0, 0, 0, 1, 0], dtype=bool)
    other = np.array([0, 0, 0, 1, 0, 1], dtype=bool)
    found = torn(groups, families, one, other)
    assert found is not None
    assert (found.one, found.other, found.family, found.rows) == (4, 5, "H", 2)
    assert found.linked("train (x)", "test (y)") == "family H is in train (x) and in test (y)"
    other[5] = False
    found = torn(groups, families, one, other)
    assert found is not None
    assert (found.one, found.other, found.family, found.rows) == (0, 3, "", 1)
    assert found.linked("x", "y").startswith("through people who belong to two families")
    assert torn(groups, families, one, np.zeros(6, dtype=bool)) is None
    assert torn(groups, families, ~other, other) is not None
    assert torn(kept_together(people), np.full(6, "", dtype=object), one, other) is None


@pytest.mark.parametrize("spelling", ["V0", "v00", "ses-V00", "M00", "visit 0", "T0", "baseline", "bl"])
def test_every_spelling_of_the_first_visit_is_the_baseline(spelling):
    assert session_key(spelling) == "baseline"
