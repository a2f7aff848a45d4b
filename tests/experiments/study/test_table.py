from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from medssl.evaluation.intervals import METRICS
from medssl.experiments.study.figure import against_settings
from medssl.experiments.study.plan import Study
from medssl.experiments.study.table import as_csv, best_of, markdown, settings_of
from medssl.report.figures import figure_bytes

GRID = {"a.sigma": [1.0, 5.0, 50.0], "b.norm": ["batch", "group"], "trainer.seed": [0, 1]}
STUDY = Study.model_validate({"recipe": "demo", "grid": GRID, "test": True})


def record(sigma: float, norm: str, seed: int, score: float | None, test: float = 9.0) -> dict[str, Any]:
    made: dict[str, Any] = {"settings": {"a.sigma": sigma, "b.norm": norm, "trainer.seed": seed}}
    made |= {"name": f"{sigma}-{norm}-{seed}", "seconds": 60.0, "finished": "now"}
    if score is None:
        return made | {"stopped": "the loss is NaN | at step 3"}
    return made | {"scores": dict.fromkeys(METRICS, 1.0) | {"challenge": score}, "test": dict.fromkeys(METRICS, test)}


RECORDS = [
    record(1.0, "batch", 0, 4.0), record(1.0, "batch", 1, 6.0), record(1.0, "group", 0, 1.0),
    record(5.0, "batch", 0, 0.5), record(5.0, "batch", 1, None), record(5.0, "group", 0, 4.0, test=0.1),
    record(5.0, "group", 1, 4.5, test=0.1), record(50.0, "group", 0, 5.5), record(50.0, "group", 1, 5.5),
]  # fmt: skip


def line(sigma: float, norm: str) -> dict[str, Any]:
    (found,) = [x for x in settings_of(RECORDS, STUDY) if x["settings"] == {"a.sigma": sigma, "b.norm": norm}]
    return found


def test_a_setting_is_the_mean_of_its_seeds_with_their_spread():
    assert line(1.0, "batch")["score"] == 5.0
    assert line(1.0, "batch")["sd"] == pytest.approx(2**0.5)
    assert line(50.0, "group")["sd"] == 0.0
    assert line(1.0, "group")["sd"] is None
    assert line(50.0, "batch")["score"] is None


def test_the_best_has_all_its_seeds_and_the_test_rows_have_no_say():
    lines = settings_of(RECORDS, STUDY)
    assert line(5.0, "batch")["stopped"] == [1]
    assert line(1.0, "group")["missing"] == [1]
    assert line(50.0, "batch")["missing"] == [0, 1]
    best = best_of(lines)
    assert best is not None
    assert best["settings"] == {"a.sigma": 5.0, "b.norm": "group"}
    other = [r | {"test": dict.fromkeys(METRICS, 0.0 if r["settings"]["a.sigma"] == 50.0 else 99.0)} for r in RECORDS]
    assert best_of(settings_of(other, STUDY))["settings"] == best["settings"]


def test_a_greater_r2_is_better():
    study = STUDY.model_copy(update={"score": "r2_external"})
    rows = [r | {"scores": dict.fromkeys(METRICS, 0.1 * r["settings"]["a.sigma"])} for r in RECORDS if "scores" in r]
    best = best_of(settings_of(rows, study))
    assert best is not None
    assert best["settings"]["a.sigma"] == 50.0


def test_no_setting_is_best_before_one_is_whole():
    lines = settings_of(RECORDS[2:3], STUDY)
    assert best_of(lines) is None
    assert "none is best" in markdown(lines, RECORDS[2:3], None, STUDY)
    assert figure_bytes(against_settings(lines, STUDY), "png")[:4] == b"\x89PNG"


def test_the_text_says_by_which_score_and_how_far_seeds_move_it():
    lines = settings_of(RECORDS, STUDY)
    text = markdown(lines, RECORDS, best_of(lines), STUDY)
    assert 'Best: a.sigma 5, b.norm "group", challenge 4.250. Chosen by challenge (lower is better)' in text
    pooled = ((2.0 + 0.125 + 0.0) / 3) ** 0.5
    assert f"Seeds alone move the score by {pooled:.3f} (pooled sd): 1 other setting lies" in text
    assert "1 stopped" in text
    assert "1 missing" in text
    assert "stopped: the loss is NaN \\| at step 3" in text
    widths = {row.replace("\\|", "").count("|") for row in text.split("### Trials")[1].splitlines() if row[:1] == "|"}
    assert len(widths) == 1


@pytest.mark.parametrize(("seeds", "told"), [((0,), True), ((0, 1), False)])
def test_one_seed_per_setting_may_be_noise(seeds: tuple[int, ...], told: bool):
    study = Study.model_validate({"recipe": "demo", "grid": {"a.sigma": [1.0, 5.0], "trainer.seed": list(seeds)}})
    rows = [record(sigma, "batch", seed, sigma + seed) for sigma in (1.0, 5.0) for seed in seeds]
    rows = [r | {"settings": {k: v for k, v in r["settings"].items() if k != "b.norm"}} for r in rows]
    lines = settings_of(rows, study)
    text = markdown(lines, rows, best_of(lines), study)
    assert ("differences may be noise: add trainer.seed: [0, 1, 2] to the grid" in text) is told


def test_the_csv_has_one_row_per_trial_with_every_metric():
    rows = list(csv.DictReader(io.StringIO(as_csv(RECORDS, STUDY))))
    assert len(rows) == len(RECORDS)
    assert rows[0] | {"a.sigma": "1.0", "trainer.seed": "0", "challenge": "4.0", "test_challenge": "9.0"} == rows[0]
    assert rows[4]["stopped"] == "the loss is NaN | at step 3"
    assert rows[4]["challenge"] == ""


def test_the_figure_has_a_panel_per_key_and_one_of_seeds():
    axes = against_settings(settings_of(RECORDS, STUDY), STUDY).axes
    labels = [each.get_xlabel() for each in axes if each.axison]
    assert labels == ["a.sigma", "b.norm", "settings by rank (dots: seeds)"]
    assert axes[0].get_xscale() == "log"
    assert [text.get_text() for text in axes[1].get_xticklabels()] == ['"batch"', '"group"']
    assert axes[2].lines[0].get_ydata().tolist() == [4.0, 4.5]
