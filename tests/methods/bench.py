"""A tiny cohort in memory on which every catalogue name is built and stepped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.encoders import build_encoder
from medssl.methods.base import Method
from medssl.recipe.catalog import build_method, entry
from medssl.recipe.model import Recipe, load_recipe
from medssl.types import Batch, Facts, Progress
from medssl.views.pair import ViewMaker
from medssl.views.policies import build_policy

SHAPE = (1, 16, 16, 16)
SCANS, BATCH = 24, 8
START = Progress(0, 9, 0, 3)


def volumes() -> Tensor:
    """Smooth blobs in a box of zeros, different for every scan: (scans, C, D, H, W)."""
    rng = np.random.default_rng(7)
    coarse = torch.from_numpy(rng.standard_normal((SCANS, 1, 4, 4, 4)).astype(np.float32))
    x = nn.functional.interpolate(coarse, size=SHAPE[1:], mode="trilinear")
    x[:, :, :2] = 0
    return x


def columns() -> dict[str, Tensor]:
    rng = np.random.default_rng(8)
    return {
        "age": torch.from_numpy(rng.uniform(10, 80, SCANS).astype(np.float32)),
        "sex": torch.from_numpy(rng.integers(0, 2, SCANS)),
        "site": torch.from_numpy(rng.integers(0, 3, SCANS)),
        "subject": torch.arange(SCANS),
    }


class Bench:
    """One catalogue name with its recipe (and changes of its arguments), a tiny encoder, and batches."""

    def __init__(self, name: str, seed: int = 0, meta: dict[str, Tensor] | None = None, **changes: Any) -> None:
        self.name, self.seed, self.recipe = name, seed, load_recipe(name)
        self.x, self.meta = volumes(), meta or columns()
        labels = {k: np.where(v.numpy() == -1, np.nan, v.numpy().astype(float)) for k, v in self.meta.items()}
        facts = Facts(SCANS, np.arange(SCANS), BATCH, SHAPE, labels)
        torch.manual_seed(seed)
        self.encoder = build_encoder(**tiny(self.recipe), in_channels=1, shape=SHAPE[1:])
        self.method = build_method(name, self.encoder, facts, small(self.recipe.method.arguments) | changes)
        policy = build_policy(self.recipe.views.policy)
        self.maker = ViewMaker(policy, n_views=self.method.views, wants=dict(self.method.wants), seed=seed)

    def batch(self, rows: list[int], epoch: int = 0) -> Batch:
        made = [self.maker(self.x[r], epoch, r) for r in rows]
        views = tuple(torch.stack([m[0][v] for m in made]) for v in range(self.method.views))
        target = {k: torch.stack([m[1][k] for m in made]) for k in (made[0][1] or {})}
        index = torch.tensor(rows)
        return Batch(views, index, {k: v[index] for k, v in self.meta.items()}, target)

    def embed(self, f: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return torch.arange(SCANS), f(self.x)

    def start(self) -> Method:
        torch.manual_seed(self.seed)  # as the adapter does before an epoch
        self.method.before_epoch(self.embed, START)
        return self.method

    def train(self, steps: int, begin: int = 0) -> list[dict[str, float]]:
        """Plain SGD on all players, then memory; returns the losses."""
        trace = []
        for step in range(begin, begin + steps):
            at = Progress(step, 9, step // 3, 3)
            batch = self.batch([(step * BATCH + i) % SCANS for i in range(BATCH)], at.epoch)
            torch.manual_seed(step)
            out = self.method.step(batch, at)
            self.method.zero_grad(set_to_none=True)
            torch.stack(list(out.losses.values())).sum().backward()
            with torch.no_grad():
                for parameters in self.method.players().values():
                    for p in parameters:
                        if p.grad is not None:
                            p -= 0.01 * p.grad
            self.method.after_step(out, batch, at)
            trace.append({k: float(v.detach()) for k, v in out.losses.items()})
        return trace


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that are not what they were, bit for bit; NaN where NaN was is no move."""
    assert before.keys() == after.keys()
    same = {k: (v == after[k]) | (v.isnan() & after[k].isnan()) for k, v in before.items()}
    return [name for name, equal in same.items() if not bool(equal.all())]


def tiny(recipe: Recipe) -> dict[str, Any]:
    if recipe.encoder.name == "vit":
        return {"name": "vit", "patch": 4, "width": 24, "depth": 1, "heads": 2}
    return {"name": "resnet18", "width": 4, "depth": [1, 1], "norm": "group", "stem": "small"}


def small(arguments: dict[str, Any]) -> dict[str, Any]:
    """The recipe's arguments with small heads."""
    sizes = {
        "projector": [16, 8], "latent": 8, "generator_width": 4, "critic_width": 4,
        "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2,
    }  # fmt: skip
    return {k: sizes.get(k, v) for k, v in arguments.items()} | {}


def family(name: str) -> str:
    return entry(name).family
