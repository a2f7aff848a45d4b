from __future__ import annotations

import doctest
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.report import cohort, recipe, words
from medssl.report.read import Row, Scores, read_run


@pytest.fixture
def said(bare_run: Path, make_scores: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """All sentences of the verdict on scores with chosen errors."""

    def speak(change: Callable[[dict[str, Any]], None] = lambda _: None, sites: int = 9, **errors: float) -> str:
        content = make_scores(**errors)
        change(content)
        (bare_run / "scores.json").write_text(json.dumps(content))
        scores = read_run(bare_run).scores
        assert isinstance(scores, Scores)
        return " ".join(f"[{v.kind}] {v.text}" for v in words.verdict(scores, sites)).replace(words.NARROW, " ")

    return speak


@pytest.mark.parametrize("module", [words, recipe, cohort])
def test_the_examples_in_the_docstrings_are_right(module: Any):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_an_interval_stands_beside_its_value():
    row = Row("encoder", {"mae_external": 5.0, "site_bacc": 0.41, "r2_external": None},
              {"mae_external": (4.4, 5.6), "site_bacc": (0.34, 0.48)})  # fmt: skip
    assert words.with_interval(row, "mae_external") == "5.0 (4.4 to 5.6)"
    assert words.with_interval(row, "site_bacc").replace(words.NARROW, " ") == "41 % (34 to 48 %)"
    assert words.with_interval(row, "r2_external") == "–"


def test_a_better_encoder_is_said_to_be_better(said: Callable[..., str]):
    text = said(mae=4.0, ridge=6.0)
    assert "[good] Training helped" in text
    assert "[good] Better than the simple baseline: ridge on voxels is wrong by 6.0 years (difference −2.0, " in text
    assert "[good] It reads more than the site" in text
    assert "unseen site" not in text.replace("unseen sites the age error", "")


def test_with_one_training_site_its_median_is_not_called_a_baseline(said: Callable[..., str]):
    def one(content: dict[str, Any]) -> None:
        content["references"]["site_median"]["mae_internal"] = content["references"]["constant"]["mae_internal"]

    assert "median age of a scan's site" not in said(one, mae=4.0)


def test_a_better_baseline_is_said_to_be_better(said: Callable[..., str]):
    text = said(mae=5.0, ridge=3.5)
    assert "[bad] Ridge on voxels predicts age better: 3.5 years (difference +1.5, 95 % interval 0.7 to 2.3" in text
    assert "−0.1 to 3.2 when whole sites are resampled, so other sites may disagree" in text


def test_harm_and_no_difference_are_said_as_they_are(said: Callable[..., str]):
    assert "[bad] Training did harm" in said(mae=11.5, untrained=10.0)
    assert "[open] Training made no clear difference" in said(mae=9.8, untrained=10.0)
    assert "[bad] Worse than chance" in said(mae=14.0)


def test_a_difference_without_an_interval_is_said_to_have_none(said: Callable[..., str]):
    text = said(lambda content: content.update(differences={}), mae=5.0)
    assert "Training helped" in text
    assert "(no interval was computed for the difference)" in text


def test_the_site_left_in_the_features_is_compared_with_chance_and_the_untrained_encoder(
    said: Callable[..., str],
):
    assert "[open] The scanner is still in the features" in said(bacc=0.41)
    assert "chance is 12.5 %, and the untrained encoder gives 78 %" in said(bacc=0.41)
    assert "[bad] The scanner is still in the features" in said(bacc=0.9)
    assert "[open] It is not clear whether the scanner is in the features" in said(bacc=0.15)

    def narrow(content: dict[str, Any]) -> None:
        content["ci"]["site_bacc"] = [0.11, 0.16]

    assert "[good] The site of a scan is not recognised from the features better than by chance" in said(
        narrow, bacc=0.13
    )


def test_what_is_not_known_is_not_judged(said: Callable[..., str]):
    def clear(content: dict[str, Any]) -> None:
        content.update(mae_external=None, site_bacc=None, references={"untrained": {"missing": "scans are gone"}})

    assert said(clear) == ""


def test_few_unseen_sites_are_a_caution(said: Callable[..., str]):
    assert "Only 2 unseen sites" in said(sites=2)
    assert "Only 1 unseen site:" in said(sites=1)
    assert "Only" not in said(sites=6)


def test_time_between_two_stamps_is_told_in_words():
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T10:00:42Z") == "42 s"
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T12:30:00Z") == "2.5 h"
    assert words.duration("2026-03-02T10:00:00Z", None) == ""
    assert words.duration("2026-03-02T10:00:00Z", "2026-03-02T10:00:00") == ""
