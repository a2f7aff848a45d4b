"""The brain that all synthetic heads are grown from: ICBM 152 tissue maps and the smooth fields that age them.

Source: ICBM 152 2009a nonlinear symmetric T1, GM and WM maps (Fonov et al. 2011), shipped inside nilearn.
Coordinates are millimetres in RAS around the centre of the brain. Warps are pull-backs: for each point of the
person, where in the template to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating]

FIELD_OF_VIEW_MM = (160.0, 192.0, 160.0)
CENTRE_MNI_MM = (0.0, -17.0, 8.0)
LATTICE_MM = 4.0
VENTRICLE_STEPS_MM = np.arange(-3.0, 12.01, 1.0)

REGIONS: dict[str, tuple[tuple[tuple[float, float, float], ...], float, float, float]] = {
    # name: centres on the right side in MNI mm; grey matter loss relative to the mean: in adults, after 62, before 20
    "frontal": (((28, 38, 18), (30, 6, 50), (8, 45, 25)), 1.30, 0.9, 1.2),
    "temporal": (((54, -22, -14), (36, 6, -28)), 1.10, 1.5, 0.8),
    "parietal": (((36, -50, 44), (8, -55, 45)), 1.10, 1.0, 1.3),
    "occipital": (((16, -88, 4), (30, -76, 8)), 0.55, 0.6, 1.2),
    "insula": (((36, 4, 2),), 1.20, 1.2, 0.8),
    "limbic": (((24, -20, -14), (8, 10, 36)), 0.70, 1.9, 0.5),
    "cerebellum": (((24, -62, -36),), 0.55, 0.7, 0.4),
}


@dataclass(frozen=True)
class Template:
    """Maps on a fine grid and smooth fields on a 4 mm lattice, both centred on the brain."""

    fine_mm: float
    maps_XYZC: Floats
    """mask, grey, white, ventricle, rim (where grey matter is lost first), texture, periventricular."""
    lattice_ventricle_SXYZ3: Floats
    lattice_regions_XYZR: Floats
    ventricle_log_ratio_S: Floats


@lru_cache(maxsize=2)
def load_template(fine_mm: float) -> Template:
    """The template on a grid of `fine_mm` (1 to 2 mm), read from nilearn's own files; kept in memory."""
    from nilearn import datasets

    t1 = datasets.load_mni152_template(resolution=1)
    volumes = [
        image.get_fdata(dtype=np.float32)
        for image in (
            t1,
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
        )
    ]
    origin = np.asarray(t1.affine[:3, 3]) - np.asarray(CENTRE_MNI_MM)
    box = ndimage.find_objects((volumes[0] > 0).astype(np.int8))[0]
    box = tuple(slice(max(side.start - 5, 0), side.stop + 5) for side in box)
    origin += [side.start for side in box]
    cropped = [volume[box] for volume in volumes]
    maps_1mm = _maps(cropped[0], cropped[1], cropped[2], origin)
    half = [float(np.ceil((extent / 2 + 6.0) / fine_mm) * fine_mm) for extent in FIELD_OF_VIEW_MM]
    axes = [np.arange(-h, h + fine_mm / 2, fine_mm) - o for h, o in zip(half, origin, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    smooth = 0.4 * fine_mm if fine_mm > 1.0 else 0.0
    fine = [
        ndimage.map_coordinates(ndimage.gaussian_filter(m, smooth, truncate=3) if smooth else m, grid, order=1)
        for m in maps_1mm
    ]
    around = ndimage.gaussian_filter(fine[3], 4.0 / fine_mm, truncate=3)
    maps_XYZC = np.stack([*fine, around / float(around.max())], axis=-1).astype(np.float32)
    steps, ratios = _ventricle_flow(maps_XYZC[..., 3], fine_mm)
    return Template(fine_mm, maps_XYZC, steps, _regions(), ratios)


def _maps(t1: Floats, grey: Floats, white: Floats, origin: Floats) -> list[Floats]:
    """The first six maps of `Template.maps_XYZC` at 1 mm; tissues are sharpened, since the template is an average."""
    mask = ndimage.binary_fill_holes(t1 > 0).astype(np.float32)
    csf = np.clip(mask - grey - white, 0.0, 1.0)
    powers = [p * np.sqrt(p) for p in (grey * mask, white * mask, csf)]
    total = np.maximum(sum(powers), 1e-6)
    grey, white, csf = (mask * p / total for p in powers)
    inside = mask > 0
    design = np.stack([p[inside] for p in (grey, white, csf)], axis=1).astype(np.float64)
    fit = np.linalg.solve(design.T @ design, design.T @ t1[inside].astype(np.float64))
    texture = np.zeros_like(t1)
    texture[inside] = np.clip((t1[inside] - design @ fit) / fit[1], -0.15, 0.15)
    ventricle = _find_ventricles(csf, origin) * csf
    rim = ndimage.gaussian_filter(csf - ventricle + (1.0 - mask), 1.6) * mask
    rim /= float((rim * grey).sum() / grey.sum())
    return [mask, grey, white, ventricle, rim, texture]


def _find_ventricles(csf: Floats, origin: Floats) -> Floats:
    """The central CSF component (lateral ventricles), with the third ventricle and two voxels around."""
    x, y, z = np.meshgrid(
        *[np.arange(n) + o + c for n, o, c in zip(csf.shape, origin, CENTRE_MNI_MM, strict=True)],
        indexing="ij",
        sparse=True,
    )
    fluid = csf > 0.5
    central = (abs(x) < 45) & (y > -56) & (y < 36) & (z > -5) & (z < 34)
    labels, _ = ndimage.label(fluid & central)
    body = labels[(abs(x) < 20) & (abs(x) > 4) & (y > -20) & (y < 15) & (z > 8) & (z < 26)]
    lateral = labels == np.bincount(body[body > 0]).argmax()
    third = (csf > 0.3) & (abs(x) < 5) & (y > -28) & (y < 6) & (z > -14) & (z < 9)
    found = lateral | third
    box = tuple(slice(side.start - 3, side.stop + 3) for side in ndimage.find_objects(found.astype(np.int8))[0])
    found[box] = ndimage.binary_dilation(found[box], iterations=2)
    return found.astype(np.float32)


def lattice_axes() -> list[Floats]:
    """Lattice positions (mm) per axis: the field of view and one step around it."""
    return [(np.arange(int(e / LATTICE_MM) + 3) - (int(e / LATTICE_MM) + 2) / 2) * LATTICE_MM for e in FIELD_OF_VIEW_MM]


def lattice_points() -> Floats:
    """All lattice positions (P, 3) in mm."""
    return np.stack([g.ravel() for g in np.meshgrid(*lattice_axes(), indexing="ij")], axis=1).astype(np.float32)


def _ventricle_flow(ventricle_XYZ: Floats, fine_mm: float) -> tuple[Floats, Floats]:
    """Pull-back displacements that widen the ventricles by each of VENTRICLE_STEPS_MM, and the log volume ratios.

    The velocity is minus the gradient of the smoothed ventricle map, evened out to about 1 near the walls and fading
    away from them; it is followed in small steps, so the map stays one to one.
    """
    potential = ndimage.gaussian_filter(ventricle_XYZ, 4.5 / fine_mm)
    velocity = np.stack(np.gradient(-potential), axis=-1)
    speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
    velocity *= 1.3 / (speed + 0.3 * speed.max())
    velocity = np.ascontiguousarray(velocity, dtype=np.float32)
    start = lattice_points()
    shape = tuple(len(a) for a in lattice_axes())
    ventricle = np.ascontiguousarray(ventricle_XYZ[..., None], dtype=np.float32)
    flows: dict[float, Floats] = {0.0: start}
    for sign in (1.0, -1.0):
        points = start
        for step in sorted(abs(s) for s in VENTRICLE_STEPS_MM if s * sign > 0):
            for _ in range(2):
                points = points - 0.5 * sign * sample(velocity, points, fine_mm)
            flows[sign * step] = points
    ordered = [flows[float(s)] for s in VENTRICLE_STEPS_MM]
    shifts = np.stack([(p - start).reshape(*shape, 3) for p in ordered]).astype(np.float32)
    volumes = [_dense_volume(ventricle, shift, fine_mm) for shift in shifts]
    at_rest = volumes[int(np.argmin(abs(VENTRICLE_STEPS_MM)))]
    return shifts, np.maximum.accumulate(np.log(np.asarray(volumes) / at_rest))


def _dense_volume(ventricle_XYZ1: Floats, shift_XYZ3: Floats, fine_mm: float) -> float:
    """Sum of the ventricle map after a pull-back given on the lattice, evaluated every 2 mm around the ventricles."""
    axes = [np.arange(-50.0, 50.1, 2.0), np.arange(-60.0, 70.1, 2.0), np.arange(-40.0, 50.1, 2.0)]
    points = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1).astype(np.float32)
    return float(sample(ventricle_XYZ1, points + sample(shift_XYZ3, points, LATTICE_MM), fine_mm).sum())


def _regions() -> Floats:
    """Smooth membership of each lattice point in each region; rows sum to 1."""
    points = lattice_points() + np.asarray(CENTRE_MNI_MM, dtype=np.float32)
    points[:, 0] = abs(points[:, 0])
    nearest = [
        np.min([((points - np.asarray(c, dtype=np.float32)) ** 2).sum(1) for c in centres], axis=0)
        for centres, *_ in REGIONS.values()
    ]
    score = -np.stack(nearest, axis=1) / (2 * 16.0**2)
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return weight.reshape(*(len(a) for a in lattice_axes()), len(REGIONS)).astype(np.float32)


def sample(maps_XYZC: Floats, points_P3: Floats, spacing: float) -> Floats:
    """Trilinear values (P, C) of maps centred on the origin at points in mm; clamped at the border."""
    shape = maps_XYZC.shape[:3]
    channels = maps_XYZC.shape[3]
    flat = maps_XYZC.reshape(-1, channels)
    out = np.empty((len(points_P3), channels), dtype=np.float32)
    limit = np.asarray([n - 1.001 for n in shape], dtype=np.float32)
    centre = np.asarray([(n - 1) / 2 for n in shape], dtype=np.float32)
    offsets = [(i * shape[1] + j) * shape[2] + k for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    for start in range(0, len(points_P3), 32768):
        where = np.clip(points_P3[start : start + 32768] * np.float32(1 / spacing) + centre, 0, limit)
        low = where.astype(np.int32)
        f = where - low
        g = 1 - f
        base = (low[:, 0] * shape[1] + low[:, 1]) * shape[2] + low[:, 2]
        total = np.zeros((len(base), channels), dtype=np.float32)
        for corner, offset in enumerate(offsets):
            wx, wy, wz = ((f if corner >> bit & 1 else g)[:, axis] for axis, bit in ((0, 2), (1, 1), (2, 0)))
            total += flat.take(base + offset, axis=0) * (wx * wy * wz)[:, None]
        out[start : start + 32768] = total
    return out
