"""What the items say of whole, unscored, begun and odd runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.report.checklists.claim import CLAIM
from medssl.report.checklists.item import (
    AFTER_SCORING,
    AUTHORS,
    FILLED,
    NOT_APPLICABLE,
    PARTLY,
    STATUSES,
    Answer,
    Checklist,
    answer,
)
from medssl.report.checklists.known import read_known
from medssl.report.checklists.tripod_ai import TRIPOD_AI
from medssl.report.words import NARROW, shown, signed
from tests.report.checklists.study import PLACE, change, write_encoder

BOTH = (TRIPOD_AI, CLAIM)
NOT_WORDS = re.compile(r"\bNone\b(?!:)|\bnan\b|\binf\b|\{|\}|\[\]|\bTrue,? None|  |\(\)| ,| \.(?!\d)|\.\.(?!\.)")


def answers(run: Path, checklist: Checklist) -> dict[str, Answer]:
    known = read_known(run)
    return {item.number: answer(item, known) for item in checklist.items}


def texts(run: Path) -> Iterator[tuple[str, str]]:
    for checklist in BOTH:
        for number, found in answers(run, checklist).items():
            yield f"{checklist.name} {number}", found.text


def check(run: Path) -> None:
    """Every text is whole sentences of words and figures, and shows no folder and nobody's id."""
    for name, text in texts(run):
        assert not NOT_WORDS.search(text), f"{name}: {text}"
        assert not text or text.endswith((".", "'", run.name)), f"{name}: {text}"
        assert "jane" not in text, f"{name}: {text}"
        assert not re.search(r"sub-0\d+", text), f"{name}: {text}"
        assert "/home" not in text, f"{name}: {text}"


def figures(content: Any, key: str = "") -> Iterator[str]:
    """Every number of scores.json as it may be shown."""
    if isinstance(content, dict):
        for name, inner in content.items():
            yield from figures(inner, name if name not in ("difference", "ci_sites") else key)
    elif isinstance(content, list):
        for inner in content:
            yield from figures(inner, key)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        for metric in ("mae", "r2", "site"):
            yield shown(metric, float(content)).removesuffix(f"{NARROW}%")
        yield str(content)


def test_a_whole_run_fills_what_it_knows(whole_study: Path):
    check(whole_study)
    tripod, claim = answers(whole_study, TRIPOD_AI), answers(whole_study, CLAIM)
    filled = "12b 12d 12f 12g 13 15 20c 21 23b"
    assert [n for n, a in tripod.items() if a.status == FILLED] == filled.split()
    assert [n for n, a in tripod.items() if a.status == NOT_APPLICABLE] == ["8b", "9c", "24"]
    assert [n for n, a in claim.items() if a.status == FILLED] == ["20", "22", "23", "24", "25", "27", "29", "33"]
    assert [n for n, a in claim.items() if a.status == NOT_APPLICABLE] == ["16", "17", "18", "38"]
    assert AFTER_SCORING not in {a.status for a in (*tripod.values(), *claim.values())}


def test_what_is_stated_is_in_the_files_it_is_said_to_be_read_from(whole_study: Path):
    for checklist in BOTH:
        for found in answers(whole_study, checklist).values():
            assert bool(found.sources) == (found.status in (FILLED, PARTLY)), found
            assert all((whole_study / name).is_file() for name in found.sources)


def test_the_figures_of_the_results_are_those_of_the_scores(whole_study: Path):
    scores = json.loads((whole_study / "scores.json").read_text())
    known = set(figures(scores)) | {"95", "2"}
    for checklist, number in ((TRIPOD_AI, "23a"), (TRIPOD_AI, "23b"), (CLAIM, "37")):
        text = (
            answers(whole_study, checklist)[number]
            .text.partition("Mean absolute error in groups")[0]
            .replace("site-", "site")
        )
        given = re.findall(r"(?<![\w.])[−+]?\d+(?:\.\d+)?", text)
        assert len(given) >= 12
        assert [g for g in given if g.lstrip("+") not in known] == []


def test_an_error_stands_beside_its_interval_and_its_references(whole_study: Path):
    scores = json.loads((whole_study / "scores.json").read_text())
    text = answers(whole_study, TRIPOD_AI)["23a"].text.replace(NARROW, " ")
    low, high = scores["ci"]["mae_external"]
    assert f"mean absolute error {scores['mae_external']:.1f} years (95 % interval {low:.1f} to {high:.1f})" in text
    assert "untrained encoder 10.0 (difference −5.0, −5.8 to −4.2)" in text
    assert "chance is 12.5 %" in text
    assert "2 scans of unknown age judge no age error" in text


@pytest.mark.parametrize(
    ("key", "value", "numbers"),
    [
        ("mae_external", 7.77, ("23a", "25")),
        ("ci", {"mae_external": [1.25, 17.75]}, ("23a", "26")),
        ("site_bacc", 0.999, ("23a", "25")),
        ("per_site", [{"site": "s", "split": "external_test", "n": 3, "mae": 9.5, "bias": -1.0}], ("23b",)),
        ("n", {"train": 341, "external_test": 119}, ("10", "12a", "20a", "21")),
        ("notes", ["17 scans were left out"], ("23a",)),
        ("protocol", {"scale": True, "resamples": 0}, ("12b", "12e")),
        ("protocol", {"harmonize": "combat, fitted on train rows"}, ("12b", "14")),
        ("references", {}, ("12e", "23a")),
    ],
)
def test_other_scores_give_other_answers(key: str, value: Any, numbers: tuple[str, ...], a_study: Path):
    if key in ("mae_external", "site_bacc"):  # as another scoring would give it, without predictions to compare with
        (a_study / "predictions.csv").unlink()
        change(a_study / "scores.json", challenge=None)
    before = answers(a_study, TRIPOD_AI)
    if key == "n":
        training = json.loads((a_study / "run.json").read_text())["training"]
        change(a_study / "run.json", training={k: v for k, v in training.items() if k != "scans"})
    change(a_study / "scores.json", **{key: value})
    after = answers(a_study, TRIPOD_AI)
    assert all(after[n].text != before[n].text for n in numbers)
    check(a_study)


def test_a_run_that_is_not_scored_says_what_scoring_adds(a_study: Path):
    for name in ("scores.json", "predictions.csv", "features.csv"):
        (a_study / name).unlink()
    check(a_study)
    for checklist in BOTH:
        found = answers(a_study, checklist)
        waiting = [a for a in found.values() if a.status == AFTER_SCORING]
        assert {a.item.number for a in waiting} == {i.number for i in checklist.items if i.scored}
        assert all("medssl score demo" in a.text for a in waiting)
    assert "340 training scans" in answers(a_study, TRIPOD_AI)["12a"].text


def test_a_run_that_was_only_begun_is_answered(bare_run: Path):
    check(bare_run)
    for checklist in BOTH:
        found = answers(bare_run, checklist)
        assert {a.status for a in found.values()} <= set(STATUSES)
        assert {a.status for n, a in found.items() if checklist.items[0].section} >= {AUTHORS, AFTER_SCORING}
    (bare_run / "recipe.yaml").write_text("method: {name: simclr}\n")
    check(bare_run)
    (bare_run / "run.json").write_text('{"state": "training"}')
    (bare_run / "recipe.yaml").unlink()
    check(bare_run)
    assert answers(bare_run, CLAIM)["25"].status == AUTHORS


ODD_FACTS: list[dict[str, Any]] = [
    {"training": {"per_site": [3], "age": [None, 1, 2], "sex": [], "sites": "one", "manifests": "one", "scans": None}},
    {"training": []},
    {"views": "robust", "versions": None, "created": 5, "hardware": "big", "seed": None},
    {"method": {"name": None}, "continued": 3, "state": None, "versions": {"medssl": None}},
    {"training": {"manifests": [], "sites": [], "rows_in_manifests": "many", "features": "x", "empty_cells": None}},
]
ODD_SCORES: list[dict[str, Any]] = [
    {"n": {}, "protocol": {}, "provenance": {}, "notes": None, "per_site": None},
    {"n": {"train": None, "external_test": "many", "sites_external_test": None}, "ci": None},
    {"mae_external": None, "mae_internal": None, "site_bacc": None, "r2_external": None},
    {"references": {"untrained": {"missing": "the scans are gone"}}, "differences": {}},
    {"per_site": [], "site_chance": None, "ci": {"mae_external": None}},
    {"protocol": {"resamples": "many", "harmonize": None, "age": None, "scale": None}, "provenance": {"skipped": "x"}},
]


@pytest.mark.parametrize("facts", ODD_FACTS)
def test_odd_records_of_the_training_are_left_out(facts: dict[str, Any], a_study: Path):
    change(a_study / "run.json", **facts)
    check(a_study)
    (a_study / "encoder.safetensors").unlink()
    (a_study / "features.csv").unlink()
    check(a_study)


@pytest.mark.parametrize("scores", ODD_SCORES)
def test_odd_scores_are_left_out(scores: dict[str, Any], a_study: Path):
    if "provenance" in scores:
        own = json.loads((a_study / "scores.json").read_text())["provenance"]["encoder"]
        scores = scores | {"provenance": scores["provenance"] | {"encoder": own}}
    change(a_study / "scores.json", **scores)
    check(a_study)


@pytest.mark.parametrize(
    "card",
    [{"likeness": None, "preprocessing": {}}, {"likeness": {"measures": ["finest"], "span": [[1], ["x"]]}},
     {"preprocessing": {"spacing": [4], "shape": None, "intensity": "percentile", "mask": "otsu"}},
     {"columns": {"names": ["a"]}, "licence": "CC BY 4.0"}],
)  # fmt: skip
def test_odd_cards_are_left_out(card: dict[str, Any], a_study: Path):
    write_encoder(a_study / "encoder.safetensors", **card)
    check(a_study)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("scores.json", b'{"per_site": 3}', "per_site must be a list"),
        ("scores.json", b'{"per_site": [{"site": "a"}]}', "lacks n, mae or bias"),
        ("scores.json", b'{"per_site": [{"n": 1e400, "mae": 1, "bias": 1}]}', "scores.json"),
        ("scores.json", b'{"per_site": [{"n": 1, "mae": NaN, "bias": 1}]}', "lacks n, mae or bias"),
        ("scores.json", b"[]", "an object with keys is needed"),
        ("encoder.safetensors", b"\x08\x00\x00", "no complete encoder file"),
        ("run.json", b"{", "line 1"),
    ],
)
def test_a_broken_part_is_named_in_one_sentence(name: str, content: bytes, words: str, a_study: Path):
    (a_study / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_known(a_study)
    assert name in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_recipe_and_the_record_are_told(whole_study: Path):
    text = answers(whole_study, CLAIM)["25"].text
    for words in ("exponential", "temperature 0.1", "learning rate 0.002", "weight decay 5e-05", "28 epochs", "seed 0",
                  "onecycle", "flip, in 50"):  # fmt: skip
        assert words in text
    assert "resnet18" in answers(whole_study, CLAIM)["22"].text
    assert "1 to 1.2 mm along their coarsest" in answers(whole_study, CLAIM)["13"].text
    assert "hold out 25 % of the training people" in answers(whole_study, TRIPOD_AI)["12a"].text


def test_the_number_of_weights_is_counted(whole_study: Path):
    from medssl.encoders.file import load_encoder

    number = sum(p.numel() for p in load_encoder(whole_study).parameters())
    assert f"{number:,}".replace(",", " ") + " trained weights" in answers(whole_study, CLAIM)["22"].text


def test_missing_ages_are_counted_and_what_became_of_them_is_said(a_study: Path):
    lines = (a_study / "features.csv").read_text().splitlines()
    head = lines[0].split(",")
    for k in (1, 2, 400):
        cells = lines[k].split(",")
        cells[head.index("age")] = ""
        lines[k] = ",".join(cells)
    (a_study / "features.csv").write_text("\n".join(lines) + "\n")
    text = answers(a_study, TRIPOD_AI)["11"].text
    assert "Unknown among 340 training scans: age of 2." in text
    assert "Unknown among 60 internal test scans: age of 1." in text
    assert "a scan without age attracts only its own other view" in text
    assert "left out of the age probe" in text
    recipe = (a_study / "recipe.yaml").read_text()
    (a_study / "recipe.yaml").write_text(recipe.replace("  sigma: 5.0", "  missing: drop"))
    assert "a scan without age is left out of the loss" in answers(a_study, TRIPOD_AI)["11"].text


def test_a_leak_is_told_in_the_item_on_partitions(a_study: Path):
    table = (a_study / "features.csv").read_text()
    (a_study / "features.csv").write_text(table.replace("sub-0001,", "sub-0519,"))
    text = answers(a_study, CLAIM)["20"].text
    assert "1 person is in training and in a test split" in text
    assert "sub-0519" not in text


def test_manifests_are_named_without_their_folders(a_study: Path):
    training = json.loads((a_study / "run.json").read_text())["training"]
    paths = [f"{PLACE}/manifest.csv", "/data/x/manifest.csv", "C:\\Users\\jane\\b.csv"]
    change(a_study / "run.json", training=training | {"manifests": paths})
    assert "those of manifest.csv (2 files of this name) and b.csv." in answers(a_study, TRIPOD_AI)["5a"].text
    check(a_study)


def test_few_unseen_sites_and_one_training_site_are_limits(a_study: Path):
    text = answers(a_study, TRIPOD_AI)["26"].text
    assert "Only 4 unseen sites were tested." in text
    facts = json.loads((a_study / "run.json").read_text())
    change(a_study / "run.json", training=facts["training"] | {"sites": ["Leiden"]})
    change(a_study / "scores.json", n={"sites_external_test": 0})
    text = answers(a_study, TRIPOD_AI)["26"].text
    assert "No unseen site was tested." in text
    assert "All training scans are from one site (Leiden)." in text


def test_a_table_of_measures_is_not_called_scans(a_study: Path):
    training = json.loads((a_study / "run.json").read_text())["training"]
    change(a_study / "run.json", training=training | {"features": 6, "empty_cells": 2})
    found = answers(a_study, TRIPOD_AI)
    assert "6 columns of a table" in found["7"].text
    assert "2 empty cells of the table became the mean" in found["11"].text
    assert found["9c"].status == AUTHORS, "whoever measured them is not known"
    assert "6 values" in answers(a_study, CLAIM)["22"].text


def test_regularisers_and_balanced_draws_are_what_was_done_for_fairness(a_study: Path, whole_study: Path):
    assert answers(whole_study, TRIPOD_AI)["14"].status == AUTHORS
    recipe = (a_study / "recipe.yaml").read_text()
    recipe = recipe.replace("regularizers: []", "regularizers:\n- name: fair_kl\n  weight: 1.0\n  column: sex")
    (a_study / "recipe.yaml").write_text(recipe.replace("data:\n", "data:\n  balance: site\n"))
    found = answers(a_study, TRIPOD_AI)["14"]
    assert found.status == PARTLY
    assert found.text == "Every batch is drawn evenly over the column site. Regularisers: fair_kl on sex."


def test_errors_of_women_and_men_and_of_ages_are_those_of_the_predictions(a_study: Path):
    predictions = pd.read_csv(a_study / "predictions.csv")
    mine = predictions[predictions["features"] == "encoder"]
    sexes = pd.read_csv(a_study / "features.csv").set_index("participant_id")["sex"]
    error = (
        (mine["predicted"] - mine["age"])
        .groupby([mine["split"], mine["participant_id"].map(sexes)])
        .agg([lambda e: e.abs().mean(), "count", "mean"])
    )
    text = answers(a_study, TRIPOD_AI)["23a"].text
    for split, place in (("internal_test", "known sites"), ("external_test", "unseen sites")):
        part = text.partition(f"{place}: female")[2].partition(";")[0]
        for sex, word in (("F", ""), ("M", "male")):
            mae, n, bias = error.loc[(split, sex)]
            assert f"{word} {mae:.1f} (" in part
            assert f"n = {n:.0f}, bias {signed(bias)})" in part
    old = mine[(mine["split"] == "external_test") & (mine["age"] >= 60)]
    assert f"age 60 and more {(old['predicted'] - old['age']).abs().mean():.1f} (" in text
    table = (a_study / "features.csv").read_text()
    (a_study / "features.csv").write_text(table + "".join(line + "\n" for line in table.splitlines()[1:]))
    assert "female" not in answers(a_study, TRIPOD_AI)["23a"].text, "whose scan is which is not known"


def test_many_sites_are_told_by_their_range(a_study: Path):
    rows = [{"site": f"s{k}", "split": "external_test", "n": 5, "mae": 3.0 + k, "bias": 0.0} for k in range(20)]
    change(a_study / "scores.json", per_site=rows)
    text = answers(a_study, TRIPOD_AI)["23b"].text
    assert "of 20 sites ranges from 3.0 (s0, n = 5) to 22.0 years (s19, n = 5), median 12.5" in text
    assert "s7" not in text


def test_the_question_of_a_filled_item_is_not_asked(whole_study: Path, make_run: Callable[..., Path]):
    for run in (whole_study, make_run()):
        for checklist in BOTH:
            for found in answers(run, checklist).values():
                assert found.asks == (found.status in (PARTLY, AUTHORS))
