"""How spread out a set of embeddings is: collapse shows here before any label does. Float64, numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medssl.errors import UserError

FloatArray = NDArray[np.float64]
_BLOCK = 1024


def normalise(z_ND: ArrayLike) -> FloatArray:
    """Rows divided by their L2 norm, float64 (N, D); a row of zeros stays zero."""
    z = _matrix(z_ND)
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def std(z_ND: ArrayLike) -> float:
    """Mean over dimensions of the standard deviation of the L2-normalised rows.

    About 1 / sqrt(D) for a healthy embedding, 0 when all rows point the same way (SimSiam, Chen and He 2021).

    >>> std([[1.0, 0.0], [-1.0, 0.0]])
    0.5
    """
    return float(normalise(z_ND).std(axis=0).mean())


def rankme(z_ND: ArrayLike) -> float:
    """RankMe: ``exp(-sum_k p_k log p_k)``, ``p_k = sigma_k / sum sigma + 1e-7``, sigma the singular values.

    Between 1 (constant rows) and min(N, D); r for isotropic data of rank r; unchanged when every row is given
    twice. Rows are neither centred nor normalised, as in the paper. NaN where a value is not finite.
    Source: Garrido et al. 2023, equation 1. Give at least max(D, 1000) rows, or the sample bounds the rank.
    """
    z = _matrix(z_ND)
    if not np.isfinite(z).all():
        return float("nan")
    sigma = np.sqrt(_gram_spectrum(z))
    total = sigma.sum()
    if total <= 0:
        return 1.0
    p = sigma / total + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def effective_rank(z_ND: ArrayLike) -> float:
    """``exp(H(p))`` with ``p = lambda / sum lambda``, lambda the eigenvalues of the covariance of the rows.

    1 for constant rows and for data on a line, r for isotropic data of rank r. NaN where a value is not finite.
    Source: Roy and Vetterli 2007, on the covariance instead of the singular values.
    """
    z = _matrix(z_ND)
    if not np.isfinite(z).all():
        return float("nan")
    spectrum = _gram_spectrum(z - z.mean(axis=0))
    total = spectrum.sum()
    if total <= np.finfo(np.float64).eps ** 2 * float((z**2).sum()) * len(z):
        return 1.0  # nothing but the rounding of the mean is left: the rows are constant
    p = spectrum[spectrum > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def alignment(z1_ND: ArrayLike, z2_ND: ArrayLike, *, alpha: float = 2.0) -> float:
    """``mean_i ||z1_i - z2_i||^alpha`` of L2-normalised rows of two views; 0 when the views agree.

    Source: Wang and Isola 2020, equation for l_align; their alpha is 2.

    >>> alignment([[1.0, 0.0]], [[0.0, 3.0]])
    2.0
    """
    z1, z2 = normalise(z1_ND), normalise(z2_ND)
    if z1.shape != z2.shape:
        raise UserError(f"two views have shapes {z1.shape} and {z2.shape}; row i of both must be the same scan")
    squared_N = ((z1 - z2) ** 2).sum(axis=1)
    return float((squared_N ** (alpha / 2)).mean())


def uniformity(z_ND: ArrayLike, *, t: float = 2.0) -> float:
    """``log mean_{i<j} exp(-t ||z_i - z_j||^2)`` of L2-normalised rows: 0 collapsed, lower is more spread out.

    An antipodal pair gives -4 t = -8. NaN for fewer than two rows. Source: Wang and Isola 2020; their t is 2.

    >>> uniformity([[1.0, 0.0], [-2.0, 0.0]])
    -8.0
    """
    z = normalise(z_ND)
    rows = len(z)
    if rows < 2 or not np.isfinite(z).all():
        return float("nan")
    norm_N = (z**2).sum(axis=1)
    total = 0.0
    for start in range(0, rows, _BLOCK):
        block = z[start : start + _BLOCK]
        squared = norm_N[start : start + _BLOCK, None] + norm_N[None, start:] - 2.0 * (block @ z[start:].T)
        total += float(np.triu(np.exp(-t * np.maximum(squared, 0.0)), k=1).sum())
    return float(np.log(total / (rows * (rows - 1) / 2)))


def _matrix(z_ND: ArrayLike) -> FloatArray:
    """Float64 (N, D) with N >= 1; UserError otherwise."""
    z = np.asarray(z_ND, dtype=np.float64)
    if z.ndim != 2 or not z.size:
        raise UserError(f"embeddings have shape {z.shape}; pass a matrix (rows, dimensions) with at least one of each")
    return z


def _gram_spectrum(z_ND: FloatArray) -> FloatArray:
    """Squared singular values by the smaller Gram matrix, scaled so that the largest entry of z is 1."""
    largest = float(np.abs(z_ND).max())
    if largest == 0:
        return np.zeros(min(z_ND.shape))
    z = z_ND / largest
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    spectrum = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    spectrum[spectrum < spectrum.max() * len(spectrum) * np.finfo(np.float64).eps] = 0.0
    return spectrum * largest**2
