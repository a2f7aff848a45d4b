"""A field of Gaussian noise in which every voxel's number is a function of (seed, place): no state, any part alone.

Two neighbouring planes of the first axis share one 32-bit word per place, a hash of the seed, the pair of planes and
the place in the plane; its low 16 bits give the radius and all bits the angle of a Box-Muller pair. So a box of the
field costs what the box holds, workers cannot differ, and a GPU draws the same words (equal to rounding of the
last bit of sine and logarithm). The tails end at 4.9 standard deviations, which one normal number in a million passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LOW, _LONG = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_C1, _C2 = 0x85EBCA6B, 0xC2B2AE35  # odd multipliers of MurmurHash3's finaliser (public domain)
_CHUNK = 1 << 15  # words that are worked on at a time, so that they stay in the cache of a core
_DEVICE_CHUNK = 1 << 24


def add_field_(y: Tensor, seed: int, sd: float, start: Sequence[int], shape: Sequence[int], foreground: bool) -> None:
    """Add ``sd`` times the field to y (C, d, h, w), the part from ``start`` of a volume of ``shape`` (C, D, H, W).

    foreground: only where y != 0. y is float32 and contiguous.
    """
    if y.device.type == "cpu":
        _add_on_cpu(y.numpy(), seed, sd, start, shape, foreground)
    else:
        field = batch_field([seed], [sd], shape, y.device)[0]
        d, h, w = (slice(a, a + n) for a, n in zip(start, y.shape[1:], strict=True))
        part = field[:, d, h, w]
        y.add_(part * (y != 0) if foreground else part)


def batch_field(seeds: Sequence[int], sds: Sequence[float], shape: Sequence[int], device: torch.device) -> Tensor:
    """The fields (B, C, D, H, W) of B seeds times their standard deviations, computed on ``device``."""
    c, d, h, w = shape
    pairs = (d + 1) // 2
    out = torch.empty(len(seeds), c, 2 * pairs, h * w, device=device)
    place = torch.arange(h * w, dtype=torch.int64, device=device)
    step = max(1, _DEVICE_CHUNK // (c * pairs * h * w))
    for at in range(0, len(seeds), step):
        some = list(seeds[at : at + step])
        words = torch.tensor([_seed_words(s)[0] for s in some], dtype=torch.int64, device=device)
        keys = np.stack([_plane_keys(s, np.arange(c * pairs, dtype=np.uint32)) for s in some]).astype(np.int64)
        a = _hash_long(place[None] ^ words[:, None])
        word = _mix_long(a[:, None] ^ torch.from_numpy(keys).to(device)[:, :, None])
        scale = torch.tensor([-2.0 * sd * sd for sd in sds[at : at + step]], device=device)[:, None, None]
        radius = (((word & 0xFFFF).float() + 0.5) * 2.0**-16).log_().mul_(scale).sqrt_()
        angle = ((word ^ 0x80000000) - 0x80000000).float().mul_(math.pi * 2.0**-31)
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), 2)  # (b, C pairs, 2, HW)
        out[at : at + step] = both.reshape(-1, c, 2 * pairs, h * w)
    return out[:, :, :d].reshape(len(seeds), c, d, h, w)


def _add_on_cpu(
    y: np.ndarray, seed: int, sd: float, start: Sequence[int], shape: Sequence[int], foreground: bool
) -> None:
    d, h, w = y.shape[1:]
    if not y.size:
        return
    rows = np.arange(start[1], start[1] + h, dtype=np.uint32)[:, None] * np.uint32(shape[3])
    place = (rows + np.arange(start[2], start[2] + w, dtype=np.uint32)).reshape(-1)
    a = _mix(_mix(place ^ np.uint32(_seed_words(seed)[0])))
    first, last = start[0] // 2, (start[0] + d - 1) // 2 + 1
    pairs = (shape[1] + 1) // 2
    at_once = max(1, _CHUNK // place.size)
    for c, y_c in enumerate(y.reshape(len(y), d, h * w)):
        keys = _plane_keys(seed, np.arange(c * pairs + first, c * pairs + last, dtype=np.uint32))
        for k in range(0, len(keys), at_once):
            radius, angle = _polar(a ^ keys[k : k + at_once, None], sd)
            plane = 2 * (first + k) - start[0]  # of the first member of the first pair; -1 where the part starts odd
            _add(y_c, plane, radius * np.cos(angle), foreground)
            _add(y_c, plane + 1, np.multiply(radius, np.sin(angle, out=angle), out=radius), foreground)


def _add(y: np.ndarray, plane: int, z: np.ndarray, foreground: bool) -> None:
    """Add the rows of z to every second plane of y (d, HW) from ``plane`` on, as far as y reaches."""
    if plane < 0:
        plane, z = plane + 2, z[1:]
    part = y[plane::2][: len(z)]
    z = z[: len(part)]
    part += z * (part != 0) if foreground else z


def _polar(x: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Radius and angle, float32, of hashed words x (changed)."""
    x = _mix(x)
    angle = x.view(np.int32).astype(np.float32)
    angle *= np.float32(math.pi * 2.0**-31)
    x &= np.uint32(0xFFFF)
    radius = x.view(np.int32).astype(np.float32)
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-16)
    np.log(radius, out=radius)
    radius *= np.float32(-2.0 * sd * sd)
    return np.sqrt(radius, out=radius), angle


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 32-bit words in place: two odd multiplications, each followed by a shift."""
    x *= np.uint32(_C1)
    x ^= x >> np.uint32(15)
    x *= np.uint32(_C2)
    x ^= x >> np.uint32(16)
    return x


def _mix_long(x: Tensor) -> Tensor:
    """``_mix`` on int64 tensors that hold 32-bit words."""
    x = (x * _C1) & _LOW
    x = x ^ (x >> 15)
    x = (x * _C2) & _LOW
    return x ^ (x >> 16)


def _hash_long(x: Tensor) -> Tensor:
    return _mix_long(_mix_long(x))


def _seed_words(seed: int) -> tuple[int, int]:
    """Two 32-bit words that depend on all 64 bits of the seed (one round of SplitMix64)."""
    z = (seed + 0x9E3779B97F4A7C15) & _LONG
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _LONG
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _LONG
    z ^= z >> 31
    return z & _LOW, z >> 32


def _plane_keys(seed: int, pairs: np.ndarray) -> np.ndarray:
    """One 32-bit key per pair of planes (uint32 numbers, changed)."""
    pairs ^= np.uint32(_seed_words(seed)[1])
    return _mix(_mix(pairs))
