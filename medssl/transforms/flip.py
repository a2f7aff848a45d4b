"""Flip along one random axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.transforms.base import Params, is_number, register, spatial, volume


@register
@dataclass(frozen=True)
class Flip:
    """Mirror the volume along one axis, drawn uniformly from ``axes``.

    axes: spatial axes 0, 1, 2; in RAS axis 0 is left-right, the only near-symmetry of a head. idle: share of the
    draws that mirror nothing. The y-aware code draws among all four array axes, and mirroring the channel axis of
    a one-channel volume changes nothing: that is axes (0, 1, 2) with idle 0.25.
    """

    name: ClassVar[str] = "flip"
    axes: tuple[int, ...] = (0,)
    idle: float = 0.0

    def __post_init__(self) -> None:
        axes = tuple(self.axes) if isinstance(self.axes, (list, tuple)) else (self.axes,)
        if not axes or len(set(axes)) != len(axes) or any(type(a) is not int or a not in (0, 1, 2) for a in axes):
            raise UserError(
                f"flip: axes is {self.axes!r}, but it must list spatial axes among 0, 1, 2, each once "
                "(0 is left-right in RAS)."
            )
        object.__setattr__(self, "axes", axes)
        if not is_number(self.idle) or not 0.0 <= self.idle <= 1.0:
            raise UserError(f"flip: idle is {self.idle!r}, but it must be a share between 0 and 1.")
        object.__setattr__(self, "idle", float(self.idle))

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"axis": 0, 1, 2, or None for an idle draw}."""
        spatial(shape)
        axis = self.axes[int(rng.integers(len(self.axes)))]
        return {"axis": None if rng.random() < self.idle else axis}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The mirrored volume (a copy where the axis is None)."""
        x = volume(x)
        return x.clone() if params["axis"] is None else torch.flip(x, (params["axis"] + 1,))
