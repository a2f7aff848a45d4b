"""The score against each swept key, and how far seeds alone move it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medssl.experiments.study.plan import SEED, Study
from medssl.report.figures import BLUE, GREY, RED, WIDTH, plain, styled

_COLUMNS = 3
_MOST = 20  # settings whose seeds are drawn one by one
_WIDE = 20.0  # largest over smallest value from which an axis is logarithmic


def whole(line: Mapping[str, Any]) -> bool:
    """Whether every seed of a setting was trained and scored."""
    return line["score"] is not None and not line["stopped"] and not line["missing"]


@styled
def against_settings(lines: Sequence[Mapping[str, Any]], study: Study) -> Figure:
    """One panel per swept key (points: settings, bars: sd over seeds, line: mean over the other keys), one of seeds.

    lines: of ``settings_of``, at least one with a score, best first.
    """
    keys = [key for key in study.swept if key != SEED]
    scored = [line for line in lines if line["score"] is not None]
    rows = -(-(len(keys) + 1) // _COLUMNS)
    fig = Figure(figsize=(WIDTH, 2.6 * rows), layout="constrained")
    panels = fig.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, key in zip(panels, keys, strict=False):
        _against(axes, key, scored)
        axes.set_ylabel(study.score)
    _seeds(panels[len(keys)], scored[:_MOST], study.score)
    for axes in panels[len(keys) + 1 :]:
        axes.set_axis_off()
    way = "greater" if study.greater_is_better else "lower"
    fig.suptitle(plain(f"{study.title}: {study.score} on held-out train rows, {way} is better", 100), fontsize=9.5)
    return fig


def _against(axes: Axes, key: str, lines: Sequence[Mapping[str, Any]]) -> None:
    values = [line["settings"][key] for line in lines]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    names = sorted({json.dumps(v) for v in values}) if not numeric else []
    x = np.array([float(v) if numeric else names.index(json.dumps(v)) for v in values])
    y = np.array([line["score"] for line in lines])
    axes.errorbar(x, y, [line["sd"] or 0.0 for line in lines], fmt="o", color=GREY, markersize=4, elinewidth=0.8)
    at = np.unique(x)
    if len(at) < len(x):
        axes.plot(at, [y[x == one].mean() for one in at], "-", color=BLUE, label="mean over other keys")
    if whole(lines[0]):
        axes.plot(x[0], y[0], "o", color=RED, markersize=6, zorder=5, label="best")
        axes.legend(loc="best")
    if numeric and at[0] > 0 and at[-1] / at[0] >= _WIDE:
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(range(len(names)), [plain(name, 18) for name in names], rotation=20, ha="right")
    axes.set_xlabel(plain(key, 40))


def _seeds(axes: Axes, lines: Sequence[Mapping[str, Any]], score: str) -> None:
    for place, line in enumerate(lines, start=1):
        values = list(line["values"].values())
        axes.plot([place] * len(values), values, "o", color=RED if place == 1 and whole(line) else GREY, markersize=3.5)
        axes.plot([place - 0.3, place + 0.3], [line["score"]] * 2, "-", color=BLUE)
    axes.set_xlabel("settings by rank (dots: seeds)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(score)
