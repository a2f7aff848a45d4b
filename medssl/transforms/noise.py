"""Additive Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.transforms.base import Params, check_flag, register, set_range, spatial, uniform, volume


@register
@dataclass(frozen=True)
class Noise:
    """Add independent Gaussian noise to every voxel.

    sd: standard deviation, uniform in the range, in the units of the volume (1 is the sd of the brain after a
    masked z-score). foreground: only where x != 0. The drawn parameters hold a seed instead of the field, so a
    replay gives the same noise.
    """

    name: ClassVar[str] = "noise"
    sd: tuple[float, float] = (0.1, 1.0)
    foreground: bool = False

    def __post_init__(self) -> None:
        set_range(self, "sd", 0.0, math.inf, unit="units of the volume")
        check_flag(self, "foreground")

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"sd": number, "seed": integer below 2^53 (exact in every JSON reader)}."""
        spatial(shape)
        return {"sd": uniform(rng, self.sd), "seed": int(rng.integers(2**53))}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """x plus the noise of this seed; drawn on the CPU, so it is the same on every device."""
        x = volume(x)
        generator = torch.Generator().manual_seed(params["seed"])
        noise = torch.randn(tuple(x.shape), generator=generator).to(x.device).mul_(params["sd"])
        if self.foreground:
            noise.mul_(x != 0)
        return noise.add_(x)
