"""Who is in the training and in the tests: counts, ages and sites, from whatever the run folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import count
from medssl.report.read import RunFiles
from medssl.report.words import listing, natural

TESTS = ("internal_test", "external_test")
_DRAWS = 1000


@dataclass(frozen=True)
class Group:
    """The scans of one split; frame has participant_id, subject, dataset, age, sex, site; source names the file."""

    frame: pd.DataFrame
    source: str


def of_encoder(files: RunFiles) -> pd.DataFrame | None:
    """Rows of predictions.csv that were made from the trained encoder."""
    table = files.predictions
    if table is None or table.empty:
        return None
    mine = table[table["features"] == "encoder"]
    return None if mine.empty else mine.reset_index(drop=True)


def groups(files: RunFiles) -> dict[str, Group]:
    """Split -> its scans, for the splits that the folder knows.

    Training scans come from features.csv, else from the last map, and only when their number is the one that
    run.json states: otherwise the table belongs to other scans.
    """
    training = files.facts.get("training")
    expected = training.get("scans") if isinstance(training, dict) else None
    found: dict[str, Group] = {}
    scans = files.scans
    if scans is not None:
        mine = scans[scans["split"] == "train"] if (scans["split"] != "").any() else scans
        if len(mine) and expected in (None, len(mine)):
            found["train"] = Group(mine, "features.csv")
    if "train" not in found and files.maps and expected == len(files.maps[-1][1]):
        found["train"] = Group(files.maps[-1][1].assign(dataset="", subject=""), "the last map")
    predicted = of_encoder(files)
    for split in TESTS:
        if scans is not None and (scans["split"] == split).any():
            found[split] = Group(scans[scans["split"] == split], "features.csv")
        elif predicted is not None and (predicted["split"] == split).any():
            mine = predicted[predicted["split"] == split]
            found[split] = Group(mine.assign(sex="", dataset="", subject=""), "predictions.csv")
    return found


def people(frame: pd.DataFrame) -> pd.Series:
    """Who every scan shows: subject, or else dataset and participant_id; "" where nothing says it."""
    named = frame["participant_id"].where(frame["dataset"] == "", frame["dataset"] + "/" + frame["participant_id"])
    return frame["subject"].where(frame["subject"] != "", named.where(frame["participant_id"] != "", ""))


def how_many_people(frame: pd.DataFrame) -> int | None:
    """Number of people, each scan without a name being another person; None where no scan has a name."""
    who = people(frame)
    return int(who[who != ""].nunique() + (who == "").sum()) if (who != "").any() else None


def describe(training: Mapping[str, Any], group: Group | None, simulated: bool = False) -> str:
    """Counts and ages in one sentence part, from run.json where it states them, else from the scans themselves.

    simulated: whether the people are those of a synthetic cohort.
    """
    scans = training.get("scans") if isinstance(training.get("scans"), int) else len(group.frame) if group else None
    if scans is None:
        return ""
    parts = [count(scans, "scan")]
    number = training.get("subjects")
    if not isinstance(number, int):
        number = how_many_people(group.frame) if group is not None else None
    if number is not None:
        kind = ("simulated person", "simulated people") if simulated else ("person", "people")
        parts.append(f"of {count(number, *kind)}")
    sites, unsited = _sites(training, group)
    if sites:
        parts.append(f"from {count(sites, 'site')}")
    text = " ".join(parts)
    if sites and unsited:
        text += f" ({count(unsited, 'scan names', 'scans name')} no site)"
    span = ages_text(training.get("age")) or (ages_text(_span(group.frame["age"])) if group else "")
    if span:
        text += f"; age {span}"
    sexes = _sexes(training, group, scans, number)
    return f"{text}; {sexes}" if sexes else text


def _sites(training: Mapping[str, Any], group: Group | None) -> tuple[int, int]:
    """Number of sites, and of scans without one."""
    listed, scans = training.get("sites"), training.get("scans")
    if isinstance(listed, list):
        per_site = training.get("per_site")
        sizes = [e.get("n") for e in per_site if isinstance(e, dict)] if isinstance(per_site, list) else []
        known = sum(n for n in sizes if isinstance(n, int))
        return len(listed), max(scans - known, 0) if isinstance(scans, int) and known else 0
    if group is None:
        return 0, 0
    return int(group.frame["site"].replace("", np.nan).nunique()), int((group.frame["site"] == "").sum())


def _sexes(training: Mapping[str, Any], group: Group | None, scans: int, number: int | None) -> str:
    """ "20 women and 24 men", by people; by scans, and saying so, where only run.json knows and people have several."""
    if group is not None and (group.frame["sex"] != "").any():
        counts = _people_by_sex(group.frame)
        parts = [_of_sex(n, sex) for sex, n in sorted(counts.items()) if sex]
        return listing(parts + ([f"{counts['']} of unknown sex"] if counts.get("") else []))
    recorded = training.get("sex")
    if not isinstance(recorded, dict) or not recorded:
        return ""
    if number is None or number == scans:
        return listing([_of_sex(n, str(sex)) for sex, n in sorted(recorded.items())])
    return listing(
        [f"{count(n, 'scan')} of {_SEXES.get(str(sex), ('', sex))[1]}" for sex, n in sorted(recorded.items())]
    )


_SEXES = {"F": ("woman", "women"), "M": ("man", "men")}


def _of_sex(number: int, sex: str) -> str:
    return count(number, *_SEXES.get(sex, (sex, sex)))


def _people_by_sex(frame: pd.DataFrame) -> dict[str, int]:
    """Sex -> number of people; "" where it is unknown or differs between the scans of a person."""
    who = people(frame)
    who = who.where(who != "", [f"\x1f{i}" for i in range(len(who))])
    known = frame["sex"].replace("", np.nan).groupby(who.to_numpy())
    sex = known.first().where(known.nunique() == 1, "")
    return {str(k): int(n) for k, n in sex.value_counts().items()}


def _span(age: pd.Series) -> list[float] | None:
    known = age[np.isfinite(age)]
    return [float(known.min()), float(known.median()), float(known.max())] if len(known) else None


def ages_text(span: Any, unit: str = " years") -> str:
    """[min, median, max] in words; "" when it is not known.

    >>> ages_text([6.2, 41.0, 88.4])
    '6 to 88 years (median 41)'
    """
    if not isinstance(span, list) or len(span) != 3:
        return ""
    if not all(isinstance(v, int | float) and np.isfinite(v) for v in span):
        return ""
    low, middle, high = (f"{v:.0f}" for v in span)
    return f"{low} to {high}{unit} (median {middle})" if low != high else f"{low}{unit}"


def site_rows(training: Mapping[str, Any], found: Mapping[str, Group]) -> list[dict[str, Any]]:
    """A row per site: name and, per split, number of scans and ages; training sites first."""
    cells: dict[str, dict[str, tuple[int, str]]] = {}
    listed = training.get("per_site")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("n"), int):
            cells.setdefault(str(entry.get("site", "")), {})["train"] = (
                entry["n"],
                ages_text(entry.get("age"), ""),
            )
    known, scans = sum(cell["train"][0] for cell in cells.values()), training.get("scans")
    if cells and isinstance(scans, int) and scans > known and "" not in cells:
        cells[""] = {"train": (scans - known, "")}
    for split, group in found.items():
        if split == "train" and known:
            continue
        for site, part in group.frame.groupby("site"):
            cells.setdefault(str(site), {})[split] = (len(part), ages_text(_span(part["age"]), ""))
    if not cells and isinstance(training.get("sites"), list):
        return [{"site": str(s), "cells": {}} for s in training["sites"]]
    order = sorted(cells, key=lambda s: (s == "", "train" not in cells[s], "internal_test" not in cells[s], natural(s)))
    return [{"site": s or "(no site)", "cells": cells[s]} for s in order]


def site_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Per split and site: n, mean absolute error with a 95 % bootstrap interval, mean signed error [years]."""
    rows = []
    for (split, site), part in table.groupby(["split", "site"]):
        error = (part["predicted"] - part["age"]).to_numpy()
        low = high = np.nan
        if len(error) >= 5:
            draws = np.random.default_rng(0).integers(0, len(error), (_DRAWS, len(error)))
            low, high = np.percentile(np.abs(error)[draws].mean(axis=1), (2.5, 97.5))
        rows.append(
            {
                "site": site,
                "split": split,
                "n": len(error),
                "mae": float(np.abs(error).mean()),
                "bias": float(error.mean()),
                "low": low,
                "high": high,
            }
        )
    frame = pd.DataFrame(rows)
    frame["place"] = frame["split"].map({s: i for i, s in enumerate(reversed(TESTS))})
    return frame.sort_values(["place", "mae", "site"], kind="stable").drop(columns="place").reset_index(drop=True)
