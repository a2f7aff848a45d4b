"""The check of gradients sees what it is for: forgotten, undeclared and idle stops."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from medssl.methods.base import Method
from medssl.types import Batch, Facts, Features, Step
from tests.methods.bench import START
from tests.methods.test_common_laws import EXACT, slope_gaps


class Flat(nn.Module):
    """A linear encoder of tiny volumes."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Features:
        return Features(self.net(x.flatten(1)))


class Siamese(Method):
    """SimSiam in small: a predictor of one view looks for the other view's rows, which are halted."""

    halts: ClassVar[frozenset[str]] = frozenset({"target"})

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(Flat(), Facts(4, torch.arange(4).numpy(), 4, (1, 2, 2, 2)))
        self.predictor = nn.Linear(3, 3)

    def step(self, batch, progress):
        first, second = (self.encoder(x).pooled for x in batch.views)
        return Step({"loss": (self.predictor(first) - self.target(second)).square().mean()})

    def target(self, z: Tensor) -> Tensor:
        return self.halt("target", z)


class Forgotten(Siamese):
    def target(self, z: Tensor) -> Tensor:
        return z


class Undeclared(Siamese):
    halts: ClassVar[frozenset[str]] = frozenset()

    def target(self, z: Tensor) -> Tensor:
        return z.detach()


class Idle(Siamese):
    def target(self, z: Tensor) -> Tensor:
        return self.halt("target", z.detach())


class Flowing(Siamese):
    def halt(self, name: str, x: Tensor) -> Tensor:
        return x


def gap(method: Method) -> float:
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(4, 1, 2, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    index = torch.arange(4)
    return slope_gaps(method.double(), Batch(views, index, {"subject": index}), START)["loss"]


def test_a_halted_target_is_held_fixed() -> None:
    assert gap(Siamese()) < EXACT


def test_a_stop_that_is_not_declared_is_seen() -> None:
    assert gap(Undeclared()) > 1e-2


@pytest.mark.parametrize(
    ("kind", "message"), [(Forgotten, "declared are"), (Idle, "has no gradient"), (Flowing, "its gradient flows")]
)
def test_a_declared_stop_that_does_not_happen_is_seen(kind: type[Siamese], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        gap(kind())
