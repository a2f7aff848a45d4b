"""Cutout: one random box is overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.errors import UserError
from medssl.transforms.base import Params, box, check_flag, is_number, register, set_range, spatial, volume


@register
@dataclass(frozen=True)
class Cutout:
    """Overwrite one box, the same in all channels, with ``value`` (0: the background, or the mean after z-score).

    size: edge length of the box as a fraction of each axis, rounded up to voxels; the paper's box is a quarter
    of each axis (121 x 145 x 121 -> 31 x 37 x 31). same_size: one fraction for all axes; False draws one per axis.
    The place is uniform among those where the whole box is inside the volume. DeVries and Taylor 2017;
    Dufumier et al., MICCAI 2021.
    """

    name: ClassVar[str] = "cutout"
    size: tuple[float, float] = (0.25, 0.25)
    same_size: bool = False
    value: float = 0.0

    def __post_init__(self) -> None:
        set_range(self, "size", 0.0, 1.0, unit="fraction of each axis", open_low=True)
        check_flag(self, "same_size")
        if not is_number(self.value):
            raise UserError(f"cutout: value is {self.value!r}, but it must be a finite number.")
        object.__setattr__(self, "value", float(self.value))

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"start": [3 voxels], "size": [3 voxels], "value": number}."""
        start, size = box(rng, spatial(shape), self.size, same=self.same_size)
        return {"start": start, "size": size, "value": self.value}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """A copy of x with the box overwritten."""
        y = volume(x).clone(memory_format=torch.contiguous_format)
        (d, h, w), (nd, nh, nw) = params["start"], params["size"]
        y[:, d : d + nd, h : h + nh, w : w + nw] = params["value"]
        return y
