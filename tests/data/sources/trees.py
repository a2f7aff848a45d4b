"""Small trees of scans as people keep them, written fast."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd


@cache
def nifti() -> bytes:
    """A NIfTI file of 4 x 4 x 4 voxels of 4 mm."""
    data = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    return bytes(nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])).to_bytes())


@cache
def packed() -> bytes:
    return gzip.compress(nifti(), 1)


def scans(root: Path, *names: str) -> Path:
    """Files of these names, which hold a NIfTI image where they are named .nii or .nii.gz and nothing otherwise."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed() if name.endswith(".nii.gz") else nifti() if name.endswith(".nii") else b"")
    return root


def bids(root: Path, *labels: str, suffix: str = "T1w") -> Path:
    """A BIDS folder with an image of every label: "01", or "01/M6" for a session."""
    for label in labels:
        person, _, visit = label.partition("/")
        folder = f"sub-{person}/ses-{visit}/anat" if visit else f"sub-{person}/anat"
        name = f"sub-{person}_ses-{visit}" if visit else f"sub-{person}"
        scans(root, f"{folder}/{name}_{suffix}.nii.gz")
    return root


def table(root: Path, text: str, name: str = "participants.tsv") -> Path:
    """A table with tabs for the blanks in a text."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return path


def annex_link(path: Path) -> Path:
    """A dangling link as git-annex leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(Path("../.git/annex/objects/Xx/Yy/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz"))
    return path


def annex_pointer(path: Path) -> Path:
    """An unlocked git-annex pointer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")
    return path


def lfs_pointer(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return path


def names(found: pd.DataFrame) -> list[str]:
    """File names of the images."""
    return [Path(image).name for image in found["image"]]


def notes(found: pd.DataFrame) -> str:
    return " | ".join(found.attrs["notes"])
