from __future__ import annotations

import base64
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.report.build import build_report

ANCHORS = (
    "summary",
    "data",
    "scorecard",
    "ages",
    "sites",
    "training",
    "maps",
    "views",
    "messages",
    "leakage",
    "appendix",
)
VOID = {"meta", "img", "br", "link", "input", "source"}
HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Collects tags, anchors and pictures, and checks that what is opened is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids.add(str(found.get("id")))
        self.targets |= {str(found["href"]).lstrip("#")} if "href" in found else set()
        self.pictures += [found] if tag == "img" else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_report(whole_run, tmp_path_factory.mktemp("out") / "page.html").read_text(encoding="utf-8")


def test_the_page_is_one_whole_file_without_scripts_or_network(html: str):
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    assert all(str(p["src"]).startswith("data:image/") for p in page.pictures)
    assert len(html.encode()) < 3_000_000


def test_every_section_is_there_and_the_contents_line_reaches_it(html: str):
    page = Page(html)
    assert set(ANCHORS) | {"origin", "recipe"} <= page.ids
    assert set(ANCHORS) <= page.targets
    assert 'class="absent"' not in html


def test_every_figure_is_sound_and_says_in_words_what_it_shows(html: str):
    pictures = Page(html).pictures
    assert len(pictures) == 9
    for picture in pictures:
        assert len(str(picture["alt"])) > 30
        content = base64.b64decode(str(picture["src"]).partition("base64,")[2])
        assert ElementTree.fromstring(content).tag.endswith("svg")


def test_the_headline_gives_values_with_intervals_and_says_that_ridge_is_better(html: str):
    assert "Ridge on voxels predicts age better: 3.5 years" in html
    assert "Training helped" in html
    assert re.search(r"3\.5 <span class=\"ci\">\(3\.1 to 3\.9\)", html)
    assert "chance 12.5\u00a0%" in html
    assert "the loss stayed where guessing leaves it, so hardly anything was learned (see the messages)" in html


def test_the_report_names_versions_hashes_views_and_the_commands(html: str):
    for words in ("2.13.0", "c3" * 32, "cutout, in 50\u00a0% of views: size 0.25", "spacing: 4.0, 4.0, 4.0",
                  "medssl pretrain demo/recipe.yaml", "temperature: 0.1", "4 min"):  # fmt: skip
        assert words in html


def test_on_paper_a_heading_and_its_sentence_stay_with_what_follows(html: str):
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "h2 + p { break-after: avoid; break-inside: avoid; }" in style
    assert "h2, h3, caption { break-after: avoid; }" in style
    assert "figure, .card, .verdict li, tr, .absent, .banner { break-inside: avoid; }" in style
    assert '<th scope="row" class="keep">warning</th>' in html, "the level is not broken into two lines"
    assert ".keep { white-space: nowrap; }" in style


def test_building_again_gives_the_same_bytes(whole_run: Path, html: str):
    assert build_report(whole_run).read_text(encoding="utf-8") == html
    assert not list(whole_run.glob(".*"))


def test_words_from_the_run_folder_never_become_markup(make_run: Callable[..., Path]):
    run = make_run("evil", site=HOSTILE)
    for heavy in ("views.npz", "logs/train.csv", "logs/probe.csv", "logs/map-epoch0005.csv"):
        (run / heavy).unlink()
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text() + f"note: '{HOSTILE}</pre>'\n")
    facts = json.loads((run / "run.json").read_text())
    facts |= {
        "method": HOSTILE,
        "command": HOSTILE,
        "hashes": {HOSTILE: HOSTILE},
        "views": [{HOSTILE: {"p": 1}}],
    }
    (run / "run.json").write_text(json.dumps(facts))
    scores = json.loads((run / "scores.json").read_text())
    scores["references"] |= {HOSTILE: {"missing": HOSTILE}}
    (run / "scores.json").write_text(json.dumps(scores | {"notes": [HOSTILE]}))
    message = {"level": HOSTILE, "epoch": HOSTILE, "step": 1, "text": HOSTILE}
    (run / "logs" / "messages.jsonl").write_text(json.dumps(message) + "\n")
    table = (run / "features.csv").read_text()
    table = table.replace("sub-0399", HOSTILE.replace('"', "'")).replace("sub-0001", "sub-0398")
    (run / "features.csv").write_text(table)
    html = build_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags
    assert page.open == []
    assert html.count("&lt;script&gt;") >= 8
    assert "1 person is in training and in a test split (sub-0398)" in html


def test_a_run_that_was_only_begun_names_the_command_for_every_missing_part(bare_run: Path):
    html = build_report(bare_run).read_text(encoding="utf-8")
    assert html.count("medssl score bare") >= 4
    assert html.count('class="absent"') >= 8
    assert Page(html).pictures == []


def test_without_a_recipe_the_page_is_built_from_the_record_alone(bare_run: Path):
    (bare_run / "recipe.yaml").unlink()
    (bare_run / "run.json").write_text('{"method": "mae", "state": "training", "training": {"sites": 3, "age": ["x"]}}')
    html = build_report(bare_run).read_text(encoding="utf-8")
    assert "not finished (state: training)" in html
    assert "medssl pretrain --resume bare" in html


@pytest.mark.parametrize(
    ("part", "anchor"),
    [("scores.json", "scorecard"), ("predictions.csv", "ages"), ("logs/train.csv", "training"),
     ("logs/map-epoch0028.csv", "maps"), ("views.npz", "views"), ("features.csv", "data")],
)  # fmt: skip
def test_each_part_is_shown_when_it_is_the_only_one(part: str, anchor: str, whole_run: Path, bare_run: Path):
    shutil.copy(whole_run / part, bare_run / part)
    html = build_report(bare_run).read_text(encoding="utf-8")
    section = html.partition(f'id="{anchor}"')[2].partition("</section>")[0]
    assert "<img" in section
    assert html.count("<img") <= 3


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("run.json", "{", "line 1"),
        ("run.json", "[]", "is a list, but an object"),
        ("scores.json", '{"mae_external": "low"}', "mae_external must be a number"),
        ("scores.json", '{"ci": {"mae_external": [1]}}', "ci.mae_external must be [low, high]"),
        ("scores.json", '{"references": {"untrained": 3}}', "references.untrained must be a JSON object"),
        (
            "scores.json",
            '{"differences": {"untrained": {"mae_external": {"difference": [2]}}}}',
            "difference must be",
        ),
        ("predictions.csv", "age,split\n30,train\n", "lacks the column 'predicted'"),
        ("predictions.csv", "age,predicted,split\n30,old,external_test\n", "line 2: predicted is 'old'"),
        ("predictions.csv", "", "no readable table"),
        ("features.csv", "participant_id,age,split\na,thirty,train\n", "line 2: age is 'thirty'"),
        ("logs/train.csv", "step,loss\n1,low\n", "line 2: loss is 'low'"),
        ("logs/train.csv", "loss\n1\n", "lacks the column 'step'"),
        ("logs/probe.jsonl", '{"epoch": 1}\nnothing\n', "line 2"),
        ("logs/messages.jsonl", "[1]\n", "line 1 is a list, but an object"),
        ("logs/map-epoch0002.csv", "x\n1\n", "lacks the column 'y'"),
        ("views.npz", "PK", "no readable array file"),
    ],
)
def test_a_broken_file_is_named_in_one_sentence(part: str, content: str, words: str, bare_run: Path):
    (bare_run / part).write_text(content)
    with pytest.raises(UserError) as caught:
        build_report(bare_run)
    assert Path(part).name in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (bare_run / "report.html").exists()


def test_bytes_that_are_no_text_and_arrays_of_objects_are_refused(bare_run: Path):
    np.savez(bare_run / "views.npz", slices=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"views\.npz"):
        build_report(bare_run)
    np.savez(bare_run / "views.npz", slices=np.zeros((2, 3)))
    with pytest.raises(UserError, match="slices must be"):
        build_report(bare_run)
    (bare_run / "views.npz").unlink()
    (bare_run / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"recipe\.yaml is no UTF-8"):
        build_report(bare_run)


def test_only_a_run_folder_is_reported_on(tmp_path: Path):
    with pytest.raises(UserError, match="is no folder"):
        build_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is no run folder"):
        build_report(tmp_path)


def test_the_page_goes_where_it_is_asked_for_or_says_why_not(bare_run: Path, tmp_path: Path):
    assert build_report(bare_run) == bare_run / "report.html"
    assert build_report(bare_run, tmp_path) == tmp_path / "report.html"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        build_report(bare_run, blocked / "page.html")


def test_scores_of_other_predictions_or_of_another_encoder_are_called_so(bare_run: Path, whole_run: Path):
    for part in ("scores.json", "predictions.csv", "run.json"):
        shutil.copy(whole_run / part, bare_run / part)
    scores = json.loads((bare_run / "scores.json").read_text())
    scores |= {"mae_external": 3.0, "provenance": {"encoder": "ff" * 32}}
    (bare_run / "scores.json").write_text(json.dumps(scores))
    html = build_report(bare_run).read_text(encoding="utf-8")
    assert "they were not made together" in html
    assert "made from another encoder" in html


def test_the_report_says_whether_people_or_families_were_resampled(bare_run: Path, whole_run: Path):
    for part in ("scores.json", "predictions.csv", "run.json"):
        shutil.copy(whole_run / part, bare_run / part)
    assert "interval, people drawn again" in build_report(bare_run).read_text(encoding="utf-8")
    scores = json.loads((bare_run / "scores.json").read_text())
    note = "intervals resample 40 families of 100 people"
    scores |= {"protocol": {**scores["protocol"], "resampled": "families"}, "notes": [note]}
    (bare_run / "scores.json").write_text(json.dumps(scores))
    html = build_report(bare_run).read_text(encoding="utf-8")
    assert "interval, families drawn again" in html
    assert "interval, people drawn again" not in html
    assert f"I{note[1:]}." in html
