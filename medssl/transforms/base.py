"""The contract of a transform (sample, then apply), the checks that all share, and the table of names.

A transform is a frozen dataclass whose fields are its ranges. ``sample`` holds all randomness and returns JSON
values; ``apply`` is deterministic. So every drawn parameter can be logged, and replayed bit for bit.
Foreground means ``x != 0``, per channel: preprocessing leaves exactly 0 outside the brain mask.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from medssl.checks import check_fields
from medssl.errors import UserError

Params = dict[str, Any]
"""Drawn parameters: names to JSON values (numbers, strings, booleans, None, lists of these)."""


@runtime_checkable
class Transform(Protocol):
    """One verb on a volume (C, D, H, W); ``name`` is how a recipe calls it."""

    name: ClassVar[str]

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Params:
        """Draw the parameters for a volume of shape (C, D, H, W) as JSON values."""
        ...

    def apply(self, x: Tensor, params: Params) -> Tensor:
        """A new float32 tensor of the shape of x (C, D, H, W); x is left untouched."""
        ...


TRANSFORMS: dict[str, type[Any]] = {}
"""Every transform by the name a recipe uses; filled by :func:`register` when ``medssl.transforms`` is imported."""

T = TypeVar("T", bound="type[Any]")


def register(cls: T) -> T:
    """Class decorator: enter a transform into :data:`TRANSFORMS` under its ``name``."""
    TRANSFORMS[cls.name] = cls
    return cls


def arguments_of(transform: Transform) -> dict[str, Any]:
    """All arguments of a transform as JSON values; its class called with them gives an equal transform."""
    values = {f.name: getattr(transform, f.name) for f in fields(transform)}  # type: ignore[arg-type]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def volume(x: Tensor) -> Tensor:
    """x as a plain float32 tensor (the same memory where it is one already).

    Raises UserError where x is not (C, D, H, W).
    """
    if x.ndim != 4:
        raise UserError(
            f"a transform got a tensor of shape {tuple(x.shape)}, but it takes one volume (C, D, H, W); "
            "add the channel axis with x[None]."
        )
    if type(x) is not Tensor:
        x = x.as_subclass(Tensor)
    return x.float()


def spatial(shape: Sequence[int]) -> tuple[int, int, int]:
    """(D, H, W) of a volume's shape (C, D, H, W); raises UserError for any other number of axes."""
    if len(shape) != 4:
        raise UserError(f"a transform got the shape {tuple(shape)}, but it takes the shape (C, D, H, W) of one volume.")
    return int(shape[1]), int(shape[2]), int(shape[3])


_kept = threading.local()


def buffer(slot: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uninitialised memory that this thread uses again: fresh pages of a large tensor cost more than its numbers.

    Slots 0 and 1; what a call leaves there is lost with the next one.
    """
    if device.type != "cpu":
        return torch.empty(*shape, dtype=dtype, device=device)
    held: dict[tuple[int, torch.dtype], Tensor] = _kept.__dict__.setdefault("buffers", {})
    n = math.prod(shape)
    if (slot, dtype) not in held or held[slot, dtype].numel() < n:
        held[slot, dtype] = torch.empty(n, dtype=dtype)
    return held[slot, dtype][:n].view(*shape)


_COARSE: list[Any] = [getattr(part, "matmul", None) for part in (torch.backends.cuda, torch.backends.mkldnn)]
_PER_PLACE = all(hasattr(place, "fp32_precision") for place in _COARSE)
"""Whether torch (2.9 and later) keeps the precision of float32 products per library. Its older, global switch cannot be
read where somebody has set ``torch.backends.cuda.matmul.allow_tf32``."""


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products as such, also where ``torch.set_float32_matmul_precision`` or ``allow_tf32`` permit coarser."""
    if not _PER_PLACE:
        whole = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(whole)
        return
    before = [place.fp32_precision for place in _COARSE]
    for place in _COARSE:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, kept in zip(_COARSE, before, strict=True):
            place.fp32_precision = kept


_alone = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products in full precision on one thread.

    On two, MKL rounds some of them otherwise, and a view would depend on the number of workers, each of one thread.
    """
    with _alone, full_precision():
        threads = torch.get_num_threads()
        if threads != 1:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if threads != 1:
                torch.set_num_threads(threads)


def foreground(x: Tensor) -> Tensor:
    """Where x != 0, as booleans. On a CPU numpy compares ten times faster than torch, which does not vectorise it."""
    return torch.from_numpy(x.detach().numpy() != 0) if x.device.type == "cpu" else x != 0


def count(mask: Tensor) -> int:
    """How many booleans are true."""
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.sum())


def keep_(y: Tensor, mask: Tensor) -> Tensor:
    """Set y to 0 outside a boolean mask, in place."""
    if y.device.type != "cpu":
        return y.mul_(mask)
    values = y.numpy()
    np.multiply(values, mask.numpy(), out=values)
    return y


def foreground_range(x: Tensor) -> tuple[float, float] | None:
    """Smallest and largest value of one channel x where x != 0; None where nothing is, or it is constant."""
    low, high = (float(v) for v in torch.aminmax(x))
    if low >= 0.0 or high <= 0.0:  # otherwise the zeros of the background cannot be an extreme
        inside = x[x != 0]
        if inside.numel() == 0:
            return None
        low, high = (float(v) for v in torch.aminmax(inside))
    return (low, high) if high > low else None


class Ranged:
    """Base of a transform: its fields are brought into their declared ranges when it is made (UserError)."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self, self.name)


def uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """One number, uniform between the bounds."""
    return float(rng.uniform(bounds[0], bounds[1]))


def box(
    rng: np.random.Generator, size: tuple[int, int, int], fraction: tuple[float, float], *, same: bool
) -> tuple[list[int], list[int]]:
    """Start and length in voxels of a random box inside a grid of ``size``, at a uniform place.

    Lengths are ceil(f * size), at least 1, with f uniform in ``fraction``; ``same``: one f for all three axes.
    """
    f = [uniform(rng, fraction)] * 3 if same else [uniform(rng, fraction) for _ in range(3)]
    length = [min(n, max(1, math.ceil(f_k * n - 1e-9))) for f_k, n in zip(f, size, strict=True)]
    start = [int(rng.integers(0, n - m, endpoint=True)) for n, m in zip(size, length, strict=True)]
    return start, length
