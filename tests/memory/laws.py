"""The law by which every memory moves, stated apart from the code that moves it.

A law takes the buffers of a memory as they were (``state_dict``) and what it was told, and gives the buffers as they
must be. The tests of the memories and the common checks of the methods compare with these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medssl.memory import EMA, Assignments, Bank, Queue

Buffers = dict[str, Tensor]


def ema_law(old: Mapping[str, Tensor], *, online: nn.Module, momentum: float) -> Buffers:
    """k <- m k + (1 - m) q for parameters; running statistics and counters are copied."""
    new: Buffers = {"updates": old["updates"] + 1}
    for name, q in online.named_parameters():
        new[f"module.{name}"] = momentum * old[f"module.{name}"] + (1 - momentum) * q.detach()
    for name, q in online.named_buffers():
        if f"module.{name}" in old:  # not those that a checkpoint leaves out
            new[f"module.{name}"] = q.clone()
    return new


def queue_law(old: Mapping[str, Tensor], *, keys: Tensor, ids: Tensor, step: int, **columns: Tensor) -> Buffers:
    """One key after another overwrites the oldest, which is the row that the pointer names."""
    new = {k: v.clone() for k, v in old.items()}
    rows = {"keys": keys, "ids": ids} | {f"column_{k}": v for k, v in columns.items()}
    for i in range(len(keys)):
        place = int(new["pointer"])
        for name, values in rows.items():
            new[name][place] = values[i].detach()
        new["born"][place] = step
        new["pointer"] = torch.tensor((place + 1) % len(new["keys"]))
        new["count"] = torch.tensor(min(int(new["count"]) + 1, len(new["keys"])))
    return new


def bank_law(old: Mapping[str, Tensor], *, index: Tensor, z: Tensor, momentum: float) -> Buffers:
    """b_i <- (m b_i + (1 - m) z_i / |z_i|) / |...|; of an index that occurs twice the last counts."""
    new = {k: v.clone() for k, v in old.items()}
    for i, row in {int(i): z[n] for n, i in enumerate(index)}.items():
        towards = momentum * old["z"][i] + (1 - momentum) * row.detach() / row.detach().norm()
        new["z"][i] = towards / towards.norm()
        new["written"][i] = old["updates"]
    new["updates"] = old["updates"] + 1
    return new


def assignments_law(old: Mapping[str, Tensor], *, index: Tensor, label: Tensor) -> Buffers:
    """Labels stand at the rows of the manifest; counts are of the rows that have one."""
    new = {k: v.clone() for k, v in old.items()}
    for i, k in zip(index.tolist(), label.tolist(), strict=True):
        new["labels"][i] = k
    for k in range(len(new["counts"])):
        new["counts"][k] = sum(given == k for given in new["labels"].tolist())
    new["updates"] = old["updates"] + 1
    return new


LAWS: dict[type[nn.Module], Callable[..., Buffers]] = {
    EMA: ema_law,
    Queue: queue_law,
    Bank: bank_law,
    Assignments: assignments_law,
}


def lawful(memory: nn.Module, old: Mapping[str, Tensor], told: Mapping[str, Any]) -> Buffers:
    """What the buffers of a memory must be after it was told these things."""
    return LAWS[type(memory)](old, **told)
