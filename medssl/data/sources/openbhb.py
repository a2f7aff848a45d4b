"""A manifest from a copy of OpenBHB: RAMP arrays, the BIDS-like tree of .npy files, or the Hugging Face folder.

Layouts: "arrays" (train.npy with rows of all modalities, train.tsv, test.* or internal_test.* and external_test.*,
cv_splits*.json), "tree" (data/sub-*_preproc-*.npy, participants.tsv) and "folder" (train/ and val/ with rawdata/ and
derivatives/, participants.tsv). Site is siteXacq, the site and acquisition setting that the challenge scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from medssl.data.sources.found import say_absent
from medssl.data.sources.merge import merge_persons
from medssl.data.sources.openbhb_tables import array_rows, fold_columns, official_splits, persons_of
from medssl.data.sources.tables import in_order, listed, read_table
from medssl.data.sources.visits import Named
from medssl.data.volumes.openbhb_layout import Block, current, git_blob, read_mask
from medssl.data.volumes.reference import MASKED, Reference, parse
from medssl.data.volumes.stored_arrays import wide_array
from medssl.errors import ManifestError

MODALITIES = ("vbm", "quasiraw", "xhemi", "vbm_roi", "desikan_roi", "destrieux_roi", "raw")
_ENDINGS = {
    "vbm": "_preproc-cat12vbm_desc-gm_T1w.npy",
    "quasiraw": "_preproc-quasiraw_T1w.npy",
    "xhemi": "_preproc-freesurfer_desc-xhemi_T1w.npy",
    "vbm_roi": "_preproc-cat12vbm_desc-gm_ROI.npy",
    "desikan_roi": "_preproc-freesurfer_desc-desikan_ROI.npy",
    "destrieux_roi": "_preproc-freesurfer_desc-destrieux_ROI.npy",
    "raw": "_T1w.nii.gz",
}
_TABLES = {
    "vbm_roi": "cat12vbm_roi/cat12vbm_roi_features.csv",
    "desikan_roi": "freesurfer_roi/desikan_roi_features.csv",
    "destrieux_roi": "freesurfer_roi/destrieux_roi_features.csv",
}
_SETS = ("train", "val")


def scan_openbhb(
    root: str | Path,
    modality: str = "vbm",
    masks: Mapping[str, str | Path] | None = None,
    sessions: Named = (),
) -> pd.DataFrame:
    """Manifest rows of every scan of one modality: participant_id, image, age, sex, site, split, fold0, fold1, fold2.

    masks: "vbm" and "quasiraw" -> file, where it is not in the folder or its resource/. Rows of arrays that need a
    mask name it in the column ``mask``. sessions: (in the table, in the folder), where spellings do not meet.
    split holds the official train, internal_test and external_test; fold0 to fold2 those of the three
    cross-validation folds (train rows only), "" where a row is in none.
    ``result.attrs["notes"]`` is a list of sentences. Errors: ManifestError, VolumeError (mask), naming the file.
    """
    root = Path(root).absolute()
    if modality not in MODALITIES:
        raise ManifestError(f"modality '{modality}' is unknown; choose one of {', '.join(MODALITIES)}")
    if not root.is_dir():
        raise ManifestError(f"{root}: is not a folder; give the folder that holds a copy of OpenBHB")
    notes: list[str] = []
    root, layout = _layout(root)
    notes.append(f"read as OpenBHB, {_WORDS[layout]}")
    if layout == "arrays":
        out = _scan_arrays(root, modality, masks or {}, notes)
    else:
        out = _scan_files(root, layout, modality, notes, sessions)
    for name, column in fold_columns(root, out, notes).items():
        out[name] = column
    out["dataset"] = "OpenBHB"
    unsited = int((out["site"] == "").sum()) if "site" in out else len(out)
    if unsited:
        notes.append(f"{unsited} rows have no site; they stay, and no site is scored for them")
    say_absent(sorted({str(parse(image).file) for image in out["image"]}), notes)
    out = in_order(out, notes)
    out.attrs["notes"] = notes
    return out


_WORDS = {
    "arrays": "arrays of all modalities (train.npy)",
    "tree": "one .npy file per scan (data/sub-*)",
    "folder": "the Hugging Face folder (train/, val/)",
}


def _layout(root: Path) -> tuple[Path, str]:
    """The folder that holds the data, and which layout it has; the names of the archives are looked into."""
    for folder in (root, root / "public_data_challenge", root / "data", root / "openBHB", root / "openBHB" / "data"):
        if (folder / "train.npy").is_file():
            return folder, "arrays"
        if any((folder / name / kind).is_dir() for name in _SETS for kind in ("derivatives", "rawdata")):
            return folder, "folder"
        if next(folder.glob("data/sub-*_preproc-*.npy"), None) is not None:
            return folder, "tree"
    raise ManifestError(
        f"{root}: is no copy of OpenBHB; it must hold train.npy, data/sub-*_preproc-*.npy, or train/derivatives/"
    )


def _scan_arrays(root: Path, modality: str, masks: Mapping[str, str | Path], notes: list[str]) -> pd.DataFrame:
    """One row per row of train.npy and of the test arrays."""
    if modality == "raw":
        raise ManifestError(f"{root}: the arrays of OpenBHB hold no raw images; choose another --modality")
    block = current().block(modality)
    mask = _mask_file(root, block, masks, notes) if modality in MASKED else None
    stems = ["train"]
    if (root / "internal_test.npy").is_file() and (root / "external_test.npy").is_file():
        stems += ["internal_test", "external_test"]
        if (root / "test.npy").is_file():
            notes.append("test.npy was left out: internal_test.npy and external_test.npy hold the same scans")
    elif (root / "test.npy").is_file():
        stems.append("test")
    else:
        notes.append("there is neither test.npy nor internal_test.npy with external_test.npy, so no test rows")
    parts = []
    for stem in stems:
        file = root / f"{stem}.npy"
        part = array_rows(root / f"{stem}.tsv", stem, len(wide_array(file)), notes)
        part["image"] = [str(Reference(file, modality, row)) for row in range(len(part))]
        parts.append(part)
    out = pd.concat(parts, ignore_index=True).fillna({name: "" for part in parts for name in part if name != "age"})
    if mask is not None:
        out["mask"] = str(mask)
    return out


def _mask_file(root: Path, block: Block, masks: Mapping[str, str | Path], notes: list[str]) -> Path:
    """The mask of a block, given or found beside the data, checked by grid, voxel count and blob id."""
    if block.name in masks:
        file = Path(masks[block.name]).absolute()
    else:
        folders = (root, root / "resource", root.parent, root.parent / "resource")
        found = [folder / block.mask_file for folder in folders if (folder / block.mask_file).is_file()]
        if not found:
            raise ManifestError(
                f"{root}: {block.mask_file} is neither here nor in resource/, but {block.name} rows hold the voxels of "
                f"that mask only; give it with --{block.name}-mask FILE"
            )
        file = found[0]
    read_mask(file, block)
    if block.mask_blob and git_blob(file) != block.mask_blob:
        notes.append(
            f"{file.name} has the {block.mask_voxels:,} voxels of the published mask, but other bytes (git hash-object "
            f"gives {git_blob(file)[:10]}, published is {block.mask_blob[:10]}); its voxel count was relied on"
        )
    return file


def _scan_files(root: Path, layout: str, modality: str, notes: list[str], sessions: Named) -> pd.DataFrame:
    """One row per file of a scan, or per row of the tables of regional measures."""
    found = list(_tree_files(root, modality) if layout == "tree" else _folder_files(root, modality, notes))
    if not found:
        ending = _ENDINGS[modality]
        other = f" and no {_TABLES[modality]}" if layout == "folder" and modality in _TABLES else ""
        raise ManifestError(f"{root}: there is no file sub-*{ending}{other}; choose another --modality or get them")
    images = pd.DataFrame(found, columns=["participant_id", "session", "image", "folder"], dtype=object)
    again = images[images.duplicated(["participant_id", "session"])]
    if len(again):
        raise ManifestError(
            f"{root}: participant {again['participant_id'].iloc[0]} has {modality} twice (in "
            f"{' and '.join(sorted(set(images['folder'])))}); remove one of them"
        )
    persons = persons_of(root, notes)
    out = merge_persons(images.drop(columns="folder"), persons, notes, sessions)
    out["split"] = official_splits(root, out, notes)
    outside = out["split"].isin(("internal_test", "external_test")) == (images["folder"] == "train")
    wrong = out[outside & (out["split"] != "") & (images["folder"] != "")]
    if len(wrong):
        notes.append(
            f"{len(wrong)} scans lie in a folder of another split than participants.tsv says, which counts: "
            f"{listed([str(label) for label in wrong['participant_id']])}"
        )
    return out


def _tree_files(root: Path, modality: str) -> Iterator[tuple[str, str, str, str]]:
    """(participant, session, image, "") of a tree of files."""
    if modality == "raw":
        return
    for path in sorted((root / "data").glob(f"sub-*{_ENDINGS[modality]}")):
        label = path.name.removesuffix(_ENDINGS[modality]).removeprefix("sub-")
        yield label, "", str(Reference(path, modality)), ""


def _folder_files(root: Path, modality: str, notes: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """(participant, session, image, train or val) of the Hugging Face folder."""
    for name in _SETS:
        place = root / name / ("rawdata" if modality == "raw" else "derivatives")
        paths = sorted(place.glob(f"sub-*/ses-*/sub-*{_ENDINGS[modality]}"))
        for path in paths:
            label = re.sub(r"_.*", "", path.name).removeprefix("sub-")
            image = str(path) if modality == "raw" else str(Reference(path, modality))
            yield label, path.parent.name, image, name
        if not paths and modality in _TABLES and (place / _TABLES[modality]).is_file():
            file = place / _TABLES[modality]
            rows = read_table(file, notes)
            sessions = rows["session"] if "session" in rows else pd.Series("1", index=rows.index)
            if "participant_id" not in rows:
                raise ManifestError(f"{file}: has no column participant_id; take the table as published")
            for row, (label, session) in enumerate(zip(rows["participant_id"], sessions, strict=True)):
                named = str(session).removeprefix("ses-").removesuffix(".0")
                bare = str(label).removeprefix("sub-")
                yield bare, f"ses-{named}" if named else "", str(Reference(file, "table", row)), name
