"""Random gamma: a monotone change of contrast that keeps the range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Flag, Interval, Pair
from medssl.transforms.base import (
    Params,
    Ranged,
    foreground,
    foreground_range,
    keep_,
    register,
    spatial,
    uniform,
    volume,
)


@register
@dataclass(frozen=True)
class Gamma(Ranged):
    """Map each channel's range to [0, 1], raise to the power gamma, map back; order and range are kept.

    gamma: exponents; log gamma is uniform in the range, so brightening (< 1) and darkening (> 1) are equally
    likely for (1/g, g). foreground: range of, and change to, voxels != 0 only, so that z-scored scans with a
    background of 0 keep it; False is ``monai.transforms.AdjustContrast`` on each channel.
    """

    name: ClassVar[str] = "gamma"
    gamma: Annotated[tuple[float, float], Pair(Interval(0.01, 100, unit="exponent"))] = (0.7, 1.4)
    foreground: Flag = True

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"gamma": exponent}."""
        spatial(shape)
        low, high = self.gamma
        drawn = math.exp(uniform(rng, (math.log(low), math.log(high))))
        return {"gamma": min(max(drawn, low), high)}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """The volume with changed contrast; a constant channel is copied."""
        return self.apply_(volume(x).clone(memory_format=torch.contiguous_format), params)

    def apply_(self, y: Tensor, params: Params) -> Tensor:
        """The same in the memory of y."""
        for y_c in y:
            bounds = foreground_range(y_c) if self.foreground else _range(y_c)
            if bounds is None:
                continue
            low, span = bounds[0], bounds[1] - bounds[0]
            inside = foreground(y_c) if self.foreground else None
            y_c.sub_(low).mul_(1.0 / span).clamp_(0.0, 1.0)
            _power_(y_c, params["gamma"]).mul_(span).add_(low)
            if inside is not None:
                keep_(y_c, inside)
        return y


def _range(x: Tensor) -> tuple[float, float] | None:
    low, high = (float(v) for v in torch.aminmax(x))
    return (low, high) if high > low else None


def _power_(y: Tensor, exponent: float) -> Tensor:
    """y to a power, in place, for values in [0, 1]; on a CPU numpy's logarithm is far faster than torch's power."""
    if y.device.type != "cpu":
        return y.pow_(exponent)
    values = y.numpy()
    with np.errstate(divide="ignore"):
        np.log(values, out=values)
    values *= np.float32(exponent)
    np.exp(values, out=values)
    return y
