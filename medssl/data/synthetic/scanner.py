"""Synthetic scanners: what a site does to every head that lies in it.

A `Site` is drawn once, a `Visit` once per scan around its site; `acquire` applies both to a head. The signal of
white matter is 1 before the scanner and `gain` after it. Lengths in mm, angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.synthetic.anatomy import OUTSIDE, Head
from medssl.data.synthetic.template import Floats

BIAS_TERMS = 9
"""Products of Legendre polynomials of degree 1 and 2 in the three axes, without the constant."""


@dataclass(frozen=True)
class Site:
    """The true parameters of one scanner."""

    name: str
    external: bool
    gain: float
    gamma: float
    bias_amplitude: float
    bias_pattern: tuple[float, ...]
    noise_sd: float
    fwhm_in_plane_mm: float
    fwhm_slice_mm: float
    slice_axis: int
    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    mask_threshold: float


@dataclass(frozen=True)
class Visit:
    """The true parameters of one scan: its site's values with the variation of the day."""

    gain: float
    gamma: float
    bias_amplitude: float
    bias_pattern: tuple[float, ...]
    noise_sd: float
    fwhm_in_plane_mm: float
    fwhm_slice_mm: float
    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    mask_threshold: float
    seed: int


def draw_site(rng: np.random.Generator, name: str, external: bool) -> Site:
    """A scanner; sites are drawn alike, external or not."""
    in_plane = float(rng.uniform(1.0, 4.5))
    return Site(
        name=name,
        external=external,
        gain=float(np.exp(rng.normal(6.3, 0.35))),
        gamma=float(np.exp(rng.normal(0.0, 0.11))),
        bias_amplitude=float(rng.uniform(0.006, 0.024)),
        bias_pattern=_unit(rng.standard_normal(BIAS_TERMS)),
        noise_sd=float(np.exp(rng.uniform(np.log(0.008), np.log(0.05)))),
        fwhm_in_plane_mm=in_plane,
        fwhm_slice_mm=in_plane + float(rng.choice([0.0, 0.0, 1.5, 3.0])),
        slice_axis=int(rng.integers(0, 3)),
        rotation_deg=_triple(np.clip(rng.normal(0.0, 0.5, 3), -1.4, 1.4)),
        shift_mm=_triple(np.clip(rng.normal(0.0, 0.5, 3), -1.4, 1.4)),
        mask_threshold=float(rng.uniform(0.42, 0.62)),
    )


def draw_visit(rng: np.random.Generator, site: Site) -> Visit:
    """One scan at a site. Misalignment stays within 2 mm and 2 degrees per axis."""
    pattern = np.asarray(site.bias_pattern) + 0.8 * np.asarray(_unit(rng.standard_normal(BIAS_TERMS)))
    return Visit(
        gain=site.gain * float(np.exp(rng.normal(0.0, 0.08))),
        gamma=site.gamma * float(np.exp(rng.normal(0.0, 0.025))),
        bias_amplitude=site.bias_amplitude * float(np.exp(rng.normal(0.0, 0.2))),
        bias_pattern=_unit(pattern),
        noise_sd=site.noise_sd * float(np.exp(rng.normal(0.0, 0.12))),
        fwhm_in_plane_mm=site.fwhm_in_plane_mm + float(abs(rng.normal(0.0, 0.3))),
        fwhm_slice_mm=site.fwhm_slice_mm + float(abs(rng.normal(0.0, 0.3))),
        rotation_deg=_triple(np.clip(site.rotation_deg + rng.normal(0.0, 0.3, 3), -2.0, 2.0)),
        shift_mm=_triple(np.clip(site.shift_mm + rng.normal(0.0, 0.3, 3), -2.0, 2.0)),
        mask_threshold=float(np.clip(site.mask_threshold + rng.normal(0.0, 0.02), 0.35, 0.7)),
        seed=int(rng.integers(0, 2**31 - 1)),
    )


def acquire(head: Head, site: Site, visit: Visit, fine_mm: float, factor: int) -> Floats:
    """The scan of a head: int16 (D, H, W), positive inside the brain mask, 0 outside.

    Order: gamma, blur, averaging of `factor` cubed fine voxels into one, bias field, gain, Rician noise, mask.
    """
    signal = np.clip(head.signal, 0, None) ** np.float32(visit.gamma)
    fwhm = np.full(3, visit.fwhm_in_plane_mm)
    fwhm[site.slice_axis] = visit.fwhm_slice_mm
    signal = ndimage.gaussian_filter(
        signal, fwhm / 2.355 / fine_mm, mode="constant", cval=OUTSIDE**visit.gamma, truncate=3
    )
    signal, mask = _average(signal, factor), _average(head.mask, factor)
    inside = _largest_piece(mask > visit.mask_threshold)
    field = _bias(signal.shape, visit.bias_pattern)
    field *= np.float32(visit.bias_amplitude / max(float(field[inside].std()), 1e-6))
    signal = signal * np.exp(field - field[inside].mean())
    rng = np.random.default_rng(visit.seed)
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(visit.noise_sd)
    signal = np.hypot(signal + noise[0], noise[1]) * np.float32(visit.gain)
    return np.where(inside, np.clip(np.rint(signal), 1, 32767), 0).astype(np.int16)


def _largest_piece(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask; skull stripping leaves one."""
    labels, pieces = ndimage.label(inside)
    return inside if pieces < 2 else labels == np.bincount(labels[labels > 0]).argmax()


def _average(fine: Floats, factor: int) -> Floats:
    """Mean over blocks of factor x factor x factor voxels."""
    if factor == 1:
        return fine
    x, y, z = (n // factor for n in fine.shape)
    return fine.reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5), dtype=np.float32)


def _bias(shape: tuple[int, ...], pattern: tuple[float, ...]) -> Floats:
    """Sum of low-order polynomials of the position, weighted by the pattern."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    terms = (x, y, z, 1.5 * x * x, 1.5 * y * y, 1.5 * z * z, x * y, y * z, x * z)
    total = np.zeros(shape, dtype=np.float32)
    for weight, term in zip(pattern, terms, strict=True):
        total += np.float32(weight) * term
    return total


def _unit(vector: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in vector / np.linalg.norm(vector))


def _triple(vector: Floats) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])
