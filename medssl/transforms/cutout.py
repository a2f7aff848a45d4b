"""Cutout: one random box is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag, Intensity, Interval, Pair
from medssl.transforms.base import Params, Ranged, box, register, spatial, volume


@register
@dataclass(frozen=True)
class Cutout(Ranged):
    """Overwrite one box, the same in all channels, with ``value`` (0: the background, or the mean after z-score).

    size: edge length of the box as a fraction of each axis, rounded up to voxels; the paper's box is a quarter
    of each axis (121 x 145 x 121 -> 31 x 37 x 31). same_size: one fraction for all axes; False draws one per axis.
    The place is uniform among those where the whole box is inside the volume. DeVries and Taylor 2017;
    Dufumier et al., MICCAI 2021.
    """

    name: ClassVar[str] = "cutout"
    size: Annotated[tuple[float, float], Pair(Interval(0, 1, above=True, unit="fraction of each axis"))] = (0.25, 0.25)
    same_size: Flag = False
    value: Intensity = 0.0

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"start": [3 voxels], "size": [3 voxels], "value": number}."""
        start, size = box(rng, spatial(shape), self.size, same=self.same_size)
        return {"start": start, "size": size, "value": self.value}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """A copy of x with the box overwritten."""
        y = volume(x).clone(memory_format=torch.contiguous_format)
        self.change_(y, params, (0, 0, 0), y.shape)
        return y

    def change_(self, part: Tensor, params: Params, start: Sequence[int], shape: Sequence[int]) -> None:
        """Overwrite what of the box lies in a part of a volume."""
        ranges = zip(params["start"], params["size"], start, strict=True)
        d, h, w = (slice(max(0, a - s), max(0, a + n - s)) for a, n, s in ranges)
        part[:, d, h, w] = params["value"]
