"""What happened during the training: curves, maps, sample views and messages, as pictures and plain values."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medssl.report import charts, curves, words
from medssl.report.figures import scatter_map
from medssl.report.pictures import Picture, picture
from medssl.report.read import RunFiles


def training(files: RunFiles) -> dict[str, Any]:
    """Curves of the training and of the probes run beside it; a sentence where there is one value only."""
    found: dict[str, Any] = {"curves": None, "once": "", "below_zero": False, "probes": None, "probed_once": ""}
    steps = files.steps
    losses, others = ([], []) if steps is None else curves.curve_columns(steps)
    if steps is not None and losses + others:
        found["below_zero"] = any((steps[name] < 0).any() for name in losses)
        if len(steps) == 1:
            found["once"] = _once(steps, losses + others)
        else:
            found["curves"] = _curves(steps, losses)
    if files.probes is not None:
        if len(files.probes) == 1:
            found["probed_once"] = _probed_once(files.probes)
        else:
            found["probes"] = _probes(files.probes)
    return found


def _curves(steps: pd.DataFrame, losses: list[str]) -> Picture:
    ends = ", ".join(f"{n} from {_end(steps, n, 0)} to {_end(steps, n, -1)}" for n in losses)
    lines = (
        "Faint lines are the logged values, strong ones their running median."
        if curves.smoothed(steps)
        else "Lines are the logged values."
    )
    drawn = [lines]
    if losses and curves.has_level(steps, "chance"):
        drawn.append("Dashed in the loss: its chance level, where no scan is told from another.")
    if curves.has_level(steps, "std_healthy"):
        drawn.append("Dashed in the spread: 1/√D, which a healthy embedding of D dimensions has.")
    rate = steps.get("scans_per_s", pd.Series(dtype=float)).median()
    if rate == rate:
        drawn.append(f"Median speed {rate:.3g} scans per second.")
    return picture(lambda width: curves.curves(steps, width), f"Training curves over steps: {ends}.", " ".join(drawn))


def _once(steps: pd.DataFrame, names: list[str]) -> str:
    values = [f"{curves.label_of(name)} {_end(steps, name, 0)}" for name in names]
    return f"One step was logged, number {steps['step'].iloc[0]:.0f}: {', '.join(values)}."


def _probes(probes: pd.DataFrame) -> Picture:
    error = [e for e in probes.get("age_mae", []) if np.isfinite(e)]
    alt = f" Age error ends at {words.years(error[-1])} years." if error else ""
    dashed = " Dashed: chance." if any(curves.has_level(probes, n) for n in ("age_chance", "site_chance")) else ""
    return picture(
        lambda width: curves.probe_curves(probes, width), f"Online probes over epochs.{alt}", f"{_PROBES}{dashed}"
    )


_PROBES = (
    "Probes are fitted on a part of the training scans and tested on held-out training people; no test scan is used."
)


def _probed_once(probes: pd.DataFrame) -> str:
    row = probes.iloc[0]
    parts = []
    for name, chance, label, form in (
        ("age_mae", "age_chance", "age error", lambda v: f"{words.years(v)} years"),
        ("site_bacc", "site_chance", "balanced accuracy of the site", words.percent),
        ("rankme", "", "RankMe of the features", lambda v: f"{v:.3g}"),
    ):
        if curves.has_level(probes, name):
            level = f" (chance {form(float(row[chance]))})" if curves.has_level(probes, chance) else ""
            parts.append(f"{label} {form(float(row[name]))}{level}")
    values = f": {', '.join(parts)}" if parts else ", and nothing could be measured"
    return f"The probes ran once, after epoch {row['epoch'] + 1:.0f}{values}. {_PROBES}"


def _end(steps: pd.DataFrame, name: str, at: int) -> str:
    return f"{steps[name].dropna().iloc[at]:.3g}"


def maps(files: RunFiles) -> dict[str, Any]:
    """2-D maps of the first and the last epoch that has one, and a sentence on their order where there are two."""
    found: list[Picture] = []
    epochs = []
    for epoch, table in reversed(files.maps):
        if not np.isfinite(table[["x", "y"]]).all(axis=1).any():
            continue
        alt = f"2-D map of {len(table)} training scans after epoch {epoch}, coloured by age, by site and by sex."
        found.append(picture(partial(_map, table, epoch), alt))
        epochs.append(epoch)
    order = ""
    if len(epochs) > 1:
        order = (
            f"Two maps are shown: after epoch {epochs[0]}, the last one that was drawn, and below it, for comparison, "
            f"after epoch {epochs[1]}, the first one."
        )
    return {"pictures": found, "order": order}


def _map(table: pd.DataFrame, epoch: int, width: float) -> Figure:
    return scatter_map(
        table[["x", "y"]].to_numpy(),
        table["age"].to_numpy(),
        table["site"].tolist(),
        table["sex"].tolist(),
        f"after epoch {epoch}",
        width,
    )


def views(files: RunFiles) -> Picture | None:
    """Sample scans beside their augmented views."""
    if files.slices is None:
        return None
    slices, made = files.slices, min(files.slices.shape[1] - 1, 3)
    alt = f"{min(len(files.slices), 4)} scans, each with {made} augmented views, in middle slices of every direction."
    return picture(
        lambda width: charts.view_sheet(slices, files.ages, width=width),
        alt,
        "All pictures of a scan share one grey scale.",
        photo=True,
    )


def messages(files: RunFiles) -> list[dict[str, str]] | None:
    """What the monitors said; None when no log was kept."""
    if files.messages is None:
        return [] if files.steps is not None else None
    return [
        {
            "level": str(m.get("level", "")),
            "epoch": str(m["epoch"] + 1) if isinstance(m.get("epoch"), int) else "",
            "step": str(m.get("step", "")),
            "text": str(m.get("text", "")),
        }
        for m in files.messages
    ]
