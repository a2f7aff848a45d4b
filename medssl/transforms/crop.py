"""Random resized crop: a random box, enlarged to the shape of the whole volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import Params, Ranged, box, register, spatial, volume


@register
@dataclass(frozen=True)
class Crop(Ranged):
    """Crop a box at a uniform place and resize it (trilinear) to the input's shape.

    scale: edge length of the box as a fraction of each axis (not of the volume: 0.75 keeps 42 % of the voxels),
        rounded up to voxels as the y-aware code does (121 -> 91). same_scale: one fraction for all axes, so that
        proportions stay; False draws one per axis.
    """

    name: ClassVar[str] = "crop"
    scale: Annotated[tuple[float, float], Pair(Interval(0, 1, above=True, unit="fraction of each axis"))] = (0.75, 0.75)
    same_scale: Flag = True

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"start": [3 voxels], "size": [3 voxels]}."""
        start, size = box(rng, spatial(shape), self.scale, same=self.same_scale)
        return {"start": start, "size": size}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The box, resized to the shape of x."""
        x = volume(x)
        return crop_resize(x, params["start"], params["size"], spatial(x.shape))


def crop_resize(x: Tensor, start: Sequence[int], size: Sequence[int], to: Sequence[int]) -> Tensor:
    """Box ``start``, ``size`` (voxels) of x (C, D, H, W) as a new float32 tensor of spatial shape ``to``.

    The resize is torch's trilinear interpolation between voxel centres (align_corners False): what
    ``monai.transforms.Resize(mode="trilinear")`` calls, without its metadata.
    """
    x = volume(x)
    (d, h, w), (nd, nh, nw) = start, size
    part = x[:, d : d + nd, h : h + nh, w : w + nw]
    if tuple(size) == tuple(to):
        return part.clone()
    return F.interpolate(part[None], size=tuple(to), mode="trilinear", align_corners=False)[0]
