"""Folders without a standard: files named after the ids of a table (flat), or images alone (plain)."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from medssl.data.cohorts.bids_tree import INSTEAD, SUFFIX
from medssl.data.cohorts.found import (
    NoImages,
    natural,
    one_echo,
    one_format,
    say_echoes,
    suffix_counts,
    suffix_in,
    without_parts,
)
from medssl.data.cohorts.match import People
from medssl.data.cohorts.merge import merge_persons
from medssl.data.cohorts.tables import listed
from medssl.data.cohorts.visits import Named
from medssl.data.image_files import find_images, stem, suffix_of
from medssl.errors import ManifestError, count
from medssl.tables.people import bare, entity, id_and_session

_SUB = re.compile(r"(?:^|(?<=[_/]))sub-[A-Za-z0-9+]+(?:-\d+(?![A-Za-z0-9]))*")
_DESCRIPTION = re.compile(
    r"([_-](T1w?|T2w?|FLAIR|PD|mprage|anat|brain|stripped|skullstripped|preproc\w*|desc-\w+|space-\w+|\d+mm|w))+$",
    re.IGNORECASE,
)

_NOISE = re.compile(
    r"(?<![A-Za-z0-9])(T[12]w?|[\d.]+mm|\d(\.\d)?T|(run|ses|acq|echo|rec|space|desc|res)-[A-Za-z0-9]+)(?![A-Za-z0-9])"
)


def _images(root: Path, suffix: str, pattern: str | None, notes: list[str], echo: int | None) -> list[Path]:
    """Image files below root in natural order: those that fit the pattern and are named after the suffix.

    The default suffix chooses only where no pattern is given and some images carry it; any other is a demand.
    """
    found = sorted(find_images(root), key=lambda path: natural(path.relative_to(root).as_posix()))
    if not found:
        raise NoImages(
            f"{root}: holds no .nii, .nii.gz, .npy, .mgz, .img, .nrrd or .mha file; give the folder of the scans"
        )
    chosen = _fitting(root, _without_templates(root, found, notes), suffix, pattern, notes)
    if not pattern or "part-" not in pattern:
        parts = chosen
        chosen = without_parts(chosen, notes)
        if not chosen:
            raise NoImages(f"{root}: all {len(parts)} images hold phases, real or imaginary parts; give the magnitudes")
    files, echoes = one_echo(one_format(chosen, notes), echo)
    if not files:
        raise NoImages(f"{root}: no image has echo-{echo} in its name; correct --echo")
    say_echoes(echoes.values(), echo, notes)
    return files


def _without_templates(root: Path, found: list[Path], notes: list[str]) -> list[Path]:
    """The images that are not of fsaverage, the template that FreeSurfer puts beside the people."""
    kept = [path for path in found if not any(part.startswith("fsaverage") for part in path.relative_to(root).parts)]
    if len(kept) < len(found):
        notes.append(f"{count(len(found) - len(kept), 'image')} of fsaverage left out, which is nobody")
    return kept


def _refuse_freesurfer(root: Path, found: list[Path]) -> None:
    """Refuse a folder of FreeSurfer, where a person has many volumes, most of them no scans. Errors: NoImages."""
    volumes = [path for path in found if suffix_of(path) == ".mgz" and path.parent.name == "mri"]
    kinds = Counter(path.name for path in volumes)
    if len(kinds) > 1:
        shown = listed([f"{name} ({n})" for name, n in kinds.most_common()], 8)
        raise NoImages(
            f"{root}: is a folder of FreeSurfer with {shown} in mri/; choose one of them with --pattern, such as "
            f"'*/mri/{'brain.mgz' if 'brain.mgz' in kinds else next(iter(kinds))}'"
        )


def _fitting(root: Path, found: list[Path], suffix: str, pattern: str | None, notes: list[str]) -> list[Path]:
    """The images that fit the pattern and are named after the suffix."""
    if pattern:
        whole = "/" in pattern
        names = [path.relative_to(root).as_posix() if whole else path.name for path in found]
        fitting = [path for path, name in zip(found, names, strict=True) if fnmatch.fnmatch(name, pattern)]
        if not fitting:
            raise NoImages(f"{root}: no image fits the pattern '{pattern}'; the first is {found[0].name}")
        if suffix == SUFFIX:
            return fitting
        found = fitting
    sought = re.compile(rf"(?:^|_){re.escape(suffix)}(?:_|$)|-{re.escape(suffix)}$")
    named = [path for path in found if sought.search(stem(path))]
    if not named and suffix != SUFFIX:
        raise NoImages(
            f"{root}: no image is named after the suffix '{suffix}' (*_{suffix}.nii.gz); the first is {found[0].name}; "
            "correct --suffix"
        )
    if not named and not pattern:
        _refuse_freesurfer(root, found)
        return _of_bids_names(root, found, notes)
    if named and len(named) < len(found):
        others = [path.name for path in found if path not in set(named)]
        notes.append(f"{len(others)} images without '{suffix}' in their name were left out: {listed(others)}")
    return named or found


def _of_bids_names(root: Path, found: list[Path], notes: list[str]) -> list[Path]:
    """All images; of those named as in BIDS (sub-01_..._SUFFIX), where a person has several kinds, those of UNIT1.

    Errors: NoImages with the suffixes that there are, where a person has several kinds and none of them is UNIT1.
    """
    if not all(entity(path.name, "sub") and "_" in stem(path) for path in found):
        return found
    visits = [(entity(path.name, "sub"), entity(path.name, "ses")) for path in found]
    kinds = {(*visit, suffix_in(path)) for visit, path in zip(visits, found, strict=True)}
    if len(kinds) == len(set(visits)) and not any("_inv-" in path.name for path in found):
        return found
    combined = [path for path in found if suffix_in(path) == INSTEAD]
    if not combined:
        raise NoImages(f"{root}: no image is a {SUFFIX}, but there is {suffix_counts(found)}; choose with --suffix")
    notes.append(f"there is no {SUFFIX} image, so {INSTEAD} was taken (--suffix chooses)")
    return combined


def scan_files(
    root: Path,
    suffix: str,
    persons: pd.DataFrame | None,
    pattern: str | None,
    notes: list[str],
    echo: int | None = None,
    sessions: Named = (),
) -> pd.DataFrame:
    """One row per image file; with a table, one per participant and session (the first file is taken)."""
    files = _images(root, suffix, pattern, notes, echo)
    if persons is None:
        return _plain(root, files, notes)
    ids = {bare(label, "sub"): str(label) for label in persons["participant_id"] if bare(label, "sub")}
    people = People(ids)
    chosen: dict[tuple[str, str], Path] = {}
    further: list[str] = []
    lone: list[Path] = []
    for path in files:
        label = _listed_id(path, root, ids, people)
        session = _session_of(path, root)
        if not label:
            lone.append(path)
            continue
        key = (label, session)
        if key in chosen:
            further.append(path.relative_to(root).as_posix())
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
        matched = pd.concat([matched, _plain(root, lone, notes)], ignore_index=True)
    return merge_persons(matched, persons, notes, sessions)


def participant_in(path: Path, root: Path) -> str:
    """The participant that a path names as BIDS does ("sub-01"), "" where it names none.

    Numbers behind a hyphen belong to the label (sub-CC-001), and so does all of a folder's name that the file repeats
    (sub-NDAR_INV1/sub-NDAR_INV1_T1w.nii.gz) or that stands above a file without a label of its own.
    """
    inner = path.relative_to(root)
    own = _SUB.findall(stem(path))
    for folder in reversed(inner.parts[:-1]):
        if folder.startswith("sub-") and (not own or stem(path).startswith(f"{folder}_")):
            return id_and_session(folder)[0]
    if own:
        return str(own[-1])
    above = _SUB.findall(inner.parent.as_posix())
    return str(above[-1]) if above else ""


def _session_of(path: Path, root: Path) -> str:
    """The session in a path: that of the file's name, else the first of its folders."""
    inner = path.relative_to(root)
    return entity(path.name, "ses") or entity(inner.parent.as_posix(), "ses")


def _listed_id(path: Path, root: Path, ids: Mapping[str, str], people: People) -> str:
    """The id of the table whose scan a file is, "" for none: that of sub-XX in the path, else the longest in it."""
    named = participant_in(path, root)
    inner = path.relative_to(root)
    if named:
        label, way = people.met(named)
        if label:  # the table's word where it says the same, else the folder's
            same = ids[label] in (label, f"sub-{label}") and (not way or label.isdigit())
            return ids[label] if same else named
        words = {label: written for label, written in ids.items() if not label.isdigit()}
        return longest_id(stem(path), words) or longest_id(inner.parent.as_posix(), words)
    return longest_id(stem(path), ids) or longest_id(inner.parent.as_posix(), ids)


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


def _plain(root: Path, files: list[Path], notes: list[str]) -> pd.DataFrame:
    """Ids from sub-XX in the paths, else from the file names without what describes the image, or from the folders."""
    people = [participant_in(path, root) for path in files]
    free = [path for path, label in zip(files, people, strict=True) if not label]
    names = dict(zip(free, _names(root, free), strict=True))
    ids, sessions = [], []
    for path, label in zip(files, people, strict=True):
        found = re.fullmatch(r"(.*?)_(ses-[A-Za-z0-9]+)(.*)", names.get(path, ""))
        ids.append(label or (found.group(1) + found.group(3) if found else names[path]))
        sessions.append(_session_of(path, root) if label else found.group(2) if found else "")
    _say_several(root, [(p, label) for p, label in zip(files, people, strict=True) if label], notes)
    return pd.DataFrame(
        {"participant_id": ids, "session": sessions, "image": [str(path) for path in files]}, dtype=object
    )


def _names(root: Path, files: list[Path]) -> list[str]:
    """What tells files apart: their names without what describes the image, longer ones where these repeat."""
    names = [_DESCRIPTION.sub("", stem(path)) or stem(path) for path in files]
    if len(set(names)) < len(names):
        names = [stem(path) for path in files]
    if len(set(names)) < len(names):
        names = ["_".join([*path.relative_to(root).parts[:-1], stem(path)]) for path in files]
    return names


def _say_several(root: Path, files: list[tuple[Path, str]], notes: list[str]) -> None:
    """Say who has several files in one session, and who lies in several folders at the top."""
    counts = Counter((label, _session_of(path, root)) for path, label in files)
    several = list(dict.fromkeys(label for (label, _), n in counts.items() if n > 1))
    if several:
        notes.append(
            f"{count(len(several), 'participant')} with several images of one session, all kept as scans of one person "
            f"(--pattern or --suffix chooses): {listed(several)}"
        )
    tops: dict[str, set[str]] = {}
    for path, label in files:
        top = path.relative_to(root).parts[0]
        if not top.startswith(("sub-", "ses-")) and top != path.name:
            tops.setdefault(label, set()).add(top)
    shared = [f"{label} ({', '.join(sorted(found))})" for label, found in tops.items() if len(found) > 1]
    if shared:
        notes.append(
            f"{count(len(shared), 'participant')} in several folders, each taken as one person: {listed(shared)}; "
            "where they are different people, give the folders one by one (medssl cohort scan A B C)"
        )
