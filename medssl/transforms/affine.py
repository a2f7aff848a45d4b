"""Small random rotation, translation and scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from monai.transforms.utils import create_rotate, create_scale, create_translate
from torch import Tensor
from torch.nn import functional as F

from medssl.checks import Interval, Pair
from medssl.transforms.base import Params, Ranged, register, spatial, uniform, volume


@register
@dataclass(frozen=True)
class Affine(Ranged):
    """Rotate, shift and scale about the centre of the volume (trilinear; outside the volume its border goes on).

    rotate: degrees about each axis. translate: fraction of each axis. scale: magnification, one for all axes
    (1.05: the brain grows by 5 %). All uniform, one draw per axis. Keep it small: on 4 mm volumes a strong random
    affine left the same contrastive loss no better than an untrained encoder, since it hides shape and size,
    which carry age.
    """

    name: ClassVar[str] = "affine"
    rotate: Annotated[tuple[float, float], Pair(Interval(-180, 180, unit="degrees"))] = (-5.0, 5.0)
    translate: Annotated[tuple[float, float], Pair(Interval(-1, 1, unit="fraction of each axis"))] = (-0.03, 0.03)
    scale: Annotated[tuple[float, float], Pair(Interval(0.1, 10, unit="magnification"))] = (0.97, 1.03)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"rotate": [3 degrees], "translate": [3 voxels], "scale": magnification}."""
        return {
            "rotate": [uniform(rng, self.rotate) for _ in range(3)],
            "translate": [uniform(rng, self.translate) * n for n in spatial(shape)],
            "scale": uniform(rng, self.scale),
        }

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The moved volume, as ``monai.transforms.Affine(padding_mode="border")`` with scale 1 / magnification."""
        x = volume(x)
        grid = sampling_grid(params, spatial(x.shape), x.device)
        return F.grid_sample(x[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def sampling_grid(params: Params, size: tuple[int, int, int], device: torch.device) -> Tensor:
    """Sampling positions (1, D, H, W, 3) for ``grid_sample``.

    Voxels count from the centre of the volume. Axis by axis, since torch's ``affine_grid`` is four times slower.
    """
    radians = [math.radians(angle) for angle in params["rotate"]]
    moved = create_rotate(3, radians) @ create_translate(3, params["translate"])
    matrix = np.asarray(moved @ create_scale(3, [1.0 / params["scale"]] * 3), dtype=np.float64)
    d, h, w = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in size)
    grid = torch.empty(3, *size, device=device)
    for out, axis in enumerate((2, 1, 0)):  # grid_sample wants (w, h, d), each from -1 to 1 between outer faces
        m = [float(v) * 2.0 / size[axis] for v in matrix[axis]]
        plane = (d * m[0] + m[3])[:, None] + h * m[1]
        torch.add(plane[:, :, None], w * m[2], out=grid[out])
    return grid.permute(1, 2, 3, 0)[None]
