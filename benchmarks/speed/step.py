"""One training step: our trainer beside a plain float32 loop, its overhead, and what each precision is worth.

The network is ResNet-18 (width 64) on 64^3 voxels with NT-Xent on two views; views lie in memory, so that nothing but
the step is measured. A curve of losses says whether the faster numbers are the same training.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.timing import Part, paired, ratio
from medssl.encoders import build_encoder
from medssl.errors import count
from medssl.methods.base import Method
from medssl.recipe.catalog import build_method
from medssl.training.adapter import MethodModule, fit
from medssl.training.hardware.device import laid_out, lay_out_, settle
from medssl.training.hardware.precision import guard_convolutions_
from medssl.training.hooks import Hooks
from medssl.training.options import Optimisation, TrainerOptions
from medssl.types import Batch, Facts, Progress

Item = dict[str, Any]
LARGE: dict[str, Any] = {"name": "resnet18"}
DEMO: dict[str, Any] = {"name": "resnet18", "width": 16, "depth": [1, 1, 1, 1], "norm": "group"}
OPTIM = Optimisation(name="adamw", lr=3e-4, schedule="constant")


def measure(quick: bool) -> Part:
    """Ratios ``step.*``; higher is better for vs_plain, lower for the others."""
    part = Part("Step")
    scans, steps, rounds = (4, 3, 2) if quick else (8, 4, 6)
    plain, ours = _paired_steps(LARGE, 64, scans, steps, rounds, same=False)
    part.ratio("step.vs_plain", median(a / b for a, b in zip(plain, ours, strict=True)),
               "scans per second over a plain float32 loop, same ResNet-18 at 64^3")  # fmt: skip
    for name, seconds in (("plain float32 loop", plain), ("trainer, precision auto", ours)):
        part.rows.append({"step of ResNet-18": name, "seconds": median(seconds), "scans/s": scans / median(seconds)})
    bare, module = _paired_steps(DEMO, 40, 16, 6 if quick else 12, 3 if quick else 6, same=True)
    part.ratio(
        "step.adapter_overhead",
        median(b / a for a, b in zip(bare, module, strict=True)),
        "time of the adapter over a bare loop with the same step, demo's encoder",
    )
    part.rows += [{"step of the demo's encoder": name, "ms": 1e3 * median(seconds)}
                  for name, seconds in (("bare loop", bare), ("adapter", module))]  # fmt: skip
    part.rows += _precisions(2 * scans, 1 if quick else 6)
    gap, rows = _curves(*((DEMO, 32, 8, 20) if quick else (LARGE, 64, 8, 20)))
    part.ratio("step.loss_gap", gap, "distance of both loss curves over the spread of seeds (both RMS)")
    part.rows += rows
    part.notes.append(
        f"{count(torch.get_num_threads(), 'thread')}; auto became {settle(TrainerOptions()).precision}, "
        f"{settle(TrainerOptions()).memory_format}. The curve is that of "
        f"{'the demo encoder on 32^3' if quick else 'ResNet-18 on 64^3'}, 3 seeds."
    )
    return part


class Batches:
    """A loader of ready batches, as the trainer asks for it."""

    def __init__(self, items: list[Item], steps: int) -> None:
        self.items, self.steps, self.plan = items, steps, SimpleNamespace(per_epoch=steps, joint=0)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Item]:
        return (self.items[i % len(self.items)] for i in range(self.steps))


def batches(size: int, scans: int, count: int, seed: int = 0, noise: float = 0.5) -> list[Item]:
    """Smooth volumes in two noisy views."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        coarse = torch.randn(scans, 1, 4, 4, 4, generator=rng)
        x = nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")
        views = [x + noise * torch.randn(x.shape, generator=rng) for _ in range(2)]
        index = torch.arange(scans) + number * scans
        made.append({"views": views, "index": index, "meta": {"subject": index}, "target": {}})
    return made


def simclr(encoder: dict[str, Any], size: int, scans: int, seed: int = 0) -> Method:
    """SimCLR with an encoder, from a seed."""
    torch.manual_seed(seed)
    facts = Facts(scans, np.arange(scans), scans, (1, size, size, size))
    net = build_encoder(**encoder, in_channels=1, shape=(size,) * 3)
    method = build_method("simclr", net, facts, {"projector": [256, 128]})
    x = batches(size, 8, 1, seed)[0]["views"][0]
    with torch.no_grad():  # spread the embeddings, as before every training
        method.before_epoch(lambda f: (torch.arange(8), f(x)), Progress(0, 1, 0, 1))
    return method


def by_trainer(
    method: Method, items: list[Item], steps: int, options: TrainerOptions, losses: list[float] | None = None
) -> list[float]:
    """Seconds of every step but the first, through the Lightning adapter; ``losses`` receives those of all steps."""
    ends: list[float] = []
    nothing: Callable[..., Any] = lambda *given: None  # noqa: E731

    def progress(step: int, steps: int, row: Mapping[str, float]) -> None:
        ends.append(time.perf_counter())
        if losses is not None:
            losses.append(row["loss"])

    hooks = Hooks(lambda *given: Batches(items, steps), nothing, None, nothing, nothing, nothing, progress)
    module = MethodModule(method, OPTIM, options, hooks)
    module.prepared = 0  # done in simclr()
    with tempfile.TemporaryDirectory() as folder:
        fit(module, Path(folder))
    return [b - a for a, b in pairwise(ends)]


def by_loop(method: Method, items: list[Item], steps: int) -> list[float]:
    """The same in a plain float32 loop."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=OPTIM.lr, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay)
    ends = []
    for step in range(steps):
        item = items[step % len(items)]
        loss = method.step(_batch(item), Progress(step, steps, 0, 1)).losses["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(time.perf_counter())
    return [b - a for a, b in pairwise(ends)]


def _batch(item: Item) -> Batch:
    return Batch(tuple(item["views"]), item["index"], item["meta"], item["target"])


def _paired_steps(
    encoder: dict[str, Any], size: int, scans: int, steps: int, rounds: int, same: bool
) -> tuple[list[float], list[float]]:
    """Seconds per step of each round, plain loop and trainer in turn; ``same``: both in float32."""
    items = batches(size, scans, 2)
    options = TrainerOptions(epochs=1, precision="32-true" if same else "auto", log_steps=1)
    plain, ours = simclr(encoder, size, scans), simclr(encoder, size, scans)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        found[0].append(median(by_loop(plain, items, steps)))
        found[1].append(median(by_trainer(ours, items, steps, options)))
    return found


def _precisions(views: int, rounds: int) -> list[dict[str, Any]]:
    """Forward and backward pass of ResNet-18 in every precision and memory format."""
    x = torch.randn(views, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    actions = {}
    for half in (False, True):
        for form in ("contiguous", "channels_last"):
            net = lay_out_(build_encoder(**LARGE, in_channels=1, shape=(64,) * 3), form)
            name = ("bf16-mixed" if half else "32-true", form)
            actions["/".join(name)] = _pass(guard_convolutions_(net), laid_out(x, form), half)
    times = paired(actions, rounds)
    first = next(iter(actions))
    return [
        {"precision": name.split("/")[0], "memory format": name.split("/")[1], "seconds": median(times[name]),
         "speed-up": ratio(times, first, name)}
        for name in actions
    ]  # fmt: skip


def _pass(net: nn.Module, x: Tensor, half: bool) -> Callable[[], None]:
    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            pooled = net(x).pooled
        pooled.float().square().mean().backward()
        net.zero_grad(set_to_none=True)

    return run


def _curves(encoder: dict[str, Any], size: int, scans: int, steps: int) -> tuple[float, list[dict[str, Any]]]:
    """The trainer's loss curves of three seeds in float32 and bfloat16, and their distance over the spread of seeds."""
    curves: dict[Any, list[list[float]]] = {"32-true": [], "bf16-mixed": []}
    for seed in range(3):
        items = batches(size, scans, steps, seed, noise=4.0)  # so hard that the loss stays away from 0
        for precision, found in curves.items():
            options = TrainerOptions(epochs=1, precision=precision, log_steps=1)
            found.append([])
            by_trainer(simclr(encoder, size, scans, seed), items, steps, options, found[-1])
    single, rough = np.array(curves["32-true"]), np.array(curves["bf16-mixed"])
    spread = math.sqrt(float((single.std(0, ddof=1) ** 2).mean()))
    gap = math.sqrt(float(((rough.mean(0) - single.mean(0)) ** 2).mean()))
    rows = [{"step": k + 1, "loss float32": single[:, k].mean(), "loss bfloat16": rough[:, k].mean(),
             "spread of seeds": single[:, k].std(ddof=1)} for k in (0, steps // 2, steps - 1)]  # fmt: skip
    return gap / spread, [{k: float(v) for k, v in row.items()} for row in rows]
