"""Multi-crop: a few large crops of a scan beside many small ones (Caron et al. 2020, arXiv 2006.09882, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor

from medssl.checks import Interval, Pair, Voxels
from medssl.errors import RecipeError, UserError
from medssl.transforms.base import box, spatial
from medssl.transforms.crop import crop_resize
from medssl.views.base import MakesViews
from medssl.views.seeding import rng_for

Edge = Annotated[tuple[float, float], Pair(Interval(0.05, 1, unit="fraction of each axis"))]


@dataclass(frozen=True)
class MultiCrop(MakesViews):
    """Crops of two sizes: each is a box at a random place, resized (trilinear), then sent through the policy.

    n_global, n_local: how many of each. global_edge, local_edge: edge of the box as a fraction of each axis, drawn
    between two numbers and the same for all axes. Global views have the shape of the scan. local_shape: (D, H, W) of
    local views in voxels; None: half of the scan's edges, rounded up. Paper: 2 crops of 224 pixels from 0.14 to 1 of
    the area and 6 of 96 from 0.05 to 0.14; in 3D edges of 0.6 to 1 and of 0.3 to 0.6 are 22 to 100 % and 3 to 22 % of
    the volume.
    """

    name: ClassVar[str] = "multicrop"

    n_global: Annotated[int, Interval(1, 8)] = 2
    n_local: Annotated[int, Interval(0, 32)] = 6
    global_edge: Edge = (0.6, 1.0)
    local_edge: Edge = (0.3, 0.6)
    local_shape: Voxels | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The global ones first."""
        return ("global",) * self.n_global + ("local",) * self.n_local

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Global views are as the scan; RecipeError where local ones would be larger."""
        whole = tuple(shape)
        local = self.local_shape or tuple(-(-n // 2) for n in whole[1:])
        if any(a > b for a, b in zip(local, whole[1:], strict=True)):
            raise RecipeError(
                f"views.local_shape is {list(local)}, but the scans have {list(whole[1:])} voxels after preprocessing; "
                "a local view is at most as large"
            )
        return (whole,) * self.n_global + ((whole[0], *local),) * self.n_local

    def draw(self, shape: tuple[int, ...], epoch: int, scan: int, repeat: int = 0) -> list[dict[str, Any]]:
        """Per view {"start", "size" (voxels), "to" (voxels), "policy": what it goes through then}."""
        drawn = []
        for view, (role, to) in enumerate(zip(self.roles, self.shapes(shape), strict=True)):
            rng = rng_for(self.seed, epoch, scan, view, repeat)
            start, size = box(rng, spatial(shape), self.global_edge if role == "global" else self.local_edge, same=True)
            drawn.append({"start": start, "size": size, "to": list(to[1:]), "policy": self.policy.sample(rng, to)})
        return drawn

    def replay(self, x: Tensor, drawn: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
        """The crops that ``draw`` described, bit for bit."""
        if len(drawn) != len(self.roles):
            raise UserError(f"the drawn parameters are of {len(drawn)} views, but this maker has {len(self.roles)}.")
        return tuple(
            self.policy.apply(crop_resize(x, view["start"], view["size"], view["to"]), view["policy"]) for view in drawn
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON values."""
        return self.described | {
            "policy": self.policy.to_list(),
            "n_global": self.n_global,
            "n_local": self.n_local,
            "global_edge": list(self.global_edge),
            "local_edge": list(self.local_edge),
            "local_shape": None if self.local_shape is None else list(self.local_shape),
        }
