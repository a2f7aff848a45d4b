"""The text of the record of likeness."""

from __future__ import annotations

import doctest

from benchmarks.likeness import run


def test_a_shortened_sentence_closes_its_brackets() -> None:
    results = doctest.testmod(run)
    assert (results.failed, results.attempted) == (0, 1)
    for name in ("2026-11-28-likeness.md",):
        text = (run.Path(run.__file__).parents[1] / "results" / name).read_text()
        assert text.count("(") == text.count(")")
