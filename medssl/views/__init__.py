"""What a method is shown: policies of transforms, view makers, and where their randomness comes from.

Every view maker is one file with one picklable class that fits :class:`MakesViews`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from medssl.views.pair import ViewMaker
from medssl.views.policies import POLICIES, Drawn, Policy, Slot, build_policy
from medssl.views.seeding import TARGETS, rng_for


@runtime_checkable
class MakesViews(Protocol):
    """One scan in, its views and answers out; the same for the same (seed, epoch, scan, repeat), wherever it runs.

    repeat: how often the scan was drawn before in this epoch, so that no two draws show the same views.

    Views may differ in number and shape (multi-crop, jigsaw cells): ``shapes`` says which, before any scan is
    read, and a batch stacks view v of all its scans. Answers that come with the views (rotation number, order of
    the cells, mask, boxes) are ``targets``: name to shape per scan. ``draw`` returns all that was decided as JSON
    values, one entry per view, and ``replay`` obeys it, so that a maker may let views share entries (LooC).
    """

    n_views: int
    targets: Mapping[str, tuple[int, ...]]
    seed: int

    def __call__(
        self, x: Tensor, epoch: int, scan: int, repeat: int = 0
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Views (new float32 tensors) of x (C, D, H, W), and the answers by name."""
        ...

    def draw(self, shape: tuple[int, ...], epoch: int, scan: int, repeat: int = 0) -> list[Any]:
        """Every decision for this draw of this scan, one entry per view, as JSON values."""
        ...

    def replay(self, x: Tensor, drawn: Sequence[Any]) -> tuple[Tensor, ...]:
        """The views that ``draw`` described, bit for bit."""
        ...

    def batch(
        self, x: Tensor, epochs: Sequence[int], scans: Sequence[int], repeats: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """The views of B volumes (B, C, D, H, W) on their device: view v of all of them is one tensor."""
        ...

    def answers(self, epoch: int, scan: int, repeat: int = 0) -> dict[str, Tensor]:
        """The answers alone."""
        ...

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shape (C, D, H, W) of every view of a scan of this shape."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON values."""
        ...


__all__ = [
    "POLICIES",
    "TARGETS",
    "Drawn",
    "MakesViews",
    "Policy",
    "Slot",
    "ViewMaker",
    "build_policy",
    "rng_for",
]
