"""A table of features as one file: who was scanned where, then one column per feature.

CSV and TSV are for people, npz is for speed, parquet where pyarrow is installed. Where the numbers come from
(encoder, manifest, recipe) stands beside a text table in ``<file>.json`` together with the digest of the table,
so that a table that was edited afterwards is refused and not scored under a wrong name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from medssl.errors import UserError
from medssl.features.columns import Parts, named_values, split_frame, tidy
from medssl.features.files import read_table, write_table


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of N scans beside what is known of the scans.

    meta: DataFrame with RangeIndex and the columns of ``META`` (text with "" where missing; age in years as
    float with NaN where missing), "subject" where it was given, then any others. values: (N, F) float32.
    provenance: JSON values that name the encoder, the manifest and the recipe. notes: what of the meta data was read
    otherwise than it was given, or as missing, and how often. Raises UserError where the two parts do not fit.
    """

    meta: pd.DataFrame
    values: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] == 0:
            raise UserError(f"features have shape {values.shape}; a table needs (scans, features), at least 1 feature")
        if len(self.meta) != len(values):
            raise UserError(
                f"{len(self.meta)} rows of meta data but {len(values)} rows of features; "
                "row i of both must be the same scan"
            )
        said: list[str] = []
        object.__setattr__(self, "meta", tidy(self.meta, notes=said))
        object.__setattr__(self, "notes", tuple(dict.fromkeys([*self.notes, *said])))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "provenance", dict(self.provenance))

    def __len__(self) -> int:
        """Number of scans N."""
        return len(self.values)

    @property
    def names(self) -> list[str]:
        """Column names of the features, f0000 and on."""
        return named_values(self.values)

    def frame(self) -> pd.DataFrame:
        """Meta columns, then the features, as one DataFrame."""
        taken = sorted(set(self.meta.columns) & set(self.names))
        if taken:
            raise UserError(f"the meta data have a column {taken[0]}, the name of a feature; rename or drop it")
        return pd.concat([self.meta, pd.DataFrame(self.values, columns=self.names)], axis=1)

    def subset(self, rows: ArrayLike) -> FeatureTable:
        """The rows with these numbers (or this mask), in this order, with the same provenance."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        part = FeatureTable(self.meta.iloc[chosen], self.values[chosen], self.provenance)
        object.__setattr__(part, "meta", self.meta.iloc[chosen].reset_index(drop=True))  # few rows are not judged anew
        object.__setattr__(part, "notes", self.notes)
        return part

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        provenance: Mapping[str, Any] | None = None,
        *,
        prefix: str | None = None,
        source: str = "the table",
    ) -> FeatureTable:
        """Split a DataFrame into meta data and features; ``feature_columns`` says which is which.

        source: what notes and errors call the table.
        """
        return cls(*split_frame(frame, provenance, prefix, source))

    def write(self, path: Path | str) -> Path:
        """Write .csv, .tsv, .npz or .parquet by the suffix, atomically; returns the path.

        Float32 features survive exactly (nine significant digits in text). Text tables and parquet get their
        provenance in ``<path>.json``; npz carries it inside.
        """
        taken = sorted(set(self.meta.columns) & set(self.names))
        if taken:
            raise UserError(f"the meta data have a column {taken[0]}, the name of a feature; rename or drop it")
        return write_table(Parts(self.meta, self.values, self.provenance, self.notes), Path(path))

    @classmethod
    def read(cls, path: Path | str, *, prefix: str | None = None) -> FeatureTable:
        """Read a table written here, or any CSV, TSV or parquet with numbered feature columns.

        prefix: features are the columns that begin with it (default: f<digits>, or else e<digits>). Ids stay
        text. StaleError where ``<path>.json`` records another file; without that file provenance is {}.
        """
        return cls(*read_table(Path(path), prefix))
