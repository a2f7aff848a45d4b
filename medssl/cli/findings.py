"""What a check found, as a table for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medssl.errors import shown

if TYPE_CHECKING:
    from medssl.data.checks.report import CheckReport
    from medssl.export.check import Finding

FIRST = 3
WIDTH = 120  # where the output goes into a file


def print_report(report: CheckReport, everything: bool) -> None:
    """The summary, then the findings grouped by kind."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(report.summary):
        facts.add_row(Text(name, style="bold"), Text(shown(value)))
    console.print(facts)
    console.print()
    groups: dict[tuple[str, str], list[str]] = {}
    sizes: Counter[tuple[str, str]] = Counter()
    for finding in report.findings:
        groups.setdefault((finding.level, finding.code), []).append(finding.text)
        sizes[finding.level, finding.code] += finding.count
    colours = {"error": "bold red", "warning": "yellow", "info": "cyan"}
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("level", no_wrap=True)
    table.add_column("finding", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("where and what", overflow="fold")
    for (level, code), texts in groups.items():
        first = texts if everything else texts[:FIRST]
        more = len(texts) - len(first)
        lines = [*first, *([f"and {more} more (--all shows them)"] if more else [])]
        for k, line in enumerate(lines):
            head = (Text(level, style=colours[level]), Text(code), Text(str(sizes[level, code])))
            table.add_row(*(head if k == 0 else ("", "", "")), Text(shown(line)))
    if groups:
        console.print(table)
        console.print()
    counts = report.summary["counts"]
    totals = ", ".join(f"{n} {level}{'s' if level != 'info' and n != 1 else ''}" for level, n in counts.items())
    if report.ok:
        console.print(Text(f"{totals}: nothing would break a training", style="green"))
    else:
        console.print(Text(f"{totals}: the errors would break a training", style="bold red"))


def print_checks(findings: Sequence[Finding]) -> bool:
    """A table of checks with ok, FAILED or "-" (could not be looked at); True where none failed."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    words = {True: Text("ok", style="green"), False: Text("FAILED", style="bold red"), None: Text("-", style="dim")}
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for heading in ("check", "result", "what was seen"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(Text(shown(finding.what)), words[finding.ok], Text(shown(finding.seen)))
    console.print(table)
    failed = sum(finding.ok is False for finding in findings)
    console.print()
    left_out = sum(finding.ok is None for finding in findings)
    rest = f", {left_out} could not be done (-)" if left_out else ""
    console.print(Text(f"{f'{failed} of {len(findings)} checks failed' if failed else 'nothing failed'}{rest}"))
    return not failed


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The summary as a few readable lines."""

    def by(values: Sequence[float] | None) -> str:
        return " x ".join(f"{value:g}" for value in values) if values else "unknown"

    age = summary["age"]
    ages = f"{age['min']:.1f} to {age['max']:.1f} years, median {age['median']:.1f}" if age["known"] else "unknown"
    lines = [
        ("scans", f"{summary['scans']}; subjects {summary['subjects']}; sites {summary['sites']}"),
        ("age", f"{ages} (known for {age['known']})" if age["known"] else ages),
        ("sex", ", ".join(f"{n} {name}" for name, n in summary["sexes"].items()) or "unknown"),
        ("split", ", ".join(f"{n} {name}" for name, n in summary["splits"].items()) or "none"),
    ]
    if "features" in summary:
        lines.append(("features", str(summary["features"])))
    if summary["files"] or "features" not in summary:
        shape, spacing = by(summary["shape"]), by(summary["spacing"])
        lines.append(("images", f"mostly {shape} voxels of {spacing} mm, {summary['orientation']}"))
        lines.append(("read", f"headers of {summary['files']} files, voxels of {summary['files_with_voxels_read']}"))
    return lines
