"""A run folder as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from medssl.files import Output, refuse_foreign, write_atomic
from medssl.report import about, course, score_tables, sections, trust
from medssl.report.paths import absolute_paths, names_only, with_home
from medssl.report.read import RunFiles, read_run
from medssl.report.terms import Glossary
from medssl.report.words import bounds, percent, ratio, row_name, shown, signed, years

_PAGE = "report.html.jinja"
_APPENDIX = "appendix.html.jinja"
PAGE = rb"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n(?:<meta [^\n]*\n)+<title>"
"""How every page of medssl begins."""
REPORT = Output("a report", dict.fromkeys((".html", ".htm"), re.compile(PAGE + rb"(?!TRIPOD|CLAIM)")))
_LONGEST_NAME = 70  # letters of a run's name that fit into the head of a printed page


def build_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of ``run`` to ``out`` (default RUN/report.html) and return its path.

    Every part of the run folder may be absent; its section then names the command that makes it, as it is typed in
    the working folder. The same files, seen from the same folder, give the same bytes. Raises UserError when the
    folder is no run, naming a file that is broken, or where ``out`` is a file that is no report.
    """
    run = Path(run)
    target = run / "report.html" if out is None else Path(out)
    if target.is_dir():
        target = target / "report.html"
    if target != run / "report.html":
        refuse_foreign(target, REPORT)
    write_atomic(target, render(read_run(run)).encode("utf-8", "replace"))
    return target


def render(files: RunFiles) -> str:
    """The page as text: paths are shown by the names of their files, and in the appendix with "~" for a home folder."""
    trusted = trust.statement(files)
    page: dict[str, Any] = {
        "files": files,
        "headline": sections.headline(files, trusted),
        "cohort": sections.cohort(files),
        "scores": score_tables.scorecard(files),
        "heads": score_tables.HEADS,
        "no_predictions": sections.no_predictions(files),
        "ages": sections.ages(files),
        "disagreement": sections.disagreement(files),
        "sites": sections.sites(files),
        "training": course.training(files),
        "maps": course.maps(files),
        "views": course.views(files),
        "of_table": about.of_table(files),
        "messages": course.messages(files),
        "trust": trusted,
        "no_clinical_use": about.NO_CLINICAL_USE,
        "css": Markup(_resource("report.css") + _printed(files)),
        "explain": Glossary().explain,
    }
    appendix = {"files": files, "settings": sections.settings(files), "origin": trust.origin(files)}
    page["appendix"] = Markup(_environment(with_home).get_template(_APPENDIX).render(appendix))
    known = absolute_paths(files.facts, files.scores.provenance if files.scores else {})
    return _environment(lambda text: names_only(text, known)).get_template(_PAGE).render(page)


def _environment(shorten: Callable[[str], str]) -> Environment:
    """Everything that comes from the run folder is escaped; an unknown name in the template is an error.

    shorten: what is done to every text before it is written.
    """
    environment = Environment(
        loader=DictLoader({name: _resource(name) for name in (_PAGE, _APPENDIX)}),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda given: shorten(given) if type(given) is str and not given.startswith("data:") else given,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "years": years,
        "percent": percent,
        "ratio": ratio,
        "row_name": row_name,
        "signed": signed,
    }
    environment.filters["code"] = lambda text: _code(shorten(text))
    environment.globals |= {"shown": shown, "bounds": bounds}
    return environment


def _code(text: str) -> Markup:
    """A sentence as markup, with commands in backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _printed(files: RunFiles) -> str:
    """Head and foot of every printed page: the run's name, that this is no clinical software, page numbers."""
    name = files.name if len(files.name) <= _LONGEST_NAME else f"{files.name[: _LONGEST_NAME - 1]}…"
    foot = about.NO_CLINICAL_USE + (" Synthetic data." if about.synthetic_notice(files) else "")
    return (
        "@page {\n"
        f"  @top-left {{ content: {css_text(f'Run {name}')}; }}\n"
        f"  @bottom-left {{ content: {css_text(foot)}; }}\n"
        "}\n"
    )


def css_text(text: str) -> str:
    """A text as a CSS string that can neither end the string nor the style element.

    >>> css_text('a"</style>')
    '"a\\\\22 \\\\3c \\\\2f style\\\\3e "'
    """
    plain = "".join(c if c.isprintable() else " " for c in text)
    inside = "".join(c if c.isalnum() or c in " .,_-" else f"\\{ord(c):x} " for c in plain)
    return f'"{inside}"'


def _resource(name: str) -> str:
    return resources.files("medssl.report").joinpath(name).read_text(encoding="utf-8")
