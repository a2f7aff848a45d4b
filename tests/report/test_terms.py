from __future__ import annotations

import pytest

from medssl.report.terms import TERMS, Glossary


@pytest.mark.parametrize("term", TERMS, ids=lambda t: t.pattern.pattern)
def test_a_term_is_explained_in_one_sentence_that_uses_it(term):
    assert term.pattern.search(term.sentence)
    assert term.sentence.endswith(".")
    assert term.sentence.count(". ") == 0
    assert term.sentence[0].isupper()


def test_a_term_is_explained_once_and_so_are_the_terms_of_its_explanation():
    glossary = Glossary()
    first = glossary.explain("The challenge score is 3.")
    assert [s[:15] for s in first] == ["The challenge s", "The age error i", "Unseen sites ar", "Balanced accura"]
    assert glossary.explain("challenge score", "balanced accuracy", "unseen sites", "age error") == []


def test_a_word_that_only_contains_a_term_is_not_taken_for_it():
    assert Glossary().explain("encoders decoder mechance R20") == []
