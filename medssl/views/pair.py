"""The usual view maker: V views of one scan by a policy, and the random numbers that a method asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from medssl.errors import RecipeError, UserError
from medssl.views.policies import Drawn, Policy
from medssl.views.seeding import TARGETS, rng_for

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

ANSWERS: dict[str, Draw] = {
    "latent": lambda rng, shape: rng.standard_normal(shape, dtype=np.float32),
    "token_noise": lambda rng, shape: rng.random(shape, dtype=np.float32),
}
"""Answers this maker can draw: "latent" standard normal, "token_noise" uniform in [0, 1)."""


@dataclass(frozen=True)
class ViewMaker:
    """``maker(x, epoch, scan, repeat)`` -> (V views, answers): a pure function of seed, view and these.

    repeat: how often the scan was drawn before in this epoch.

    policy: one for all views, or one per view (a clean and a corrupted view, say). n_views: V >= 1. targets:
    shape per scan of every answer of :data:`ANSWERS` that the method wants. seed: of the run. ``policies`` then
    holds the policy of each view. Picklable, so a DataLoader's workers can hold it. Raises UserError for
    impossible arguments.
    """

    policy: Policy | Sequence[Policy]
    n_views: int = 2
    targets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seed: int = 0
    policies: tuple[Policy, ...] = field(init=False, repr=False)  # one per view

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
        unknown = sorted(set(self.targets) - set(ANSWERS))
        if unknown:
            raise RecipeError(
                f"the method wants the view target {unknown[0]!r}, which this view maker does not draw; "
                f"it draws: {', '.join(sorted(ANSWERS))}."
            )
        shapes = {name: tuple(int(n) for n in shape) for name, shape in sorted(self.targets.items())}
        object.__setattr__(self, "targets", shapes)
        rng_for(self.seed, 0, 0, 0)

    def __call__(
        self, x: Tensor, epoch: int, scan: int, repeat: int = 0
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """V new float32 tensors of the shape of x (C, D, H, W), and the answers by name; x is left untouched."""
        return self.replay(x, self.draw(tuple(x.shape), epoch, scan, repeat)), self.answers(epoch, scan, repeat)

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

    def answers(self, epoch: int, scan: int, repeat: int = 0) -> dict[str, Tensor]:
        """The wanted targets; each has its own stream, so that wanting one more leaves the others as they are."""
        drawn = {}
        for name, shape in self.targets.items():
            rng = rng_for(self.seed, epoch, scan, TARGETS, repeat)
            rng.bit_generator.advance(crc32(name.encode()) << 80)  # type: ignore[attr-defined]
            drawn[name] = torch.from_numpy(np.asarray(ANSWERS[name](rng, shape), dtype=np.float32))
        return drawn

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shape of every view of a scan of shape (C, D, H, W): all as the scan."""
        return (tuple(shape),) * self.n_views

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON values, for the recipe and the report."""
        policies = [p.to_list() for p in self.policies]
        targets = {name: list(shape) for name, shape in self.targets.items()}
        return {"policies": policies, "n_views": self.n_views, "targets": targets, "seed": self.seed}
