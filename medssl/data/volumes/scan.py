"""What is known of a scan: its intensities in RAS, or only what its header says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Volume:
    """A scan in RAS: axis 1 runs to the right, 2 to the front, 3 upwards.

    data: (C, D, H, W) float32. affine: (4, 4), voxel index -> mm. spacing: (3,) mm. source: file, for messages.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: np.ndarray
    source: str = "volume"


@dataclass(frozen=True)
class Header:
    """What a file says about itself, in the order of its own axes (nothing is turned to RAS).

    shape: as stored, so 4D files have four numbers. spacing: (3,) mm from the affine. orientation: such as "LAS".
    affine: the one that is used (sform before qform before pixdim). sform, qform: None where the code is 0 or the
    format has none. dtype: on disk. ndim: length of ``shape`` without trailing ones behind the third. offset: first
    byte of the voxels in the unpacked file, 0 where the format does not say. units: a sentence on lengths that the
    file does not state in mm, "" where there is nothing to say; all lengths here are in mm.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    orientation: str
    affine: np.ndarray
    sform: np.ndarray | None
    qform: np.ndarray | None
    sform_code: int
    qform_code: int
    dtype: str
    ndim: int
    offset: int = 0
    units: str = ""

    @property
    def form_conflict(self) -> float:
        """Largest distance [mm] between the places sform and qform give to a corner voxel; 0 with only one."""
        if self.sform is None or self.qform is None:
            return 0.0
        last = np.array((*self.shape, 1, 1, 1)[:3], float) - 1
        corners = np.array([[*(last * pick), 1.0] for pick in np.ndindex(2, 2, 2)])
        gap = (corners @ (self.sform - self.qform).T)[:, :3]
        return float(np.sqrt((gap**2).sum(1)).max())

    @property
    def channels(self) -> int:
        """Channels that ``read_volume`` would return."""
        return self.shape[4] if self.ndim == 5 and self.shape[3] == 1 else 1

    @property
    def ras(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Spatial shape and spacing [mm] after turning to RAS; axes that an image lacks have length 1."""
        a, b, c = (next(i for i, way in enumerate(self.orientation) if way in pair) for pair in ("LR", "PA", "IS"))
        shape, spacing = (*self.shape, 1, 1, 1), self.spacing
        return (shape[a], shape[b], shape[c]), (spacing[a], spacing[b], spacing[c])
