"""A view as one plan: drawn transforms in order, with the separable ones fused and no voxel computed in vain.

The plan is read from its end: a crop asks for its box only, so noise and cutout before it are made in that box, and a
blur in the box and its reach. What needs the whole volume (a z-score, the range of a gamma) gets it. Nothing changes
place, so the result is that of one transform after another, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from medssl.transforms.base import Params, Transform, spatial, volume
from medssl.transforms.fused import Box, Map, apply_taps, compose, reach, separable


class Pointwise(Protocol):
    """A transform (known by this method) whose result at a voxel needs that voxel and its place only."""

    def change_(self, part: Tensor, params: Params, start: Sequence[int], shape: Sequence[int]) -> None:
        """Apply it in place to a contiguous float32 part, which begins at ``start`` of a volume of ``shape``."""
        ...


class InPlace(Protocol):
    """A transform (known by this method) that needs the whole volume, and can work in its memory."""

    def apply_(self, y: Tensor, params: Params) -> Tensor:
        """``apply`` on a contiguous float32 volume, which becomes the result."""
        ...


@dataclass
class _Linear:
    taps: Map
    parts: list[tuple[Transform, Params]]

    def needs(self, box: Box, whole: Box) -> Box:
        return reach(self.taps, box)

    def run(self, x: Tensor, inside: Box, box: Box, whole: Box, dtype: torch.dtype, out: Tensor | None) -> Tensor:
        """The box of the result, from the part ``inside`` of the input."""
        if any(t.name not in ("flip", "blur") for t, _ in self.parts):
            return apply_taps(x, self.taps, inside, box, dtype, out)
        at = list(inside)  # flip and blur alone: a few shifted additions are less than dense products
        for transform, params in self.parts:
            x = transform.apply(x, params)
            if transform.name == "flip" and params["axis"] is not None:
                (a, b), (_, n) = at[params["axis"]], whole[params["axis"]]
                at[params["axis"]] = (n - b, n - a)
        d, h, w = (slice(a - low, b - low) for (a, b), (low, _) in zip(box, at, strict=True))
        return x[:, d, h, w]


@dataclass
class _Local:
    transform: Any
    params: Params

    def needs(self, box: Box, whole: Box) -> Box:
        return box


@dataclass
class _Whole:
    transform: Any
    params: Params

    def needs(self, box: Box, whole: Box) -> Box:
        return whole


def apply_chain(x: Tensor, steps: Sequence[tuple[Transform, Params]], dtype: torch.dtype = torch.float32) -> Tensor:
    """A new float32 tensor: x (C, D, H, W) through the drawn transforms in order; x is left untouched.

    dtype: of the matrix products; bfloat16 is faster where the processor has it, and coarser.
    """
    x = volume(x)
    size = spatial(x.shape)
    whole: Box = ((0, size[0]), (0, size[1]), (0, size[2]))
    plan = _plan(steps, size)
    boxes = [whole]
    for step in reversed(plan):
        boxes.insert(0, step.needs(boxes[0], whole))
    y, owned = _part(x, boxes[0], whole), False
    for step, inside, box in zip(plan, boxes[:-1], boxes[1:], strict=True):
        if isinstance(step, _Linear):
            y = step.run(y, inside, box, whole, dtype, y if owned and y.is_contiguous() else None)
        elif isinstance(step, _Local) or hasattr(step.transform, "apply_"):
            y = y if owned and y.is_contiguous() else y.clone(memory_format=torch.contiguous_format)
            if isinstance(step, _Local):
                step.transform.change_(y, step.params, [a for a, _ in box], x.shape)
            else:
                y = _part(step.transform.apply_(y, step.params), box, whole)
        else:
            y = _part(step.transform.apply(y, step.params), box, whole)
        owned = True
    return y.contiguous() if owned else y.clone(memory_format=torch.contiguous_format)


def _plan(steps: Sequence[tuple[Transform, Params]], size: tuple[int, int, int]) -> list[_Linear | _Local | _Whole]:
    plan: list[_Linear | _Local | _Whole] = []
    for transform, params in steps:
        taps = separable(transform, params, size)
        if taps is None:
            plan.append((_Local if hasattr(transform, "change_") else _Whole)(transform, params))
        elif plan and isinstance(plan[-1], _Linear):
            plan[-1].taps = compose(taps, plan[-1].taps)
            plan[-1].parts.append((transform, params))
        else:
            plan.append(_Linear(taps, [(transform, params)]))
    return plan


def _part(x: Tensor, box: Box, whole: Box) -> Tensor:
    if box == whole:
        return x
    (a, b), (c, d), (e, f) = box
    return x[:, a:b, c:d, e:f]
