"""Figures of what happened over time: losses and the health of the embedding per step, probes per epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medssl.report.figures import BLUE, COLOURS, WIDTH, plain, styled

_PANELS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "std": "embedding spread (std)",
    "rankme": "RankMe",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
_MOST = 12
_NO_PANEL = frozenset({"step", "epoch", "chance", "std_healthy", "scans_per_s"})


def curve_columns(steps: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns of a training log that hold numbers: the losses (one per player), and the rest in a fixed order."""
    filled = [c for c in steps.columns if c not in _NO_PANEL and np.isfinite(steps[c]).any()]
    losses = [c for c in filled if c == "loss" or c.startswith("loss_")]
    others = [c for c in _PANELS if c in filled] + [c for c in filled if c not in _PANELS and c not in losses]
    return losses, others


@styled
def curves(steps: pd.DataFrame) -> Figure:
    """Loss with its chance level, learning rate and the health of the embedding, over optimiser steps."""
    losses, others = curve_columns(steps)
    names = ((["loss"] if losses else []) + others)[:_MOST]
    rows = -(-len(names) // 3)
    fig = Figure(figsize=(WIDTH, 1.75 * rows + 0.1), layout="constrained")
    panels = np.atleast_1d(fig.subplots(rows, 3)).ravel()
    for axes, name in zip(panels, names, strict=False):
        if name == "loss" and losses:
            _losses(axes, steps, losses)
        else:
            _line(axes, steps, name, COLOURS[0])
        axes.set_title(_PANELS.get(name, plain(name.replace("_", " "), 26)))
        axes.set_xlim(0, float(steps["step"].max()) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if name == "std" and "std_healthy" in steps:
            healthy = steps["std_healthy"].dropna()
            if len(healthy):
                axes.margins(y=0.14)
                _level(axes, steps["step"], steps["std_healthy"], "1/√D")
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    fig.supxlabel("step", fontsize=8.5)
    return fig


def _losses(axes: Axes, steps: pd.DataFrame, losses: Sequence[str]) -> None:
    for i, name in enumerate(losses):
        _line(axes, steps, name, COLOURS[i % len(COLOURS)], plain(name.removeprefix("loss_"), 16))
    if len(losses) > 1:
        axes.legend(loc="best")
    if "chance" in steps and np.isfinite(steps["chance"]).any():
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
    """Every logged value faintly, their running median strongly."""
    known = steps[np.isfinite(steps[name])]
    window, stride = max(1, len(known) // 25), -(-len(known) // 600)
    if window > 1:
        axes.plot(known["step"][::stride], known[name][::stride], color=colour, lw=0.7, alpha=0.3)
    smooth = known[name].rolling(window, center=True, min_periods=1).median()
    axes.plot(known["step"][::stride], smooth[::stride], color=colour, label=label)


@styled
def probe_curves(probes: pd.DataFrame) -> Figure:
    """Online probes during training: age error and site accuracy with their chance levels, over epochs."""
    fig = Figure(figsize=(WIDTH, 2.1), layout="constrained")
    panels = fig.subplots(1, 3)
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
            if chance in probes and np.isfinite(probes[chance]).any():
                _level(axes, epoch, probes[chance] * scale, "chance")
            axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        else:
            axes.text(0.5, 0.5, "not known", ha="center", transform=axes.transAxes, color="#777777")
    return fig
