"""External error against what is left of the site: one point per row, the corners of constant and oracle marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medssl.evaluation.metrics.challenge import EXPONENT
from medssl.experiments.benchmark.board import SINGLE
from medssl.experiments.benchmark.preset import FAIR
from medssl.report.figures import COLOURS, GREY, WIDTH, styled
from medssl.report.figures import plain as label

KINDS = {
    "h": ("o", "h"),
    "z": ("^", "z"),
    "h, ComBat": ("D", "h, ComBat"),
    "z, ComBat": ("d", "z, ComBat"),
    "h, residuals": ("s", "h, residuals"),
    "z, residuals": ("p", "z, residuals"),
    "h, 1 number": ("*", "h as 1 number"),
}
"""Forms of features: marker and name in the legend."""
_PALETTE = (*COLOURS, "#8B4513", "#7A5BC2", "#B8B800", "#00A6A6")
_LEVELS = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12)
_TICKS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
_PLACES = ((6, 3), (6, -9), (-6, 3), (-6, -9), (0, 8), (0, -14), (10, 14), (10, -20), (-10, 14), (-10, -20))
_SIZE = 7.0


@styled
def trade_off(lines: Sequence[Mapping[str, Any]], design: str, title: str) -> Figure:
    """External MAE [years] against balanced accuracy of the site (log scale), both lower is better.

    lines: of ``collect``. One panel per encoder; methods by colour (open: with FairKL), features by marker; reference
    rows grey with names. Grey curves: equal L_c; dashed: L_c of the constant row, below it a row beats it. The
    oracle's error is 0, so its mark lies on the lower edge.
    """
    shown = [x for x in lines if x["design"] == design and x["mae_external"] and x["site_bacc"]]
    methods = [x for x in shown if x["row"] not in SINGLE and x["row"] != "untrained"]
    encoders = list(dict.fromkeys(x["encoder"] for x in methods)) or [""]
    fig = Figure(figsize=(WIDTH * (1 if len(encoders) == 1 else 1.6), 0.72 * WIDTH), layout="constrained")
    panels = fig.subplots(1, len(encoders), sharey=True, sharex=True, squeeze=False)[0]
    names = list(dict.fromkeys(str(x["row"]).removesuffix(FAIR) for x in methods))
    colour = {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(names)}
    _limits(panels[0], shown)
    for axes, encoder in zip(panels, encoders, strict=True):
        _levels(axes, shown)
        for x in (m for m in methods if m["encoder"] == encoder):
            plain = str(x["row"]).removesuffix(FAIR)
            face = colour[plain] if plain == x["row"] else "white"
            axes.plot(*_at(x), KINDS[x["features"]][0], color=colour[plain], mfc=face, ms=6, mew=1.0, alpha=0.9)
        _references(
            axes, [x for x in shown if x["row"] in SINGLE or (x["row"], x["encoder"]) == ("untrained", encoder)]
        )
        axes.set_xlabel("balanced accuracy of the site, internal test rows")
        axes.set_title(f"{label(title, 100)}, {encoder}" if axes is panels[0] and encoder else encoder)
    panels[0].set_ylabel("MAE on unseen sites [years]")
    seen = {str(x["features"]) for x in methods}
    handles = [Line2D([], [], marker="o", ls="", color=c, label=name) for name, c in colour.items()]
    if any(str(x["row"]).endswith(FAIR) for x in methods):
        handles.append(Line2D([], [], marker="o", ls="", color=GREY, mfc="white", label="open: with FairKL"))
    handles += [Line2D([], [], marker=m, ls="", color=GREY, label=n) for k, (m, n) in KINDS.items() if k in seen]
    fig.legend(handles=handles, loc="outside lower center", ncols=4 if len(encoders) == 1 else 6)
    return fig


def _at(line: Mapping[str, Any]) -> tuple[float, float]:
    return line["site_bacc"]["mean"], line["mae_external"]["mean"]


def _limits(axes: Axes, shown: Sequence[Mapping[str, Any]]) -> None:
    """A log axis of the site, and of the error only the range that is in use."""
    points = np.array([_at(x) for x in shown if x["row"] != "age oracle"]).reshape(-1, 2)
    if not len(points):
        return
    axes.set_xscale("log")
    axes.set_xlim(max(points[:, 0].min(), 0.005) / 1.4, min(1.0, points[:, 0].max() * 1.5))
    span = max(float(np.ptp(points[:, 1])), 1.0)
    axes.set_ylim(max(0.0, points[:, 1].min() - 0.25 * span), points[:, 1].max() + 0.15 * span)
    axes.set_xticks(_TICKS, [f"{t:g}" for t in _TICKS], minor=False)
    axes.set_xticks([], minor=True)


def _levels(axes: Axes, shown: Sequence[Mapping[str, Any]]) -> None:
    """Curves of equal L_c, that of the constant row dashed."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    grid = np.geomspace(left, right, 200)
    constant = [x["challenge"]["mean"] for x in shown if x["row"] == "constant"]
    constant = [c for c in constant if c > 0]  # 0 where no test row is of the site that the constant says
    levels = [x for x in _LEVELS if all(abs(x / c - 1) > 0.15 for c in constant)]
    for level in (*levels, *constant):
        curve = level / grid**EXPONENT
        inside = np.flatnonzero((curve > low) & (curve < high))
        if not inside.size:
            continue
        own, start = level in constant, inside[0]
        dark = "#444444" if own else "#999999"
        axes.plot(grid, curve, "--" if own else "-", color=dark if own else "#cccccc", lw=1 if own else 0.7, zorder=0)
        text = f"L_c {level:.3g}" + (" (constant)" if own else "")
        if start < 0.9 * len(grid):
            at = (float(grid[start]), float(curve[start]))
            axes.annotate(
                text, at, xytext=(4, -1), textcoords="offset points", fontsize=6.5, color=dark, ha="left", va="top"
            )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _references(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Grey marks with names that do not cover each other: each takes the first free place around its mark."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # places are compared in points on the page
    taken: list[tuple[float, float, float, float]] = []
    scale = 72.0 / axes.figure.dpi
    for x in sorted(lines, key=lambda line: -float(line["mae_external"]["mean"])):
        bacc, error = _at(x)
        edge = x["row"] == "age oracle"
        y = axes.get_ylim()[0] if edge else error
        corner = x["row"] in ("constant", "age oracle")
        axes.plot(
            bacc, y, "X" if corner else "s", color="black" if corner else GREY, ms=9 if corner else 6, clip_on=False
        )
        name = "age oracle (MAE 0)" if edge else str(x["row"])
        px, py = axes.transData.transform((bacc, y)) * scale
        wide = 0.58 * _SIZE * len(name)
        for dx, dy in _PLACES[4:5] if edge else _PLACES:
            left = px + dx - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
            box = (left, py + dy, left + wide, py + dy + _SIZE)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                break
        taken += [box, (px - 4, py - 4, px + 4, py + 4)]
        side = "right" if dx < 0 else "center" if dx == 0 else "left"
        axes.annotate(
            name, (bacc, y), xytext=(dx, dy), textcoords="offset points", fontsize=_SIZE, color="#333333", ha=side
        )
