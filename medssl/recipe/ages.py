"""Ages before a training uses them: refused in another unit, and where the method would learn from impossible ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from medssl.data.manifest.cohort import Cohort
from medssl.errors import ManifestError, count
from medssl.recipe.catalog import add_regularizers, build_method
from medssl.recipe.model import Recipe
from medssl.tables.age_use import RULE, impossible, other_unit
from medssl.tables.ages import PER_YEAR, age_column
from medssl.types import Facts


def usable_ages(cohort: Cohort, rows: np.ndarray, recipe: Recipe) -> tuple[pd.DataFrame, list[str]]:
    """The cohort's table with impossible ages emptied, and what is to be said of them; before a scan is read.

    Errors: ManifestError where the ages of a data set are in another unit than years, and where the method reads a
    column of ages in which a training row has an impossible one.
    """
    table = cohort.table
    ages = {str(name): unit for name in table.columns if (unit := _unit(table, str(name))) is not None}
    years = {name: table[name].to_numpy(dtype=float) / PER_YEAR[unit] for name, unit in ages.items()}
    inside = np.zeros(len(table), dtype=bool)
    inside[rows] = True
    refuse_other_unit(cohort, rows)
    odd = {name: bad for name in years if (bad := impossible(np.where(inside, years[name], np.nan))).size}
    read = _reads(recipe, table, rows) if odd else ()
    notes = []
    for name, bad in odd.items():
        row = int(bad[0])
        what = f"{name} {table[name].iloc[row]:g}"
        if name in read:
            such = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
            raise ManifestError(
                f"{cohort.where(row)}: {what} {RULE}, but {recipe.method.name} reads {name}; correct it, or leave it "
                f"empty{such}"
            )
        if name == "age":
            notes.append(
                f"{count(len(bad), 'impossible age')} of the training rows count as unknown: {what} of "
                f"{cohort.where(row)} {RULE}"
            )
    wrong = impossible(years["age"])
    if not len(wrong):
        return table, notes
    known = table["age"].copy()
    known.iloc[wrong] = np.nan
    return table.assign(age=known), notes


def refuse_other_unit(cohort: Cohort, rows: np.ndarray) -> None:
    """ManifestError where the ages of a manifest's data set look like months, days or years of birth."""
    part = cohort.table.iloc[rows]
    for file, inside in part.groupby("manifest", sort=False):
        if wrong := other_unit(inside["age"].to_numpy(dtype=float), inside["dataset"].tolist()):
            raise ManifestError(f"{file}: {wrong}")


def _unit(table: pd.DataFrame, name: str) -> str | None:
    """The unit of a column of ages by its name; None for other columns."""
    return age_column(name) if pd.api.types.is_numeric_dtype(table[name]) else None


def _reads(recipe: Recipe, table: pd.DataFrame, rows: np.ndarray) -> tuple[str, ...]:
    """Columns that the method of a recipe and its regularisers read, asked of one that is built on no encoder."""
    labels: dict[str, Any] = {}
    for name in table.columns:
        values = np.full(len(table), np.nan)
        values[rows] = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)[rows]
        if not np.isfinite(values).any():
            values[rows] = pd.factorize(table[name].iloc[rows])[0].astype(float)
        labels[str(name)] = values
    facts = Facts(len(table), rows, recipe.data.batch_size, (1, 8, 8, 8), labels)
    method = build_method(recipe.method.name, _NoEncoder(), facts, recipe.method.arguments)
    add_regularizers(method, recipe.method.name, facts, [(r.name, r.arguments) for r in recipe.regularizers])
    return method.reads


class _NoEncoder(nn.Module):
    """Has what methods ask of an encoder while they are built."""

    provides = frozenset({"pooled", "map", "tokens"})
    dim, n_tokens, patch, grid = 8, 8, (4, 4, 4), (2, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Never called."""
        return self.layer(x)
