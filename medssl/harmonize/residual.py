"""Linear residualisation: the mean of every site, beside covariates, is taken out of every feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.errors import UserError
from medssl.harmonize.base import FloatArray, Harmonizer


class Residual(Harmonizer):
    r"""Least squares on sites and covariates; the site part is subtracted, its mean over training rows is put back.

    x* = x - (b_i - sum_i n_i b_i / N), with the coefficient b_i of site i estimated beside the covariates, whose
    effect stays. This is ComBat without its variances and without shrinkage, the plainest baseline.
    unseen and everything else: see ``Harmonizer``; a site that is estimated transductively gets the mean of its rows
    after the covariates' effect.

    >>> x, site = np.array([[0.0], [1], [5], [7]]), np.array(["a", "a", "b", "b"])
    >>> Residual().fit(x, site=site).transform(x, site)[:, 0].round(2).tolist()
    [2.75, 3.75, 2.25, 4.25]
    """

    title = "residualised"

    def _estimate(self, values: FloatArray, names: NDArray[Any], full: FloatArray, beta: FloatArray) -> None:
        sites = len(self.sites_)
        self.mean_F: FloatArray = self.design_.size_S @ beta[:sites] / self.design_.size_S.sum()
        self.shift_SF: FloatArray = beta[:sites] - self.mean_F
        self.beta_PF: FloatArray = beta[sites:]

    def _effect(self, name: str) -> FloatArray:
        shift: FloatArray = self.shift_SF[int(np.searchsorted(self.sites_, name))]
        return shift

    def _guess(self, name: str, values: FloatArray, kept_NP: FloatArray) -> FloatArray:
        if len(values) < 2:
            raise UserError(
                f"site '{name}' was not fitted and has one row, too few for a transductive estimate; set unseen to "
                "'none', or leave the row out"
            )
        shift: FloatArray = (values - self.mean_F - kept_NP @ self.beta_PF).mean(axis=0)
        return shift

    def _correct(self, values: FloatArray, kept_NP: FloatArray, effect: FloatArray) -> FloatArray:
        return values - effect
