"""Voxel grids: resampling, cropping and padding about the centre, and the masks intensities are judged in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

SAME = 1e-3
"""Relative difference below which two spacings count as equal, so that nothing is interpolated."""


def centred(x_DHW: np.ndarray, ratio: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Bring (D, H, W) to ``shape`` about its centre; ``ratio`` is new over old spacing, per axis.

    An axis whose spacing stays is cropped or padded with 0 by whole voxels. The others are interpolated linearly
    with both grids sharing their centre; where voxels grow, a Gaussian with the width by which the new voxel's point
    spread exceeds the old one's goes first (variance (new^2 - old^2) / (8 ln 2); Cardoso et al., MICCAI 2015).
    Outside the old field of view the result is 0. Returns float32 where something is interpolated, else what it got.
    """
    out = x_DHW
    for axis, (step, size) in enumerate(zip(ratio, shape, strict=True)):
        if abs(step - 1) <= SAME:
            out = _crop_or_pad(out, axis, size)
        else:
            out = _interpolate(np.asarray(out, np.float32), axis, step, size)
    return out


def _crop_or_pad(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Whole voxels off or onto both ends; an odd one goes to the far end."""
    n = x.shape[axis]
    if size <= n:
        start = (n - size) // 2
        return x[(slice(None),) * axis + (slice(start, start + size),)]
    before = (size - n) // 2
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, size - n - before)
    return np.pad(x, widths)


def _interpolate(x: np.ndarray, axis: int, step: float, size: int) -> np.ndarray:
    """Linear interpolation along one axis at positions ``step`` old voxels apart, about the centre."""
    n = x.shape[axis]
    if step > 1:
        sigma = math.sqrt((step**2 - 1) / (8 * math.log(2)))
        x = ndimage.gaussian_filter1d(x, sigma, axis=axis, mode="nearest", output=np.float32)
    position = (n - 1) / 2 + (np.arange(size) - (size - 1) / 2) * step
    inside = (position >= -0.5 - SAME) & (position <= n - 0.5 + SAME)
    place = np.clip(position, 0, n - 1)
    low = np.minimum(np.floor(place).astype(int), max(n - 2, 0))
    high = np.minimum(low + 1, n - 1)
    along = tuple(size if a == axis else 1 for a in range(x.ndim))
    upper = ((place - low) * inside).astype(np.float32).reshape(along)
    lower = ((1 - (place - low)) * inside).astype(np.float32).reshape(along)
    return np.take(x, low, axis) * lower + np.take(x, high, axis) * upper


def nonzero_mask(x_DHW: np.ndarray) -> np.ndarray:
    """Voxels that are not 0, with enclosed holes filled (a ventricle stored as 0 belongs to the brain)."""
    return fill_holes(x_DHW != 0)


def otsu_mask(x_DHW: np.ndarray) -> np.ndarray:
    """Voxels above Otsu's threshold, with enclosed holes filled: the head before the air."""
    return fill_holes(x_DHW > otsu_threshold(x_DHW))


def fill_holes(mask_DHW: np.ndarray) -> np.ndarray:
    """Add background that does not reach the border of the grid (face neighbours)."""
    box = _box(mask_DHW)
    if box is None:
        return mask_DHW
    empty = ~mask_DHW[box]
    label, count = ndimage.label(empty)
    outside = np.zeros(count + 1, bool)
    for axis in range(3):
        for end in (0, -1):
            outside[np.take(label, end, axis)] = True
    outside[0] = False
    out = np.zeros_like(mask_DHW)
    np.logical_not(outside[label], out=out[box])
    return out


def _box(mask_DHW: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box around a mask; what lies around it is all background, and reaches the border of the grid."""
    ends = []
    for axis in range(3):
        found = np.flatnonzero(mask_DHW.any(tuple(a for a in range(3) if a != axis)))
        if not len(found):
            return None
        ends.append(slice(int(found[0]), int(found[-1]) + 1))
    return ends[0], ends[1], ends[2]


def otsu_threshold(x: np.ndarray, bins: int = 256) -> float:
    """The threshold that separates two classes best: largest between-class variance w0 w1 (m0 - m1)^2.

    Otsu 1979, IEEE Transactions on Systems, Man, and Cybernetics 9(1), equation 18, on a histogram of ``bins``.
    """
    count, edges = np.histogram(x, bins=bins)
    centre = (edges[:-1] + edges[1:]) / 2
    below, moment = np.cumsum(count)[:-1], np.cumsum(count * centre)[:-1]
    total, whole = int(count.sum()), float((count * centre).sum())
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (whole - moment) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between))])
