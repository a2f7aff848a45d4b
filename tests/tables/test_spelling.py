from __future__ import annotations

import numpy as np
import pytest

from medssl.tables.people import spelling_key
from medssl.tables.spelling import alike_names, alike_people, said_of_names, said_of_people

SAME = {
    "leading zeros": ("7", "007"),
    "a whole number": ("7", "7.0"),
    "capitals": ("ab1", "AB1"),
    "sub-": ("sub-ab1", "ab1"),
    "normal form": ("Ren\u00e9", "Rene\u0301"),
    "full-width digits": ("12", "\uff11\uff12"),
    "blanks": ("ab 1", "  ab\u00a0 1 "),
    "zero-width characters": ("ab1", "a\u200bb1\ufeff"),
    "a mark of direction": ("ab1", "\u200fab1"),
    "zeros behind letters": ("IXI012", "ixi12"),
    "a large number as a spreadsheet writes it": ("1200000", "1.2E+06"),
}
OTHERS = [
    ("1", "10"),
    ("a1", "b1"),
    ("Rene", "Ren\u00e9"),
    ("1.05", "1.5"),
    ("p1_2", "p12"),
    ("0", ""),
    ("12.5", "1.25e1"),
]


def pairs(ids, datasets=None, subjects=None, split=None, sources=None):
    n = len(ids)
    datasets = datasets or [""] * n
    subjects = subjects or [f"{d}/{i}" if d else i for i, d in zip(ids, datasets, strict=True)]
    split = np.array(split or ["train"] * n)
    return alike_people(ids, datasets, subjects, split == "train", split == "internal_test", sources)


@pytest.mark.parametrize("case", SAME)
def test_two_spellings_of_an_id_have_one_key_and_are_a_pair(case):
    one, other = SAME[case]
    assert spelling_key(one) == spelling_key(other)
    (found,) = pairs([one, "somebody", other])
    assert (found.one, found.other, found.apart) == (0, 2, False)


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_other_names_have_other_keys(one, other):
    assert spelling_key(one) != spelling_key(other)
    assert not pairs([one, other] if other else [one])


def test_a_pair_on_both_sides_is_preferred_with_the_training_row_first():
    (found,) = pairs(["1", "01", "001"], split=["internal_test", "internal_test", "train"])
    assert (found.one, found.other, found.apart) == (2, 0, True)
    words = said_of_people([found], ["row 4", "row 2"])
    assert words.startswith("two ids may be one person in two spellings ('001' at row 4 and '1' at row 2), and these")


def test_rows_of_one_person_are_no_pair():
    assert not pairs(["1", "1", "1"], split=["train", "internal_test", ""])
    assert not pairs(["1", "01"], subjects=["P", "P"])  # the column subject says so


def test_data_sets_tell_people_apart_where_both_are_named():
    assert not pairs(["1", "1", "01"], ["a", "b", "c"])
    assert len(pairs(["1", "01", "1"], ["a", "a", "b"])) == 1
    (found,) = pairs(["1", "1"], ["a", ""])
    assert found.names == ("'1' of a", "'1' without a dataset")
    assert len(pairs(["1", "1"], ["OpenBHB", "openbhb"])) == 1


def test_a_given_subject_counts_in_place_of_the_id():
    assert not pairs(["1", "01"], subjects=["anna", "bob"])
    assert len(pairs(["1", "2"], subjects=["anna", "Anna"])) == 1


def test_equal_ids_of_two_tables_are_told_apart_by_their_tables():
    (found,) = pairs(["7", "7"], subjects=["manifest1/7", "manifest2/7"], sources=["a.csv", "b.csv"])
    assert found.names == ("'7' of a.csv", "'7' of b.csv")


def test_ordinary_ids_of_many_data_sets_are_no_pairs():
    ids = [f"{k:03d}" for k in range(200) for _ in range(40)]
    assert not pairs(ids, [f"study{k}" for _ in range(200) for k in range(40)])


def test_names_of_sites_that_differ_in_spelling_alone_are_said_with_their_rows():
    assert alike_names(["1", "1.0", "Oslo", "Lund"]) == [("1", "1.0")]
    words = said_of_names(["Malm\u00f6", "Malmo\u0308", "Malm\u00f6"], "site")
    assert "'Malm\\xf6', 2 rows" in words
    assert "'Malmo\\u0308', 1 row" in words  # by eye they are one
    assert said_of_names(["a", "b"], "site") == ""
