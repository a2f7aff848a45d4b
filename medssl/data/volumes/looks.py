"""What a prepared scan looks like, in two dozen numbers: place, size, shape, turn, contrast, sharpness, header.

They are taken from the preprocessed volume, which is at hand wherever an encoder is used, and from the header of the
file. Two scans of the same kind agree in them up to what people and scanners differ by.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.reference import parse
from medssl.data.volumes.resample import otsu_threshold
from medssl.data.volumes.stored_arrays import is_grid
from medssl.data.volumes.volume import read_header
from medssl.errors import VolumeError

KINDS = {
    "stripping": ("filled", "volume"),
    "contrast": ("depth",),
    "turned": ("long_y", "long_z", "lean_xy", "lean_xz", "lean_yz", "mirror", "heavy_x", "heavy_y", "heavy_z"),
    "resolution": ("finest", "coarsest", "sharpness"),
    "field": ("fov_x", "fov_y", "fov_z", "cut", "off_x", "off_y", "off_z"),
    "intensities": ("level", "spread", "skewness", "tails"),
}
"""Kind of difference -> the measures that show it."""
MEASURES = tuple(name for names in KINDS.values() for name in names)
FLOORS = {
    "filled": 0.04, "volume": 0.06, "depth": 0.05,
    "long_y": 0.04, "long_z": 0.04, "lean_xy": 0.04, "lean_xz": 0.04, "lean_yz": 0.05,
    "mirror": 0.03, "heavy_x": 0.05, "heavy_y": 0.06, "heavy_z": 0.06,
    "finest": 0.06, "coarsest": 0.06, "sharpness": 0.06,
    "fov_x": 0.1, "fov_y": 0.1, "fov_z": 0.1, "cut": 0.015, "off_x": 4.0, "off_y": 4.0, "off_z": 4.0,
    "level": 0.1, "spread": 0.1, "skewness": 0.2, "tails": 0.15,
}  # fmt: skip
"""Standard deviation of every measure below which a difference says nothing, whatever the training rows held."""
_WAYS = "RLAPSI"
_MOST = 40_000
"""Voxels that geometry and contrast are judged on; of finer grids every second, third, ... along each axis."""
_SLAB = 28
"""Side [voxels] of the block in the middle that sharpness is judged on, never thinned out."""


def look(x_CDHW: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Measures (C, len(MEASURES)) of a preprocessed scan; those of its header are NaN.

    spacing: (3,) mm of its voxels. A volume without place (D, 1, 1), such as regional measures, is all NaN.
    """
    out = np.full((len(x_CDHW), len(MEASURES)), np.nan)
    if x_CDHW.shape[2:] == (1, 1):
        return out
    for x_DHW, row in zip(x_CDHW, out, strict=True):
        found = _channel(x_DHW, np.asarray(spacing, float))
        for name, value in found.items():
            row[MEASURES.index(name)] = value
    return out


def look_at(x_CDHW: np.ndarray, images: Sequence[Path | str], prep: Preprocessing) -> np.ndarray:
    """Measures of a scan and of the headers of its files, (C, len(MEASURES) + 1); the last is the stored orientation.

    x_CDHW: the scan after preprocessing. The header of a file that cannot be read, or that has no voxels in space,
    gives NaN, and so do its voxels where they have no spacing without it.
    """
    rows = [row for image in images for row in _header(image)]
    if len(rows) != len(x_CDHW):  # a kind of file that tells its channels only when it is read
        rows = [rows[0]] * len(x_CDHW)
    out = np.stack([row for row, _ in rows])
    for k, (_, mm) in enumerate(rows):
        spacing = prep.spacing or mm
        if spacing is not None:
            seen = look(x_CDHW[k : k + 1], spacing)[0]
            out[k, :-1] = np.where(np.isnan(seen), out[k, :-1], seen)
    return out


def orientation_of(code: float) -> str:
    """The stored orientation that the last column of ``look_at`` stands for, such as "LAS".

    >>> orientation_of(_coded("PIR"))
    'PIR'
    """
    number = int(code)
    return "".join(_WAYS[number // base % 6] for base in (36, 6, 1))


def _coded(orientation: str) -> float:
    return float(sum(_WAYS.index(way) * base for way, base in zip(orientation, (36, 6, 1), strict=True)))


def _header(image: Path | str) -> list[tuple[np.ndarray, tuple[float, ...] | None]]:
    """What the header of a file says, and its spacing [mm], once for every channel of it."""
    row = np.full(len(MEASURES) + 1, np.nan)
    try:
        if not is_grid(parse(image)):
            return [(row, None)]
        header = read_header(image)
    except VolumeError:
        return [(row, None)]
    shape, mm = header.ras
    named = {"finest": np.log(min(mm)), "coarsest": np.log(max(mm))}
    named |= {f"fov_{axis}": np.log(n * step) for axis, n, step in zip("xyz", shape, mm, strict=True)}
    for name, value in named.items():
        row[MEASURES.index(name)] = value
    row[-1] = _coded(header.orientation)
    return [(row, mm)] * header.channels


def _channel(x_DHW: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """Measures of one channel."""
    step = max(1, int(np.ceil((x_DHW.size / _MOST) ** (1 / 3))))
    small = np.ascontiguousarray(x_DHW[::step, ::step, ::step], np.float32)
    mm = spacing * step
    faces = _faces(small)
    filled = _is_filled(faces)
    mask = _inside(small, faces) if filled else small != 0
    n = int(mask.sum())
    found = {
        "filled": float(np.count_nonzero(small) / small.size),
        "volume": float(np.log(max(n * float(np.prod(mm)) / 1000, 1e-2))),
        "cut": float(np.concatenate([face.ravel() for face in _faces(mask)]).mean()),
    }
    if n < 64:
        return found
    values = small[mask]
    centre, shaped = _shape(mask, mm)
    found |= shaped
    found |= _intensities(values)
    depth = _depth(mask, max(2, min(6, round(18.0 / float(mm.mean())))))
    # air belongs to it where it was not cut out: it is dark, whatever scalp and skull are
    found["depth"] = _correlation(depth.ravel(), small.ravel()) if filled else _correlation(depth[mask], values)
    found["mirror"] = _mirror(mask.astype(np.float32), centre[0])
    found["sharpness"] = _sharpness(x_DHW, (centre * step).astype(int))
    return found


def _faces(x: np.ndarray) -> list[np.ndarray]:
    """The six faces of the grid."""
    return [x[0], x[-1], x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]]


def _is_filled(faces: list[np.ndarray]) -> bool:
    """Whether most of the border is not 0: a scan with its air, or with a background that became bright."""
    return sum(int(np.count_nonzero(face)) for face in faces) > 0.5 * sum(face.size for face in faces)


def _inside(x: np.ndarray, faces: list[np.ndarray]) -> np.ndarray:
    """What stands out from a background that is not 0."""
    away = np.abs(x - np.median(np.concatenate([face.ravel() for face in faces])))
    top = float(away.max())
    return away > otsu_threshold(away) if top > 0 else np.ones(x.shape, bool)


def _shape(mask: np.ndarray, mm: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Centre (3,) in voxels, and how the mask is placed, stretched, turned and weighted."""
    planes = {(0, 1): mask.sum(2), (0, 2): mask.sum(1), (1, 2): mask.sum(0)}
    lines = [planes[0, 1].sum(1), planes[0, 1].sum(0), planes[0, 2].sum(0)]
    n = float(lines[0].sum())
    places = [np.arange(len(line)) for line in lines]
    centre = np.array([float((line * at).sum()) / n for line, at in zip(lines, places, strict=True)])
    away = [(at - c) * step for at, c, step in zip(places, centre, mm, strict=True)]
    sd = np.array([max(np.sqrt(float((line * a**2).sum()) / n), 1e-3) for line, a in zip(lines, away, strict=True)])
    found = {"long_y": float(np.log(sd[1] / sd[0])), "long_z": float(np.log(sd[2] / sd[0]))}
    for k, name in enumerate("xyz"):
        found[f"heavy_{name}"] = float((lines[k] * away[k] ** 3).sum() / n / sd[k] ** 3)
        found[f"off_{name}"] = float((centre[k] - (mask.shape[k] - 1) / 2) * mm[k])
    for (a, b), plane in planes.items():
        found[f"lean_{'xyz'[a]}{'xyz'[b]}"] = float(away[a] @ plane @ away[b] / n / sd[a] / sd[b])
    return centre, found


def _intensities(values: np.ndarray) -> dict[str, float]:
    """Level, spread and form of the intensities in the mask."""
    n = len(values)
    ordered = np.partition(values, [n // 20, n // 2, n - 1 - n // 20])
    low, middle, high = (float(ordered[k]) for k in (n // 20, n // 2, n - 1 - n // 20))
    mean, sd = float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-12)
    z = (values - np.float32(mean)) / np.float32(sd)
    square = z * z
    return {
        "level": middle,
        "spread": float(np.log(max(high - low, 1e-9))),
        "skewness": float(np.dot(square, z)) / n,
        "tails": float(np.log(max(float(np.dot(square, square)) / n, 1e-9))),
    }


def _depth(mask: np.ndarray, layers: int) -> np.ndarray:
    """How many layers of face neighbours lie between a voxel and the rim, at most ``layers``."""
    depth = mask.astype(np.int8)
    inner = mask
    for _ in range(layers):
        inner = np.pad(inner, 1)
        core = inner[1:-1, 1:-1, 1:-1]
        core = core & inner[2:, 1:-1, 1:-1] & inner[:-2, 1:-1, 1:-1] & inner[1:-1, 2:, 1:-1]
        inner = core & inner[1:-1, :-2, 1:-1] & inner[1:-1, 1:-1, 2:] & inner[1:-1, 1:-1, :-2]
        depth += inner
    return depth


def _mirror(x: np.ndarray, centre: float) -> float:
    """Correlation of a mask with its mirror image, left for right, about its middle."""
    last = x.shape[0] - 1
    middle = round(2 * centre)  # of the sum of mirrored indices
    low, high = max(0, middle - last), min(last, middle)
    part = x[low : high + 1]
    return _correlation(part.ravel(), part[::-1].ravel())


def _sharpness(x: np.ndarray, centre: np.ndarray) -> float:
    """log of the mean square difference of neighbours over that of next neighbours, in a block about the centre."""
    starts = [min(max(0, int(c) - _SLAB // 2), max(0, n - _SLAB)) for c, n in zip(centre, x.shape, strict=True)]
    block = np.ascontiguousarray(x[tuple(slice(s, s + _SLAB) for s in starts)], np.float32)
    near = far = 1e-12
    for axis in range(3):
        if block.shape[axis] > 2:
            ahead = np.diff(block, axis=axis)
            n = ahead.shape[axis]
            over = np.take(ahead, range(1, n), axis) + np.take(ahead, range(n - 1), axis)
            near += float(np.vdot(ahead, ahead)) / ahead.size
            far += float(np.vdot(over, over)) / over.size
    return float(np.log(near / far))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r; 0 where one of them is constant."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / norm if norm > 0 else 0.0
