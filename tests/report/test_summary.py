from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.report import words
from medssl.report.read import read_run
from medssl.report.summary import Alarms, summary

PEOPLE = {
    "subjects_internal_test": 60,
    "sites_internal_test": 8,
    "subjects_external_test": 120,
    "sites_external_test": 9,
}


@pytest.fixture
def told(bare_run: Path, make_scores: Callable[..., dict[str, Any]]) -> Callable[..., list[str]]:
    """The summary of scores with chosen errors, a text per sentence."""

    def tell(alarms: Alarms = Alarms(), n: dict[str, int] | None = None, drop: tuple[str, ...] = (), **errors: float):
        content = make_scores(**errors)
        content["n"] |= PEOPLE | (n or {})
        for key in drop:
            content[key] = None
        (bare_run / "scores.json").write_text(json.dumps(content))
        scores = read_run(bare_run).scores
        assert scores is not None
        return [f"[{v.kind}] {v.text}".replace(words.NARROW, " ") for v in summary(scores, alarms)]

    return tell


def test_four_sentences_say_error_comparison_scanner_and_what_needs_attention(told: Callable[..., list[str]]):
    error, compared, scanner, attention = told()
    assert error == (
        "[open] The age error is 5.0 years on unseen sites (95 % interval 4.4 to 5.6, 120 people at 9 sites) and 4.5 "
        "years on known sites (95 % interval 3.7 to 5.3, 60 people at 8 sites)."
    )
    assert compared == (
        "[bad] On unseen sites, the simple baseline, ridge on voxels, does better: 3.5 years. Giving everyone the same "
        "age would be off by 12.4 years, so this encoder is better than chance."
    )
    assert scanner.startswith("[open] Which scanner made a scan can still be read")
    assert attention == "[good] None of the checks of this page asks for attention."


def test_the_comparison_is_as_good_or_bad_as_the_interval_of_the_difference(told: Callable[..., list[str]]):
    assert told(mae=4.0, ridge=6.0)[1].startswith(
        "[good] On unseen sites, the simple baseline, ridge on voxels, does worse"
    )
    assert "is not clearly better or worse: 4.5 years" in told(mae=4.0, ridge=4.5)[1]
    assert "so this encoder is worse than chance" in told(mae=14.0)[1]
    assert told(mae=12.3)[1].endswith("so this encoder is not clearly better than chance.")


def test_without_unseen_sites_known_ones_are_compared_and_it_is_said(told: Callable[..., list[str]]):
    error, compared, _, attention = told(
        drop=("mae_external",), n={"subjects_external_test": 0, "sites_external_test": 0}
    )
    assert "unseen" not in error
    assert compared.startswith("[bad] On known sites, the simple baseline")
    assert "nothing was measured on unseen sites, so this says nothing about other hospitals" in attention


def test_few_people_and_few_sites_need_attention(told: Callable[..., list[str]]):
    text = told(n={"subjects_external_test": 29, "sites_external_test": 2, "subjects_internal_test": 30})[3]
    assert text.startswith("[open] Needs attention: fewer than 30 people were tested (29 people at 2 unseen sites)")
    assert "2 unseen sites are too few to speak for other hospitals" in text
    assert "known sites" not in text


def test_failed_checks_unfinished_runs_and_warnings_need_attention(told: Callable[..., list[str]]):
    text = told(Alarms("training", 2, 1, True))[3]
    assert text.startswith("[bad] Needs attention: the training is not finished (state: training)")
    assert "1 check of which scans were used for what failed" in text
    assert "not made together" in text
    assert "2 warnings were given during training" in text


def test_what_could_not_be_measured_is_said(told: Callable[..., list[str]]):
    everything = ("mae_external", "mae_internal", "site_bacc")
    error, scanner, _ = told(drop=everything, n={"sites_train": 1})
    assert error == "[open] No age error was measured: no scan of the tests has a known age."
    assert scanner.endswith("was not measured: all training scans come from one site.")
    assert told(drop=everything, n={"sites_train": 0})[1].endswith("no training scan names its site.")
