"""What happened during the training: curves, maps, sample views and messages, as pictures and plain values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medssl.report import charts, curves, words
from medssl.report.figures import scatter_map
from medssl.report.pictures import Picture, picture
from medssl.report.read import RunFiles


def training(files: RunFiles) -> dict[str, Any]:
    """Curves of the training and of the probes run beside it."""
    found: dict[str, Any] = {"curves": None, "probes": None}
    losses, others = ([], []) if files.steps is None else curves.curve_columns(files.steps)
    if files.steps is not None and losses + others:
        ends = ", ".join(f"{n} from {_end(files.steps, n, 0)} to {_end(files.steps, n, -1)}" for n in losses)
        rate = files.steps.get("scans_per_s", pd.Series(dtype=float)).median()
        found["curves"] = picture(
            curves.curves(files.steps),
            f"Training curves over steps: {ends}.",
            "Faint: logged values; strong: running median; dashed: chance level."
            + (f" Median speed {rate:.3g} scans per second." if rate == rate else ""),
        )
    if files.probes is not None:
        error = [e for e in files.probes.get("age_mae", []) if np.isfinite(e)]
        alt = f" Age error ends at {words.years(error[-1])} years." if error else ""
        found["probes"] = picture(
            curves.probe_curves(files.probes),
            f"Online probes over epochs.{alt}",
            "Probes are fitted on a part of the training scans and tested on held-out training "
            "people; no test scan is used.",
        )
    return found


def _end(steps: pd.DataFrame, name: str, at: int) -> str:
    return f"{steps[name].dropna().iloc[at]:.3g}"


def maps(files: RunFiles) -> list[Picture]:
    """2-D maps of the first and the last epoch that has one; the last one first."""
    found = []
    for epoch, table in reversed(files.maps):
        if not np.isfinite(table[["x", "y"]]).all(axis=1).any():
            continue
        fig = scatter_map(
            table[["x", "y"]].to_numpy(),
            table["age"].to_numpy(),
            table["site"].tolist(),
            table["sex"].tolist(),
            f"after epoch {epoch}",
        )
        alt = f"2-D map of {len(table)} training scans after epoch {epoch}, coloured by age, by site and by sex."
        found.append(picture(fig, alt))
    return found


def views(files: RunFiles) -> Picture | None:
    """Sample scans beside their augmented views."""
    if files.slices is None:
        return None
    made = min(files.slices.shape[1] - 1, 3)
    alt = f"{min(len(files.slices), 4)} scans, each with {made} augmented views, in middle slices of every direction."
    return picture(
        charts.view_sheet(files.slices, files.ages), alt, "All pictures of a scan share one grey scale.", photo=True
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
