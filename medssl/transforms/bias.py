"""Random bias field: the smooth shading of a receive coil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import (
    Params,
    Ranged,
    foreground,
    foreground_range,
    keep_,
    one_thread,
    register,
    spatial,
    volume,
)


@register
@dataclass(frozen=True)
class BiasField(Ranged):
    """Multiply by exp(f), f a sum of products of Legendre polynomials of total degree <= ``degree``.

    coefficients: each of the (degree+1)(degree+2)(degree+3)/6 coefficients is uniform in the range; (-0.1, 0.1)
    at degree 3 gives f a standard deviation of about 0.1, a shading of 10 %. foreground: only voxels != 0 change,
    and where some are negative (a z-scored scan), intensities count from the smallest, so that a scan is shaded
    much as it would have been before its z-score; plain multiplication would scale its contrast about the mean
    instead. False is plain multiplication, as ``monai.transforms.RandBiasField``. Van Leemput et al. 1999.
    """

    name: ClassVar[str] = "bias"
    coefficients: Annotated[tuple[float, float], Pair(Interval(-2, 2, unit="log intensity"))] = (-0.1, 0.1)
    degree: Annotated[int, Interval(1, 10)] = 3
    foreground: Flag = True

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"degree": integer, "coefficients": list in the order of :func:`exponents`}."""
        spatial(shape)
        drawn = rng.uniform(*self.coefficients, size=len(exponents(self.degree)))
        return {"degree": self.degree, "coefficients": [float(c) for c in drawn]}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The shaded volume; all channels get the same field."""
        return self.apply_(volume(x).clone(memory_format=torch.contiguous_format), params)

    def apply_(self, y: Tensor, params: Params) -> Tensor:
        """The same in the memory of y."""
        gain = log_field(spatial(y.shape), params["degree"], params["coefficients"])
        np.exp(gain.numpy(), out=gain.numpy())
        gain = gain.to(y.device)
        if not self.foreground:
            return y.mul_(gain)
        for y_c in y:
            bounds = foreground_range(y_c)
            low = 0.0 if bounds is None else min(bounds[0], 0.0)
            if low == 0.0:  # the background stays at 0 by itself
                y_c.mul_(gain)
                continue
            inside = foreground(y_c)
            keep_(y_c.sub_(low).mul_(gain).add_(low), inside)
        return y


def exponents(degree: int) -> list[tuple[int, int, int]]:
    """Degrees (i, j, k) of the terms along the three axes, i + j + k <= degree, in MONAI's order."""
    n = degree + 1
    return [(i, j, k) for i in range(n) for j in range(n - i) for k in range(n - i - j)]


def log_field(size: tuple[int, int, int], degree: int, coefficients: list[float]) -> Tensor:
    """f (D, H, W) float32: sum of c_ijk P_i(d) P_j(h) P_k(w) with coordinates from -1 to 1 along each axis."""
    c = np.zeros((degree + 1,) * 3)
    c[tuple(np.array(exponents(degree)).T)] = coefficients
    p_d, p_h, p_w = (_legendre(n, degree) for n in size)
    rows = np.tensordot(p_d, np.matmul(p_h, c), 1)  # (D, i) (i, H, k)
    with one_thread():
        return torch.from_numpy(rows.astype(np.float32)) @ torch.from_numpy(p_w.T.astype(np.float32))


def log_fields(size: Sequence[int], degree: int, coefficients: Sequence[list[float]], device: torch.device) -> Tensor:
    """f (B, D, H, W) of B volumes, computed on ``device``."""
    c = np.zeros((len(coefficients), *(degree + 1,) * 3))
    i, j, k = np.array(exponents(degree)).T
    c[:, i, j, k] = coefficients
    axes = [torch.from_numpy(_legendre(int(n), degree)).float().to(device) for n in size]
    return torch.einsum("bijk,di,hj,wk->bdhw", torch.from_numpy(c).float().to(device), *axes)


@lru_cache(maxsize=32)
def _legendre(n: int, degree: int) -> np.ndarray:
    """Legendre polynomials (n, degree + 1) at n places from -1 to 1."""
    return np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, n), degree)
