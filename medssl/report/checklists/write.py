"""A checklist as Markdown, as one HTML page or as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined

from medssl.files import Output, refuse_foreign, write_atomic
from medssl.report.about import NO_CLINICAL_USE
from medssl.report.build import PAGE, css_text
from medssl.report.checklists.claim import CLAIM
from medssl.report.checklists.data import synthetic
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
from medssl.report.checklists.known import Known, read_known
from medssl.report.checklists.tripod_ai import TRIPOD_AI
from medssl.report.markdown import md, table

CHECKLISTS = {c.name: c for c in (TRIPOD_AI, CLAIM)}
CHECKLIST = Output(
    "a checklist",
    {
        ".md": re.compile(rb"# [^\n]+\n\n> Research software\. Not for clinical use\.\n"),
        ".html": re.compile(PAGE + rb"(?:TRIPOD|CLAIM)"),
        ".csv": re.compile(rb"checklist,item,applies,section,"),
    },
)
_HEAD = ("Item", "What it asks for", "Status", "What the run says", "Read from", "Page")


def build_checklist(run: Path, checklist: Checklist, out: Path | None = None) -> Path:
    """Write a checklist, filled in with what the run knows, and return its path.

    out: a file that ends in .md, .html or .csv, or a folder; default RUN/checklist-NAME.md. The same run gives the same
    bytes. Raises UserError for another ending, where ``out`` is a file but no checklist, where the folder is no run, or
    naming the file that is broken.
    """
    target = run / f"checklist-{checklist.name}.md" if out is None else out
    if target.is_dir():
        target = target / f"checklist-{checklist.name}.md"
    if out is not None:
        refuse_foreign(target, CHECKLIST)
    text = render(read_known(run), checklist, target.suffix.lower())
    return write_atomic(target, text.encode("utf-8", "replace"))


def render(known: Known, checklist: Checklist, ending: str) -> str:
    """The checklist as text; ending: ".md", ".html" or ".csv"."""
    answers = [answer(item, known) for item in checklist.items]
    return {".md": _markdown, ".html": _html, ".csv": _csv}[ending](known, checklist, answers)


def summary(answers: Sequence[Answer]) -> str:
    """How many items have which status, in one sentence."""
    number = Counter(a.status for a in answers)
    words = {
        FILLED: "{} filled by the run",
        PARTLY: "{} in part, to be completed by the authors",
        AFTER_SCORING: "{} after scoring",
        AUTHORS: "{} for the authors alone",
        NOT_APPLICABLE: "{} not applicable, with the reason",
    }
    parts = [words[status].format(number[status]) for status in STATUSES if number[status]]
    return f"Of {len(answers)} items: {'; '.join(parts)}."


def preface(known: Known, checklist: Checklist) -> list[str]:
    """What stands above the table: what is meant, whose numbers these are, what is not known yet."""
    said = [
        f'What the run says is read from the files of the run folder "{known.name}"; figures are those of scores.json. '
        "It is about the model of the run: age, predicted from the features of the encoder. Where a paper predicts "
        "something else, such as a diagnosis, the authors answer for that.",
        f"Items are numbered as in {checklist.title}; what they ask for is told in our own words, and the published "
        f"text rules: {checklist.citation}. doi:{checklist.doi}. {checklist.verified}",
    ]
    if known.files.facts and not known.finished:
        said.append("This run is not finished; what is said here is preliminary. "
                    f"It is finished by: {known.command('pretrain --resume')} "
                    f"({_inside(known.from_where)})")  # fmt: skip
    if known.scores is None:
        said.append("This run is not scored, so that errors, intervals and comparisons are missing. They are computed "
                    f"by: {known.command('score')} ({_inside(known.from_where)})")  # fmt: skip
    return said


def _inside(sentence: str) -> str:
    """A sentence as it stands in brackets."""
    return f"{sentence[:1].lower()}{sentence[1:].rstrip('.')}"


def questions(answers: Sequence[Answer]) -> list[tuple[str, str, bool]]:
    """Number, question and whether a part is known, for every item that asks the authors something."""
    return [(a.item.number, a.item.question, a.status == PARTLY) for a in answers if a.asks]


def _sections(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for a in answers:
        found.setdefault(a.item.section, []).append(a)
    return found


def _label(a: Answer) -> str:
    """Number with the mark of development or evaluation where the item is for one of them only."""
    return f"{a.item.number} ({a.item.applies})" if a.item.applies in ("D", "E") else a.item.number


def _subject(a: Answer) -> str:
    return a.item.subject if a.item.topic == a.item.section else f"{a.item.topic}: {a.item.subject}"


def _markdown(known: Known, checklist: Checklist, answers: Sequence[Answer]) -> str:
    lines = [f"# {md(checklist.title)}: {md(known.name)}", "", f"> {md(NO_CLINICAL_USE)}", ""]
    if synthetic(known):
        lines += [f"> **{md(synthetic(known))}**", ""]
    lines += [md(summary(answers)), ""]
    for paragraph in preface(known, checklist):
        lines += [md(paragraph), ""]
    for section, rows in _sections(answers).items():
        cells = [(_label(a), _subject(a), a.status, a.text, ", ".join(a.sources), "") for a in rows]
        lines += [f"## {md(section)}", "", *table(_HEAD, cells), ""]
    if any(a.item.applies in ("D", "E") for a in answers):
        lines += ["D: only where a model is developed; E: only where one is evaluated; others: both.", ""]
    asked = questions(answers)
    lines += ["## Questions for the authors", ""]
    lines += [f"- **{md(n)}**{' (known in part)' if part else ''} {md(text)}" for n, text, part in asked] or ["None."]
    return "\n".join(lines) + "\n"


def _html(known: Known, checklist: Checklist, answers: Sequence[Answer]) -> str:
    folder = resources.files("medssl.report")
    page = folder.joinpath("checklists").joinpath("checklist.html.jinja").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"page": page}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page").render(
        title=checklist.title,
        run=known.name,
        warning=NO_CLINICAL_USE,
        synthetic=synthetic(known),
        summary=summary(answers),
        preface=preface(known, checklist),
        sections=[(s, [(_label(a), a) for a in rows]) for s, rows in _sections(answers).items()],
        marked=any(a.item.applies in ("D", "E") for a in answers),
        questions=questions(answers),
        css=folder.joinpath("report.css").read_text(encoding="utf-8"),
        printed=_printed(known, checklist),
    )


def _printed(known: Known, checklist: Checklist) -> str:
    """Head and foot of every printed page."""
    head, foot = css_text(f"{checklist.title}, run {known.name[:60]}"), css_text(NO_CLINICAL_USE)
    return (f"@page {{ size: A4 landscape; @top-left {{ content: {head}; }} @top-right {{ content: ''; }} "
            f"@bottom-left {{ content: {foot}; }} }}")  # fmt: skip


def _csv(known: Known, checklist: Checklist, answers: Sequence[Answer]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("checklist", "item", "applies", "section", "topic", "asks_for", "status", "run_says", "read_from",
            "question", "page")  # fmt: skip
    writer.writerow(head)
    for a in answers:
        i = a.item
        row = (checklist.name, i.number, i.applies, i.section, i.topic, i.subject, a.status, a.text,
               ", ".join(a.sources), i.question if a.asks else "", "")  # fmt: skip
        writer.writerow(row)
    return text.getvalue()
