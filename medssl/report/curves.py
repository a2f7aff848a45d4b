"""Figures of what happened over time: losses and the health of the embedding per step, probes per epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medssl.report.figures import BLUE, COLOURS, WIDTH, from_zero, plain, stacked, styled

_PANELS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "std": "embedding spread",
    "rankme": "RankMe",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
_MOST = 12
_DOTS = 12  # up to so many values are drawn as dots too
_NO_PANEL = frozenset({"step", "epoch", "chance", "std_healthy", "scans_per_s"})


def curve_columns(steps: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns of a training log that hold numbers: the losses (one per player), and the rest in a fixed order."""
    filled = [c for c in steps.columns if c not in _NO_PANEL and np.isfinite(steps[c]).any()]
    losses = [c for c in filled if c == "loss" or c.startswith("loss_")]
    others = [c for c in _PANELS if c in filled] + [c for c in filled if c not in _PANELS and c not in losses]
    return losses, others


@styled
def curves(steps: pd.DataFrame, width: float = WIDTH) -> Figure:
    """Loss with its chance level, learning rate and the health of the embedding, over optimiser steps."""
    losses, others = curve_columns(steps)
    names = ((["loss"] if losses else []) + others)[:_MOST]
    columns = 2 if stacked(width) else 3
    rows = -(-len(names) // columns)
    fig = Figure(figsize=(width, 1.75 * rows + 0.1), layout="constrained")
    panels = np.atleast_1d(fig.subplots(rows, columns)).ravel()
    for axes, name in zip(panels, names, strict=False):
        if name == "loss" and losses:
            _losses(axes, steps, losses)
        else:
            _line(axes, steps, name, COLOURS[0])
        axes.set_title(label_of(name))
        axes.set_xlim(0, float(steps["step"].max()) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(5 if columns == 3 else 3, integer=True))
        if name == "std" and has_level(steps, "std_healthy"):
            axes.margins(y=0.14)
            _level(axes, steps["step"], steps["std_healthy"], "1/√D")
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    fig.supxlabel("step", fontsize=8.5)
    return fig


def label_of(name: str) -> str:
    """Title of the panel of a column."""
    return _PANELS.get(name, plain(name.replace("_", " "), 26))


def has_level(table: pd.DataFrame, name: str) -> bool:
    """Whether a reference line is known."""
    return name in table and bool(np.isfinite(table[name]).any())


def smoothed(steps: pd.DataFrame) -> bool:
    """Whether curves are drawn twice, as logged and as running median."""
    losses, others = curve_columns(steps)
    return any(_window(int(np.isfinite(steps[name]).sum())) > 1 for name in losses + others)


def _window(values: int) -> int:
    return max(1, values // 25)


def _losses(axes: Axes, steps: pd.DataFrame, losses: Sequence[str]) -> None:
    for i, name in enumerate(losses):
        _line(axes, steps, name, COLOURS[i % len(COLOURS)], plain(name.removeprefix("loss_"), 16))
    if len(losses) > 1:
        axes.legend(loc="best")
    if has_level(steps, "chance"):
        axes.margins(y=0.14)
        _level(axes, steps["step"], steps["chance"], "chance")


def _level(axes: Axes, x: pd.Series, y: pd.Series, label: str) -> None:
    """A dashed reference line with its name at the right end."""
    known = np.isfinite(y)
    if known.sum() == 1:
        axes.axhline(float(y[known].iloc[0]), color="#333333", lw=1.0, ls=(0, (4, 3)))
    else:
        axes.plot(x[known], y[known], color="#333333", lw=1.0, ls=(0, (4, 3)))
    at = float(y[known].iloc[-1])
    axes.text(0.99, at, label, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7.5)


def _line(axes: Axes, steps: pd.DataFrame, name: str, colour: str, label: str = "") -> None:
    """Every logged value faintly, their running median strongly; few values alone, as dots on a line."""
    known = steps[np.isfinite(steps[name])]
    window, stride = _window(len(known)), -(-len(known) // 600)
    if window > 1:
        axes.plot(known["step"][::stride], known[name][::stride], color=colour, lw=0.7, alpha=0.3)
    smooth = known[name].rolling(window, center=True, min_periods=1).median()
    dots = "o" if len(known) <= _DOTS else ""
    axes.plot(known["step"][::stride], smooth[::stride], color=colour, label=label, marker=dots, ms=3.5)


@styled
def probe_curves(probes: pd.DataFrame, width: float = WIDTH) -> Figure:
    """Online probes during training: age error and site accuracy with their chance levels, over epochs."""
    below = stacked(width)
    fig = Figure(figsize=(width, 5.4 if below else 2.1), layout="constrained")
    panels = fig.subplots(3, 1) if below else fig.subplots(1, 3)
    epoch = probes["epoch"] + 1
    for axes, name, chance, title, scale in (
        (panels[0], "age_mae", "age_chance", "age error (years)", 1.0),
        (panels[1], "site_bacc", "site_chance", "site balanced accuracy (%)", 100.0),
        (panels[2], "rankme", "", "RankMe of the features", 1.0),
    ):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlim(float(epoch.min()) - 1, float(epoch.max()) + 1)
        if name in probes and np.isfinite(probes[name]).any():
            axes.plot(epoch, probes[name] * scale, color=BLUE, marker="o", ms=3.5)
            if has_level(probes, chance):
                _level(axes, epoch, probes[chance] * scale, "chance")
            axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
            from_zero(axes, "y")
        else:
            axes.text(0.5, 0.5, "not known", ha="center", transform=axes.transAxes, color="#777777")
    return fig
