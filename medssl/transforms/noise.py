"""Additive Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import Params, Ranged, register, spatial, uniform, volume
from medssl.transforms.field import add_field_


@register
@dataclass(frozen=True)
class Noise(Ranged):
    """Add independent Gaussian noise to every voxel.

    sd: standard deviation, uniform in the range, in the units of the volume (1 is the sd of the brain after a
    masked z-score). foreground: only where x != 0. The drawn parameters hold a seed instead of the field, so a
    replay gives the same noise.
    """

    name: ClassVar[str] = "noise"
    sd: Annotated[tuple[float, float], Pair(Interval(0, 1e6, unit="units of the volume"))] = (0.1, 1.0)
    foreground: Flag = False

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"sd": number, "seed": integer below 2^53 (exact in every JSON reader)}."""
        spatial(shape)
        return {"sd": uniform(rng, self.sd), "seed": int(rng.integers(2**53))}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """x plus the noise of this seed: the same field on every device (``medssl.transforms.field``)."""
        y = volume(x).clone(memory_format=torch.contiguous_format)
        self.change_(y, params, (0, 0, 0), y.shape)
        return y

    def change_(self, part: Tensor, params: Params, start: Sequence[int], shape: Sequence[int]) -> None:
        """Add to a contiguous part of a volume the noise of its place."""
        add_field_(part, params["seed"], params["sd"], start, shape, self.foreground)
