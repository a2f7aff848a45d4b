"""External error against what is left of the site: one point per row, the corners of constant and oracle marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from medssl.benchmark.board import SINGLE
from medssl.report.figures import COLOURS, GREY, WIDTH, styled

_LEVELS = (1, 2, 3, 4, 5, 6, 8, 10)


@styled
def trade_off(lines: Sequence[Mapping[str, Any]], design: str, title: str) -> Figure:
    """External MAE [years] against balanced accuracy of the site, both lower is better, with lines of equal L_c.

    lines: of ``collect``. Methods by colour, h as circles and z as triangles; reference rows grey squares with names.
    """
    fig = Figure(figsize=(WIDTH, 0.72 * WIDTH), layout="constrained")
    axes = fig.subplots()
    shown = [x for x in lines if x["design"] == design and x["mae_external"] and x["site_bacc"]]
    methods = [x for x in shown if x["row"] not in SINGLE]
    names = list(dict.fromkeys(x["row"] for x in methods))
    for i, name in enumerate(names):
        for kind, marker in (("h", "o"), ("z", "^"), ("h, ComBat", "D")):
            points = [x for x in methods if x["row"] == name and x["features"] == kind]
            if points:
                axes.errorbar(
                    [p["site_bacc"]["mean"] for p in points],
                    [p["mae_external"]["mean"] for p in points],
                    xerr=[p["site_bacc"]["sd"] or 0 for p in points],
                    yerr=[p["mae_external"]["sd"] or 0 for p in points],
                    fmt=marker,
                    color=COLOURS[i % len(COLOURS)],
                    markerfacecolor="white" if i >= len(COLOURS) else None,
                    markersize=5,
                    elinewidth=0.5,
                    label=name if kind == "h" else None,
                )
    singles = sorted((x for x in shown if x["row"] in SINGLE), key=lambda x: x["mae_external"]["mean"])
    for i, x in enumerate(singles):
        at = (x["site_bacc"]["mean"], x["mae_external"]["mean"])
        axes.plot(*at, "s", color=GREY, markersize=6, clip_on=False)
        place = (6, 4 if i % 2 else -10)  # neighbours in turn above and below, so that names do not cover each other
        axes.annotate(x["row"], at, textcoords="offset points", xytext=place, fontsize=7.5, color="#444444")
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    axes.set_ylim(bottom=0)
    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    grid = np.linspace(1e-3, right, 300)
    for level in _LEVELS:
        curve = level / grid**0.3
        if curve[-1] < top:
            axes.plot(grid, curve, color="#cccccc", linewidth=0.7, zorder=0)
            axes.annotate(f"L_c {level}", (right, curve[-1]), fontsize=6.5, color="#999999", ha="right", va="bottom")
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    axes.set_xlabel("balanced accuracy of the site on internal test rows (lower: less scanner)")
    axes.set_ylabel("MAE on unseen sites [years]")
    axes.set_title(f"{title}: circle h, triangle z, diamond h after ComBat (bars: sd)")
    fig.legend(loc="outside lower center", ncols=3, frameon=False)
    return fig
