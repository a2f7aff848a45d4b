from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.report import words
from medssl.report.read import read_run
from medssl.report.summary import Alarms, summary
from medssl.report.verdict import Verdict

PEOPLE = {
    "subjects_internal_test": 60,
    "sites_internal_test": 8,
    "subjects_external_test": 120,
    "sites_external_test": 9,
}


@pytest.fixture
def told(bare_run: Path, make_scores: Callable[..., dict[str, Any]]) -> Callable[..., list[str]]:
    """The summary of scores with chosen errors, a text per sentence."""

    def tell(
        alarms: Alarms = Alarms(),
        n: dict[str, int] | None = None,
        drop: tuple[str, ...] = (),
        change: Callable[[dict[str, Any]], None] = lambda _: None,
        site_interval: list[float] | None = None,
        **errors: float,
    ):
        content = make_scores(**errors)
        content["n"] |= PEOPLE | (n or {})
        if site_interval:
            content["ci"]["site_bacc"] = site_interval
        change(content)
        for key in drop:
            content[key] = None
        (bare_run / "scores.json").write_text(json.dumps(content))
        scores = read_run(bare_run).scores
        assert scores is not None
        return [f"[{v.kind}] {v.text}".replace(words.NARROW, " ") for v in summary(scores, alarms)]

    return tell


def test_sentences_say_error_comparison_scanner_and_what_needs_attention(told: Callable[..., list[str]]):
    error, compared, unbeaten, scanner, attention = told()
    assert error == (
        "[open] The age error is 5.0 years on unseen sites (95 % interval 4.4 to 5.6, 120 people at 9 sites) and 4.5 "
        "years on known sites (95 % interval 3.7 to 5.3, 60 people at 8 sites)."
    )
    assert compared == (
        "[bad] On unseen sites, the simple baseline, ridge on voxels, does better: 3.5 years. Giving everyone the same "
        "age would be off by 12.4 years, so this encoder is better than chance."
    )
    assert unbeaten == (
        "[bad] On known sites, this encoder (4.5 years) is worse than ridge on voxels (3.1 years). By the challenge "
        "score, this encoder (3.83) is worse than ridge on voxels (3.36)."
    )
    assert scanner.startswith("[open] Which scanner made a scan can still be read")
    assert attention == "[open] Apart from what stands above, no check of this page asks for attention."


def test_only_where_all_is_well_is_it_said_that_nothing_asks_for_attention(told: Callable[..., list[str]]):
    fine = told(mae=3.0, ridge=6.0, bacc=0.13, site_interval=[0.11, 0.16])
    assert fine[-1] == "[good] None of the checks of this page asks for attention."
    assert not any(text.startswith(("[bad]", "[open] On", "[open] By")) for text in fine)
    odd = told(mae=3.0, ridge=6.0, bacc=0.79)
    assert any("can still be read" in text for text in odd)
    assert "[good] None" not in odd[-1]


def test_a_baseline_that_is_as_good_is_said_in_short(told: Callable[..., list[str]]):
    def level(content: dict[str, Any]) -> None:
        content["references"]["site_median"]["mae_internal"] = 4.4
        content["differences"]["site_median"]["mae_internal"] = {"difference": 0.1, "ci": [-0.8, 1.2]}
        content["references"]["constant"]["challenge"] = 1.5

    text = " ".join(told(mae=5.0, ridge=8.0, change=level))
    assert "On known sites, this encoder (4.5 years) is not clearly better than the median age of the site (4.4" in text
    assert (
        "By the challenge score, this encoder (3.83) is worse than constant features, which say nothing (1.50)." in text
    )


def test_the_comparison_is_as_good_or_bad_as_the_interval_of_the_difference(told: Callable[..., list[str]]):
    assert told(mae=4.0, ridge=6.0)[1].startswith(
        "[good] On unseen sites, the simple baseline, ridge on voxels, does worse"
    )
    assert "is not clearly better or worse: 4.5 years" in told(mae=4.0, ridge=4.5)[1]
    assert "so this encoder is worse than chance" in told(mae=14.0)[1]
    assert told(mae=12.3)[1].endswith("so this encoder is not clearly better than chance.")


def test_without_unseen_sites_known_ones_are_compared_and_it_is_said(told: Callable[..., list[str]]):
    error, compared, *_, attention = told(
        drop=("mae_external",), n={"subjects_external_test": 0, "sites_external_test": 0}
    )
    assert "unseen" not in error
    assert compared.startswith("[bad] On known sites, the simple baseline")
    assert "nothing was measured on unseen sites, so this says nothing about other hospitals" in attention


def test_few_people_and_few_sites_need_attention(told: Callable[..., list[str]]):
    text = told(n={"subjects_external_test": 29, "sites_external_test": 2, "subjects_internal_test": 30})[-1]
    assert text.startswith("[open] Needs attention: fewer than 30 people were tested (29 people at 2 unseen sites)")
    assert "so the numbers with a star (*) can easily change" in text
    assert "2 unseen sites are too few to speak for other hospitals" in text
    assert "known sites" not in text


def test_failed_checks_unfinished_runs_and_warnings_need_attention(told: Callable[..., list[str]]):
    warning = Verdict("bad", "Warnings of the training: it collapsed.")
    *_, told_of, text = told(Alarms("training", warning, 1, True))
    assert told_of == "[bad] Warnings of the training: it collapsed."
    assert text.startswith("[bad] Needs attention: the training is not finished (state: training)")
    assert "1 check of which scans were used for what failed" in text
    assert "not made together" in text
    assert summary(None, Alarms(training=warning)) == [warning], "also of a run that is not scored"
    assert summary(None, Alarms()) == []


def test_what_could_not_be_measured_is_said(told: Callable[..., list[str]]):
    everything = ("mae_external", "mae_internal", "site_bacc", "challenge")
    error, scanner, _ = told(drop=everything, n={"sites_train": 1})
    assert error == "[open] No age error was measured: no scan of the tests has a known age."
    assert scanner.endswith("was not measured: all training scans come from one site.")
    assert told(drop=everything, n={"sites_train": 0})[1].endswith("no training scan names its site.")
