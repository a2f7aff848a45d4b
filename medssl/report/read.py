"""Reads a run folder as it is: every part may be absent, and a part that is broken is named in one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import UserError
from medssl.evaluation.caution import FEW_SITES
from medssl.files import BROKEN_ARRAYS
from medssl.report.commands import command, from_where
from medssl.report.tables import damaged_logs, numbers, read_lines, read_log, read_object, read_table, read_text
from medssl.tables.ages import possible
from medssl.tables.people import COPY, GROUP

METRICS = ("mae_external", "mae_internal", "rmse_external", "rmse_internal", "r2_external", "r2_internal",
           "site_bacc", "site_chance", "challenge")  # fmt: skip
_ABOUT = ("participant_id", "session", "site", "age", "sex", "split", "dataset", "subject")
_EPOCH = re.compile(r"map-epoch(\d+)\.csv$")


@dataclass(frozen=True)
class Row:
    """One line of the scorecard: metric -> value or None where it is undefined, and 95 % intervals."""

    key: str
    values: Mapping[str, float | None]
    ci: Mapping[str, tuple[float, float]]
    missing: str | None = None


@dataclass(frozen=True)
class Difference:
    """Encoder minus reference in one metric; ci resamples people, ci_sites whole sites, None of few."""

    difference: float
    ci: tuple[float, float] | None
    ci_sites: tuple[float, float] | None


@dataclass(frozen=True)
class Scores:
    """scores.json after checking."""

    encoder: Row
    references: tuple[Row, ...]
    differences: Mapping[str, Mapping[str, Difference]]
    n: Mapping[str, Any]
    notes: tuple[str, ...]
    protocol: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def row(self, key: str) -> Row | None:
        """A reference that could be computed, or None."""
        return next((r for r in self.references if r.key == key and r.missing is None), None)


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds; None or empty where a part is absent."""

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    scores: Scores | None = None
    predictions: pd.DataFrame | None = None
    guesses: pd.DataFrame | None = None
    """Rows of predictions.csv whose site was predicted: features, site, site_predicted."""
    steps: pd.DataFrame | None = None
    probes: pd.DataFrame | None = None
    maps: tuple[tuple[int, pd.DataFrame], ...] = ()
    messages: tuple[Mapping[str, Any], ...] | None = None
    slices: np.ndarray | None = None
    ages: np.ndarray | None = None
    scans: pd.DataFrame | None = None
    damage: tuple[str, ...] = ()
    """Sentences on logs of which only a part could be read."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name or "run"

    def command(self, verb: str) -> str:
        """A command on this run, see ``medssl.report.commands``; verb: such as "score"."""
        return command(self.path, self.name, verb)

    @property
    def from_where(self) -> str:
        """In which folder the commands are typed, in a sentence."""
        return from_where(self.path)


def read_run(path: Path) -> RunFiles:
    """Read whatever is there.

    Raises UserError when the folder is no run, or naming the file that is broken.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder; give the run folder that `medssl pretrain` made")
    if not (path / "run.json").is_file() and not (path / "recipe.yaml").is_file():
        raise UserError(f"{path} is no run folder (neither run.json nor recipe.yaml is in it); "
                        "give the folder that `medssl pretrain` made")  # fmt: skip
    logs = path / "logs"
    slices, ages = _views(path / "views.npz")
    predictions, guesses = _predictions(path / "predictions.csv")
    return RunFiles(
        path=path,
        facts=read_object(path / "run.json", "it is written by `medssl pretrain`"),
        recipe=read_text(path / "recipe.yaml"),
        scores=_scores(path / "scores.json"),
        predictions=predictions,
        guesses=guesses,
        steps=read_log(logs, "train", ("step",)),
        probes=read_log(logs, "probe", ("epoch",)),
        maps=_maps(logs),
        messages=_messages(logs / "messages.jsonl"),
        slices=slices,
        ages=ages,
        scans=_scans(path / "features.csv"),
        damage=damaged_logs(logs),
    )


def _scores(path: Path) -> Scores | None:
    if not path.is_file():
        return None
    content = read_object(path, "remove it and run `medssl score` again")
    references = _mapping(content.get("references"), path, "references")
    n = _mapping(content.get("n"), path, "n")
    sites = n.get("sites_external_test")
    few = isinstance(sites, int) and sites < FEW_SITES
    differences: dict[str, dict[str, Difference]] = {}
    for reference, metrics in _mapping(content.get("differences"), path, "differences").items():
        differences[reference] = {}
        for metric, given in _mapping(metrics, path, f"differences.{reference}").items():
            place = f"differences.{reference}.{metric}"
            parts = _mapping(given, path, place)
            value = _number(parts.get("difference"), path, f"{place}.difference")
            if value is not None:
                both = [_pair(parts.get(k), path, f"{place}.{k}") for k in ("ci", "ci_sites")]
                differences[reference][metric] = Difference(value, both[0], None if few else both[1])
    return Scores(
        encoder=_row("encoder", content, path, ""),
        references=tuple(_row(k, _mapping(v, path, f"references.{k}"), path, f"references.{k}.")
                         for k, v in references.items()),
        differences=differences,
        n=n,
        notes=tuple(str(note) for note in content.get("notes") or ()) if isinstance(content.get("notes"), list) else (),
        protocol=_mapping(content.get("protocol"), path, "protocol"),
        provenance=_mapping(content.get("provenance"), path, "provenance"),
    )  # fmt: skip


def _row(key: str, content: Mapping[str, Any], path: Path, place: str) -> Row:
    if "missing" in content:
        return Row(key, {}, {}, str(content["missing"]))
    values = {m: _number(content.get(m), path, place + m) for m in METRICS}
    given = _mapping(content.get("ci"), path, f"{place}ci")
    pairs = {m: _pair(v, path, f"{place}ci.{m}") for m, v in given.items()}
    return Row(key, values, {m: p for m, p in pairs.items() if p is not None})


def _mapping(value: Any, path: Path, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: {place} must be a JSON object, not {value!r:.60}; run `medssl score` again")
    return value


def _number(value: Any, path: Path, place: str) -> float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{path}: {place} must be a number or null, not {value!r:.60}; run `medssl score` again")
    return float(value)


def _pair(value: Any, path: Path, place: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise UserError(f"{path}: {place} must be [low, high], not {value!r:.60}; run `medssl score` again")
    low, high = (_number(v, path, place) for v in value)
    return None if low is None or high is None else (low, high)


def _predictions(path: Path) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Rows with a true and a predicted age, and rows with a predicted site."""
    table = read_table(path, read_text(path), ("age", "predicted", "split"), ("age", "predicted"))
    if table is None:
        return None, None
    absent = (("features", "encoder"), ("site", ""), ("participant_id", ""), ("session", ""), ("site_predicted", ""))
    for column, default in absent:
        if column not in table.columns:
            table[column] = default
    guesses = table.loc[table["site_predicted"] != "", ["features", "site", "site_predicted"]]
    aged = table[np.isfinite(table["age"]) & np.isfinite(table["predicted"])]
    return aged.reset_index(drop=True), guesses.reset_index(drop=True)


def _messages(path: Path) -> tuple[Mapping[str, Any], ...] | None:
    return tuple(read_lines(path)) if path.is_file() else None


def _maps(folder: Path) -> tuple[tuple[int, pd.DataFrame], ...]:
    """The first and the last map."""
    found = sorted((int(m.group(1)), p) for p in folder.glob("map-epoch*.csv") if (m := _EPOCH.search(p.name)))
    maps = []
    for epoch, path in found[:1] + found[1:][-1:]:
        table = read_table(path, read_text(path), ("x", "y"), ("x", "y", "age"))
        assert table is not None
        for column, default in (("age", np.nan), ("site", ""), ("sex", ""), ("participant_id", "")):
            if column not in table.columns:
                table[column] = default
        maps.append((epoch, table))
    return tuple(maps)


def _views(path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not path.is_file():
        return None, None
    remedy = "remove it or train again"
    try:
        with np.load(path, allow_pickle=False) as content:
            if "slices" not in content.files:
                raise UserError(f"{path} lacks the array 'slices'; {remedy}")
            slices = np.asarray(content["slices"], dtype=np.float32)
            ages = np.asarray(content["ages"], dtype=float) if "ages" in content.files else None
    except UserError:
        raise
    except BROKEN_ARRAYS as problem:
        raise UserError(f"{path} is no readable array file ({problem}); {remedy}") from None
    if slices.ndim != 5 or 0 in slices.shape:
        raise UserError(f"{path}: slices must be (scan, 1 + views, planes, H, W), not {slices.shape}; {remedy}")
    return slices, ages


def _describes(column: str) -> bool:
    return column in _ABOUT or column == COPY or column.lower() == GROUP


def _scans(path: Path) -> pd.DataFrame | None:
    """Who was embedded: the columns of the features table that are no features."""
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=_describes)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as problem:
        raise UserError(f"{path} is no readable table ({str(problem).strip()}); run `medssl embed` again") from None
    if table.empty or "split" not in table.columns:
        return None
    for column in _ABOUT:
        if column not in table.columns:
            table[column] = ""
    ages = numbers(path, table["age"])
    table["age"] = ages.where(possible(ages))
    return table
