"""The figures of the report: scorecard, predicted against true age, sites, curves, sample views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medssl.report.figures import (
    BLUE,
    GREEN,
    GREY,
    MANY,
    RED,
    WIDTH,
    dot_size,
    from_zero,
    labels,
    plain,
    stacked,
    styled,
)
from medssl.report.read import Row
from medssl.report.words import percent, ratio, row_name, site_chance, years

SPLITS: Mapping[str, str] = {
    "internal_test": "known sites",
    "external_test": "unseen sites",
    "train": "training",
}
_LOOKS = {"internal_test": (BLUE, "o"), "external_test": (RED, "s"), "train": (GREY, "o")}


@styled
def scorecard_plot(rows: Sequence[Row], width: float = WIDTH) -> Figure:
    """Age error (on unseen sites where it was measured there) and site accuracy, with intervals and chance.

    Panels without any value are left empty and hidden. width: in inches.
    """
    drawn = [r for r in rows if r.missing is None]
    below = stacked(width)
    height = 0.95 + 0.27 * len(drawn)
    fig = Figure(figsize=(width, 2 * height if below else height), layout="constrained")
    left, right = fig.subplots(2, 1) if below else fig.subplots(1, 2, sharey=True)
    metric = next((m for m in ("mae_external", "mae_internal") if measured(drawn, m)), "mae_external")
    _dots(left, drawn, metric, 1.0)
    _chance(left, next((r.values.get(metric) for r in drawn if r.key == "constant"), None))
    place = f"on {'unseen' if metric == 'mae_external' else 'known'} sites (years)"
    left.set_xlabel(f"mean absolute error{chr(10) if below else ' '}{place}")
    left.set_title("Age: lower is better")
    _dots(right, drawn, "site_bacc", 100.0)
    chance = site_chance(drawn)
    _chance(right, None if chance is None else 100 * chance)
    right.set_xlabel("balanced accuracy of a linear probe (%)")
    right.set_title("Site: closer to chance is better")
    for axes in (left, right) if below else (left,):
        axes.set_yticks(range(len(drawn)), [plain(_short(r.key), 34) for r in drawn])
        axes.set_ylim(len(drawn) - 0.4, -0.75)
    right.set_visible(measured(drawn, "site_bacc"))
    return fig


def _short(key: str) -> str:
    """Name of a row without what stands in brackets, so that the axis keeps its room."""
    return row_name(key).partition(" (")[0]


def measured(rows: Sequence[Row], metric: str) -> bool:
    """Whether any row has a value."""
    return any(row.values.get(metric) is not None for row in rows)


def _dots(axes: Axes, rows: Sequence[Row], metric: str, scale: float) -> None:
    for i, row in enumerate(rows):
        value = row.values.get(metric)
        if value is None:
            continue
        colour = BLUE if row.key == "encoder" else "#555555"
        if metric in row.ci:
            axes.plot(
                np.array(row.ci[metric]) * scale,
                [i, i],
                color=colour,
                lw=2.4 if row.key == "encoder" else 1.4,
            )
        axes.plot([value * scale], [i], marker="o", ms=7 if row.key == "encoder" else 5, color=colour)
    axes.set_xlim(left=0)
    axes.margins(x=0.08)
    from_zero(axes)
    axes.grid(axis="y", visible=False)


def _chance(axes: Axes, value: float | None) -> None:
    """A dashed vertical line with its name at the top."""
    if value is None:
        return
    axes.axvline(value, color="#333333", lw=1.0, ls=(0, (4, 3)), zorder=1)
    axes.annotate("chance", (value, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2), fontsize=7.5,
                  textcoords="offset points", va="top", color="#333333")  # fmt: skip


@styled
def age_plot(parts: Mapping[str, pd.DataFrame], width: float = WIDTH) -> Figure:
    """Predicted against true age [years], one panel per split, with the line of perfect prediction."""
    if stacked(width):
        fig = Figure(figsize=(width, width * len(parts)), layout="constrained")
        panels = np.atleast_1d(fig.subplots(len(parts), 1))
    else:
        fig = Figure(figsize=(width, 3.7 if len(parts) > 1 else 4.2), layout="constrained")
        panels = np.atleast_1d(fig.subplots(1, max(2, len(parts)), sharex=True, sharey=True))
    everything = pd.concat(list(parts.values()))
    low = float(min(everything["age"].min(), everything["predicted"].min()))
    high = float(max(everything["age"].max(), everything["predicted"].max()))
    edge = 0.04 * (high - low) + 1.0
    for axes, (split, part) in zip(panels, parts.items(), strict=False):
        colour, marker = _LOOKS.get(split, (GREEN, "o"))
        axes.plot([low - edge, high + edge], [low - edge, high + edge], color="#333333", lw=0.9, ls=(0, (4, 3)))
        axes.scatter(part["age"], part["predicted"], s=1.4 * dot_size(len(part)), c=colour, marker=marker, alpha=0.65,
                     linewidths=0, rasterized=len(part) > MANY)  # fmt: skip
        axes.set_title(SPLITS.get(split, plain(split)))
        axes.set_xlabel("true age (years)")
        axes.set_aspect("equal")
        axes.set_xlim(low - edge, high + edge)
        axes.set_ylim(low - edge, high + edge)
        note = f"n = {len(part)}\nMAE {years(mae(part))} years\nR² {ratio(r2(part))}"
        axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", fontsize=8,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2})  # fmt: skip
    for axes in panels if stacked(width) else panels[:1]:
        axes.set_ylabel("predicted age (years)")
    for axes in panels[len(parts) :]:
        axes.set_visible(False)
    return fig


def mae(part: pd.DataFrame) -> float:
    """Mean absolute error [years]."""
    return float((part["predicted"] - part["age"]).abs().mean())


def r2(part: pd.DataFrame) -> float | None:
    """Coefficient of determination; None when all ages are equal."""
    spread = float(((part["age"] - part["age"].mean()) ** 2).sum())
    return None if spread == 0 else 1 - float(((part["age"] - part["predicted"]) ** 2).sum()) / spread


@styled
def site_plot(sites: pd.DataFrame, width: float = WIDTH) -> Figure:
    """Error per site with intervals; columns site, split, mae, low, high and, where known, untrained."""
    below = stacked(width)
    fig = Figure(figsize=(width, 0.95 + 0.2 * len(sites)), layout="constrained")
    axes = fig.subplots()
    for split, (colour, marker) in _LOOKS.items():
        mine = np.flatnonzero((sites["split"] == split).to_numpy())
        if not len(mine):
            continue
        part = sites.iloc[mine]
        axes.hlines(mine, part["low"], part["high"], color=colour, lw=1.4)
        axes.plot(part["mae"], mine, ls="", marker=marker, ms=5, color=colour, label=SPLITS[split])
    if sites["untrained"].notna().any():
        axes.plot(sites["untrained"], range(len(sites)), ls="", marker="D", ms=3.6, mfc="none", mec="#777777",
                  label="untrained encoder")  # fmt: skip
    axes.set_yticks(
        range(len(sites)),
        [f"{s}  (n = {n})" for s, n in zip(_site_labels(sites, 14 if below else 24), sites["n"], strict=True)],
    )
    axes.set_ylim(len(sites) - 0.4, -0.6)
    axes.set_xlim(left=0)
    from_zero(axes)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("mean absolute error (years)")
    fig.legend(loc="outside upper left", ncols=2 if below else 3)
    return fig


def _site_labels(sites: pd.DataFrame, limit: int) -> list[str]:
    """A label per row; a site that is tested on two sides of the split has the same one twice."""
    names = list(dict.fromkeys(sites["site"]))
    short = dict(zip(names, labels(names, limit), strict=True))
    return [short[name] for name in sites["site"]]


@styled
def age_histogram(ages: Mapping[str, np.ndarray], width: float = WIDTH) -> Figure:
    """How many scans of which age in which split."""
    fig = Figure(figsize=(width, 2.1), layout="constrained")
    axes = fig.subplots()
    known = {k: v[np.isfinite(v)] for k, v in ages.items()}
    everything = np.concatenate(list(known.values()))
    step = 5 if np.ptp(everything) > 25 else 1
    bins = np.arange(np.floor(everything.min() / step) * step, everything.max() + 1.01 * step, step)
    for split, values in known.items():
        if len(values):
            colour = _LOOKS.get(split, (GREEN, "o"))[0]
            fill = (
                {"histtype": "stepfilled", "alpha": 0.3} if split == "train" else {"histtype": "step", "linewidth": 1.8}
            )
            axes.hist(values, bins=bins, color=colour, label=SPLITS.get(split, plain(split)), **fill)  # type: ignore[arg-type]
    axes.set_xlabel("age (years)")
    axes.set_ylabel("scans")
    fig.legend(loc="outside upper left", ncols=3)
    return fig


@styled
def view_sheet(slices: np.ndarray, ages: np.ndarray | None, most: int = 4, width: float = WIDTH) -> Figure:
    """Middle slices of a few scans: the scan itself, then its augmented views, in the grey scale of the scan.

    slices: (scan, 1 + V, planes, H, W), rows of a picture from top to bottom.
    """
    sheet_HW, tops, ends = _sheet(slices[:most, :4])
    rows, columns = sheet_HW.shape
    fig = Figure(figsize=(width, width * rows / columns + 0.3), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.0, h_pad=0.02)  # type: ignore[union-attr,call-arg]
    axes = fig.subplots()
    axes.set_axis_off()
    axes.imshow(sheet_HW, cmap="gray", vmin=0.0, vmax=1.0, interpolation="none")
    for c, (left, right) in enumerate(ends):
        name = "scan" if c == 0 else f"view {c}"
        axes.text((left + right) / 2, -2, name, ha="center", va="bottom", fontsize=8.5, fontweight="bold")
    for top, age in zip(tops, [] if ages is None else ages, strict=False):
        if np.isfinite(age):
            axes.text(0.0, top, f"{age:.0f} years", va="top", fontsize=7.5)
    return fig


def _sheet(slices: np.ndarray) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
    """All pictures on one white sheet (NaN), each scan scaled to 0..1; the tops of rows, the ends of columns."""
    scans, columns, planes = slices.shape[:3]
    inside = [[_inside(slices[s, :, p]) for p in range(planes)] for s in range(scans)]
    widths = [max(row[p][1].stop - row[p][1].start for row in inside) for p in range(planes)]
    heights = [max(rows.stop - rows.start for rows, _ in row) + 8 for row in inside]
    block = sum(widths) + planes - 1
    sheet_HW = np.full((sum(heights), columns * block + 5 * (columns - 1)), np.nan)
    tops = [sum(heights[:s]) for s in range(scans)]
    for s in range(scans):
        low, high = np.nanpercentile(slices[s, 0], (1, 99.7))
        for c, p in np.ndindex(columns, planes):
            rows, cols = inside[s][p]
            part = np.clip((slices[s, c, p][rows, cols] - low) / max(high - low, 1e-6), 0.0, 1.0)
            top = tops[s] + 8 + (heights[s] - 8 - part.shape[0]) // 2
            left = c * (block + 5) + sum(widths[:p]) + p + (widths[p] - part.shape[1]) // 2
            sheet_HW[top : top + part.shape[0], left : left + part.shape[1]] = part
    return sheet_HW, tops, [(c * (block + 5), c * (block + 5) + block) for c in range(columns)]


def _inside(pictures_VHW: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns where any of the pictures is more than its padding."""
    padding = pictures_VHW[:, :1, :1]
    busy_HW = (np.abs(pictures_VHW - padding) > 1e-6).any(axis=0)
    if not busy_HW.any():
        return slice(0, busy_HW.shape[0]), slice(0, busy_HW.shape[1])
    rows, cols = np.flatnonzero(busy_HW.any(axis=1)), np.flatnonzero(busy_HW.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def describe_scores(rows: Sequence[Row]) -> str:
    """The scorecard plot in words, for those who cannot see it."""
    parts = [f"{row_name(r.key)}: {years(r.values.get('mae_external'))} years, "
             f"site {percent(r.values.get('site_bacc'))}" for r in rows if r.missing is None]  # fmt: skip
    return (
        "Dot plot of the age error on unseen sites and the site accuracy with 95 % intervals. " + "; ".join(parts) + "."
    )
