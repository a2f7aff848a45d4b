"""The declared, deterministic way from a scan to the array an encoder reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medssl.checks import Millimetres, Voxels, check_fields, nearest
from medssl.data.volumes.resample import centred, nonzero_mask, otsu_mask
from medssl.data.volumes.volume import Volume
from medssl.errors import RecipeError, StaleError, VolumeError

PREPROCESSING_VERSION = 1
"""Grows whenever the same recipe gives other numbers, so that no cache or encoder mixes the two."""
LARGEST = 2**31
"""Voxels of one image after preprocessing: more than that (8 GiB) is a mistaken spacing."""


@dataclass(frozen=True)
class Preprocessing:
    """RAS, then resample, crop or pad about the image centre, then intensities.

    spacing: voxel size (3,) in mm, along the scan's own axes (oblique scans are not rotated); None keeps each
    scan's. shape: (D, H, W) in voxels; None keeps what results. One number stands for all three axes.
    intensity: "zscore" (mean 0, std 1 inside the mask, exactly 0 outside), "percentile" (percentiles 1 and 99
    inside the mask become 0 and 1, clipped; 0 outside) or "none" (as stored; the mask is not used).
    mask: "nonzero" (skull-stripped scans), "otsu" (head before air), "none" (the whole field of view). It is found
    before resampling and follows it, so smoothing never widens it; padding is always outside.
    nan: "error" (a scan with NaN is refused) or "zero" (NaN, which SPM and CAT12 write outside the brain, becomes 0
    before the mask is found). Infinite voxels are an error in either case.
    Every channel is treated by itself. Errors: RecipeError for other values.
    """

    spacing: Millimetres | None = None
    shape: Voxels | None = None
    intensity: Literal["zscore", "percentile", "none"] = "zscore"
    mask: Literal["nonzero", "otsu", "none"] = "nonzero"
    nan: Literal["error", "zero"] = "error"

    def __post_init__(self) -> None:
        check_fields(self, "preprocessing", RecipeError)
        if self.shape is not None:
            self._refuse_size(self.shape, "preprocessing.shape")

    @property
    def version(self) -> int:
        """Version of the computation."""
        return PREPROCESSING_VERSION

    @property
    def digest(self) -> str:
        """sha256 hex of the recipe and its version."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON values, version included; ``nan`` only where it is not "error", so that older digests stay."""
        return {
            "spacing": None if self.spacing is None else list(self.spacing),
            "shape": None if self.shape is None else list(self.shape),
            "intensity": self.intensity,
            "mask": self.mask,
            **({} if self.nan == "error" else {"nan": self.nan}),
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Inverse of ``to_dict``; the version may be left out. Errors: RecipeError, StaleError (other version)."""
        known = ("spacing", "shape", "intensity", "mask", "nan", "version")
        for key in values:
            if key not in known:
                raise RecipeError(f"preprocessing.{key} is unknown; {nearest(key, known, 'preprocessing.')}")
        given = dict(values)
        version = given.pop("version", PREPROCESSING_VERSION)
        if version != PREPROCESSING_VERSION:
            raise StaleError(
                f"made with preprocessing version {version}, but this medssl computes version {PREPROCESSING_VERSION}; "
                "use the medssl that made it, or preprocess and train again"
            )
        return cls(**given)

    def output_shape(self, shape: Sequence[int], spacing: Sequence[float] | np.ndarray) -> tuple[int, int, int]:
        """(D, H, W) of the result for a RAS scan of this shape and spacing [mm]."""
        if self.shape is not None:
            return self.shape
        sizes = [
            max(1, math.floor(n / step + 0.5)) if abs(step - 1) > 1e-3 else int(n)
            for n, step in zip(shape, self._ratio(spacing), strict=True)
        ]
        self._refuse_size(sizes, "preprocessing.spacing")
        return sizes[0], sizes[1], sizes[2]

    def _refuse_size(self, shape: Sequence[int], key: str) -> None:
        if math.prod(shape) > LARGEST:
            size = " x ".join(map(str, shape))
            raise RecipeError(f"{key} makes images of {size} voxels, which no memory holds; choose a coarser grid")

    def apply(self, volume: Volume) -> np.ndarray:
        """Preprocess a scan; returns float32 (C, D, H, W), the same bytes for the same input.

        Errors: VolumeError naming the source where voxels are NaN or infinite, the scan is constant, or the mask is
        empty or constant.
        """
        data = self._finite(volume)
        ratio = self._ratio(volume.spacing)
        shape = self.output_shape(data.shape[1:], volume.spacing)
        parts = [self._channel(x_DHW, ratio, shape, volume.source) for x_DHW in data]
        return parts[0][None] if len(parts) == 1 else np.stack(parts)

    def _finite(self, volume: Volume) -> np.ndarray:
        """Voxels (C, D, H, W), with 0 for NaN where ``nan`` says so."""
        data = volume.data
        bad = int(data.size - np.count_nonzero(np.isfinite(data)))
        if not bad:
            return data
        infinite = int(np.isinf(data).sum())
        if self.nan == "zero" and not infinite:
            return np.where(np.isnan(data), np.float32(0), data)
        option = "" if infinite else "set preprocessing.nan: zero, or "
        raise VolumeError(
            f"{volume.source} has {bad} voxels that are {_kinds(infinite, bad)}; {option}replace them (by 0 outside "
            "the brain) and save it again, or drop its row"
        )

    def _ratio(self, spacing: Sequence[float] | np.ndarray) -> list[float]:
        """New over old spacing, per axis."""
        new = spacing if self.spacing is None else self.spacing
        return [float(a) / float(b) for a, b in zip(new, spacing, strict=True)]

    def _channel(self, x_DHW: np.ndarray, ratio: list[float], shape: Sequence[int], source: str) -> np.ndarray:
        if x_DHW.min() == x_DHW.max():
            raise VolumeError(f"{source} is constant (every voxel is {x_DHW.flat[0]:g}); repair it or drop its row")
        y_DHW = np.asarray(centred(x_DHW, ratio, shape), np.float32)
        if self.intensity == "none":
            return np.ascontiguousarray(y_DHW)
        inside = centred(self._mask(x_DHW), ratio, shape)
        inside = inside if inside.dtype == bool else inside >= 0.5
        values = y_DHW[inside].astype(np.float64)
        if values.size == 0:
            raise VolumeError(
                f'{source} has no voxel inside the mask "{self.mask}" after cropping to {tuple(shape)}; choose another '
                "preprocessing.mask or a larger preprocessing.shape, or drop its row"
            )
        low, width = self._scale(values)
        if not width > 1e-7 * max(1e-30, float(np.abs(values).max())):
            raise VolumeError(
                f'{source} is constant inside the mask "{self.mask}" ({values.size} voxels), so its intensities cannot '
                'be scaled; set preprocessing.mask to "none" for a binary image, or drop its row'
            )
        values -= low
        values /= width
        out = np.zeros(y_DHW.shape, np.float32)
        out[inside] = values if self.intensity == "zscore" else values.clip(0, 1, out=values)
        return out

    def _mask(self, x_DHW: np.ndarray) -> np.ndarray:
        """Mask (D, H, W) on the scan's own grid."""
        if self.mask == "nonzero":
            return nonzero_mask(x_DHW)
        return otsu_mask(x_DHW) if self.mask == "otsu" else np.ones(x_DHW.shape, bool)

    def _scale(self, values: np.ndarray) -> tuple[float, float]:
        """What becomes 0 and what becomes 1 above it."""
        if self.intensity == "zscore":
            return float(values.mean()), float(values.std())
        low, high = np.percentile(values, [1, 99])
        return float(low), float(high - low)


def _kinds(infinite: int, bad: int) -> str:
    return "NaN" if not infinite else "infinite" if infinite == bad else f"NaN or infinite ({infinite} are infinite)"
