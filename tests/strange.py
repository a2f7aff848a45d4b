"""A tiny encoder whose card knows its training scans, and scans that are changed so that they look unlike them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import ScanDataset
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.encoders.file import save_encoder
from medssl.features.looking import likeness_of

PREP = Preprocessing(spacing=(8.0, 8.0, 8.0), shape=(24, 24, 24))
Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Voxels and affine of a scan, and what becomes of them."""


def encoder_on(manifest: Path, out: Path, **card: object) -> Path:
    """The file of an untrained encoder whose card describes the training rows of a cohort."""
    cohort, cache = Cohort.read(manifest), VolumeCache()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(
            "resnet18", in_channels=1, shape=(24, 24, 24), width=4, depth=[1, 1], norm="group", stem="small"
        ).eval()
    people = cohort.table["subject"].to_numpy(dtype=object)
    dataset = ScanDataset(cohort.files(cohort.rows()), cache, PREP, {})
    likeness = likeness_of(lambda x: encoder(x).pooled, dataset, cohort.rows("train"), people)
    assert likeness is not None
    save_encoder(encoder, out, {"preprocessing": PREP.to_dict(), "likeness": likeness.to_dict(), **card})
    return out


def changed(manifest: Path, folder: Path, change: Change, split: str = "internal_test", n: int = 4) -> Path:
    """A manifest of some scans of a split, each changed and written anew."""
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    table = table[table["split"] == split].head(n).reset_index(drop=True)
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(table["image"]):
        scan = nib.load(manifest.parent / image)
        data, affine = change(np.asarray(scan.dataobj, dtype=np.float32), scan.affine.copy())
        nib.save(nib.Nifti1Image(np.ascontiguousarray(data, dtype=np.float32), affine), folder / f"{k}.nii.gz")
    table["image"] = [f"{k}.nii.gz" for k in range(len(table))]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def same(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, affine


def unstripped(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A dark skull, a bright scalp and noisy air around the brain."""
    rng = np.random.default_rng(0)
    away = ndimage.distance_transform_edt(x == 0) * 8
    white = np.percentile(x[x > 0], 90)
    air = np.abs(rng.normal(size=x.shape)) * 0.03 * white + 1
    return np.where(x > 0, x, np.where(away <= 8, 0.1 * white, np.where(away <= 20, 1.1 * white, air))), affine


def inverted(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright exchanged inside the brain."""
    return np.where(x > 0, x.max() + 1 - x, 0), affine


def inverted_head(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An unstripped scan, inverted with its background."""
    head, affine = unstripped(x, affine)
    return head.max() - head, affine


def turned(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The head turned by 90 degrees about its left-right axis; the header does not know."""
    return np.rot90(x, 1, (1, 2)), affine


def turned_known(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and the header knows: voxel (i, j, k) of the new grid was (i, k, n - 1 - j)."""
    move = np.eye(4)
    move[1:3, 1:3] = [[0, 1], [-1, 0]]
    move[2, 3] = x.shape[2] - 1
    back = np.rot90(x, 1, (1, 2))
    assert back[3, 5, 7] == x[3, 7, x.shape[2] - 1 - 5]
    return back, affine @ move


def finer(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of half the side."""
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25
    return ndimage.zoom(x, 2, order=0), affine @ half


def cut(x: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper third of the field of view."""
    start = 2 * x.shape[2] // 3
    affine[:3, 3] += affine[:3, 2] * start
    return x[:, :, start:], affine
