"""Separable linear transforms as one: their taps along each axis compose, and a volume takes three matrix products.

Flip, resized crop, blur, low resolution and the affine without rotation are, along every axis, a sparse matrix: output
voxel i is a weighted sum of a few input voxels (its taps). Taps of taps are taps again, so a run of such transforms
costs three products, whatever its length, and only the rows that are asked for. Borders are those of the transforms
themselves: blur, crop and affine continue the outermost voxel, which is a repeated index here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.transforms.base import Params, Transform, buffer, one_thread
from medssl.transforms.blur import half_kernel

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Start and end (exclusive) along the three spatial axes."""

_ROWS = 16  # output rows of one float32 product: few, since the input that they reach is narrow
_ROWS_BF16 = 64
_SMALL = 32  # axes shorter than this are one product


@dataclass(frozen=True)
class Taps:
    """A linear map of one axis: row i is the sum over t of w[i, t] * input[at[i, t]]; w None: a permutation."""

    at: np.ndarray  # (n, T) integers
    w: np.ndarray | None  # (n, T) float64
    n: int  # input length

    def after(self, inner: Taps) -> Taps:
        """This map of the result of ``inner``."""
        rows = len(self.at)
        at = inner.at[self.at].reshape(rows, -1)
        if self.w is None and inner.w is None:
            return Taps(at, None, inner.n)
        outer_w = np.ones(self.at.shape) if self.w is None else self.w
        inner_w = np.ones(inner.at.shape) if inner.w is None else inner.w
        return Taps(at, (outer_w[:, :, None] * inner_w[self.at]).reshape(rows, -1), inner.n)

    def reach(self, rows: tuple[int, int]) -> tuple[int, int]:
        """The range of input voxels that these output rows touch."""
        at = self.at[rows[0] : rows[1]]
        return int(at.min()), int(at.max()) + 1

    def matrix(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """The rows as a dense float32 matrix over a range of input voxels that holds all they touch."""
        at = self.at[rows[0] : rows[1]] - columns[0]
        m, k = len(at), columns[1] - columns[0]
        w = None if self.w is None else self.w[rows[0] : rows[1]].ravel()
        flat = (at + np.arange(m)[:, None] * k).ravel()
        return np.bincount(flat, w, m * k).reshape(m, k).astype(np.float32)


Map = tuple[Taps, Taps, Taps]


def separable(transform: Transform, params: Params, size: tuple[int, int, int]) -> Map | None:
    """The taps of a drawn transform along the three axes of a grid; None where it is no separable linear map.

    >>> from medssl.transforms import Flip
    >>> separable(Flip(), {"axis": 0}, (3, 2, 2))[0].at.ravel().tolist()
    [2, 1, 0]
    """
    make = _MAPS.get(transform.name)
    found: Map | None = None if make is None else make(transform, params, size)
    return found


def compose(outer: Map, inner: Map) -> Map:
    """The map that does ``inner``, then ``outer``."""
    d, h, w = (o.after(i) for o, i in zip(outer, inner, strict=True))
    return d, h, w


def identity(size: tuple[int, int, int]) -> Map:
    """The map that changes nothing."""
    d, h, w = (_same(n) for n in size)
    return d, h, w


def is_permutation(taps: Map) -> bool:
    """Whether voxels only change place (mirrored axes, or none)."""
    return all(t.w is None for t in taps)


def _flip(transform: Any, params: Params, size: tuple[int, int, int]) -> Map:
    d, h, w = (_same(n) if axis != params["axis"] else _mirror(n) for axis, n in enumerate(size))
    return d, h, w


def _blur(transform: Any, params: Params, size: tuple[int, int, int]) -> Map | None:
    if transform.foreground:
        return None
    kernel = np.array(half_kernel(params["sigma"]))
    weights = np.concatenate((kernel[:0:-1], kernel))
    d, h, w = (_window(n, weights) for n in size)
    return d, h, w


def _crop(transform: Any, params: Params, size: tuple[int, int, int]) -> Map:
    d, h, w = (_resize(n, a, m) for n, a, m in zip(size, params["start"], params["size"], strict=True))
    return d, h, w


def _affine(transform: Any, params: Params, size: tuple[int, int, int]) -> Map | None:
    if any(params["rotate"]):
        return None
    d, h, w = (
        _linear((np.arange(n) - (n - 1) / 2) / params["scale"] + shift + (n - 1) / 2, n)
        for n, shift in zip(size, params["translate"], strict=True)
    )
    return d, h, w


def _lowres(transform: Any, params: Params, size: tuple[int, int, int]) -> Map:
    d, h, w = (
        _same(n) if m == n else _enlarge(n, m).after(_means(n, m)) for n, m in zip(size, params["size"], strict=True)
    )
    return d, h, w


_MAPS = {"flip": _flip, "blur": _blur, "crop": _crop, "affine": _affine, "lowres": _lowres}


@lru_cache(maxsize=64)
def _same(n: int) -> Taps:
    return Taps(np.arange(n)[:, None], None, n)


@lru_cache(maxsize=64)
def _mirror(n: int) -> Taps:
    return Taps(np.arange(n)[::-1, None], None, n)


def _window(n: int, weights: np.ndarray) -> Taps:
    at = _neighbours(n, len(weights) // 2)
    return Taps(at, np.broadcast_to(weights, at.shape), n)


@lru_cache(maxsize=64)
def _neighbours(n: int, half: int) -> np.ndarray:
    return np.minimum(np.maximum(np.arange(n)[:, None] + np.arange(-half, half + 1), 0), n - 1)


def _resize(n: int, start: int, m: int) -> Taps:
    """m voxels from ``start`` on n voxels: linear between centres, as torch with align_corners False."""
    if m == n:
        return _same(n)
    inside = _enlarge(n, m)
    return Taps(inside.at + start, inside.w, n)


@lru_cache(maxsize=256)
def _enlarge(n: int, m: int) -> Taps:
    half = np.float32(0.5)  # torch's numbers: a share of exactly 0 decides what is background afterwards
    return _linear((np.arange(n, dtype=np.float32) + half) * (np.float32(m) / np.float32(n)) - half, m)


def _linear(place: np.ndarray, n: int) -> Taps:
    """Linear interpolation of n voxels at fractional indices; beyond them the outermost voxel goes on."""
    place = np.minimum(np.maximum(place, 0), n - 1)
    low = place.astype(np.int64)
    share = (place - low.astype(place.dtype)).astype(np.float64)
    at = np.array((low, np.minimum(low + 1, n - 1))).T
    return Taps(at, np.array((1 - share, share)).T, n)


def _means(n: int, m: int) -> Taps:
    """m means over windows of n voxels, as torch's adaptive average."""
    first, last = np.arange(m) * n // m, -((-(np.arange(m) + 1) * n) // m)
    at = first[:, None] + np.arange(int((last - first).max()))
    inside = at < last[:, None]
    return Taps(np.minimum(at, n - 1), inside / (last - first)[:, None], n)


def reach(taps: Map, box: Box) -> Box:
    """The box of input voxels that a box of output voxels touches."""
    d, h, w = (t.reach(rows) for t, rows in zip(taps, box, strict=True))
    return d, h, w


def apply_taps(
    part: Tensor, taps: Map, inside: Box, box: Box, dtype: torch.dtype = torch.float32, out: Tensor | None = None
) -> Tensor:
    """The output voxels in ``box`` as a contiguous float32 tensor (C, d, h, w); part holds the input voxels ``inside``.

    out: where to write; the memory of ``part`` itself will do, as everything in between stands in buffers that a
    thread keeps (two of the size of a channel: fresh pages cost more than the products). dtype bfloat16: products of
    rounded numbers (largest error about 1 % of the range, standard deviation 0.1 %).
    """
    size = [b - a for a, b in box]
    if is_permutation(taps):
        return _permuted(part, taps, inside, box)
    if out is None or list(out.shape[1:]) != size:
        out = torch.empty(len(part), *size, device=part.device)
    maps = [_Rows(t, rows, columns, dtype, part.device) for t, rows, columns in zip(taps, box, inside, strict=True)]
    for x_c, y_c in zip(part, out, strict=True):
        plain = x_c.is_contiguous() and x_c.dtype == dtype
        x = x_c if plain else buffer(1, x_c.shape, dtype, x_c.device).copy_(x_c)
        for axis in (2, 1, 0):  # contract the last axis and put its result first: after three, all are in place again
            to = (len(maps[axis].matrix), *x.shape[:2])
            last = axis == 0 and dtype == torch.float32
            with one_thread():
                x = maps[axis].contract(x, y_c if last else buffer(axis % 2, to, dtype, x.device))
        if dtype != torch.float32:
            y_c.copy_(x)
    return out


class _Rows:
    """Some rows of a map as a matrix, in blocks that each know the columns they touch."""

    def __init__(
        self, taps: Taps, rows: tuple[int, int], columns: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.matrix = torch.from_numpy(taps.matrix(rows, columns)).to(device, dtype)
        n = rows[1] - rows[0]
        step = n if n < _SMALL else _ROWS if dtype == torch.float32 else _ROWS_BF16
        starts = list(range(0, n, step))
        ends = [min(i + step, n) for i in starts]
        at = taps.at[[rows[0] + i for i in starts] + [rows[0] + j - 1 for j in ends]] - columns[0]
        low, high = at.min(1).reshape(2, -1).min(0), at.max(1).reshape(2, -1).max(0) + 1
        self.blocks = list(zip(starts, ends, low.tolist(), high.tolist(), strict=True))  # a map rises or falls

    def contract(self, x: Tensor, out: Tensor) -> Tensor:
        """out (M, A, B) = matrix (M, K) times x (A, B, K)."""
        flat_KN, to = x.view(-1, x.shape[2]).t(), out.view(len(self.matrix), -1)
        for i, j, low, high in self.blocks:
            torch.mm(self.matrix[i:j, low:high], flat_KN[low:high], out=to[i:j])
        return out


def _permuted(part: Tensor, taps: Map, inside: Box, box: Box) -> Tensor:
    """The voxels themselves, mirrored or not: bit for bit."""
    ends = [t.at[[a, b - 1], 0] for t, (a, b) in zip(taps, box, strict=True)]
    mirrored = [axis for axis, (first, last) in enumerate(ends, start=1) if first > last]
    return torch.flip(part, mirrored) if mirrored else part.clone(memory_format=torch.contiguous_format)


def batch_matrices(maps: Sequence[Map], device: torch.device) -> list[Tensor]:
    """The maps of B volumes as one stack (B, n, n) of matrices per axis."""
    stacks = []
    for taps in zip(*maps, strict=True):
        each = [t.matrix((0, len(t.at)), (0, t.n)) for t in taps]
        stacks.append(torch.from_numpy(np.stack(each)).to(device))
    return stacks


def batch_products(x: Tensor, matrices: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """x (B, C, D, H, W) with every volume's own matrices (B, n, n) along the three axes, as a new float32 tensor."""
    b, c = x.shape[:2]
    y = x.to(dtype).reshape(b * c, *x.shape[2:])
    for axis in (2, 1, 0):  # contract the last axis and put its result first
        m = matrices[axis].to(dtype).repeat_interleave(c, 0)
        y = torch.bmm(m, y.reshape(b * c, -1, y.shape[3]).transpose(1, 2)).view(b * c, -1, *y.shape[1:3])
    return y.view(b, c, *y.shape[1:]).float()
