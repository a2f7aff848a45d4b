"""Ids of images without a table: from sub-XX in their paths, else from the names of files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medssl.data.sources.tables import listed
from medssl.data.volumes.image_files import stem
from medssl.errors import count
from medssl.tables.people import entity, id_and_session

_SUB = re.compile(r"(?:^|(?<=[_/]))sub-[A-Za-z0-9+]+(?:-\d+(?![A-Za-z0-9]))*")
_KEY = re.compile(r"(?:^|(?<=[_/]))(sub|ses)-", re.IGNORECASE)
_DESCRIPTION = re.compile(
    r"([_-](T1w?|T2w?|FLAIR|PD|mprage|anat|brain|stripped|skullstripped|preproc\w*|desc-\w+|space-\w+|\d+mm|w))+$",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"_(run|acq|echo|rec|dir|space|desc|part|inv|ce|mod|res|label|split|chunk|flip|mt)-[A-Za-z0-9.+]+")
"""What BIDS says of an image and not of a person or a visit."""
_KIND = re.compile(r"t1w?|t2w?|flair|pdw?|mri|anat|nifti|nii|mprage|dicom|scans?|images?|structural", re.IGNORECASE)
_WORDS = r"(ses(sion)?|visit|timepoint|tp|wave|month|year|week|day)[ -]?\d+|baseline|screening|follow[ -]?up[ -]?\d*"
_VISIT_WORD = re.compile(_WORDS, re.IGNORECASE)
"""Parts of names that say a visit, without single letters, which may be of somebody's number (M01, V01)."""
_VISIT = re.compile(rf"{_WORDS.replace('[ -]', '[ _-]')}|[vmy][ _-]?\d+|time[ _-]?\d+|bl|fu[ _-]?\d*", re.IGNORECASE)
"""Folders of visits: what lies in them is of the same people."""


def participant_in(path: Path, root: Path) -> str:
    """The participant that a path names as BIDS does ("sub-01"), "" where it names none.

    Numbers behind a hyphen belong to the label (sub-CC-001), and so does all of a folder's name that the file repeats
    (sub-NDAR_INV1/sub-NDAR_INV1_T1w.nii.gz) or that stands above a file without a label of its own.
    """
    inner = _small_keys(path.relative_to(root))
    own = _SUB.findall(stem(inner))
    for folder in reversed(inner.parts[:-1]):
        if folder.startswith("sub-") and (not own or stem(inner).startswith(f"{folder}_")):
            return id_and_session(folder)[0]
    if own:
        return str(own[-1])
    above = _SUB.findall(inner.parent.as_posix())
    return str(above[-1]) if above else ""


def _small_keys(path: Path) -> Path:
    """A path with SUB- and SES- in small letters."""
    return Path(_KEY.sub(lambda found: found[0].lower(), path.as_posix()))


def session_of(path: Path, root: Path) -> str:
    """The session in a path: that of the file's name, else the first of its folders."""
    inner = _small_keys(path.relative_to(root))
    return entity(inner.name, "ses") or entity(inner.parent.as_posix(), "ses")


def scan_plain(root: Path, files: list[Path], notes: list[str]) -> pd.DataFrame:
    """Ids from sub-XX in the paths, else from the file names without what describes the image, or from the folders."""
    people = [participant_in(path, root) for path in files]
    free = [path for path, label in zip(files, people, strict=True) if not label]
    found = dict(zip(free, _named(root, free, notes), strict=True))
    ids = [label or found[path][0] for path, label in zip(files, people, strict=True)]
    sessions = [session_of(path, root) if label else found[path][1] for path, label in zip(files, people, strict=True)]
    _say_several(list(zip(ids, sessions, strict=True)), notes)
    _say_folders(root, [(p, label) for p, label in zip(files, people, strict=True) if label], notes)
    return pd.DataFrame(
        {"participant_id": ids, "session": sessions, "image": [str(path) for path in files]}, dtype=object
    )


def _named(root: Path, files: Sequence[Path], notes: list[str]) -> list[tuple[str, str]]:
    """Person and session of every file by its name, or by its folders where names repeat in several of these."""
    names = [_DESCRIPTION.sub("", stem(path)) or stem(path) for path in files]
    homes: dict[str, set[Path]] = {}
    for path, name in zip(files, names, strict=True):
        homes.setdefault(_parted(name)[0], set()).add(path.parent)
    kinds = any(_KIND.fullmatch(name) and path.parent != root for path, name in zip(files, names, strict=True))
    if not kinds and all(len(folders) == 1 for folders in homes.values()):
        return [_parted(name) for name in names]
    return _by_folders(root, files, names, notes)


def _parted(name: str) -> tuple[str, str]:
    """A name without what describes the image, as person and session: "anna_ses-1_run-2" is ("anna", "ses-1")."""
    text = _ENTITY.sub("", name) or name
    found = re.fullmatch(r"(.+?)_(ses-[A-Za-z0-9]+)(.*)", text)
    if found:
        return found.group(1) + found.group(3), found.group(2)
    first, *more = text.split("_")
    visits = [part for part in more if _VISIT_WORD.fullmatch(part)]
    if len(visits) != 1:
        return text, ""
    return "_".join([first, *(part for part in more if part != visits[0])]), f"ses-{_bare_visit(visits[0])}"


def _by_folders(root: Path, files: Sequence[Path], names: Sequence[str], notes: list[str]) -> list[tuple[str, str]]:
    """Person and session where names repeat in different folders.

    Folders of visits are the session. The others are the person where every one of them holds the same names; else
    folder and name together are, and it is said where one folder then holds several people.
    """
    inner = [path.relative_to(root).parts[:-1] for path in files]
    visits = [next((part for part in reversed(parts) if _VISIT.fullmatch(part)), "") for parts in inner]
    if any(len(p) == 1 and v and _KIND.fullmatch(n) for p, v, n in zip(inner, visits, names, strict=True)):
        visits = ["" if len(parts) == 1 else visit for parts, visit in zip(inner, visits, strict=True)]
    owners = [
        tuple(p for p in parts if p != v and not _KIND.fullmatch(p)) for parts, v in zip(inner, visits, strict=True)
    ]
    parted = [_parted(name) for name in names]
    shared = _same_names(owners, visits, parted)
    out: list[tuple[str, str]] = []
    for path, parts, visit, owner, (name, own) in zip(files, inner, visits, owners, parted, strict=True):
        session = own or (f"ses-{_bare_visit(visit)}" if visit else "")
        if shared:
            out.append(("_".join(owner), session))
        elif visit and all(visits) and not _KIND.fullmatch(name):
            out.append(("_".join([*owner, name]), session))
        else:
            out.append(("_".join([*parts, _parted(stem(path))[0]]), own))
    tops: dict[str, set[str]] = {}
    for parts, (label, _) in zip(inner, out, strict=True):
        if parts:
            tops.setdefault(parts[0], set()).add(label)
    several = [top for top, held in tops.items() if len(held) > 1]
    if shared:
        people = len(set(owners))
        notes.append(
            f"{count(people, 'person', 'people')} named by their folder, since all of these hold images of the "
            "same names or kinds"
        )
    elif several and not all(visits):
        notes.append(
            f"several images of one folder are taken as different people: {listed(several)}; "
            "where they are one person's, put sub-XX into the names, or choose one image of each with --pattern"
        )
    return out


def _bare_visit(folder: str) -> str:
    """A visit's folder as the label of a session: letters and digits only, without "ses"."""
    text = re.sub(r"[^A-Za-z0-9]", "", folder)
    return re.sub(r"^ses(sion)?(?=\d)", "", text, flags=re.IGNORECASE)


def _same_names(owners: Sequence[tuple[str, ...]], visits: Sequence[str], parted: Sequence[tuple[str, str]]) -> bool:
    """Whether folders are people: one holds several images, and every one shares its names with another."""
    if not all(owners) or len(set(owners)) == len(owners):
        return False
    if all(_KIND.fullmatch(name) for name, _ in parted):
        return True
    if any(
        re.fullmatch(r"(?!run|img|acq)[A-Za-z]{0,3}[_-]?\d+", name) and not _KIND.fullmatch(name) for name, _ in parted
    ):
        return False  # numbers are people, and the folders sites or groups
    kinds: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for owner, visit, (name, own) in zip(owners, visits, parted, strict=True):
        kinds.setdefault(owner, set()).add((visit or own, name))
    where = Counter(kind for held in kinds.values() for kind in held)
    return len(kinds) > 1 and all(any(where[kind] > 1 for kind in held) for held in kinds.values())


def _say_several(found: Sequence[tuple[str, str]], notes: list[str]) -> None:
    """Say who has several files in one session."""
    several = list(dict.fromkeys(label for (label, _), n in Counter(found).items() if n > 1))
    if several:
        notes.append(
            f"{count(len(several), 'participant')} with several images of one session, all kept as scans of one person "
            f"(--pattern or --suffix chooses): {listed(several)}"
        )


def _say_folders(root: Path, files: list[tuple[Path, str]], notes: list[str]) -> None:
    """Say who lies in several folders at the top."""
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
