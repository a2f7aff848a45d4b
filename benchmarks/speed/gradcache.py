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
    memory = {name: peak_memory(action, *given) for name, action, given in (
        ("one micro-batch alone", whole, (MICRO,)),
        ("whole batch, cached", cached, (scans,)),
        ("whole batch at once", whole, (scans,)),
    )}  # fmt: skip
    actions = {"whole batch at once": whole(scans), "whole batch, cached": cached(scans)}
    times = paired(actions, 2 if quick else 6)
    part.ratio(
        "gradcache.memory",
        memory["whole batch, cached"] / memory["one micro-batch alone"],
        f"peak memory of {scans} scans in parts of {MICRO} over {MICRO} scans alone; target 1.3 or less",
    )
    part.ratio("gradcache.time", ratio(times, "whole batch, cached", "whole batch at once"),
               "time over the whole batch at once; target 1.6 or less")  # fmt: skip
    cached_error, order_error = errors(scans)
    part.ratio("gradcache.gradient_error", cached_error, "relative error of the gradient, float32; target 1e-5 or less")
    for name, mebibytes in memory.items():
        seconds = median(times[name]) if name in times else float("nan")
        part.rows.append({"step of SimCLR": name, "MiB": mebibytes, "seconds": seconds})
    part.notes.append(
        f"ResNet-18 of width 32 with group norm, {SIZE}^3 voxels, two views a scan, float32: gradient error "
        f"{cached_error:.1e}; the same batch in another order: {order_error:.1e}. "
        f"Memory is what a step adds to weights, gradients and views."
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


def errors(scans: int) -> tuple[float, float]:
    """Relative error of the cached gradient of all parameters, and of the whole batch in another order (rounding)."""
    method, batch = simclr(ENCODER, SIZE, scans), batch_of(scans)
    cache = GradientCache(method, MICRO, "batch", lambda: torch.device("cpu"))
    order = torch.arange(scans).flip(0)
    views, index = tuple(v[order] for v in batch.views), batch.index[order]
    other = Batch(views, index, {k: v[order] for k, v in batch.meta.items()})

    def gradient(backward: Callable[[], object]) -> torch.Tensor:
        backward()
        found = torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])
        method.zero_grad(set_to_none=True)
        return found

    whole_batch = gradient(lambda: method.step(batch, START).losses["loss"].backward())
    turned = gradient(lambda: method.step(other, START).losses["loss"].backward())
    found = gradient(lambda: cache.backward(cache.forward(batch, START, int).losses["loss"]))
    size = whole_batch.norm()
    return float((found - whole_batch).norm() / size), float((turned - whole_batch).norm() / size)


def batch_of(scans: int) -> Batch:
    """One batch with two views."""
    item = batches(SIZE, scans, 1)[0]
    return Batch(tuple(item["views"]), item["index"], item["meta"])


def _warm(method: torch.nn.Module, batch: Batch) -> None:
    """Gradients and the library's own memory are there before anything is measured."""
    few = Batch(tuple(v[:2] for v in batch.views), batch.index[:2], {k: v[:2] for k, v in batch.meta.items()})
    method.step(few, START).losses["loss"].backward()
