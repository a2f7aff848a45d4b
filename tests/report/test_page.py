"""What a reader meets on the page: its title, its warnings, its words, its paths and its colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

from medssl.evaluation import caution
from medssl.report.build import build_report, render
from medssl.report.read import read_run
from medssl.report.terms import TERMS
from tests.report.contrast import contrast

NOT_FOR_CLINICS = "Research software. Not for clinical use."
TWO_THEMES = 2


@pytest.fixture(scope="module")
def html(whole_run: Path) -> str:
    return render(read_run(whole_run))


def texts(html: str) -> str:
    """What is read on the page before the appendix, tags and pictures taken out, blanks joined."""
    body = html.partition("<body>")[2].partition('<section id="appendix"')[0]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def test_the_title_says_what_was_done(html: str):
    title = "Encoder resnet18 trained with exponential on a synthetic cohort, 2 March 2026"
    assert f"<title>{title} (demo)</title>" in html
    assert f"<h1>{title}</h1>" in html


def test_a_synthetic_cohort_has_a_banner_and_a_real_one_has_none(make_run: Callable[..., Path], html: str):
    assert (
        '<p class="banner" role="note"><strong>Synthetic data.</strong> All 520 scans of this run were computed' in html
    )
    assert "simulated people" in html
    run = make_run("real")
    table = (run / "features.csv").read_text().replace(",synthetic,", ",IXI,")
    assert ",IXI," in table
    (run / "features.csv").write_text(table)
    real = build_report(run).read_text(encoding="utf-8")
    assert "ynthetic" not in texts(real)
    assert "simulated" not in texts(real)
    assert "340 people" in texts(real)


def test_the_page_is_not_for_clinical_use_on_screen_and_on_every_sheet(html: str):
    assert f'<p class="use" role="note">{NOT_FOR_CLINICS} Synthetic data.</p>' in html
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert ".use { position: sticky; top: 0;" in style
    assert f'@bottom-left {{ content: "{NOT_FOR_CLINICS} Synthetic data."; }}' in style
    assert '@top-left { content: "Run demo"; }' in style
    assert 'content: "Page " counter(page) " of " counter(pages);' in style


def test_the_name_of_the_run_cannot_leave_the_style_sheet(make_run: Callable[..., Path]):
    run = make_run('a"; } <style> \\ b')
    html = build_report(run).read_text(encoding="utf-8")
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert '@top-left { content: "Run a\\22 \\3b  \\7d  \\3c style\\3e  \\5c  b"; }' in style
    assert html.count("</style>") == 1


def test_a_term_is_explained_where_it_is_used_first(html: str):
    """At the end of the sentence, or below the cards or the table, that uses it first; never later on."""
    text = texts(html.partition("<main>")[2].join(("<body>", "")))
    explained = 0
    for term in TERMS:
        used = term.pattern.search(text)
        if used is None:
            continue
        at = text.find(term.sentence)
        assert at >= 0, term.sentence
        assert at - used.start() < 900, term.sentence
        assert text.count(term.sentence) == 1
        explained += 1
    assert explained >= 14


def test_known_and_unseen_sites_have_no_other_names(html: str):
    assert not re.search(r"\b(internal|external)\b|internal_test|external_test|held-out sites", texts(html))


def test_no_absolute_path_stands_outside_the_appendix_and_no_user_name_anywhere(make_run: Callable[..., Path]):
    run = make_run("private")
    home, lab = "/home/anna", "/srv/lab of anna/scans"
    facts = json.loads((run / "run.json").read_text())
    facts["training"]["manifests"] = [f"{home}/study/manifest.csv", f"{lab}/more.csv"]
    facts["command"] = f"{home}/venv/bin/medssl pretrain {home}/study/recipe.yaml"
    (run / "run.json").write_text(json.dumps(facts))
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("cohort/manifest.csv", f"{home}/study/manifest.csv"))
    scores = json.loads((run / "scores.json").read_text())
    scores["notes"] = [f"2 scans of {home}/study/manifest.csv have no age", f"{lab}/a b.nii.gz was skipped"]
    scores["references"]["ridge_voxels"] = {"missing": f"{lab}/more.csv is gone, C:\\Users\\Anna\\x.csv as well"}
    (run / "scores.json").write_text(json.dumps(scores))
    message = {"step": 1, "epoch": 0, "level": "warning", "text": f"{home}/study/sub-01.nii.gz could not be read"}
    other = message | {"text": "/mnt/other/sub-02.nii.gz could not be read"}
    (run / "logs" / "messages.jsonl").write_text(f"{json.dumps(message)}\n{json.dumps(other)}\n")
    html = build_report(run).read_text(encoding="utf-8")
    assert "/home/" not in html
    assert "anna" not in html.replace("lab of anna", "").lower()
    page, _, appendix = html.partition('<section id="appendix"')
    page = re.sub(r'src="data:[^"]*"', "", page.partition("</style>")[2])
    assert not re.search(r"(?<![\w<./~])~?/\w+/\w+|[A-Z]:\\", page)
    for name in (
        "manifest.csv, more.csv",
        "sub-01.nii.gz could",
        "sub-02.nii.gz could",
        "a b.nii.gz was skipped",
        "more.csv is gone",
    ):
        assert name in page
    assert f"{lab}/more.csv" in appendix
    assert "manifest: ~/study/manifest.csv" in appendix


def test_tables_of_sites_and_the_appendix_are_folded(html: str):
    folded = re.findall(r"<details.*?</details>", html, flags=re.DOTALL)
    assert len(folded) == 3
    assert "Scans per site, and their ages in years" in folded[0]
    assert "Age errors per site, in years" in folded[1]
    assert '<pre class="recipe">' in folded[2]
    assert all("<summary>" in fold for fold in folded)
    assert "details::details-content { content-visibility: visible;" in html, "on paper they are open"


def test_a_value_below_chance_is_explained_beside_it_and_below_the_table(make_run: Callable[..., Path]):
    run = make_run("below")
    scores = json.loads((run / "scores.json").read_text())
    scores |= {"site_bacc": 0.02, "r2_external": -0.4}
    scores["ci"] |= {"site_bacc": [0.0, 0.2], "r2_external": [-0.9, 0.1]}
    (run / "scores.json").write_text(json.dumps(scores))
    html = build_report(run).read_text(encoding="utf-8")
    assert re.search(
        r"2&nbsp;%|2\u00a0% <span class=\"ci\">\(0 to 20\u00a0%\)</span> <span class=\"worse\">below chance", html
    )
    assert re.search(r"−0\.40 <span class=\"ci\">[^<]*</span> <span class=\"worse\">below 0</span>", html)
    assert f"Below chance: {caution.BELOW_CHANCE}." in html
    assert "R² below 0: giving everyone the mean age" in html


def test_a_score_on_few_people_says_so_beside_the_number(make_run: Callable[..., Path]):
    run = make_run("few")
    scores = json.loads((run / "scores.json").read_text())
    scores["notes"] = ["the age scores of external_test rest on 17 people: with fewer than 30 they easily change"]
    scores["n"] |= {"subjects_external_test": 17, "sites_external_test": 2, "subjects_internal_test": 60}
    (run / "scores.json").write_text(json.dumps(scores))
    html = build_report(run).read_text(encoding="utf-8")
    cards = html.partition('<div class="cards">')[2].partition("</section>")[0].split('<div class="card">')[1:]
    assert ["years*</p>" in card for card in cards] == [True, False, False]
    assert texts(html).count("fewer than 30") == texts(html).lower().count("fewer than 30") == 1
    assert "Age error, unseen sites*" in html
    assert "Age error, known sites*" not in html
    assert "RMSE, unseen sites*" in html
    assert "17 people at 2 sites" in cards[0]


def test_headings_go_down_one_step_at_a_time_and_tables_name_their_heads(html: str):
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert '<html lang="en">' in html
    assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", html))


def test_letters_can_be_read_in_light_and_dark(html: str):
    style = html.partition("<style>")[2].partition("</style>")[0]
    palettes = [
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{[^}]*--ground[^}]*\}", style)
    ]
    assert len(palettes) == TWO_THEMES
    for palette in palettes:
        for ground in ("ground", "tint", "warn", "mine"):
            for letters in ("ink", "soft", "blue", "red", "green"):
                assert contrast(palette[letters], palette[ground]) >= 4.5, (letters, ground)


def test_an_unfinished_run_says_so_in_its_title_and_summary(make_run: Callable[..., Path]):
    run = make_run("begun")
    facts = json.loads((run / "run.json").read_text()) | {"state": "training"}
    (run / "run.json").write_text(json.dumps(facts))
    text = texts(build_report(run).read_text(encoding="utf-8"))
    assert "Encoder resnet18 in training with exponential" in text
    assert "the training is not finished (state: training)" in text


def test_a_baseline_that_wins_is_marked_where_its_number_stands(make_run: Callable[..., Path]):
    run = make_run("beaten")
    scores = json.loads((run / "scores.json").read_text())
    scores["references"]["constant"]["challenge"] = 1.5
    (run / "scores.json").write_text(json.dumps(scores))
    html = build_report(run).read_text(encoding="utf-8")
    mine = html.partition('<tr class="mine">')[2].partition("</tr>")[0]
    cells = dict(re.findall(r'data-label="([^"]+)">(.*?)</td>', mine))
    assert 'worse">worse than ridge on voxels' in cells["Age error, unseen sites"]
    assert 'worse">worse than constant features, which say nothing' in cells["Challenge score"]
    assert "constant" not in cells["Age error, unseen sites"]


def test_how_the_site_is_read_is_said_in_the_same_words_everywhere(html: str, make_run: Callable[..., Path]):
    assert f"Recognition of the scanner is a balanced accuracy: {caution.SITE_DIRECTION}." in texts(html)
    assert caution.SITE_DIRECTION.startswith("closer to chance is better")
    assert "Lower is better." not in texts(html)


def test_intervals_over_few_sites_are_left_out_and_it_is_said_once(make_run: Callable[..., Path], html: str):
    assert "whole sites drawn again" not in html
    (note,) = caution.by_sites(4)
    assert texts(html).count(note[1:]) == 1
    run = make_run("many")
    scores = json.loads((run / "scores.json").read_text())
    scores["n"]["sites_external_test"] = 6
    (run / "scores.json").write_text(json.dumps(scores))
    many = build_report(run).read_text(encoding="utf-8")
    assert 'data-label="95&nbsp;% interval, whole sites drawn again"' in many
    assert 'data-label="95&nbsp;% interval, people drawn again"' in many
    assert note not in texts(many)


def test_on_a_telephone_figures_fit_and_messages_have_the_whole_width(html: str):
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "min-width: 34rem" not in style
    assert "sideways" not in html
    assert html.count('<source media="screen and (max-width: 40rem)" srcset="data:image/svg') == html.count("<img")
    assert "table.data td.why, table.data td.text { display: block; }" in style
    assert '<td class="text">no learning yet' in html


def test_the_page_says_what_a_loss_below_0_means_where_there_is_one(html: str, make_run: Callable[..., Path]):
    assert "A loss below 0 is no fault" not in html
    run = make_run("negative", players=("one", "two"))
    log = run / "logs" / "train.csv"
    head, first, *rest = log.read_text().splitlines()
    cells = first.split(",")
    cells[head.split(",").index("loss_one")] = "-0.836"
    log.write_text("\n".join([head, ",".join(cells), *rest]) + "\n")
    assert "A loss below 0 is no fault" in build_report(run).read_text(encoding="utf-8")


def test_a_run_on_a_table_is_not_asked_for_pictures(make_run: Callable[..., Path]):
    run = make_run("table")
    (run / "views.npz").unlink()
    facts = json.loads((run / "run.json").read_text())
    section = '<section id="views"'
    assert "There are no sample views (views.npz)" in build_report(run).read_text().partition(section)[2]
    facts["training"]["features"] = 68
    (run / "run.json").write_text(json.dumps(facts))
    views = build_report(run).read_text(encoding="utf-8").partition(section)[2].partition("</section>")[0]
    assert "trained on a table of measures" in views
    assert "views.npz" not in views
