"""Pictures of a few scans and of the views that the training made of them, for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import default_collate

from medssl.files import write_atomic
from medssl.recipe.build import Assembly


def write_sample_views(parts: Assembly, path: Path, scans: int = 4) -> None:
    """Middle slices of a few scans and their views, for the report: (scan, 1 + V, plane, H, W); none of tables."""
    if tuple(parts.dataset.volume(int(parts.train_rows[0])).shape[2:]) == (1, 1):
        return
    pictures, ages = [], []
    rows = parts.train_rows[np.linspace(0, len(parts.train_rows) - 1, min(scans, len(parts.train_rows))).astype(int)]
    for row in rows:
        volume = parts.dataset.volume(int(row))
        views = parts.dataset.finish(default_collate([parts.dataset[(int(row), 0)]]))["views"]
        side = max(volume.shape[1:])
        pictures.append(np.stack([_planes(x.numpy()[0], side) for x in (volume, *(v[0] for v in views))]))
        ages.append(float(parts.cohort.table["age"].iloc[int(row)]))
    arrays = {"slices": np.stack(pictures).astype(np.float32), "ages": np.array(ages), "rows": rows}
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def _planes(x_DHW: np.ndarray, side: int) -> np.ndarray:
    """The three middle slices in the middle of squares of ``side`` pixels; smaller views keep their size."""
    planes = [np.take(x_DHW, x_DHW.shape[axis] // 2, axis).T[::-1] for axis in range(3)]
    out = np.full((3, side, side), float(x_DHW.min()), np.float32)
    for place, plane in zip(out, planes, strict=True):
        top, left = (side - plane.shape[0]) // 2, (side - plane.shape[1]) // 2
        place[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    return out
