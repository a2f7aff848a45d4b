"""Z-score: mean 0, standard deviation 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag
from medssl.transforms.base import Params, Ranged, count, foreground, keep_, register, spatial, volume

EPS = 1e-8


@register
@dataclass(frozen=True)
class ZScore(Ranged):
    """Subtract the mean and divide by the standard deviation (of the population); nothing is random.

    foreground: statistics of, and change to, voxels != 0 only. per_channel: each channel by its own statistics;
    False pools all channels (the y-aware code: whole array). A constant volume becomes 0.
    """

    name: ClassVar[str] = "zscore"
    foreground: Flag = True
    per_channel: Flag = True

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{}: the statistics belong to the volume, not to the draw."""
        spatial(shape)
        return {}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The normalised volume."""
        return self.apply_(volume(x).clone(memory_format=torch.contiguous_format), params)

    def apply_(self, y: Tensor, params: Params) -> Tensor:
        """The same in the memory of y."""
        for part in y if self.per_channel else y[None]:
            inside = foreground(part) if self.foreground else None
            n = part.numel() if inside is None else count(inside)
            if n == 0:
                continue
            part.sub_(_sum(part.flatten(0, -2).sum(1)) / n)  # zeros outside add nothing to the sum
            if inside is not None:
                keep_(part, inside)
            norm = _sum(torch.linalg.vector_norm(part.flatten(0, -2), dim=1).square()) ** 0.5
            part.mul_(1.0 / (norm / n**0.5 + EPS))
        return y


def _sum(parts: Tensor) -> float:
    """The sum in double precision of sums that were made in single precision."""
    return float(parts.sum(dtype=torch.float64))
