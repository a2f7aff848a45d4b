"""Age errors of groups of people: by sex, and by band of age."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.report.checklists.known import EXTERNAL, INTERNAL, Known
from medssl.report.cohort import of_encoder, site_errors
from medssl.report.words import signed, years

_KEYS = ["participant_id", "session", "site", "split"]
_SEXES = {"F": "female", "M": "male"}
_BANDS = ("0 to 29", "30 to 59", "60 and more")
_PLACES = {INTERNAL: "known sites", EXTERNAL: "unseen sites"}


def subgroups(known: Known) -> str:
    """Mean absolute error by sex and by band of age, on known and on unseen sites; "" where nothing is predicted.

    Sex is that of features.csv, for scans of predictions.csv that stand there once. Intervals resample scans.
    """
    table = of_encoder(known.files)
    if table is None:
        return ""
    table = table[table["split"].isin(list(_PLACES))]
    ages = pd.Series(np.digitize(table["age"], (30, 60)), table.index).map(lambda band: f"age {_BANDS[band]}")
    said = [*_told(table, _sexes(known, table)), *_told(table, ages)]
    if not said:
        return ""
    return f"Mean absolute error in groups, in years (95 % interval, scans resampled): {'; '.join(said)}."


def _sexes(known: Known, table: pd.DataFrame) -> pd.Series:
    """Sex of every row in words; "" where it is unknown."""
    scans = known.files.scans
    if scans is None or table.empty:
        return pd.Series("", table.index, dtype=object)
    once = scans[~scans.duplicated(_KEYS, keep=False)]
    joined = table[_KEYS].merge(once[[*_KEYS, "sex"]], on=_KEYS, how="left")
    return pd.Series(joined["sex"].map(_SEXES).fillna("").to_numpy(), table.index, dtype=object)


def _told(table: pd.DataFrame, group: pd.Series) -> list[str]:
    """A phrase per place: each group with its error, interval, number of scans and mean error."""
    known = table.assign(site=group)[group != ""]
    if known.empty:
        return []
    rows = site_errors(known).sort_values("site", kind="stable")
    said = []
    for split, place in _PLACES.items():
        parts = []
        for row in rows[rows["split"] == split].to_dict("records"):
            between = f"{years(row['low'])} to {years(row['high'])}, " if np.isfinite(row["low"]) else ""
            parts.append(f"{row['site']} {years(row['mae'])} ({between}n = {row['n']}, bias {signed(row['bias'])})")
        if parts:
            said.append(f"{place}: {', '.join(parts)}")
    return said
