"""The views of a whole batch at once, on the device where the batch is: every volume with its own drawn parameters.

The same numbers as one volume after another, up to rounding: parameters were drawn as JSON, noise is a function of its
seed and place, and separable transforms are three batched products. A transform without a batched form here is
applied to one volume after another, on the device as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.affine import Affine, sampling_grid
from medssl.transforms.base import Params, Transform, full_precision
from medssl.transforms.bias import BiasField, log_fields
from medssl.transforms.contrast import Gamma
from medssl.transforms.cutout import Cutout
from medssl.transforms.field import batch_field
from medssl.transforms.fused import Map, batch_matrices, batch_products, compose, identity, is_permutation, separable
from medssl.transforms.noise import Noise
from medssl.transforms.zscore import EPS, ZScore

Entries = Sequence[Params | None]
"""The parameters of one slot for every volume of the batch; None where its coin said no."""


def apply_batch(
    x: Tensor, slots: Sequence[Transform], drawn: Sequence[Entries], dtype: torch.dtype = torch.float32
) -> Tensor:
    """A new float32 tensor: x (B, C, D, H, W), every volume through the slots that were drawn for it, in order.

    drawn: one entry list per slot. dtype: of the separable products. Autocast and coarse products stay outside.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False), full_precision():
        y = x.detach().float().clone(memory_format=torch.contiguous_format)
        size = (int(x.shape[2]), int(x.shape[3]), int(x.shape[4]))
        waiting: list[Map] | None = None
        for slot, entries in zip(slots, drawn, strict=True):
            maps = [None if e is None else separable(slot, e, size) for e in entries]
            linear = all(e is None or m is not None for e, m in zip(entries, maps, strict=True))
            if linear and any(e is not None for e in entries):
                before = waiting or [identity(size)] * len(maps)
                waiting = [w if m is None else compose(m, w) for m, w in zip(maps, before, strict=True)]
            elif not linear:
                y, waiting = _products(y, waiting, dtype), None
                y = _apply_slot(y, slot, entries)
        return _products(y, waiting, dtype)


def _products(y: Tensor, maps: list[Map] | None, dtype: torch.dtype) -> Tensor:
    """Volumes that are mirrored at most keep their bits; the rest take the products."""
    if maps is None:
        return y
    kept = [is_permutation(m) for m in maps]
    for b, taps in enumerate(maps):
        if kept[b]:
            mirrored = [k + 1 for k, t in enumerate(taps) if t.at[0, 0] != 0]
            y[b] = torch.flip(y[b], mirrored) if mirrored else y[b]
    rest = [b for b, keep in enumerate(kept) if not keep]
    if rest:
        y[rest] = batch_products(y[rest], batch_matrices([maps[b] for b in rest], y.device), dtype)
    return y


def _apply_slot(y: Tensor, slot: Transform, entries: Entries) -> Tensor:
    """One slot on the volumes that it was drawn for."""
    rows = [b for b, e in enumerate(entries) if e is not None]
    params = [e for e in entries if e is not None]
    if not rows:
        return y
    batched = _BATCHED.get(type(slot))
    if batched is None:
        y[rows] = torch.stack([slot.apply(y[b], p) for b, p in zip(rows, params, strict=True)])
    else:
        y[rows] = batched(slot, y[rows], params)
    return y


def _column(params: Sequence[Params], key: str, like: Tensor) -> Tensor:
    """One number per volume as (B, 1, 1, 1, 1)."""
    return torch.tensor([p[key] for p in params], dtype=torch.float32, device=like.device).view(-1, 1, 1, 1, 1)


def _noise(slot: Noise, y: Tensor, params: Sequence[Params]) -> Tensor:
    field = batch_field([p["seed"] for p in params], [p["sd"] for p in params], y.shape[1:], y.device)
    return y + (field * (y != 0) if slot.foreground else field)


def _cutout(slot: Cutout, y: Tensor, params: Sequence[Params]) -> Tensor:
    for y_b, p in zip(y, params, strict=True):
        slot.change_(y_b, p, (0, 0, 0), y_b.shape)
    return y


def _zscore(slot: ZScore, y: Tensor, params: Sequence[Params]) -> Tensor:
    axes = (2, 3, 4) if slot.per_channel else (1, 2, 3, 4)
    inside = (y != 0) if slot.foreground else torch.ones_like(y, dtype=torch.bool)
    n = inside.sum(axes, keepdim=True).clamp(min=1)
    y = (y - (y.sum(axes, keepdim=True, dtype=torch.float64) / n).float()) * inside
    sd = (y.double().square().sum(axes, keepdim=True) / n).sqrt().float()
    return y / (sd + EPS)


def _range(y: Tensor, foreground: bool) -> tuple[Tensor, Tensor]:
    """Smallest and largest value per channel (B, C, 1, 1, 1), of voxels != 0 where asked; (0, 0) where none is."""
    outside = (y == 0) if foreground else torch.zeros_like(y, dtype=torch.bool)
    low = y.masked_fill(outside, torch.inf).amin((2, 3, 4), keepdim=True)
    high = y.masked_fill(outside, -torch.inf).amax((2, 3, 4), keepdim=True)
    some = low <= high
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def _gamma(slot: Gamma, y: Tensor, params: Sequence[Params]) -> Tensor:
    low, high = _range(y, slot.foreground)
    span = high - low
    unit = ((y - low) / torch.where(span > 0, span, 1.0)).clamp(0.0, 1.0)
    changed = unit.pow(_column(params, "gamma", y)) * span + low
    changed = changed * (y != 0) if slot.foreground else changed
    return torch.where(span > 0, changed, y)


def _bias(slot: BiasField, y: Tensor, params: Sequence[Params]) -> Tensor:
    gain = log_fields(y.shape[2:], slot.degree, [p["coefficients"] for p in params], y.device).exp_()[:, None]
    if not slot.foreground:
        return y * gain
    low = _range(y, True)[0].clamp(max=0.0)
    return ((y - low) * gain + low) * (y != 0)


def _affine(slot: Affine, y: Tensor, params: Sequence[Params]) -> Tensor:
    grid = torch.cat([sampling_grid(p, (y.shape[2], y.shape[3], y.shape[4]), y.device) for p in params])
    return F.grid_sample(y, grid, mode="bilinear", padding_mode="border", align_corners=False)


_BATCHED: Mapping[type[Any], Callable[[Any, Tensor, Sequence[Params]], Tensor]] = {
    Affine: _affine,
    BiasField: _bias,
    Cutout: _cutout,
    Gamma: _gamma,
    Noise: _noise,
    ZScore: _zscore,
}
