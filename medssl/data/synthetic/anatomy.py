"""Synthetic heads: tissue maps of one person of a given age, warped and thinned out of the ICBM 152 template.

A `Person` holds every number that shapes a head; `grow` turns it into tissue maps on a fine grid. Both are pure:
the same person gives the same maps. Coordinates are millimetres in RAS around the centre of the brain; warps are
pull-backs (for each point of the person: where in the template to look).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medssl.data.synthetic.template import (
    LATTICE_MM,
    REGIONS,
    VENTRICLE_STEPS_MM,
    Floats,
    Template,
    lattice_axes,
    lattice_points,
    sample,
)

MEAN_SCALE = 0.905
"""The template is larger than a brain: 1.89 litres inside its mask; this linear factor gives 1.40 litres."""
CSF, GREY, WHITE = 0.20, 0.67, 1.0
"""T1w intensities of the three tissues at age 40, white matter = 1."""
OUTSIDE = 0.10
"""Intensity around the brain (bone and fluid), which blurs into its edge."""
LOCAL_LOSS_SD = 0.03
"""Individual variation of the fraction of grey matter lost, from place to place (9 mm smooth)."""


@dataclass(frozen=True)
class Person:
    """The true parameters of one head. Lengths in mm, ages in years, volumes relative to a mean 25-year-old."""

    age: float
    sex: str
    brain_age_offset: float
    scale_xyz: tuple[float, float, float]
    ventricle_log_ratio: float
    grey_loss: tuple[float, ...]
    grey_intensity: float
    white_intensity: float
    white_lesion: float
    deformation_mm: float
    seed: int

    @property
    def effective_age(self) -> float:
        """The age that the anatomy follows: age plus brain-age offset."""
        return self.age + self.brain_age_offset


@dataclass(frozen=True)
class Head:
    """Tissue maps of one person on the fine grid (fractions of a voxel) and the T1w signal made from them."""

    signal: Floats
    mask: Floats
    volumes_ml: dict[str, float]


def softplus(x: float, width: float) -> float:
    """A smooth max(x, 0) that bends over about `width` years."""
    return float(width * np.logaddexp(0.0, x / width))


def ventricle_curve(age: float) -> float:
    """Log of the mean ventricle volume relative to age 25: slow growth, accelerating after 60 (x 2.7 from 20 to 80)."""
    return 0.0088 * (age - 25.0) + 0.0245 * (softplus(age - 61.0, 5.0) - softplus(-36.0, 5.0))


def grey_curve(age: float, region: str) -> float:
    """Mean fraction of a region's grey matter that is lost since age 25 (negative before)."""
    _, adult, late, child = REGIONS[region]
    lost = 0.0034 * adult * (age - 25.0) + 0.0032 * late * softplus(age - 62.0, 4.0)
    return lost - 0.0025 * child * softplus(19.0 - age, 3.0)


def draw_person(rng: np.random.Generator, age: float, sex: str) -> Person:
    """A person of this age and sex; all that varies between people of one age is drawn here."""
    offset = float(np.clip(rng.normal(0.0, 3.7), -11.0, 11.0))
    grown = float(np.clip(age + offset, 2.0, 98.0))
    size = MEAN_SCALE * (1.0145 if sex == "M" else 0.9855) * np.exp(rng.normal(0.0, 0.020))
    size *= 1.0 - 0.0022 * softplus(13.0 - grown, 2.0)
    scale = size * np.exp(rng.normal(0.0, 0.014, 3))
    shared = rng.normal(0.0, 0.013)
    loss = [grey_curve(grown, name) + shared + rng.normal(0.0, 0.013) for name in REGIONS]
    return Person(
        age=age,
        sex=sex,
        brain_age_offset=offset,
        scale_xyz=(float(scale[0]), float(scale[1]), float(scale[2])),
        ventricle_log_ratio=ventricle_curve(grown) + float(rng.normal(0.0, 0.25)),
        grey_loss=tuple(float(x) for x in loss),
        grey_intensity=GREY + 0.0007 * (grown - 40.0) + float(rng.normal(0.0, 0.012)),
        white_intensity=WHITE - 0.000025 * (grown - 42.0) ** 2 + float(rng.normal(0.0, 0.012)),
        white_lesion=0.006 * softplus(grown - 58.0, 4.0) * float(np.exp(rng.normal(-0.2, 0.6))),
        deformation_mm=1.1 * float(np.exp(rng.normal(0.0, 0.12))),
        seed=int(rng.integers(0, 2**31 - 1)),
    )


def grow(
    person: Person,
    template: Template,
    axes_mm: tuple[Floats, Floats, Floats],
    rotation_deg: Floats,
    shift_mm: Floats,
) -> Head:
    """The head of a person, lying in the scanner with this rotation (3) and shift (3), on a grid of axis positions."""
    shape = tuple(len(a) for a in axes_mm)
    grid_P3 = np.stack([g.ravel() for g in np.meshgrid(*axes_mm, indexing="ij")], axis=1).astype(np.float32)
    to_head = (rotation(rotation_deg) / np.asarray(person.scale_xyz)).astype(np.float32)
    points_P3 = (grid_P3 - np.asarray(shift_mm, dtype=np.float32)) @ to_head
    warp_XYZ4, near_XYZ = _warp(person, template)
    index = np.rint(points_P3 / LATTICE_MM + (np.asarray(near_XYZ.shape) - 1) / 2).astype(np.int32)
    index = np.clip(index, 0, np.asarray(near_XYZ.shape) - 1)
    used = np.flatnonzero(near_XYZ[index[:, 0], index[:, 1], index[:, 2]])
    points_P3 = points_P3[used]
    warp_P4 = sample(warp_XYZ4, points_P3, LATTICE_MM)
    maps_PC = sample(template.maps_XYZC, points_P3 + warp_P4[:, :3], template.fine_mm)
    signal_P, tissue = _paint(person, maps_PC, warp_P4[:, 3])
    signal = np.full(len(grid_P3), OUTSIDE, dtype=np.float32)
    mask = np.zeros(len(grid_P3), dtype=np.float32)
    signal[used], mask[used] = signal_P, maps_PC[:, 0]
    voxel_ml = float(np.prod([a[1] - a[0] for a in axes_mm])) / 1000.0
    volumes = {name: float(fraction.sum(dtype=np.float64)) * voxel_ml for name, fraction in tissue.items()}
    return Head(signal.reshape(shape), mask.reshape(shape), volumes)


def rotation(degrees_xyz: Floats) -> Floats:
    """Rotation matrix about x, then y, then z."""
    cx, cy, cz = np.cos(np.deg2rad(degrees_xyz))
    sx, sy, sz = np.sin(np.deg2rad(degrees_xyz))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _warp(person: Person, template: Template) -> tuple[Floats, Floats]:
    """On the lattice: the whole displacement with the grey matter loss as fourth channel; where the brain may be."""
    rng = np.random.default_rng(person.seed)
    points = lattice_points()
    shape = tuple(len(a) for a in lattice_axes())
    coarse, fine = _random_field(rng, 25.0, 3), _random_field(rng, 8.0, 3)
    own = (person.deformation_mm * (0.9 * coarse + 0.4 * fine)).reshape(-1, 3)
    step = np.interp(person.ventricle_log_ratio, template.ventricle_log_ratio_S, VENTRICLE_STEPS_MM)
    at = (step - VENTRICLE_STEPS_MM[0]) / (VENTRICLE_STEPS_MM[1] - VENTRICLE_STEPS_MM[0])
    low = min(int(at), len(VENTRICLE_STEPS_MM) - 2)
    table = template.lattice_ventricle_SXYZ3
    widen = table[low] + np.float32(at - low) * (table[low + 1] - table[low])
    total = own + sample(widen, points + own, LATTICE_MM)
    loss = template.lattice_regions_XYZR @ np.asarray(person.grey_loss, dtype=np.float32)
    loss += LOCAL_LOSS_SD * _random_field(rng, 9.0, 1)[..., 0]
    brain = sample(template.maps_XYZC[..., :1], points + total, template.fine_mm).reshape(shape) > 0.01
    near = ndimage.binary_dilation(brain, iterations=2)
    return np.concatenate([total.reshape(*shape, 3), loss[..., None]], axis=-1).astype(np.float32), near


def _paint(person: Person, maps_PC: Floats, loss_P: Floats) -> tuple[Floats, dict[str, Floats]]:
    """T1w signal and tissue fractions at points: grey matter at the rim turns into CSF, or back in the young."""
    mask, grey, white, ventricle, rim, texture, around = maps_PC.T
    sulcal = np.maximum(mask - grey - white - ventricle, 0)
    lost = grey * np.clip(loss_P * rim, 0, 0.85) - sulcal * np.clip(-4.0 * loss_P, 0, 0.8)
    grey = grey - lost
    csf = np.maximum(mask - grey - white, 0)
    signal = CSF * csf + OUTSIDE * (1 - mask)
    signal += person.grey_intensity * grey + person.white_intensity * white
    signal += 0.7 * mask * texture - person.white_lesion * white * np.minimum(2 * around, 1)
    tissue = {"brain": mask, "grey": grey, "white": white, "csf": csf, "ventricle": ventricle}
    return np.maximum(signal, 0.05), tissue


def _random_field(rng: np.random.Generator, sigma_mm: float, channels: int) -> Floats:
    """A smooth Gaussian random field (X, Y, Z, channels) on the lattice with standard deviation 1."""
    shape = tuple(len(a) for a in lattice_axes())
    sigma = sigma_mm / LATTICE_MM
    scale = (2.0 * np.sqrt(np.pi) * sigma) ** 1.5
    noise = rng.standard_normal((channels, *shape), dtype=np.float32)
    return np.stack([scale * ndimage.gaussian_filter(n, sigma, mode="reflect", truncate=3) for n in noise], axis=-1)
