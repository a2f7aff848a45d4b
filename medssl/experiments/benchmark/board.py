"""The table of a benchmark: mean and standard deviation over folds and seeds, references last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.report.markdown import md

SINGLE = (
    "constant",
    "age oracle",
    "site median",
    "raw input",
    "raw input, ComBat",
    "raw input, residuals",
    "raw input, 1 number",
)
"""References that depend on the fold alone."""
COLUMNS = (
    ("challenge", "L_c"),
    ("mae_internal", "MAE int"),
    ("mae_external", "MAE ext"),
    ("site_bacc", "BAcc int"),
    ("r2_external", "R2 ext"),
)


def collect(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line per design, encoder, row and representation: n, failed, and mean and sd of every metric.

    A fold's reference is counted once, whatever trained beside it. sd: over folds and seeds, with n - 1 (None for
    one value). Trainings that stopped are counted in ``failed``. better: of how many of the n values the challenge
    score is below that of the constant row on the same fold.
    """
    values: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    failed: dict[tuple[str, str, str, str], int] = {}
    better: dict[tuple[str, str, str, str], int] = {}
    bar = {
        (r["cell"]["design"], r["cell"]["fold"]): r["scores"]["constant"]["challenge"]
        for r in results
        if "constant" in r.get("scores", {})
    }
    seen: set[tuple[str, int, str]] = set()
    for result in results:
        cell = result["cell"]
        if "stopped" in result:
            key = (cell["design"], cell["encoder"], cell["row"], "h")
            failed[key] = failed.get(key, 0) + 1
            values.setdefault(key, {})
            continue
        for shown, metrics in result["scores"].items():
            if shown in SINGLE:
                if (cell["design"], cell["fold"], shown) in seen:
                    continue
                seen.add((cell["design"], cell["fold"], shown))
                key = (cell["design"], "", shown, "")
            elif shown == "untrained":
                key = (cell["design"], cell["encoder"], "untrained", "h")
            else:
                key = (cell["design"], cell["encoder"], cell["row"], shown)
            line = values.setdefault(key, {})
            score, constant = metrics.get("challenge"), bar.get((cell["design"], cell["fold"]))
            better[key] = better.get(key, 0) + int(None not in (score, constant) and score < constant)
            for name, value in metrics.items():
                if value is not None:
                    line.setdefault(name, []).append(float(value))
    return [
        {
            "design": design,
            "encoder": encoder,
            "row": row,
            "features": shown,
            "n": max((len(v) for v in line.values()), default=0),
            "failed": failed.get((design, encoder, row, shown), 0),
            "better": better.get((design, encoder, row, shown), 0),
            **{name: _summary(line.get(name, [])) for name, _ in COLUMNS},
        }
        for (design, encoder, row, shown), line in values.items()
    ]


def _summary(values: Sequence[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def markdown(lines: Sequence[Mapping[str, Any]], title: str, notes: Sequence[str] = ()) -> str:
    """One table per design, best challenge score first, references where they fall; ages in years."""
    text = [f"## {md(title)}", ""]
    for design in dict.fromkeys(line["design"] for line in lines):
        text += [f"### {HEADINGS[design]}", ""]
        heads = ["encoder", "row", "features", *(head for _, head in COLUMNS), "better than constant"]
        text += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        chosen = [line for line in lines if line["design"] == design]
        chosen.sort(key=lambda line: line["challenge"]["mean"] if line["challenge"] else np.inf)
        for line in chosen:
            cells = [line["encoder"] or "-", line["row"], line["features"] or "-"]
            cells += [_cell(line[name], name) for name, _ in COLUMNS]
            stopped = f" ({line['failed']} stopped)" if line["failed"] else ""
            text.append("| " + " | ".join([*cells, f"{line['better']} of {line['n']}{stopped}"]) + " |")
        text.append("")
    text.append(
        "Mean ± sd over folds and seeds (folds share people, so the sd is no standard error); the last column counts "
        "the values of L_c that are below the constant row's on the same fold. L_c = BAcc^0.3 * external MAE, lower is "
        "better; ages in years. h: encoder, z: projection, as the published rows used; 1 number: the age that a ridge, "
        "fitted on the training rows, says from the features. R2 is not part of the challenge. ComBat and residuals: "
        "fitted on training rows, sites unseen there stay as they are."
    )
    return "\n".join([*text, *(f"{note}." for note in notes)]) + "\n"


HEADINGS = {
    "challenge": "Whole sites external, people of the others internal (as the challenge divides its rows)",
    "sites": "Every site external in exactly one fold",
    "split": "The split of the cohort",
    "folds": "The folds of the cohort's training rows",
}


def _cell(summary: Mapping[str, float | None] | None, name: str) -> str:
    if summary is None or summary["mean"] is None:
        return "-"
    digits = 3 if name == "site_bacc" else 2
    spread = f" ± {summary['sd']:.{digits}f}" if summary["sd"] is not None else ""
    return f"{summary['mean']:.{digits}f}{spread}"
