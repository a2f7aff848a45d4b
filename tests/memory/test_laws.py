"""Every memory moves by its stated law, over several moves in a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import medssl.memory
from medssl.memory import EMA, Assignments, Bank, Queue
from tests.memory.laws import LAWS, lawful


def rows(step: int, n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def network(step: int) -> nn.Module:
    torch.manual_seed(step)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    net(rows(step))
    return net


def keys_of(step: int) -> dict[str, Any]:
    return {"keys": rows(step), "ids": torch.arange(4) + step, "step": step, "age": rows(step)[:, 0]}


def push(queue: Queue, told: Mapping[str, Any]) -> None:
    queue.push(told["keys"], told["ids"], {"age": told["age"]}, told["step"])


CASES: dict[str, Any] = {
    "ema": (
        lambda: EMA(network(0), 0.9),
        lambda step: {"online": network(step), "momentum": 0.9},
        lambda memory, told: memory.update(told["online"]),
    ),
    "queue": (lambda: Queue(6, 3, ["age"]).double(), keys_of, push),
    "bank": (
        lambda: Bank(9, 3, 0.7).double(),
        lambda step: {"index": torch.tensor([step, 8, 2, 8]), "z": rows(step), "momentum": 0.7},
        lambda memory, told: memory.update(told["index"], told["z"]),
    ),
    "assignments": (
        lambda: Assignments(9, 3),
        lambda step: {"index": torch.tensor([step, 8, 2, 6]), "label": torch.tensor([step % 3, 1, 2, 0])},
        lambda memory, told: memory.set(told["index"], told["label"]),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_it_moves_by_its_law(kind: str) -> None:
    make, tell, move = CASES[kind]
    memory = make()
    for step in range(1, 5):
        old = {k: v.clone() for k, v in memory.state_dict().items()}
        told = tell(step)
        expected = lawful(memory, old, told)
        assert expected.keys() == old.keys()
        move(memory, told)
        for name, value in memory.state_dict().items():
            torch.testing.assert_close(
                value, expected[name].to(value), rtol=1e-12, atol=1e-14, equal_nan=True, msg=name
            )


def test_every_memory_has_a_law() -> None:
    named = (getattr(medssl.memory, name) for name in medssl.memory.__all__)
    memories = {cls for cls in named if isinstance(cls, type) and issubclass(cls, nn.Module)}
    assert memories == set(LAWS) == {type(make()) for make, _, _ in CASES.values()}
