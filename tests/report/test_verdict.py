from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.evaluation import caution
from medssl.report import verdict, words
from medssl.report.read import Row, Scores, read_run


@pytest.fixture
def said(bare_run: Path, make_scores: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """All sentences of the verdict on scores with chosen errors."""

    def speak(change: Callable[[dict[str, Any]], None] = lambda _: None, **errors: float) -> str:
        content = make_scores(**errors)
        change(content)
        (bare_run / "scores.json").write_text(json.dumps(content))
        scores = read_run(bare_run).scores
        assert isinstance(scores, Scores)
        sentences = [*verdict.verdict(scores), verdict.site_verdict(scores)]
        return " ".join(f"[{v.kind}] {v.text}" for v in sentences if v is not None).replace(words.NARROW, " ")

    return speak


def test_a_better_encoder_is_said_to_be_better(said: Callable[..., str]):
    text = said(mae=4.0, ridge=6.0)
    assert "[good] Training helped" in text
    assert "[good] Better than the simple baseline: ridge on voxels is off by 6.0 years (difference −2.0, " in text
    assert "[good] It reads more than the site" in text


def test_with_one_training_site_its_median_is_not_called_a_baseline(said: Callable[..., str]):
    def one(content: dict[str, Any]) -> None:
        content["references"]["site_median"]["mae_internal"] = content["references"]["constant"]["mae_internal"]

    assert "median age of a scan's site" not in said(one, mae=4.0)


def test_a_better_baseline_is_said_to_be_better(said: Callable[..., str]):
    text = said(lambda content: content["n"].update(sites_external_test=9), mae=5.0, ridge=3.5)
    assert "[bad] Ridge on voxels predicts age better: 3.5 years (difference +1.5, 95 % interval 0.7 to 2.3" in text
    assert "−0.1 to 3.2 when whole sites are resampled, so other sites may disagree" in text
    assert "whole sites" not in said(mae=5.0, ridge=3.5), "four sites are too few for such an interval"


def test_harm_and_no_difference_are_said_as_they_are(said: Callable[..., str]):
    assert "[bad] Training did harm" in said(mae=11.5, untrained=10.0)
    assert "[open] Training made no clear difference" in said(mae=9.8, untrained=10.0)
    assert "[bad] Worse than chance" in said(mae=14.0)


def test_a_difference_without_an_interval_is_said_to_have_none(said: Callable[..., str]):
    text = said(lambda content: content.update(differences={}), mae=5.0)
    assert "Training helped" in text
    assert "(no interval was computed for the difference)" in text


def test_the_site_left_in_the_features_is_compared_with_chance_and_the_untrained_encoder(said: Callable[..., str]):
    assert "[open] Which scanner made a scan can still be read from the features" in said(bacc=0.41)
    assert "chance is 12.5 %, and the untrained encoder gives 78 %" in said(bacc=0.41)
    assert "[bad] Which scanner made a scan can still be read" in said(bacc=0.9)
    assert "[open] It is not clear whether the scanner can be read" in said(bacc=0.15)
    assert "[good] Which scanner made a scan cannot be read from the features better than by chance" in said(
        interval(0.11, 0.16), bacc=0.13
    )


def interval(low: float, high: float) -> Callable[[dict[str, Any]], None]:
    """Scores whose site accuracy has this interval."""
    return lambda content: content["ci"].update(site_bacc=[low, high])


def test_a_site_accuracy_below_chance_is_luck_unless_the_whole_interval_is_below(said: Callable[..., str]):
    text = said(interval(0.05, 0.16), bacc=0.1)
    assert "[good] Which scanner made a scan cannot be read" in text
    assert "A value below chance is luck here, not skill." in text
    text = said(interval(0.01, 0.05), bacc=0.02)
    assert "[bad] Something is odd about the scanner" in text
    assert caution.BELOW_CHANCE in text
    assert "luck" not in said(interval(0.11, 0.16), bacc=0.125)


def test_guessing_among_fewer_sites_is_easier_and_not_called_reading(said: Callable[..., str]):
    def fewer(content: dict[str, Any]) -> None:
        content["references"]["constant"]["site_bacc"] = 0.2
        content["ci"]["site_bacc"] = [0.2, 0.2]

    assert "cannot be read" in said(fewer, bacc=0.2)


@pytest.mark.parametrize(
    ("metric", "value", "pair", "key"),
    [
        ("site_bacc", 0.1, (0.05, 0.2), "below chance"),
        ("site_bacc", 0.1, (0.05, 0.11), "clearly below chance"),
        ("site_bacc", 0.13, (0.05, 0.2), ""),
        ("r2_external", -0.2, (-0.4, 0.1), "below 0"),
        ("r2_external", -0.001, (-0.4, 0.1), ""),
        ("mae_external", 13.0, (12.0, 14.0), "worse than chance"),
        ("mae_external", 12.0, (11.0, 14.0), ""),
        ("mae_external", None, None, ""),
    ],
)
def test_a_value_worse_than_guessing_has_a_remark(
    metric: str, value: float | None, pair: tuple[float, float] | None, key: str
):
    row = Row("encoder", {metric: value, "site_chance": 0.125}, {metric: pair} if pair else {})
    constant = Row("constant", {"mae_external": 12.4, "site_bacc": 0.125}, {})
    assert verdict.remark(row, metric, constant) == key
    assert key == "" or key in verdict.REMARKS
    assert verdict.remark(constant, metric, constant) == ""


def test_an_interval_without_width_leaves_no_empty_words(said: Callable[..., str]):
    def same(content: dict[str, Any]) -> None:
        content["differences"]["constant"]["mae_external"] = {"difference": 0.0, "ci": [0.0, 0.0]}

    assert "years (difference 0.0)." in said(same)
    assert "interval )" not in said(same)


def test_what_is_not_known_is_not_judged(said: Callable[..., str]):
    def clear(content: dict[str, Any]) -> None:
        content.update(mae_external=None, site_bacc=None, references={"untrained": {"missing": "scans are gone"}})

    assert said(clear) == ""
