"""Warnings of the training in the summary: every kind once, in words of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

import medssl
from medssl.report.warned import _KINDS, warned

TEXTS = {
    "collapse: the embedding's standard deviation is 0.0100": ("bad", "the embedding collapsed"),
    "dimensional collapse: the features of 20 scans use 1.1 of 64 dimensions": ("bad", "very few of their dimensions"),
    "no learning yet: the loss stays at its chance level 4.143": ("bad", "hardly anything was learned"),
    "1 optimiser steps in all (14 scans, batches of 8) are few: methods": ("open", "it took only 1 step, and"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_every_kind_of_warning_is_told_in_plain_words(text: str):
    kind, words = TEXTS[text]
    found = warned([{"text": text, "level": "warning"}, {"text": text, "level": "warning"}])
    assert found is not None
    assert (found.kind, found.text.count(words)) == (kind, 1)
    assert found.text.startswith("Warnings of the training: ")
    assert found.text.endswith(" (see the messages).")
    assert "further" not in found.text


def test_other_warnings_are_counted_and_other_notes_are_not():
    assert warned([{"text": "the warm-up is not over", "level": "note"}]) is None
    assert warned([]) is None
    found = warned([{"text": "odd", "level": "warning"}])
    assert found is not None
    assert found.text == "Warnings of the training: 1 warning was given (see the messages)."
    found = warned([{"text": t, "level": "warning"} for t in ("odd", "odd", "collapse: x")])
    assert found is not None
    assert found.text.endswith("; 2 further warnings were given (see the messages).")


def test_the_training_still_speaks_in_the_words_that_are_looked_for():
    sources = "".join(p.read_text(encoding="utf-8") for p in (Path(medssl.__file__).parent / "training").rglob("*.py"))
    for words in ('f"collapse: ', 'f"dimensional collapse: ', 'f"no learning yet: ', "optimiser steps in all ("):
        assert words in sources
    assert len(_KINDS) == len(TEXTS)
