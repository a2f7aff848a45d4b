"""A table of regional measures as input: which columns, standardised by the training rows, empty cells filled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.file import TEXT
from medssl.errors import ManifestError, UserError
from medssl.tables.people import GROUP, is_group

_NO_FEATURES = frozenset({*TEXT, "age", "weight", "manifest", "row", "mask", "unlike", GROUP})
_SAME = 1e-12


@dataclass(frozen=True, eq=False)
class Columns:
    """The features of a table and how they are standardised.

    names: F columns in the order of the input. mean, sd: (F,) float64 of the training rows (sd with n below the
    line), in the units of the table. filled: empty cells of the training rows, which became the mean.
    """

    names: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    filled: int = 0

    @classmethod
    def fit(cls, cohort: Cohort, rows: npt.NDArray[Any], globs: Sequence[str]) -> Columns:
        """Choose columns and take mean and sd over these rows only.

        Errors: ManifestError where no column fits, one holds text, or one is empty or constant in these rows.
        """
        names = chosen_columns(cohort, globs)
        values_NF = raw_values(cohort, names)[rows]
        known = np.isfinite(values_NF)
        for k in np.flatnonzero(~known.any(0)):
            raise ManifestError(
                f'column "{names[k]}" is empty in all {len(rows)} training rows; leave it out with "!{names[k]}" in '
                "data.columns"
            )
        mean = np.nanmean(values_NF, axis=0)
        sd = np.nanstd(values_NF, axis=0)
        flat = np.flatnonzero(~(sd > _SAME * np.maximum(1e-300, np.abs(mean))))
        if len(flat):
            more = f" ({len(flat)} such columns: {', '.join(names[k] for k in flat[:5])})" if len(flat) > 1 else ""
            raise ManifestError(
                f'column "{names[flat[0]]}" is {mean[flat[0]]:g} in all {len(rows)} training rows{more}, so it says '
                f'nothing; leave it out with "!{names[flat[0]]}" in data.columns'
            )
        return cls(tuple(names), mean, sd, int((~known).sum()))

    def matrix(self, cohort: Cohort) -> npt.NDArray[np.float32]:
        """Standardised features (scans, F) float32 of every row; empty cells are 0, the training mean.

        Errors: ManifestError naming a column that the cohort lacks or that holds text.
        """
        z_NF = (self._raw(cohort) - self.mean) / self.sd
        return np.where(np.isfinite(z_NF), z_NF, 0.0).astype(np.float32)

    def _raw(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        """The columns (scans, F), NaN where empty; refused where the cohort lacks one."""
        lacking = [name for name in self.names if name not in cohort.table.columns]
        if lacking:
            files = ", ".join(path.name for path in cohort.paths)
            more = f" and {len(lacking) - 1} more of the {len(self.names)}" if len(lacking) > 1 else ""
            raise ManifestError(
                f'{files} has no column "{lacking[0]}"{more}, which the encoder was trained on; give a table with the '
                "same measures under the same names"
            )
        return raw_values(cohort, self.names)

    def provenance(self, cohort: Cohort) -> dict[str, Any]:
        """What a features table says of its input: digest of names and statistics, empty cells that were filled."""
        return {"columns": self.digest, "empty_cells": int((~np.isfinite(self._raw(cohort))).sum())}

    @property
    def facts(self) -> dict[str, int]:
        """What a run says of its input: how many features, and empty cells of the training rows."""
        return {"features": len(self.names), "empty_cells": self.filled}

    @property
    def digest(self) -> str:
        """sha256 hex of names and statistics."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON values for the encoder's card."""
        return {
            "names": list(self.names),
            "mean": self.mean.tolist(),
            "sd": self.sd.tolist(),
            "filled": self.filled,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Columns:
        """Inverse of ``to_dict``. Errors: UserError where the lists do not belong together."""
        try:
            names = tuple(str(name) for name in values["names"])
            mean, sd = (np.asarray(values[key], dtype=np.float64) for key in ("mean", "sd"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("the card of the encoder lists columns without their statistics; take another") from error
        if not names or mean.shape != (len(names),) or sd.shape != mean.shape or not (sd > 0).all():
            raise UserError("the card of the encoder has statistics that do not fit its columns; take another encoder")
        return cls(names, mean, sd, int(values.get("filled", 0)))


def chosen_columns(cohort: Cohort, globs: Sequence[str]) -> list[str]:
    """Columns that fit any of the patterns, in the order of the table; "!PATTERN" takes columns out again.

    Patterns count capitals. Columns with a meaning of their own (participant_id, age, site, family, image, ...) are
    never features. Errors: ManifestError where a pattern, or all of them together, fit nothing.
    """
    own = {*_NO_FEATURES, *filter(is_group, cohort.table.columns)}
    free = [str(n) for n in cohort.table.columns if n not in own and not str(n).startswith("image_")]
    files = ", ".join(path.name for path in cohort.paths)
    for pattern in globs:
        bare = pattern.removeprefix("!")
        if not any(fnmatchcase(name, bare) for name in free):
            label = f"; {bare} is a label, not a feature" if bare in own else ""
            some = ", ".join(free[:5]) or "none"
            raise ManifestError(
                f'{files} has no column of features that fits "{pattern}"{label} (features could be {some}, ...); '
                "correct data.columns or --columns"
            )
    wanted = [p for p in globs if not p.startswith("!")] or ["*"]
    out = [p.removeprefix("!") for p in globs if p.startswith("!")]
    names = [n for n in free if any(fnmatchcase(n, p) for p in wanted) and not any(fnmatchcase(n, p) for p in out)]
    if not names:
        raise ManifestError(f"{files}: no column is left after {', '.join(globs)}; take fewer out of data.columns")
    return names


def raw_values(cohort: Cohort, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Columns as (scans, F) float64, NaN where empty. Errors: ManifestError naming the row of a text."""
    parts = []
    for name in names:
        column = cohort.table[name]
        if not pd.api.types.is_numeric_dtype(column):
            text = np.flatnonzero(pd.to_numeric(column.replace("", np.nan), errors="coerce").isna() & (column != ""))
            if len(text):
                raise ManifestError(
                    f'{cohort.where(int(text[0]))}: {name} is "{column.iloc[text[0]]}", but a feature is a number; '
                    "correct the cell, or leave the column out of data.columns"
                )
            column = pd.to_numeric(column.replace("", np.nan), errors="coerce")
        parts.append(column.to_numpy(dtype=np.float64))
    return np.stack(parts, axis=1)
