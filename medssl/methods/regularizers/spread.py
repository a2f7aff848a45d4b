"""Terms on the dimensions of the embedding: the variance and the covariance of VICReg."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from medssl.checks import Interval, Small
from medssl.distributed import gather
from medssl.errors import RecipeError
from medssl.losses.redundancy import covariance, variance
from medssl.methods.base import Method
from medssl.types import Facts, Joint


class Variance:
    """Every dimension keeps a spread of gamma; the mean over views, as in the published code.

    space: raw, the projector's output (VICReg normalises nothing); unit, z of length 1 times sqrt(D). A loss on unit
    rows leaves the length of raw ones free, so raw spreads can grow without any effect on it; unit acts there too.
    gamma: 1 (paper), eps: 1e-4 (paper).
    """

    name = "variance"
    reads: tuple[str, ...] = ()

    def __init__(
        self,
        method: Method,
        facts: Facts,
        *,
        gamma: Annotated[float, Interval(0, 1000, above=True)] = 1.0,
        eps: Small = 1e-4,
        space: Literal["raw", "unit"] = "raw",
    ) -> None:
        _pairs_of_scans(self.name, facts)
        self.gamma, self.eps, self.space = gamma, eps, space
        method.chance = None  # equal rows cost this term too

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The term over the rows of all processes."""
        return _per_view(joint, self.space, lambda z_BD: variance(z_BD, gamma=self.gamma, eps=self.eps)).mean()


class Covariance:
    """Different dimensions carry different things; the sum over views, as in the published code.

    space: as in ``Variance``.
    """

    name = "covariance"
    reads: tuple[str, ...] = ()

    def __init__(self, method: Method, facts: Facts, *, space: Literal["raw", "unit"] = "raw") -> None:
        _pairs_of_scans(self.name, facts)
        self.space = space

    def __call__(self, method: Method, joint: Joint) -> Tensor:
        """The term over the rows of all processes."""
        return _per_view(joint, self.space, covariance).sum()


def _per_view(joint: Joint, space: str, term: Callable[[Tensor], Tensor]) -> Tensor:
    """(V,) values of a term; a method that asks one view with gradient has V = 1 in raw space."""
    x_ND = joint.raw() if space == "raw" else joint.z_ND * math.sqrt(joint.z_ND.shape[1])
    parts = x_ND.split(len(joint.batch))
    return torch.stack([term(gather(part)) for part in parts])


def _pairs_of_scans(name: str, facts: Facts) -> None:
    if facts.batch < 2:
        raise RecipeError(f"{name} measures a spread over scans, but data.batch_size is 1; set it to 16 or more")
