"""What every harmoniser shares: checks of what it is given, the design matrix, the policy for unseen sites.

A harmoniser is a scikit-learn transformer that also reads the site of every row, and covariates whose effect it
keeps. It is fitted on training rows and records a digest of them, so that evaluation code can refuse one that has
seen more (``probes.harmonized``).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from medssl.checks import check
from medssl.errors import UserError, count
from medssl.harmonize.design import Design, site_names

Unseen = Literal["error", "none", "transductive"]
Covariates = Mapping[str, ArrayLike] | pd.DataFrame | None
FloatArray = NDArray[np.float64]


class Harmonizer(TransformerMixin, BaseEstimator, ABC):
    """Take site effects out of features; a subclass says how they are estimated.

    unseen: what happens to rows of a site that was not fitted: "error" refuses them; "none" leaves them as they are
    (no site correction); "transductive" estimates the effect of the site from the very rows that are given, which
    needs two of them and is named in ``notes_``. Rows without a site ("" or NaN) have none to be estimated: "error"
    refuses them, the other policies leave them as they are.

    After ``fit``: sites_ (sorted), n_features_in_, constant_ (columns that never change in training; they pass as
    they are), fitted_on_ (digest of the rows). After ``transform``: notes_, sentences that belong beside every number
    computed from what it returned.
    """

    title = "harmonised"

    def __init__(self, unseen: Unseen = "error") -> None:
        self.unseen = unseen

    def fit(self, X: ArrayLike, y: None = None, *, site: ArrayLike, covariates: Covariates = None) -> Harmonizer:
        """Estimate the effect of every site on the rows of X (N, F).

        site: (N,) names, one per row, at least two sites with at least two rows each. covariates: columns (N,) whose
        effect is estimated beside the sites' and kept: numbers are continuous (age), text is categorical (sex); none
        may be missing. Raises UserError for a missing, unequal or non-finite value, for a site with one row, for
        covariates that a site determines, and for features of which the sites leave nothing.
        """
        check("unseen", self.unseen, Unseen)
        features = matrix(X)
        names = site_names(site, len(features))
        self.design_ = Design.of(names, covariates)
        self.sites_ = self.design_.sites
        self.n_features_in_ = features.shape[1]
        changes_F = np.ptp(features, axis=0) > 0
        self.constant_ = np.flatnonzero(~changes_F)
        self._kept = np.flatnonzero(changes_F)
        self.fitted_on_ = rows_digest(features, names)
        self.notes_: tuple[str, ...] = ()
        if not self._kept.size:
            raise UserError("no feature changes over the training rows, so there is nothing to harmonise")
        full = self.design_.matrix(names, covariates)
        values = features[:, self._kept]
        self._estimate(values, names, full, self._coefficients(values, full))
        return self

    def transform(self, X: ArrayLike, site: ArrayLike, covariates: Covariates = None) -> FloatArray:
        """Rows of X (N, F) without the effect of their site; the fit does not change.

        covariates: where a fitted one is not given, every row is taken to have its training mean (the training
        shares of a category), so that what comes out depends on features and site alone. Raises UserError for rows
        of another width, values that are missing or not finite, an unknown category, and, by ``unseen``, for sites.
        """
        if not hasattr(self, "fitted_on_"):
            raise UserError(f"this {type(self).__name__} is not fitted; call fit with the training rows first")
        features = matrix(X)
        if features.shape[1] != self.n_features_in_:
            raise UserError(
                f"{features.shape[1]} features are given, but {type(self).__name__} was fitted on "
                f"{self.n_features_in_}; give the same columns"
            )
        names = site_names(site, len(features), missing=True)
        kept_NP = self.design_.covariates(len(features), covariates)
        out = features.copy()
        seen_N = np.isin(names, self.sites_)
        self.notes_ = self._policy(names, seen_N)
        for name in self.sites_:
            self._replace(out, np.flatnonzero(names == name), kept_NP, self._effect(str(name)))
        if self.unseen == "transductive":
            for name in sorted(set(names[~seen_N]) - {""}):
                rows = np.flatnonzero(names == name)
                self._replace(
                    out, rows, kept_NP, self._guess(str(name), features[np.ix_(rows, self._kept)], kept_NP[rows])
                )
        return out

    def fit_transform(
        self, X: ArrayLike, y: None = None, *, site: ArrayLike, covariates: Covariates = None
    ) -> FloatArray:
        """``fit``, then ``transform`` of the same rows with the same covariates, as neuroCombat returns them."""
        return self.fit(X, site=site, covariates=covariates).transform(X, site, covariates)

    @abstractmethod
    def _estimate(self, values: FloatArray, names: NDArray[Any], full: FloatArray, beta: FloatArray) -> None:
        """Learn what every site does to the kept features."""

    @abstractmethod
    def _effect(self, name: str) -> Any:
        """What a fitted site does, for ``_correct``."""

    @abstractmethod
    def _guess(self, name: str, values: FloatArray, kept_NP: FloatArray) -> Any:
        """The same for a site that was not fitted, from its own rows."""

    @abstractmethod
    def _correct(self, values: FloatArray, kept_NP: FloatArray, effect: Any) -> FloatArray:
        """Values without that effect."""

    def _replace(self, out: FloatArray, rows: NDArray[np.intp], kept_NP: FloatArray, effect: Any) -> None:
        if rows.size:
            at = np.ix_(rows, self._kept)
            out[at] = self._correct(out[at], kept_NP[rows], effect)

    def _coefficients(self, values: FloatArray, full: FloatArray) -> FloatArray:
        """Least squares (S + P, F) of the features on sites and covariates; UserError where nothing is left."""
        beta = np.asarray(np.linalg.lstsq(full, values, rcond=None)[0], dtype=np.float64)
        rest_F = (values - full @ beta).var(axis=0)
        empty = np.flatnonzero(rest_F <= 1e-12 * values.var(axis=0))
        if empty.size:
            raise UserError(
                f"feature {self._kept[empty[0]]} ({empty.size} such) does not vary within the sites once covariates "
                "are accounted for, so it tells of the site alone; drop it from the table"
            )
        return beta

    def _policy(self, names: NDArray[Any], seen_N: NDArray[np.bool_]) -> tuple[str, ...]:
        """Refuse unseen sites, or say what is done with them."""
        unseen, nameless = sorted(set(names[~seen_N]) - {""}), int((names == "").sum())
        if not unseen and not nameless:
            return ()
        shown = ", ".join(unseen[:3]) + (", ..." if len(unseen) > 3 else "")
        what = [f"{count(len(unseen), 'unseen site')} ({shown})"] if unseen else []
        what += [f"{count(nameless, 'row')} without a site"] if nameless else []
        title = type(self).__name__
        if self.unseen == "error":
            raise UserError(
                f"{title} was not fitted on {' and '.join(what)} and has no correction for them; set unseen to 'none' "
                "(leave them as they are) or 'transductive' (estimate from these rows, flagged), or leave the rows out"
            )
        if self.unseen == "none" or not unseen:
            return (f"{title} leaves {' and '.join(what)} uncorrected",)
        guessed = f"{title} estimated {what[0]} from the test rows themselves (transductive)"
        return (guessed, *(f"{title} leaves {w} uncorrected" for w in what[1:]))


def matrix(X: ArrayLike) -> FloatArray:
    """Features as float64 (N, F); UserError for another shape and where a value is not finite."""
    features = np.asarray(X, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise UserError(f"features have shape {features.shape}; give a matrix (rows, features)")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise UserError(f"features of row {bad[0]} ({bad.size} such) are NaN or infinite; leave these rows out")
    return features


def rows_digest(X: ArrayLike, site: ArrayLike) -> str:
    """sha256 over the rows (features and site) in any order: which rows a harmoniser was fitted on."""
    features = np.ascontiguousarray(np.asarray(X, dtype=np.float64))
    names = site_names(site, len(features), missing=True)
    rows = sorted(
        hashlib.sha256(row.tobytes() + str(name).encode()).digest() for row, name in zip(features, names, strict=True)
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()
