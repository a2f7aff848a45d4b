"""ComBat: every site has its own shift and spread per feature, shrunk towards those of its other features."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.errors import UserError
from medssl.harmonize.base import FloatArray, Harmonizer, Unseen


class ComBat(Harmonizer):
    r"""ComBat, fitted by neuroCombat and applied to any rows by the same formulas.

    With the pooled mean a_j, kept covariates C b_j, pooled spread s_j, and the shift g_ij and variance d_ij of site i
    in feature j (empirical Bayes estimates):

        x* = s_j (z - g_ij) / sqrt(d_ij) + a_j + C b_j,    z = (x - a_j - C b_j) / s_j.

    unseen: see ``Harmonizer``. eb: shrink the estimates of a site over its features (needs two features at least);
    parametric: by inverse-gamma priors (False: by the empirical distribution, quadratic in features); mean_only:
    shifts without variances. A feature that is constant in training passes as it is and is listed in ``constant_``.
    Sources: Johnson et al. 2007, Biostatistics 8:118; Fortin et al. 2018, NeuroImage 167:104; neuroCombat 0.2.12,
    whose output on the training rows this reproduces (continuous covariates are rounded to float32, as there).

    >>> x, site = np.array([[0.0, 1], [1, 3], [5, 5], [7, 9]]), np.array(["a", "a", "b", "b"])
    >>> ComBat(eb=False).fit(x, site=site).transform(x, site).round(2).tolist()
    [[2.69, 3.38], [3.81, 5.62], [2.69, 3.38], [3.81, 5.62]]
    """

    title = "ComBat"

    def __init__(
        self, unseen: Unseen = "error", parametric: bool = True, eb: bool = True, mean_only: bool = False
    ) -> None:
        super().__init__(unseen)
        self.parametric, self.eb, self.mean_only = parametric, eb, mean_only

    def _estimate(self, values: FloatArray, names: NDArray[Any], full: FloatArray, beta: FloatArray) -> None:
        if self.eb and values.shape[1] < 2:
            raise UserError(
                "ComBat shrinks the estimates of a site over its features, but there is 1 feature that changes; set "
                "eb=False"
            )
        sites = len(self.sites_)
        columns = {f"covariate{p}": full[:, sites + p] for p in range(full.shape[1] - sites)}
        codes = np.searchsorted(self.sites_, names)
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            found = import_module("neuroCombat").neuroCombat(
                values.T.copy(),
                pd.DataFrame({"site": codes, **columns}),
                "site",
                continuous_cols=list(columns),
                eb=self.eb,
                parametric=self.parametric,
                mean_only=self.mean_only,
            )["estimates"]
        self.mean_F: FloatArray = np.asarray(found["stand.mean"], float)[:, 0]
        self.spread_F: FloatArray = np.sqrt(np.asarray(found["var.pooled"], float)[:, 0])
        self.beta_PF: FloatArray = beta[sites:]
        self.shift_SF: FloatArray = np.asarray(found["gamma.star"], float)
        self.variance_SF: FloatArray = np.asarray(found["delta.star"], float)
        for site, shift_F, variance_F in zip(self.sites_, self.shift_SF, self.variance_SF, strict=True):
            self._sound(str(site), shift_F, variance_F)

    def _effect(self, name: str) -> tuple[FloatArray, FloatArray]:
        at = int(np.searchsorted(self.sites_, name))
        return self.shift_SF[at], self.variance_SF[at]

    def _guess(self, name: str, values: FloatArray, kept_NP: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Shift and variance of a site from these rows, by the formulas of the fit."""
        if len(values) < 2:
            raise UserError(
                f"site '{name}' was not fitted and has one row, too few for a transductive estimate; set unseen to "
                "'none', or leave the row out"
            )
        module = import_module("neuroCombat.neuroCombat")
        scaled_FN = ((values - self.mean_F - kept_NP @ self.beta_PF) / self.spread_F).T
        info = {"n_batch": 1, "batch_info": [np.arange(len(values))], "ref_level": None}
        with np.errstate(all="ignore"):
            prior = module.fit_LS_model_and_find_priors(scaled_FN, np.ones((len(values), 1)), info, self.mean_only)
            if not self.eb:
                shift, variance = module.find_non_eb_adjustments(scaled_FN, prior, info)
            elif self.parametric:
                shift, variance = module.find_parametric_adjustments(scaled_FN, prior, info, self.mean_only)
            else:
                shift, variance = module.find_non_parametric_adjustments(scaled_FN, prior, info, self.mean_only)
        shift_F, variance_F = np.asarray(shift, float)[0], np.asarray(variance, float)[0]
        self._sound(name, shift_F, variance_F)
        return shift_F, variance_F

    def _correct(self, values: FloatArray, kept_NP: FloatArray, effect: tuple[FloatArray, FloatArray]) -> FloatArray:
        shift_F, variance_F = effect
        centre = self.mean_F + kept_NP @ self.beta_PF
        scaled = (values - centre) / self.spread_F
        corrected: FloatArray = (scaled - shift_F) / np.sqrt(variance_F) * self.spread_F + centre
        return corrected

    def _sound(self, site: str, shift_F: FloatArray, variance_F: FloatArray) -> None:
        """Raise where an estimate is no number, or so small that dividing by it blows noise up."""
        bad = np.flatnonzero(~np.isfinite(shift_F) | ~np.isfinite(variance_F) | ~(variance_F > 1e-8))
        if bad.size:
            raise UserError(
                f"ComBat found no usable estimate for site '{site}' in feature {self._kept[bad[0]]} ({bad.size} such): "
                "the feature hardly varies there; drop it, merge the site with another, or use parametric=True with "
                "eb=True"
            )
