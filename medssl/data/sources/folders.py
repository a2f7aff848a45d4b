"""Several folders of scans as one cohort: which BIDS folders lie in one, and how their people stay apart."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from medssl.data.sources.bids_tree import places_of, subjects_of
from medssl.data.sources.names import filled, readable
from medssl.data.sources.tables import listed
from medssl.data.volumes.image_files import find_images
from medssl.documents.json_file import sound_json
from medssl.errors import ManifestError, count

_PARTS = re.compile(
    r"derivatives|sourcedata|rawdata|code|stimuli|phenotype|anat|func|dwi|fmap"
    r"|t[12]w?|pdw?|flair|mra|dti|swi|train(ing)?|val(idation)?|test(ing)?|(in|ex)ternal_test"
    r"|(ses|session|visit|tp|timepoint|time|wave|month|year|[mvty])?[ _-]?\d+|baseline|bl|follow[ _-]?up[ _-]?\d*",
    re.IGNORECASE,
)
"""Names of folders that hold a part of one data set: other files of the same people, not other people."""


def children_of(root: Path) -> tuple[list[Path], list[Path]]:
    """The BIDS folders in a folder that is none itself, and the other folders in it that hold images.

    Folders of derivatives, modalities, visits and splits hold scans of the same people; where one of them holds sub-*,
    nothing is taken apart.
    """
    if subjects_of(root) or (root / "rawdata").is_dir() or root.name == "derivatives":
        return [], []
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = [path for path in folders if any(subjects_of(place) for place in places_of(path))]
    if not found or any(_PARTS.fullmatch(path.name) for path in found if path.name != "derivatives"):
        return [], []
    found = [path for path in found if path.name != "derivatives" and not _derived(path)]
    return found, [path for path in folders if path not in found and find_images(path)]


def _derived(folder: Path) -> bool:
    """Whether a folder holds what a pipeline made: by its description or name, or as FreeSurfer has it (sub-01/mri)."""
    described = sound_json(folder / "dataset_description.json")
    if isinstance(described, dict) and str(described.get("DatasetType")).lower() == "derivative":
        return True
    if re.fullmatch(r"(fmri|smri|qsi|nibabies|dwi)prep|(free|fast)surfer|mriqc|cat12|mriprep", folder.name.lower()):
        return True
    return any((subject / "mri").is_dir() for subject in subjects_of(folder))


def names_of(folders: Sequence[Path]) -> dict[Path, str]:
    """What to call each folder: its name, with those of the folders above where several have the same."""
    parts = {folder: folder.parts[1:] or folder.parts for folder in folders}
    out = {}
    for folder, names in parts.items():
        others = [other for key, other in parts.items() if key != folder]
        depth = 1
        while depth < len(names) and any(other[-depth:] == names[-depth:] for other in others):
            depth += 1
        out[folder] = "_".join(names[-depth:])
    return out


def joined(found: Mapping[Path, tuple[pd.DataFrame, list[str]]]) -> tuple[pd.DataFrame, list[str]]:
    """The scans of several folders in one table, and what was said of each folder and of their joining."""
    names = names_of(list(found))
    _refuse_shared({folder: table for folder, (table, _) in found.items()}, names)
    notes = [f"read as {count(len(found), 'folder')}: {listed(list(names.values()), 12)}"]
    tables = {folder: table.copy() for folder, (table, _) in found.items()}
    sited = []
    sets = dict(zip(names, filled(list(names.values()), "dataset", notes), strict=True))
    for folder, table in tables.items():
        notes += [f"{names[folder]}: {note}" for note in found[folder][1]]
        given = table["dataset"].astype(str) if "dataset" in table else pd.Series("", index=table.index)
        table["dataset"] = given.where(given != "", sets[folder]).astype(object)
        if "site" not in table or not (table["site"].astype(str) != "").any():
            table["site"] = readable(names[folder], "site")
            sited.append(names[folder])
    filled(sited, "site", notes)
    if sited:
        notes.append(f"site is the folder's name where the table names none: {listed(sited, 12)}")
    _apart(tables, names, notes)
    out = pd.concat(list(tables.values()), ignore_index=True)
    for name in out.columns:
        if name != "age":
            out[name] = out[name].fillna("").astype(object)
    return out, notes


def _apart(tables: Mapping[Path, pd.DataFrame], names: Mapping[Path, str], notes: list[str]) -> None:
    """Rename data sets of the same name in different folders, where an id is in several of them; say which ids are."""
    where: dict[tuple[str, str], set[Path]] = {}
    ids: dict[str, set[Path]] = {}
    for folder, table in tables.items():
        for dataset, label in zip(table["dataset"], table["participant_id"], strict=True):
            where.setdefault((dataset, label), set()).add(folder)
            ids.setdefault(label, set()).add(folder)
    shared = [label for label, folders in ids.items() if len(folders) > 1]
    if shared:
        notes.append(f"{count(len(shared), 'id')} in several folders, taken as different people: {listed(shared)}")
    twice = {dataset for (dataset, _), folders in where.items() if len(folders) > 1}
    for folder, table in tables.items():
        table["dataset"] = [f"{name}_{names[folder]}" if name in twice else name for name in table["dataset"]]
    if twice:
        notes.append(
            f"data sets of the same name in several folders were told apart by the folder: {listed(sorted(twice))}"
        )
    _subjects_apart(tables, notes)


def _subjects_apart(tables: Mapping[Path, pd.DataFrame], notes: list[str]) -> None:
    """Write DATASET/SUBJECT where folders share values of a column subject, which groups the scans of one person."""
    where: dict[str, set[Path]] = {}
    for folder, table in tables.items():
        for subject in set(table["subject"].astype(str)) - {""} if "subject" in table else ():
            where.setdefault(subject, set()).add(folder)
    shared = sorted(subject for subject, folders in where.items() if len(folders) > 1)
    if not shared:
        return
    for table in tables.values():
        if "subject" in table:
            pairs = zip(table["dataset"].astype(str), table["subject"].astype(str), strict=True)
            table["subject"] = pd.Series([f"{d}/{s}" if s else "" for d, s in pairs], index=table.index, dtype=object)
    notes.append(
        f"{count(len(shared), 'subject')} in several folders, taken as different people: subject is written as "
        f"DATASET/SUBJECT: {listed(shared)}"
    )


def _refuse_shared(tables: Mapping[Path, pd.DataFrame], names: Mapping[Path, str]) -> None:
    """Refuse folders that hold the same files, through links, whose people would be several. Errors: ManifestError."""
    seen: dict[tuple[str, str], Path] = {}
    for folder, table in tables.items():
        for image in table["image"].astype(str):
            key = (os.path.realpath(os.path.dirname(image)), os.path.basename(image))
            if seen.setdefault(key, folder) != folder:
                raise ManifestError(
                    f"{image}: is the same file as one of {seen[key]}, by a link; give only one of the two folders "
                    f"({names[seen[key]]}, {names[folder]})"
                )


def once(folders: Sequence[Path], notes: list[str]) -> list[Path]:
    """The folders, each once where links or a folder above name it again; said. Errors: ManifestError for one inside
    another."""
    real: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if place in real:
            again = f" (also as {real[place]})" if folder != real[place] else ""
            notes.append(f"{folder} is named twice{again}, by itself and by a folder above, and was read once")
        real.setdefault(place, folder)
    for place, folder in real.items():
        above = next((real[other] for other in place.parents if other in real), None)
        if above is not None:
            raise ManifestError(f"{folder}: lies in {above}, which is given too; give one of them")
    return list(real.values())


def refuse_one_dataset(table: pd.DataFrame, dataset: str) -> None:
    """Refuse one name for data sets that share an id, whose people would become one. Errors: ManifestError."""
    if "dataset" not in table:
        return
    people = table[["dataset", "participant_id"]].drop_duplicates()
    shared = people[people["participant_id"].duplicated()]["participant_id"].tolist()
    if shared and (people["dataset"] != "").all():
        raise ManifestError(
            f"--dataset {dataset} would make one person of {shared[0]} in different data sets "
            f"({', '.join(people[people['participant_id'] == shared[0]]['dataset'])}); leave it out"
        )
