"""The three forms of a checklist: Markdown, HTML, CSV."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medssl.errors import UserError
from medssl.report.checklists.claim import CLAIM
from medssl.report.checklists.item import Checklist
from medssl.report.checklists.tripod_ai import TRIPOD_AI
from medssl.report.checklists.write import CHECKLIST, CHECKLISTS, build_checklist
from tests.report.checklists.study import change, study

HOSTILE = '<script>alert("x")</script>|a`b`[c](d)\n# e'
BOTH = pytest.mark.parametrize("checklist", [TRIPOD_AI, CLAIM], ids=lambda c: c.name)


class Page(HTMLParser):
    """Tags and text of a page; what is opened is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "col", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data


def rows_of(markdown: str) -> list[list[str]]:
    """Cells of all tables of a Markdown text, head lines left out."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [c for c in cells if c[0] != "Item" and set(c[0]) != {"-"}]


@BOTH
def test_the_three_forms_hold_the_same_items_in_published_order(
    checklist: Checklist, whole_study: Path, tmp_path: Path
):
    paths = [build_checklist(whole_study, checklist, tmp_path / f"list{ending}") for ending in CHECKLIST.begins]
    markdown, html, table = (p.read_text(encoding="utf-8") for p in paths)
    numbers = [i.number for i in checklist.items]
    assert [row[0].partition(" ")[0] for row in rows_of(markdown)] == numbers
    assert {len(row) for row in rows_of(markdown)} == {6}
    page = Page(html)
    assert page.open == []
    assert [c[0].partition(" ")[0] for c in page.cells if len(c) == 6][1:] == numbers
    read = list(csv.DictReader(io.StringIO(table)))
    assert [r["item"] for r in read] == numbers
    assert (
        [c[2] for c in page.cells if len(c) == 6][1:]
        == [r["status"] for r in read]
        == [r[2] for r in rows_of(markdown)]
    )
    assert [c[3] for c in page.cells if len(c) == 6][1:] == [r["run_says"] for r in read]


@BOTH
def test_the_first_words_count_the_items_and_the_last_ask_the_authors(checklist: Checklist, whole_study: Path):
    text = build_checklist(whole_study, checklist).read_text(encoding="utf-8")
    (whole_study / f"checklist-{checklist.name}.md").unlink()
    counts = re.search(
        r"^Of (\d+) items: (\d+) filled by the run; (\d+) in part.*; (\d+) for the authors alone", text, re.M
    )
    assert counts is not None
    statuses = [row[2] for row in rows_of(text)]
    assert [int(n) for n in counts.groups()] == [
        len(checklist.items), statuses.count("filled"), statuses.count("partly"), statuses.count("for the authors")
    ]  # fmt: skip
    questions = text.partition("## Questions for the authors")[2].strip().splitlines()
    asked = [row[0].partition(" ")[0] for row in rows_of(text) if row[2] in ("partly", "for the authors")]
    assert [re.match(r"- \*\*(\w+)\*\*", q)[1] for q in questions] == asked  # type: ignore[index]
    assert all(q.rstrip(".").endswith("?") or "?" in q for q in questions)


def test_the_page_is_one_file_without_scripts_or_network(whole_study: Path, tmp_path: Path):
    html = build_checklist(whole_study, TRIPOD_AI, tmp_path / "a.HTML").read_text(encoding="utf-8")
    assert "script" not in Page(html).tags
    assert not re.search(r"https?://|url\(|@import|src=", html)
    assert "not for clinical use" in html.lower()


@BOTH
def test_words_from_the_run_never_become_markup(checklist: Checklist, tmp_path: Path):
    run = study(tmp_path / "a|b <i>", site=HOSTILE)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: adamw", "name: '<script>|*x*'"))
    plain = re.sub(r"\s+", " ", HOSTILE)
    markdown = build_checklist(run, checklist).read_text(encoding="utf-8")
    assert {len(row) for row in rows_of(markdown)} == {6}
    assert "<" not in markdown.replace("\\<", "")
    assert "[c](d)" not in markdown
    html = build_checklist(run, checklist, tmp_path / "x.html").read_text(encoding="utf-8")
    assert "script" not in Page(html).tags
    assert Page(html).open == []
    read = list(csv.DictReader(io.StringIO(build_checklist(run, checklist, tmp_path / "x.csv").read_text())))
    plain = plain if checklist is TRIPOD_AI else "<script>|*x*"
    for said in ([c[3] for c in Page(html).cells if len(c) == 6], [r["run_says"] for r in read]):
        assert any(plain in text for text in said)


@BOTH
def test_no_cell_of_the_table_is_a_formula(checklist: Checklist, tmp_path: Path):
    """Every cell begins with our own words, whatever sites and notes are called."""
    run = study(tmp_path / "=1+1", site="=cmd|' /C calc'!A0")
    change(run / "scores.json", notes=["=1+1", "@x"], per_site=[])
    for row in csv.DictReader(io.StringIO(build_checklist(run, checklist, tmp_path / "x.csv").read_text())):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row.values())


def test_a_synthetic_cohort_is_called_so_above_everything(whole_study: Path, a_study: Path, tmp_path: Path):
    for ending in (".md", ".html"):
        text = build_checklist(whole_study, CLAIM, tmp_path / f"a{ending}").read_text(encoding="utf-8")
        assert 0 < text.index("no real person is shown") < text.index("Of 44 items")
    table = (a_study / "features.csv").read_text()
    (a_study / "features.csv").write_text(table.replace(",synthetic,", ",ixi,"))
    assert "real person" not in build_checklist(a_study, CLAIM).read_text(encoding="utf-8")


def test_an_unfinished_run_says_how_it_is_finished(a_study: Path):
    facts = (a_study / "run.json").read_text().replace('"state": "finished"', '"state": "training"')
    (a_study / "run.json").write_text(facts)
    text = build_checklist(a_study, CLAIM).read_text(encoding="utf-8")
    assert "This run is not finished" in text
    assert "medssl pretrain --resume demo" in text
    assert "not finished \\(state" in text or "not finished (state: training)" in text


def test_the_same_run_gives_the_same_bytes_and_leaves_nothing_else(a_study: Path):
    before = sorted(p.name for p in a_study.iterdir())
    path = build_checklist(a_study, TRIPOD_AI)
    assert path == a_study / "checklist-tripod-ai.md"
    first = path.read_bytes()
    assert build_checklist(a_study, TRIPOD_AI, a_study).read_bytes() == first
    assert sorted(p.name for p in a_study.iterdir()) == sorted([*before, path.name])


@pytest.mark.parametrize("name", ["list.docx", "list", "list.pdf"])
def test_another_ending_is_refused_before_anything_is_read(name: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"written as \.md, \.html or \.csv"):
        build_checklist(tmp_path / "no run", CLAIM, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_folder_has_a_checklist(tmp_path: Path):
    with pytest.raises(UserError, match="is no folder"):
        build_checklist(tmp_path / "nowhere", CLAIM)
    assert set(CHECKLISTS) == {"tripod-ai", "claim"}
