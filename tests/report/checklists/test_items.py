"""The numbers of the items against lists that were written down apart from the tables."""

from __future__ import annotations

import pytest

from medssl.report.checklists.claim import CLAIM
from medssl.report.checklists.item import Checklist
from medssl.report.checklists.tripod_ai import TRIPOD_AI

TRIPOD_NUMBERS = [
    *("1", "2", "3a", "3b", "3c", "4"),
    *("5a", "5b", "6a", "6b", "6c", "7", "8a", "8b", "8c", "9a", "9b", "9c", "10", "11"),
    *("12a", "12b", "12c", "12d", "12e", "12f", "12g", "13", "14", "15", "16", "17"),
    *("18a", "18b", "18c", "18d", "18e", "18f", "19"),
    *("20a", "20b", "20c", "21", "22", "23a", "23b", "24"),
    *("25", "26", "27a", "27b", "27c"),
]
DEVELOPMENT = ["9a", "12a", "12b", "12c", "15", "22", "27a", "27b"]
EVALUATION = ["12f", "12g", "20c", "24"]
TRIPOD_SECTIONS = {"Title": "1", "Abstract": "2", "Introduction": "3a", "Methods": "5a", "Open science": "18a",
                   "Patient and public involvement": "19", "Results": "20a", "Discussion": "25"}  # fmt: skip
CLAIM_SECTIONS = {"Title / Abstract": 1, "Abstract": 2, "Introduction": 3, "Methods": 5, "Results": 35,
                  "Discussion": 40, "Other Information": 42}  # fmt: skip
CLAIM_TOPICS = {"Study Design": 5, "Data": 7, "Reference Standard": 14, "Data Partitions": 19, "Testing Data": 21,
                "Model": 22, "Training": 25, "Evaluation": 28}  # fmt: skip
BOTH = pytest.mark.parametrize("checklist", [TRIPOD_AI, CLAIM], ids=lambda c: c.name)


def first_items(checklist: Checklist) -> dict[str, str]:
    """Section -> number of its first item; a section that comes twice is an error."""
    found: dict[str, str] = {}
    for before, item in zip([None, *checklist.items], checklist.items, strict=False):
        if before is None or before.section != item.section:
            assert item.section not in found
            found[item.section] = item.number
    return found


def test_tripod_ai_has_its_52_numbers_in_order():
    assert [i.number for i in TRIPOD_AI.items] == TRIPOD_NUMBERS
    assert len(TRIPOD_NUMBERS) == 52
    assert first_items(TRIPOD_AI) == TRIPOD_SECTIONS


def test_tripod_ai_says_which_items_are_for_development_or_evaluation_alone():
    assert [i.number for i in TRIPOD_AI.items if i.applies == "D"] == [
        "9a",
        "12a",
        "12b",
        "12c",
        "15",
        "22",
        "27a",
        "27b",
    ]
    assert [i.number for i in TRIPOD_AI.items if i.applies == "E"] == EVALUATION
    assert {i.applies for i in TRIPOD_AI.items} == {"D", "E", "D;E"}


def test_claim_has_its_44_numbers_in_order():
    assert [i.number for i in CLAIM.items] == [str(n) for n in range(1, 45)]
    assert first_items(CLAIM) == {section: str(n) for section, n in CLAIM_SECTIONS.items()}
    methods = [i for i in CLAIM.items if i.section == "Methods"]
    assert {i.topic: i.number for i in reversed(methods)} == {topic: str(n) for topic, n in CLAIM_TOPICS.items()}


@BOTH
def test_every_item_has_a_subject_and_a_question_of_its_own(checklist: Checklist):
    for words in ([i.subject for i in checklist.items], [i.question for i in checklist.items]):
        assert len(set(words)) == len(words)
        assert all(w[0].isupper() for w in words)
    assert all("?" in i.question for i in checklist.items)


@BOTH
def test_the_source_and_what_the_numbers_were_compared_with_are_named(checklist: Checklist):
    assert checklist.doi.startswith("10.")
    assert "2024" in checklist.citation
    assert "compared" in checklist.verified


@pytest.mark.parametrize(
    ("checklist", "numbers"),
    [(TRIPOD_AI, "2 3a 3b 3c 5b 6b 6c 8c 17 18a 18b 18c 18d 19 27c"), (CLAIM, "2 3 4 5 8 11 15 31 34 41 44")],
    ids=["tripod-ai", "claim"],
)
def test_what_a_run_cannot_know_is_left_to_the_authors(checklist: Checklist, numbers: str):
    """Ethics, funding, eligibility, dates, blinding, intended use: nothing in a run folder answers these."""
    assert [i.number for i in checklist.items if i.filler is None] == numbers.split()
