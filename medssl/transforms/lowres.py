"""Low resolution: the scan as larger voxels would have shown it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import Params, Ranged, register, spatial, uniform, volume


@register
@dataclass(frozen=True)
class LowRes(Ranged):
    """Average over larger voxels, then interpolate (trilinear) back to the input's shape.

    factor: edge of the large voxel in voxels, uniform in the range; the grid has round(n / factor) of them, at least
    one. same_factor: one factor for all axes; False draws one per axis (thick slices). A large voxel is the mean of
    those it touches (torch's adaptive average), as a partial volume; ``Blur`` has no grid, and keeps fine structure
    between its rows.
    """

    name: ClassVar[str] = "lowres"
    factor: Annotated[tuple[float, float], Pair(Interval(1, 1000, unit="voxels"))] = (1.0, 2.0)
    same_factor: Flag = True

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"size": [3 numbers of large voxels]}."""
        drawn = [uniform(rng, self.factor) for _ in range(1 if self.same_factor else 3)]
        pairs = zip(spatial(shape), drawn * 3 if self.same_factor else drawn, strict=True)
        return {"size": [max(1, round(n / factor)) for n, factor in pairs]}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The coarse volume on the fine grid."""
        x = volume(x)
        if tuple(params["size"]) == spatial(x.shape):
            return x.clone()
        coarse = F.adaptive_avg_pool3d(x[None], params["size"])
        return F.interpolate(coarse, size=spatial(x.shape), mode="trilinear", align_corners=False)[0]
