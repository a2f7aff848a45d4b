"""Small copies of the three layouts of OpenBHB with invented people, and the block table that reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from medssl.data.volumes.openbhb_layout import OPENBHB, Block, BlockTable

_SHAPES = {
    "vbm": (1, 6, 7, 5),
    "quasiraw": (1, 8, 9, 7),
    "xhemi": (8, 11, 1, 1),
    "vbm_roi": (1, 10, 1, 1),
    "desikan_roi": (7, 4, 1, 1),
    "destrieux_roi": (7, 6, 1, 1),
}
TRAIN, INTERNAL, EXTERNAL = 12, 4, 3


def mask_values(block: Block) -> np.ndarray:
    """Probabilities (vbm) or intensities (quasiraw) of a mask, in stored order."""
    rng = np.random.default_rng(len(block.name))
    values = rng.uniform(0.06, 1.0, block.shape[1:])
    values[rng.random(block.shape[1:]) < 0.4] = 0.0
    if block.name == "vbm":
        values[0, 0, :2] = (0.04, 0.05)  # at and below the threshold: outside
        return values.astype(np.float32)
    return np.round(values * 8364).astype(np.int16)


def _small(block: Block) -> Block:
    block = replace(block, shape=_SHAPES[block.name], mask_blob="")
    if not block.mask_file:
        return block
    return replace(block, mask_voxels=int((mask_values(block) > block.mask_above).sum()))


SMALL = BlockTable(tuple(_small(block) for block in OPENBHB.blocks))


def people(seed: int = 0) -> pd.DataFrame:
    """Participants as the Hugging Face table describes them; ids keep their leading zeros."""
    rng = np.random.default_rng(seed)
    split = ["train"] * TRAIN + ["internal_test"] * INTERNAL + ["external_test"] * EXTERNAL
    site = [str(k % 3) for k in range(TRAIN + INTERNAL)] + ["7"] * EXTERNAL
    return pd.DataFrame(
        {
            "participant_id": [f"{k:012d}" for k in range(1, len(split) + 1)],
            "study": ["1"] * len(split),
            "sex": ["male", "female"] * (len(split) // 2) + ["male"] * (len(split) % 2),
            "age": rng.uniform(6, 86, len(split)).round(3).astype(str),
            "site": ["30"] * len(split),
            "siteXacq": site,
            "split": split,
        }
    )


def matrix(count: int, seed: int = 1) -> np.ndarray:
    """Rows of a wide array."""
    return np.random.default_rng(seed).standard_normal((count, SMALL.width)).astype(np.float32) + 3


def write_masks(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for block in SMALL.blocks[:2]:
        nib.save(nib.Nifti1Image(mask_values(block), np.diag([-1.0, 1, 1, 1])), folder / block.mask_file)


def write_arrays(root: Path, pair: bool = True) -> np.ndarray:
    """Layout A: train and test arrays (a pair, or test.npy with a column split), tables, folds, masks."""
    root.mkdir(parents=True, exist_ok=True)
    table, values = people(), matrix(TRAIN + INTERNAL + EXTERNAL)
    stems = {"train": "train", "internal_test": "internal_test", "external_test": "external_test"}
    if not pair:
        stems |= {"internal_test": "test", "external_test": "test"}
    file = table["split"].map(stems)
    for stem in sorted(set(file)):
        rows = (file == stem).to_numpy()
        np.save(root / f"{stem}.npy", values[rows])
        part = table[rows] if stem == "test" else table[rows].drop(columns="split")
        part.to_csv(root / f"{stem}.tsv", sep="\t", index=False)
    (root / "cv_splits_indices.json").write_text(json.dumps(folds()))
    write_masks(root / "resource")
    return values


def folds() -> dict[str, dict[str, list[int]]]:
    """Three folds over the training rows."""
    order = list(range(TRAIN))
    cut = [(order[k:] + order[:k]) for k in (0, 4, 8)]
    parts = ("train", "internal_test", "external_test")
    return {f"fold{k}": dict(zip(parts, (c[:8], c[8:10], c[10:]), strict=True)) for k, c in enumerate(cut)}


def volumes(values: np.ndarray, name: str) -> np.ndarray:
    """The blocks of rows as arrays (rows, C, D, H, W)."""
    block = SMALL.block(name)
    part = values[:, SMALL.span(name)]
    if not block.mask_voxels:
        return part.reshape(-1, *block.shape)
    out = np.zeros((len(values), *block.shape[1:]), np.float32)
    out[:, mask_values(block) > block.mask_above] = part
    return out[:, None]


NAMES = {
    "vbm": "preproc-cat12vbm_desc-gm_T1w",
    "quasiraw": "preproc-quasiraw_T1w",
    "xhemi": "preproc-freesurfer_desc-xhemi_T1w",
    "vbm_roi": "preproc-cat12vbm_desc-gm_ROI",
    "desikan_roi": "preproc-freesurfer_desc-desikan_ROI",
    "destrieux_roi": "preproc-freesurfer_desc-destrieux_ROI",
}


def _save(path: Path, x_CDHW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = x_CDHW[..., 0, 0] if x_CDHW.shape[2:] == (1, 1) else x_CDHW
    np.save(path, flat[None])


def write_tree(root: Path, split: bool = False) -> np.ndarray:
    """Layout B: one file per scan and modality; splits by the site label files, or by a column."""
    table, values = people(), matrix(TRAIN + INTERNAL + EXTERNAL)
    for name in NAMES:
        for label, x in zip(table["participant_id"], volumes(values, name), strict=True):
            _save(root / "data" / f"sub-{label}_{NAMES[name]}.npy", x)
    gone = [] if split else ["split", "siteXacq"]
    table.drop(columns=gone).to_csv(root / "participants.tsv", sep="\t", index=False)
    if not split:
        train = table["split"] == "train"
        for stem, rows in (("train", train), ("test", ~train)):
            named = table.loc[rows, ["participant_id", "siteXacq"]]
            named.to_csv(root / f"{stem}_site_labels_v1.tsv", sep="\t", index=False)
    return values


def write_folder(root: Path) -> np.ndarray:
    """Layout C: train/ and val/ with raw images, arrays, and tables of regional measures."""
    table, values = people(), matrix(TRAIN + INTERNAL + EXTERNAL)
    where = table["split"].map(lambda s: "train" if s == "train" else "val")
    for name in ("vbm", "quasiraw", "xhemi"):
        for label, place, x in zip(table["participant_id"], where, volumes(values, name), strict=True):
            _save(root / place / "derivatives" / f"sub-{label}" / "ses-1" / f"sub-{label}_ses-1_{NAMES[name]}.npy", x)
    for label, place in zip(table["participant_id"], where, strict=True):
        raw = root / place / "rawdata" / f"sub-{label}" / "ses-1" / f"sub-{label}_T1w.nii.gz"
        raw.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(int(label)).uniform(0, 9, (5, 6, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), raw)
    tables = {"vbm_roi": "cat12vbm_roi/cat12vbm", "desikan_roi": "freesurfer_roi/desikan"}
    tables["destrieux_roi"] = "freesurfer_roi/destrieux"
    for name, stem in tables.items():
        flat = volumes(values, name).reshape(len(values), -1)
        features = pd.DataFrame(flat, columns=[f"region{k}_Vol" for k in range(flat.shape[1])])
        features.insert(0, "session", "1")
        features.insert(0, "participant_id", table["participant_id"])
        for place in ("train", "val"):
            path = root / place / "derivatives" / f"{stem}_roi_features.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            features[(where == place).to_numpy()].to_csv(path, index=False)
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    write_masks(root / "resource")
    return values
