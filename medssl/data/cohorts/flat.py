"""Folders without a standard: files named after the ids of a table (flat), or images alone (plain)."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from medssl.data.cohorts.tables import bare, listed, merge_persons
from medssl.errors import ManifestError

SUFFIX = "T1w"
"""The suffix where none is asked for; images of a flat or plain folder need not carry it."""

FILE_ENDINGS = (".nii", ".nii.gz", ".npy")
_DESCRIPTION = re.compile(
    r"([_-](T1w?|T2w?|FLAIR|PD|mprage|anat|brain|stripped|skullstripped|preproc\w*|desc-\w+|space-\w+|\d+mm|w))+$",
    re.IGNORECASE,
)

_NOISE = re.compile(
    r"(?<![A-Za-z0-9])(T[12]w?|[\d.]+mm|\d(\.\d)?T|(run|ses|acq|echo|rec|space|desc|res)-[A-Za-z0-9]+)(?![A-Za-z0-9])"
)


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key in which sub-2 stands before sub-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def stem(path: Path) -> str:
    """The file's name without .nii, .nii.gz or .npy."""
    for ending in (".nii.gz", ".nii", ".npy"):
        if path.name.endswith(ending):
            return path.name.removesuffix(ending)
    return path.stem


def _images(root: Path, suffix: str, pattern: str | None, notes: list[str]) -> list[Path]:
    """Image files below root in natural order: those that fit the pattern and are named after the suffix.

    The default suffix chooses only where no pattern is given and some images carry it; any other is a demand.
    """
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if name.endswith(FILE_ENDINGS) and not name.startswith(".")]
    found.sort(key=lambda path: natural(path.relative_to(root).as_posix()))
    if not found:
        raise ManifestError(f"{root}: holds no .nii, .nii.gz or .npy file; give the folder of the scans")
    if pattern:
        whole = "/" in pattern
        names = [path.relative_to(root).as_posix() if whole else path.name for path in found]
        fitting = [path for path, name in zip(found, names, strict=True) if fnmatch.fnmatch(name, pattern)]
        if not fitting:
            raise ManifestError(f"{root}: no image fits the pattern '{pattern}'; the first is {found[0].name}")
        if suffix == SUFFIX:
            return fitting
        found = fitting
    sought = re.compile(rf"(?:^|_){re.escape(suffix)}(?:_|$)|-{re.escape(suffix)}$")
    named = [path for path in found if sought.search(stem(path))]
    if not named and suffix != SUFFIX:
        raise ManifestError(
            f"{root}: no image is named after the suffix '{suffix}' (*_{suffix}.nii.gz); the first is {found[0].name}; "
            "correct --suffix"
        )
    if named and len(named) < len(found):
        others = [path.name for path in found if path not in set(named)]
        notes.append(f"{len(others)} images without '{suffix}' in their name were left out: {listed(others)}")
    return named or found


def scan_files(
    root: Path, suffix: str, persons: pd.DataFrame | None, pattern: str | None, notes: list[str]
) -> pd.DataFrame:
    """One row per image file; with a table, one per participant and session (the first file is taken)."""
    files = _images(root, suffix, pattern, notes)
    if persons is None:
        return _plain(root, files)
    ids = {bare(label, "sub"): str(label) for label in persons["participant_id"] if bare(label, "sub")}
    chosen: dict[tuple[str, str], Path] = {}
    further: list[str] = []
    lone: list[Path] = []
    for path in files:
        inner = path.relative_to(root)
        label = longest_id(stem(path), ids) or longest_id(inner.parent.as_posix(), ids)
        session = re.search(r"(?:^|[_/])(ses-[A-Za-z0-9]+)", inner.as_posix())
        if not label:
            lone.append(path)
            continue
        key = (label, session.group(1) if session else "")
        if key in chosen:
            further.append(inner.as_posix())
        chosen.setdefault(key, path)
    if not chosen:
        raise ManifestError(
            f"{root}: no file name contains an id of the participants table (first file {files[0].name}, first id "
            f"{next(iter(persons['participant_id']), '')}); name the id column with --column participant_id=THEIRS"
        )
    if further:
        notes.append(
            f"{len(further)} further files of a participant were left out (--pattern chooses): {listed(further)}"
        )
    matched = pd.DataFrame(
        [(label, session, str(path)) for (label, session), path in chosen.items()],
        columns=["participant_id", "session", "image"],
        dtype=object,
    )
    if lone:
        matched = pd.concat([matched, _plain(root, lone)], ignore_index=True)
    return merge_persons(matched, persons, notes)


def longest_id(text: str, ids: Mapping[str, str]) -> str:
    """The value of the longest id that stands in the text by itself, not inside a longer number or word.

    sub-1 is not found in sub-10, 012 is found in IXI012; "" if none. Plain numbers are not looked for in
    descriptions such as T1w or 4mm; a number with zeros in front (012) also finds the id without them (12).
    The text is cut up and its pieces looked up, so that the time does not grow with the number of ids.
    """
    found = max((piece for piece in _pieces(text) if piece in ids and not piece.isdigit()), key=len, default="")
    if found:
        return ids[found]
    pieces = list(_pieces(_NOISE.sub(" ", text)))
    found = max((piece for piece in pieces if piece in ids), key=len, default="")
    if found:
        return ids[found]
    numbers = [piece.lstrip("0") for piece in pieces if piece.isdigit() and len(piece) > 1]
    return next((ids[number] for number in numbers if number in ids), "")


def _pieces(text: str) -> Iterator[str]:
    """Every run of whole numbers, whole words and signs in the text, from left to right."""
    parts = re.findall(r"\d+|[^\W\d_]+|.", text, flags=re.DOTALL)
    for start in range(len(parts)):
        for stop in range(start + 1, len(parts) + 1):
            yield "".join(parts[start:stop])


def _plain(root: Path, files: list[Path]) -> pd.DataFrame:
    """Ids from the file names, without what describes the image; from the folders where names repeat."""
    names = [_DESCRIPTION.sub("", stem(path)) or stem(path) for path in files]
    if len(set(names)) < len(names):
        names = [stem(path) for path in files]
    if len(set(names)) < len(names):
        names = ["_".join([*path.relative_to(root).parts[:-1], stem(path)]) for path in files]
    found = [re.fullmatch(r"(.*?)_(ses-[A-Za-z0-9]+)(.*)", name) for name in names]
    ids = [match.group(1) + match.group(3) if match else name for match, name in zip(found, names, strict=True)]
    sessions = [match.group(2) if match else "" for match in found]
    return pd.DataFrame(
        {"participant_id": ids, "session": sessions, "image": [str(path) for path in files]}, dtype=object
    )
