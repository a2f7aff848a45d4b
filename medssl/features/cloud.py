"""Where the features of training scans lie: a Mahalanobis distance that a few kilobytes describe."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DIRECTIONS = 32
"""Principal directions that are kept; what lies across them is judged by its mean variance."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Mean and covariance of E features in the units of their standard deviations.

    mean, sd: (E,). directions: (P, E) orthonormal, P at most 32. variance: (P,) along them. rest: across them. The
    covariance is shrunk towards the identity as Ledoit and Wolf do (J. Multivariate Analysis 88, 2004).
    """

    mean: Floats
    sd: Floats
    directions: Floats
    variance: Floats
    rest: float

    @classmethod
    def fit(cls, features_NE: Floats) -> Cloud:
        """The cloud of N rows, N at least 3."""
        from sklearn.covariance import ledoit_wolf_shrinkage

        x_NE = np.asarray(features_NE, float)
        mean, sd = x_NE.mean(0), x_NE.std(0)
        sd = np.maximum(sd, max(0.05 * float(np.median(sd)), 1e-12))
        z_NE = (x_NE - mean) / sd
        shrink = float(ledoit_wolf_shrinkage(z_NE, assume_centered=True))
        _, size, directions = np.linalg.svd(z_NE, full_matrices=False)
        width, kept = z_NE.shape[1], min(DIRECTIONS, len(size))
        spread = size**2 / len(z_NE)
        mu = max(float(spread.sum()) / width, 1e-12)
        across = float(spread[kept:].sum()) / (width - kept) if width > kept else mu
        variance = np.maximum((1 - shrink) * spread[:kept] + shrink * mu, 1e-6)
        return cls(mean, sd, directions[:kept], variance, max((1 - shrink) * across + shrink * mu, 1e-6))

    def distance(self, features_NE: Floats) -> Floats:
        """Mahalanobis distance (N,) over the square root of E: about 1 for a scan of the same kind."""
        z_NE = (np.asarray(features_NE, float) - self.mean) / self.sd
        along_NP = z_NE @ self.directions.T
        across_N = np.maximum((z_NE**2).sum(1) - (along_NP**2).sum(1), 0)
        return np.sqrt(((along_NP**2 / self.variance).sum(1) + across_N / self.rest) / z_NE.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """JSON values: arrays as base64 of little-endian float32, the directions of float16."""
        return {
            "mean": _packed(self.mean, "<f4"),
            "sd": _packed(self.sd, "<f4"),
            "directions": _packed(self.directions, "<f2"),
            "variance": _packed(self.variance, "<f4"),
            "rest": float(f"{self.rest:.6g}"),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cloud:
        """Inverse of ``to_dict``. Errors: KeyError, TypeError, ValueError for what is none."""
        mean, sd, variance = (_unpacked(values[name], "<f4") for name in ("mean", "sd", "variance"))
        directions = _unpacked(values["directions"], "<f2").reshape(len(variance), len(mean))
        return cls(mean, sd, directions, variance, float(values["rest"]))


def _packed(values: Floats, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def _unpacked(text: str, kind: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), kind).astype(np.float64)
