"""Feature masking: some of the values of a table row are hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from medssl.checks import Intensity, Interval, Pair
from medssl.transforms.base import Params, Ranged, register, spatial, uniform, volume


@register
@dataclass(frozen=True)
class MaskFeatures(Ranged):
    """Set each value to ``value`` (0: its mean over the training rows, in a standardised table) at random.

    share: probability that a value is hidden, independently of all others; uniform in the range, drawn once per
    view. The drawn parameters hold a seed instead of the places, so a replay hides the same values. The corruption
    of SCARF (Bahri et al., ICLR 2022), with the mean in place of a draw from the feature's own distribution.
    """

    name: ClassVar[str] = "mask_features"
    share: Annotated[tuple[float, float], Pair(Interval(0, 1, unit="share of the values"))] = (0.1, 0.5)
    value: Intensity = 0.0

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """{"share": number, "seed": integer below 2^53 (exact in every JSON reader), "value": number}."""
        spatial(shape)
        return {"share": uniform(rng, self.share), "seed": int(rng.integers(2**53)), "value": self.value}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """A copy of x with the values of this seed hidden; drawn on the CPU, so it is the same on every device."""
        x = volume(x)
        generator = torch.Generator().manual_seed(params["seed"])
        hidden = torch.rand(tuple(x.shape), generator=generator) < params["share"]
        return x.masked_fill(hidden.to(x.device), params["value"])
