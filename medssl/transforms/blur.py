"""Gaussian blur with a random width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import (
    Params,
    Ranged,
    buffer,
    foreground,
    keep_,
    register,
    spatial,
    uniform,
    volume,
)


@register
@dataclass(frozen=True)
class Blur(Ranged):
    """Convolve with a Gaussian, the same width on the three spatial axes.

    sigma: standard deviation in voxels, uniform in the range. foreground: set the result to 0 where x is 0, so
    that the brain mask keeps its extent. The kernel is MONAI's sampled Gaussian cut at 4 sigma, scaled to sum 1;
    borders continue the outermost voxel, so a constant volume stays constant (as scipy's ``gaussian_filter``
    with mode "nearest").
    """

    name: ClassVar[str] = "blur"
    sigma: Annotated[tuple[float, float], Pair(Interval(0, 100, above=True, unit="voxels"))] = (0.1, 1.0)
    foreground: Flag = False

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"sigma": voxels}."""
        spatial(shape)
        return {"sigma": uniform(rng, self.sigma)}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The blurred volume."""
        x = volume(x)
        y = smooth(x, params["sigma"])
        return keep_(y, foreground(x)) if self.foreground else y


def half_kernel(sigma: float) -> list[float]:
    """A Gaussian sampled at whole voxels up to 4 sigma, of sum 1, from its centre outwards (as MONAI's "sampled")."""
    tail = int(max(4.0 * sigma, 0.5) + 0.5)
    steps = [k / sigma if sigma else k * math.inf for k in range(1, tail + 1)]
    kernel = [1.0, *(math.exp(-0.5 * s * s) for s in steps)]
    total = 2 * sum(kernel) - 1.0
    return [v / total for v in kernel]


def smooth(x: Tensor, sigma: float) -> Tensor:
    """x (C, D, H, W) convolved along its three axes, as a new contiguous tensor; a kernel of one voxel copies."""
    half = half_kernel(sigma)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    other = buffer(0, x.shape, x.dtype, x.device)
    for axis, (old, new) in enumerate(((x, y), (y, other), (other, y)), start=1):
        _smooth(old, half, axis, new)
    return y


def _smooth(x: Tensor, half: list[float], axis: int, y: Tensor) -> None:
    """Symmetric convolution along one axis as shifted additions; ``half`` is the kernel from its centre outwards.

    Several times faster on a CPU than a depth-wise convolution, which torch does not vectorise for few channels.
    """
    n = x.shape[axis]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
    torch.mul(x, half[0], out=y)
    for shift, weight in enumerate(half[1:], start=1):
        k = min(shift, n)  # voxels whose neighbour lies beyond the border
        if k < n:
            y.narrow(axis, k, n - k).add_(x.narrow(axis, 0, n - k), alpha=weight)
            y.narrow(axis, 0, n - k).add_(x.narrow(axis, k, n - k), alpha=weight)
        y.narrow(axis, 0, k).add_(first, alpha=weight)
        y.narrow(axis, n - k, k).add_(last, alpha=weight)
