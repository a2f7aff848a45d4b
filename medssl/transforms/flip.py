"""Flip along one random axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Fraction, Interval, Listed
from medssl.transforms.base import Params, Ranged, register, spatial, volume

Axis = Annotated[int, Interval(0, 2, unit="0 is left-right in RAS")]


@register
@dataclass(frozen=True)
class Flip(Ranged):
    """Mirror the volume along one axis, drawn uniformly from ``axes``.

    axes: spatial axes 0, 1, 2; in RAS axis 0 is left-right, the only near-symmetry of a head. idle: share of the
    draws that mirror nothing. The y-aware code draws among all four array axes, and mirroring the channel axis of
    a one-channel volume changes nothing: that is axes (0, 1, 2) with idle 0.25.
    """

    name: ClassVar[str] = "flip"
    axes: Annotated[tuple[Axis, ...], Listed(1, 3, unique=True, one=True)] = (0,)
    idle: Fraction = 0.0

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"axis": 0, 1, 2, or None for an idle draw}."""
        spatial(shape)
        axis = self.axes[int(rng.integers(len(self.axes)))]
        return {"axis": None if rng.random() < self.idle else axis}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The mirrored volume (a copy where the axis is None)."""
        x = volume(x)
        return x.clone() if params["axis"] is None else torch.flip(x, (params["axis"] + 1,))
