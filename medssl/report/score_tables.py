"""The scores as cards and tables: values, who was tested, and what a value worse than guessing means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from medssl.evaluation.caution import BELOW_CHANCE, SITE_DIRECTION, by_sites, is_about_few_people
from medssl.report import charts, words
from medssl.report.baselines import Rival, rivals
from medssl.report.pictures import picture
from medssl.report.read import Row, RunFiles, Scores
from medssl.report.summary import PLACES, few, who_was_tested
from medssl.report.verdict import REMARKS, remark, verdict

HEADS = {
    "mae_external": "Age error, unseen sites",
    "mae_internal": "Age error, known sites",
    "site_bacc": "Scanner recognised",
    "challenge": "Challenge score",
    "rmse_external": "RMSE, unseen sites",
    "rmse_internal": "RMSE, known sites",
    "r2_external": "R², unseen sites",
    "r2_internal": "R², known sites",
}
"""Heads of the columns of the score tables."""
_MAIN = ("mae_external", "mae_internal", "site_bacc", "challenge")
_FURTHER = ("rmse_external", "rmse_internal", "r2_external", "r2_internal")
_RIDGE = {"ridge_voxels": "ridge on voxels", "ridge_features": "ridge on the measures"}


def key_figures(scores: Scores) -> list[dict[str, Any]]:
    """The cards: a number with its interval, how many people it rests on, and the references beside it."""
    cards = []
    references = {"untrained": "untrained encoder", "constant": "chance", **_RIDGE}
    for metric, label, unit in (
        ("mae_external", "Age error on unseen sites", " years"),
        ("mae_internal", "Age error on known sites", " years"),
        ("site_bacc", "Scanner recognised (balanced accuracy)", ""),
    ):
        mine = scores.encoder.values.get(metric)
        if mine is None:
            continue
        rows = [
            (name, scores.row(key)) for key, name in references.items() if (metric, key) != ("site_bacc", "constant")
        ]
        values = [(name, row.values.get(metric)) for name, row in rows if row is not None]
        if metric == "site_bacc":
            values.insert(0, ("chance", words.site_chance(words.ordered(scores))))
        cards.append(
            {
                "label": label,
                "value": words.shown(metric, mine) + unit,
                "interval": words.bounds(metric, scores.encoder.ci.get(metric)),
                "tested": who_was_tested(scores.n, metric),
                "few": few(scores, metric),
                "remark": remark(scores.encoder, metric, scores.row("constant")).capitalize(),
                "beside": [f"{name} {words.shown(metric, v)}" for name, v in values if v is not None],
            }
        )
    return cards


def scorecard(files: RunFiles) -> dict[str, Any] | None:
    """Rows with intervals and remarks, differences to the references, the verdict, and the dot plot."""
    scores = files.scores
    if scores is None:
        return None
    rows = words.ordered(scores)
    changes = [
        {"key": row.key, "metric": metric, "difference": change}
        for row in rows
        for metric, change in scores.differences.get(row.key, {}).items()
        if metric in ("mae_external", "mae_internal") and row.missing is None and row.key != "age_oracle"
    ]
    main, further = ([m for m in wanted if charts.measured(rows, m)] for wanted in (_MAIN, _FURTHER))
    plot = picture(
        partial(charts.scorecard_plot, rows),
        charts.describe_scores(rows),
        _drawn(rows, main),
    )
    constant = scores.row("constant")
    unbeaten = rivals(scores)
    sites = scores.n.get("sites_external_test")
    notes = [*scores.notes, *(by_sites(sites) if changes and isinstance(sites, int) else ())]
    notes = [n for n in dict.fromkeys(notes) if not is_about_few_people(n) and not n.endswith(BELOW_CHANCE)]
    return {
        "rows": rows,
        "main": main,
        "further": further,
        "terms": ", ".join([HEADS[m] for m in main] + [words.row_name(row.key) for row in rows]) if main else "",
        "plot": plot if main else None,
        "verdict": verdict(scores),
        "differences": changes,
        "by_sites": any(d.ci_sites is not None for metrics in scores.differences.values() for d in metrics.values()),
        "notes": [words.spoken(note) for note in notes],
        "resampled": scores.protocol.get("resampled", "people"),
        "harmonised": harmonised(scores),
        "marks": lambda row, metric: marks(row, metric, constant, unbeaten),
        "direction": SITE_DIRECTION,
        "remarks": _remarks(rows, main, constant),
        "further_remarks": [r for r in _remarks(rows, further, constant) if r not in _remarks(rows, main, constant)],
        "few": [metric for metric in HEADS if few(scores, metric)],
        "tested": _tested(scores),
        "chance": words.site_chance(rows),
    }


def _drawn(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """What is drawn in the dot plot: bars and dashed lines only where there are any."""
    bars = ", and bars are 95 % intervals" if any(m in row.ci for row in rows for m in metrics) else ""
    chance = any(row.key == "constant" and row.missing is None for row in rows) or words.site_chance(rows) is not None
    return f"Dots are estimates{bars}.{' Dashed lines are chance.' if chance else ''}"


def marks(row: Row, metric: str, constant: Row | None, unbeaten: Sequence[Rival]) -> list[str]:
    """What stands beside a value: the references that the encoder does not beat, or that it is worse than guessing."""
    mine = [rival.mark for rival in unbeaten if row.key == "encoder" and rival.metric == metric]
    worse = remark(row, metric, constant)
    return [*mine, *([worse] if worse and not (mine and worse == "worse than chance") else [])]


def _remarks(rows: Sequence[Row], metrics: Sequence[str], constant: Row | None) -> list[str]:
    """What the remarks in a table mean, each once."""
    keys = [remark(row, metric, constant) for row in rows for metric in metrics]
    return list(dict.fromkeys(REMARKS[key] for key in keys if key))


def _tested(scores: Scores) -> str:
    """Who was tested, in a sentence; "" where it is not known."""
    parts = [who_was_tested(scores.n, m, kind=True) for m in PLACES if scores.encoder.values.get(m) is not None]
    parts = [part for part in parts if part]
    return f"Tested: {words.listing(parts)}." if parts else ""


def harmonised(scores: Scores) -> str:
    """How the features were harmonised before scoring; "" where they were not."""
    how = str(scores.protocol.get("harmonize") or "none")
    return "" if how == "none" else how
