"""A run folder as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from medssl.files import write_atomic
from medssl.report import sections, trust
from medssl.report.read import RunFiles, read_run
from medssl.report.words import bounds, percent, ratio, row_name, shown, signed, years


def build_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of ``run`` to ``out`` (default RUN/report.html) and return its path.

    Every part of the run folder may be absent; its section then names the command that makes it. The same
    files give the same bytes. Raises UserError when the folder is no run, or naming a file that is broken.
    """
    run = Path(run)
    target = run / "report.html" if out is None else Path(out)
    if target.is_dir():
        target = target / "report.html"
    write_atomic(target, render(read_run(run)).encode("utf-8", "replace"))
    return target


def render(files: RunFiles) -> str:
    """The page as text."""
    page: dict[str, Any] = {
        "files": files,
        "headline": sections.headline(files),
        "cohort": sections.cohort(files),
        "scores": sections.scorecard(files),
        "ages": sections.ages(files),
        "disagreement": sections.disagreement(files),
        "sites": sections.sites(files),
        "training": sections.training(files),
        "maps": sections.maps(files),
        "views": sections.views(files),
        "messages": sections.messages(files),
        "trust": trust.statement(files),
        "origin": trust.origin(files),
        "css": _resource("report.css"),
    }
    return _environment().get_template("report.html.jinja").render(page)


def _environment() -> Environment:
    """Everything that comes from the run folder is escaped; an unknown name in the template is an error."""
    environment = Environment(
        loader=DictLoader({"report.html.jinja": _resource("report.html.jinja")}),
        autoescape=True,
        undefined=StrictUndefined,
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
    environment.globals |= {"shown": shown, "bounds": bounds}
    return environment


def _resource(name: str) -> str:
    return resources.files("medssl.report").joinpath(name).read_text(encoding="utf-8")
