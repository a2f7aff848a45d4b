"""The contract of every view maker: what of a scan a method is shown, and with which answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from medssl.errors import RecipeError
from medssl.views.policies import Policy
from medssl.views.seeding import TARGETS, rng_for

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

ANSWERS: dict[str, Draw] = {
    "latent": lambda rng, shape: rng.standard_normal(shape, dtype=np.float32),
    "token_noise": lambda rng, shape: rng.random(shape, dtype=np.float32),
}
"""Random numbers that any maker draws where a method wants them: "latent" standard normal, "token_noise" in [0, 1)."""
ROLES = ("global", "local", "patch", "clean", "corrupted", "context")
"""What a view is to a method. global: (nearly) the whole scan; local: a small part of it; patch: a cell of a grid;
clean and corrupted: twins of one view; context: what is seen of a scan whose rest is to be predicted."""


@dataclass(frozen=True)
class MakesViews(ABC):
    """``maker(x, epoch, scan, repeat)`` -> (V views, answers): a pure function of the seed and of these.

    repeat: how often the scan was drawn before in this epoch, so that no two draws show the same views. policy: what
    views go through. wants: shape per scan of every answer of :data:`ANSWERS` that the method asks for. seed: of the
    run. Picklable, so that the workers of a loader can hold it.

    A maker is one file with one class that says ``roles`` (one per view), ``shapes``, ``draw``, ``replay`` and, where
    answers come with its views (a rotation, an order of cells, a mask), ``own_answers``. ``draw`` returns all that was
    decided as JSON values, one entry per view, and ``replay`` obeys it bit for bit. Views may differ in shape; view v
    of all scans of a batch has one shape.
    """

    name: ClassVar[str]

    policy: Policy
    wants: Mapping[str, tuple[int, ...]] = field(default_factory=dict, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.wants) - set(ANSWERS) - set(self.own_answers))
        if unknown:
            known = ", ".join(sorted({*ANSWERS, *self.own_answers}))
            raise RecipeError(
                f"the method wants the answer {unknown[0]!r}, which the views {self.name!r} do not come with; they "
                f"have: {known}"
            )
        shapes = {name: tuple(int(n) for n in shape) for name, shape in sorted(self.wants.items())}
        object.__setattr__(self, "wants", shapes)
        rng_for(self.seed, 0, 0, 0)

    @property
    @abstractmethod
    def roles(self) -> tuple[str, ...]:
        """What every view is, one of :data:`ROLES`; their number is the number of views."""

    @property
    def own_answers(self) -> Mapping[str, tuple[int, ...]]:
        """Answers that come with the views, by name: shape per scan."""
        return {}

    @abstractmethod
    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shape (C, D, H, W) of every view of a scan of this shape, before any scan is read.

        Errors: RecipeError where such a scan cannot be shown so.
        """

    @abstractmethod
    def draw(self, shape: tuple[int, ...], epoch: int, scan: int, repeat: int = 0) -> list[Any]:
        """Every decision for this draw of this scan of shape (C, D, H, W), one entry per view, as JSON values."""

    @abstractmethod
    def replay(self, x: Tensor, drawn: Sequence[Any]) -> tuple[Tensor, ...]:
        """The views of x (C, D, H, W) that ``draw`` described, bit for bit: new float32 tensors.

        Raises UserError where ``drawn`` is not of this maker's views.
        """

    def __call__(
        self, x: Tensor, epoch: int, scan: int, repeat: int = 0
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """The views of x (C, D, H, W), which is left untouched, and the answers by name."""
        return self.replay(x, self.draw(tuple(x.shape), epoch, scan, repeat)), self.answers(epoch, scan, repeat)

    def batch(
        self, x: Tensor, epochs: Sequence[int], scans: Sequence[int], repeats: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """The views of B volumes (B, C, D, H, W), made on their device: view v of all of them is one tensor."""
        keys = zip(epochs, scans, [0] * len(x) if repeats is None else repeats, strict=True)
        made = [self.replay(one, self.draw(tuple(one.shape), *key)) for one, key in zip(x, keys, strict=True)]
        return tuple(torch.stack(views) for views in zip(*made, strict=True))

    def answers(self, epoch: int, scan: int, repeat: int = 0) -> dict[str, Tensor]:
        """The wanted answers; each has its own stream, so that wanting one more leaves the others as they are."""
        return {name: self.answer(name, shape, epoch, scan, repeat) for name, shape in self.wants.items()}

    def answer(self, name: str, shape: tuple[int, ...], epoch: int, scan: int, repeat: int) -> Tensor:
        """One wanted answer; a maker with answers of its own returns those first."""
        drawn = ANSWERS[name](self.stream(name, epoch, scan, repeat), shape)
        return torch.from_numpy(np.asarray(drawn, dtype=np.float32))

    def stream(self, name: str, epoch: int, scan: int, repeat: int) -> np.random.Generator:
        """The generator of one answer of a draw."""
        rng = rng_for(self.seed, epoch, scan, TARGETS, repeat)
        rng.bit_generator.advance(crc32(name.encode()) << 80)  # type: ignore[attr-defined]
        return rng

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON values."""

    @property
    def described(self) -> dict[str, Any]:
        """What ``to_dict`` of every maker begins with."""
        wants = {name: list(shape) for name, shape in self.wants.items()}
        return {"maker": self.name, "wants": wants, "seed": self.seed}
