"""Z-score: mean 0, standard deviation 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.transforms.base import Params, check_flag, register, spatial, volume

_EPS = 1e-8


@register
@dataclass(frozen=True)
class ZScore:
    """Subtract the mean and divide by the standard deviation (of the population); nothing is random.

    foreground: statistics of, and change to, voxels != 0 only. per_channel: each channel by its own statistics;
    False pools all channels (the y-aware code: whole array). A constant volume becomes 0.
    """

    name: ClassVar[str] = "zscore"
    foreground: bool = True
    per_channel: bool = True

    def __post_init__(self) -> None:
        check_flag(self, "foreground")
        check_flag(self, "per_channel")

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{}: the statistics belong to the volume, not to the draw."""
        spatial(shape)
        return {}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The normalised volume."""
        x = volume(x)
        y = x.clone(memory_format=torch.contiguous_format)
        for part in y if self.per_channel else y[None]:
            inside = part != 0 if self.foreground else None
            n = part.numel() if inside is None else int(torch.count_nonzero(inside))
            if n == 0:
                continue
            part.sub_(float(part.sum(dtype=torch.float64)) / n)  # zeros outside add nothing to the sum
            if inside is not None:
                part.mul_(inside)
            norm = float(torch.linalg.vector_norm(part, dtype=torch.float64))
            part.div_(norm / n**0.5 + _EPS)
        return y
