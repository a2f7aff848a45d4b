"""V views of one scan, each by the policy anew: two of them are the pair of contrastive learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from torch import Tensor

from medssl.checks import Interval
from medssl.errors import UserError
from medssl.views.base import MakesViews
from medssl.views.policies import Drawn, Policy
from medssl.views.seeding import rng_for

Views = Annotated[int, Interval(1, 64)]


@dataclass(frozen=True)
class ViewMaker(MakesViews):
    """V views of the whole scan, all by one policy, or by one policy per view (a list).

    n_views: V. ``policies`` holds the policy of each view. Raises UserError for impossible arguments.
    """

    name: ClassVar[str] = "pair"

    policy: Policy | Sequence[Policy]  # type: ignore[assignment]  # one per view is a list
    n_views: Views = 2
    policies: tuple[Policy, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.n_views) is not int or self.n_views < 1:
            raise UserError(f"n_views is {self.n_views!r}, but a scan needs a whole number of views, at least 1.")
        given = self.policy if isinstance(self.policy, Sequence) else (self.policy,) * self.n_views
        policies = tuple(given)
        if len(policies) != self.n_views or not all(isinstance(p, Policy) for p in policies):
            raise UserError(
                f"policy is {self.policy!r} for {self.n_views} views, but it must be one policy, or one per view; "
                "build_policy makes one of a name or a list."
            )
        object.__setattr__(self, "policies", policies)
        super().__post_init__()

    @property
    def roles(self) -> tuple[str, ...]:
        """All are global."""
        return ("global",) * self.n_views

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """All as the scan."""
        return (tuple(shape),) * self.n_views

    def draw(self, shape: tuple[int, ...], epoch: int, scan: int, repeat: int = 0) -> list[Drawn]:
        """What the views of this draw of this scan go through, per view; JSON values, for logs and replays."""
        return [p.sample(rng_for(self.seed, epoch, scan, view, repeat), shape) for view, p in enumerate(self.policies)]

    def replay(self, x: Tensor, drawn: Sequence[Sequence[Mapping[str, Any] | None]]) -> tuple[Tensor, ...]:
        """The views that ``draw`` described, bit for bit.

        Raises UserError where ``drawn`` is not of this maker's views.
        """
        if len(drawn) != self.n_views:
            raise UserError(f"the drawn parameters are of {len(drawn)} views, but this maker has {self.n_views}.")
        return tuple(p.apply(x, d) for p, d in zip(self.policies, drawn, strict=True))

    def batch(
        self, x: Tensor, epochs: Sequence[int], scans: Sequence[int], repeats: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """V tensors (B, C, D, H, W) of B volumes, made together on their device; equal to calls, up to rounding."""
        shape = tuple(x.shape[1:])
        keys = list(zip(epochs, scans, [0] * len(x) if repeats is None else repeats, strict=True))
        return tuple(
            p.apply_batch(x, [p.sample(rng_for(self.seed, epoch, scan, view, n), shape) for epoch, scan, n in keys])
            for view, p in enumerate(self.policies)
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON values."""
        return self.described | {"n_views": self.n_views, "policies": [p.to_list() for p in self.policies]}
