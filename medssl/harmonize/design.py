"""The design matrix of a harmoniser: one column per site, then the covariates whose effect is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medssl.errors import UserError
from medssl.tables.missing import cell_text, is_missing

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Design:
    """Sites and covariates of the training rows.

    sites: sorted names; size_S: rows of each. levels: name -> sorted categories of a categorical covariate, or None
    for a continuous one; categorical ones come first, as in neuroCombat. mean_P: mean of every covariate column.
    """

    sites: NDArray[Any]
    size_S: NDArray[np.int64]
    levels: Mapping[str, tuple[str, ...] | None]
    mean_P: FloatArray

    @classmethod
    def of(cls, names: NDArray[Any], covariates: Mapping[str, ArrayLike] | pd.DataFrame | None) -> Design:
        """Read sites and covariates of training rows; UserError for what cannot be fitted."""
        sites, size_S = np.unique(names, return_counts=True)
        if len(sites) < 2:
            raise UserError(f"every training row is of site '{sites[0]}'; two sites are needed to tell them apart")
        if size_S.min() < 2:
            name = sites[size_S.argmin()]
            raise UserError(
                f"site '{name}' (row {np.flatnonzero(names == name)[0]}) has one training row, and the spread of a "
                "site takes two; merge it with another site or leave it out"
            )
        given = {} if covariates is None else {str(k): np.asarray(v) for k, v in covariates.items()}
        columns = {name: column(name, values, len(names)) for name, values in given.items()}
        levels: dict[str, tuple[str, ...] | None] = {}
        for name, values in columns.items():
            if values.dtype == object:
                levels[name] = tuple(sorted(set(values)))
        levels |= {name: None for name in columns if name not in levels}
        empty = cls(sites, size_S.astype(np.int64), levels, np.zeros(0))
        kept_NP = empty._coded(columns, len(names))
        design = cls(sites, empty.size_S, levels, kept_NP.mean(axis=0))
        full = design.matrix(names, covariates)
        if np.linalg.matrix_rank(full / np.maximum(np.abs(full).max(axis=0), 1e-300)) < full.shape[1]:
            raise UserError(
                f"the sites determine a covariate ({', '.join(levels)}) on these training rows, so the two effects "
                "cannot be told apart; leave that covariate out"
            )
        return design

    def matrix(self, names: NDArray[Any], covariates: Mapping[str, ArrayLike] | pd.DataFrame | None) -> FloatArray:
        """(N, S + P): indicator of the site, then the covariates."""
        sites_NS = (names[:, None] == self.sites[None, :]).astype(np.float64)
        return np.hstack([sites_NS, self.covariates(len(names), covariates)])

    def covariates(self, rows: int, given: Mapping[str, ArrayLike] | pd.DataFrame | None) -> FloatArray:
        """(N, P) columns of the covariates; the training mean where one is not given."""
        columns = {k: column(k, given[k], rows) for k in self.levels if given is not None and k in given}
        return self._coded(columns, rows)

    def _coded(self, columns: Mapping[str, NDArray[Any]], rows: int) -> FloatArray:
        out, at = [], 0
        for name, levels in self.levels.items():
            width = 1 if levels is None else len(levels) - 1
            if name not in columns:
                out.append(np.tile(self.mean_P[at : at + width], (rows, 1)))
            elif levels is None:
                out.append(columns[name].astype(np.float32).astype(np.float64)[:, None])  # neuroCombat rounds so
            else:
                strange = sorted(set(columns[name].astype(str)) - set(levels))
                if strange:
                    raise UserError(
                        f"covariate '{name}' is '{strange[0]}', which no training row has; it is one of "
                        f"{', '.join(levels)}, or leave the covariate out"
                    )
                out.append((columns[name][:, None] == np.array(levels[1:], object)[None, :]).astype(np.float64))
            at += width
        return np.hstack(out) if out else np.zeros((rows, 0))


def column(name: str, values: ArrayLike, rows: int) -> NDArray[Any]:
    """A covariate as float64 or as text; UserError where a row has none."""
    given = np.asarray(values)
    if given.ndim != 1 or len(given) != rows:
        raise UserError(f"covariate '{name}' has shape {given.shape} for {rows} rows; give one value per row")
    if given.dtype.kind in "fiub":
        numbers = given.astype(np.float64)
        gaps = np.flatnonzero(~np.isfinite(numbers))
    else:
        numbers = np.array([str(v).strip() for v in given.tolist()], dtype=object)
        gaps = np.flatnonzero([is_missing(v) for v in numbers])
    if gaps.size:
        raise UserError(
            f"covariate '{name}' of row {gaps[0]} ({gaps.size} such) is missing; fill it, leave these rows out, or "
            "leave the covariate out"
        )
    return numbers


def site_names(site: ArrayLike, rows: int, *, missing: bool = False) -> NDArray[Any]:
    """Sites as text (N,), "" where missing; UserError for another length, or, unless ``missing``, where one is."""
    given = np.asarray(site, dtype=object)
    if given.ndim != 1 or len(given) != rows:
        raise UserError(f"site has shape {given.shape} for {rows} rows; give one site per row")
    names = [cell_text(v) for v in given.tolist()]
    if not missing and "" in names:
        raise UserError(
            f"row {names.index('')} ({names.count('')} such) has no site; fill the site, or leave these rows out"
        )
    return np.array(names, dtype=str)
