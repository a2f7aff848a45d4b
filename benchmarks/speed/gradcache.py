"""Gradient caching: memory and time of an exact large batch in micro-batches, and how exact it is."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

from benchmarks.speed.step import batches, simclr
from benchmarks.speed.timing import Part, paired, peak_memory, ratio
from medssl.training.gradcache import GradientCache
from medssl.types import Batch, Progress

ENCODER = {"name": "resnet18", "width": 32, "norm": "group"}
SIZE, MICRO = 64, 4
START = Progress(0, 1, 0, 1)


def measure(quick: bool) -> Part:
    """Ratios ``gradcache.*``; lower is better for all."""
    part = Part("Gradient caching")
    scans = 16 if quick else 32
    draws = 3 if quick else 5  # one alone is off by a third: the allocator keeps pages in another way each time
    memory = {name: median(peak_memory(action, *given) for _ in range(draws)) for name, action, given in (
        ("one micro-batch alone", whole, (MICRO,)),
        ("whole batch, cached", cached, (scans,)),
        ("whole batch at once", whole, (scans,)),
    )}  # fmt: skip
    actions = {"whole batch at once": whole(scans), "whole batch, cached": cached(scans)}
    times = paired(actions, 2 if quick else 6)
    part.ratio(
        "gradcache.memory",
        memory["whole batch, cached"] / memory["one micro-batch alone"],
        f"peak memory of {scans} scans in parts of {MICRO} over {MICRO} scans alone",
    )
    part.ratio("gradcache.time", ratio(times, "whole batch, cached", "whole batch at once"),
               "time over the whole batch at once")  # fmt: skip
    found = errors(scans, exact=not quick)
    meaning = "relative error of the gradient, float32"
    part.ratio("gradcache.gradient_error", found["in parts"], meaning)
    part.rows += [{"gradient of the whole batch, beside it": name, "relative distance": f"{error:.1e}"}
                  for name, error in found.items()]  # fmt: skip
    for name, mebibytes in memory.items():
        seconds = median(times[name]) if name in times else ""
        part.rows.append({"step of SimCLR": name, "MiB": mebibytes, "seconds": seconds})
    part.notes.append(
        f"ResNet-18 of width 32 with group norm, {SIZE}^3 voxels, two views a scan, float32. "
        f"Memory is what a step adds to weights, gradients and views, the median of {draws} processes."
    )
    return part


def whole(scans: int) -> Callable[[], object]:
    """A step on a batch at once: forward and backward pass."""
    method, batch = simclr(ENCODER, SIZE, scans), batch_of(scans)

    def run() -> None:
        method.step(batch, START).losses["loss"].backward()  # type: ignore[no-untyped-call]

    _warm(method, batch)
    return run


def cached(scans: int) -> Callable[[], object]:
    """The same step in micro-batches."""
    method, batch = simclr(ENCODER, SIZE, scans), batch_of(scans)
    cache = GradientCache(method, MICRO, "batch", lambda: torch.device("cpu"))

    def run() -> None:
        cache.backward(cache.forward(batch, START, int).losses["loss"])

    _warm(method, batch)
    return run


def errors(scans: int, exact: bool) -> dict[str, float]:
    """Relative distances between gradients of all parameters from equal weights; ``exact``: also those of float64."""
    whole_batch = gradient(scans, "at once")
    found = {name: _distance(gradient(scans, name), whole_batch) for name in ("in parts", "in another order")}
    if exact:
        true = gradient(scans, "at once", torch.float64)
        found["in parts, both in float64"] = _distance(gradient(scans, "in parts", torch.float64), true)
        found["at once in float64"] = _distance(whole_batch, true)
    return found


def gradient(scans: int, how: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Gradient of all parameters, as one float64 vector."""
    method, batch = simclr(ENCODER, SIZE, scans).to(dtype), batch_of(scans)
    order = torch.arange(scans).flip(0) if how == "in another order" else torch.arange(scans)
    meta = {k: v[order] for k, v in batch.meta.items()}
    batch = Batch(tuple(v[order].to(dtype) for v in batch.views), batch.index[order], meta)
    if how == "in parts":
        cache = GradientCache(method, MICRO, "batch", lambda: torch.device("cpu"))
        cache.backward(cache.forward(batch, START, int).losses["loss"])
    else:
        method.step(batch, START).losses["loss"].backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten().double() for p in method.parameters() if p.grad is not None])


def _distance(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found - true).norm() / true.norm())


def batch_of(scans: int) -> Batch:
    """One batch with two views."""
    item = batches(SIZE, scans, 1)[0]
    return Batch(tuple(item["views"]), item["index"], item["meta"])


def _warm(method: torch.nn.Module, batch: Batch) -> None:
    """Gradients and the library's own memory are there before anything is measured."""
    few = Batch(tuple(v[:2] for v in batch.views), batch.index[:2], {k: v[:2] for k, v in batch.meta.items()})
    method.step(few, START).losses["loss"].backward()
