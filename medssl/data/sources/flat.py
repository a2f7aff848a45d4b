"""Folders without a standard: files named after the ids of a table (flat), or images alone (plain)."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from medssl.data.sources.bids_tree import INSTEAD, SUFFIX
from medssl.data.sources.found import (
    NoImages,
    natural,
    one_echo,
    one_format,
    say_echoes,
    suffix_counts,
    suffix_in,
    without_parts,
)
from medssl.data.sources.match import People
from medssl.data.sources.merge import merge_persons
from medssl.data.sources.numbers import Whose, ids_in
from medssl.data.sources.plain import participant_in, scan_plain, session_of
from medssl.data.sources.tables import listed
from medssl.data.sources.visits import Named
from medssl.data.volumes.image_files import find_images, stem, suffix_of
from medssl.errors import ManifestError, count
from medssl.tables.people import bare, entity


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
        return scan_plain(root, files, notes)
    ids = {bare(label, "sub"): str(label) for label in persons["participant_id"] if bare(label, "sub")}
    found = _listed_ids(files, root, ids, notes)
    exact = {whose.label for whose in found if whose.exact}
    chosen: dict[tuple[str, str], Path] = {}
    further: list[str] = []
    spelled: list[str] = []
    lone: list[Path] = []
    for path, whose in zip(files, found, strict=True):
        key = (whose.label, session_of(path, root))
        if not whose.label:
            lone.append(path)
        elif whose.label in exact and not whose.exact:
            spelled.append(path.relative_to(root).as_posix())
        elif key in chosen:
            further.append(path.relative_to(root).as_posix())
        else:
            chosen[key] = path
    if not chosen:
        raise ManifestError(
            f"{root}: no file name contains an id of the participants table (first file {files[0].name}, first id "
            f"{next(iter(persons['participant_id']), '')}); name the id column with --column participant_id=THEIRS"
        )
    if spelled:
        notes.append(
            f"{count(len(spelled), 'file')} left out, which spell an id otherwise (03 for 3) where another file spells "
            f"it as the table does: {listed(spelled)}"
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
        matched = pd.concat([matched, scan_plain(root, lone, notes)], ignore_index=True)
    return merge_persons(matched, persons, notes, sessions)


def _listed_ids(files: Sequence[Path], root: Path, ids: Mapping[str, str], notes: list[str]) -> list[Whose]:
    """The id of the table whose scan each file is, "" for none: that of sub-XX in the path, else that in its name.

    Errors: ManifestError where every name could mean several people.
    """
    people = People(ids)
    words = {label: written for label, written in ids.items() if not label.isdigit()}
    texts = [path.relative_to(root).parent.joinpath(stem(path)).as_posix() for path in files]
    named = [participant_in(path, root) for path in files]
    free = [text for text, label in zip(texts, named, strict=True) if not label]
    found = dict(zip(free, ids_in(free, ids), strict=True))
    out, unclear = [], []
    for text, path, label in zip(texts, files, named, strict=True):
        if label:
            known = _of_label(label, ids, people)
            out.append(known if known.label else ids_in([text], words)[0])
            continue
        out.append(found[text])
        if found[text].between:
            unclear.append(f"{path.relative_to(root).as_posix()} ({' or '.join(found[text].between)})")
    if unclear:
        words_of = (
            f"{count(len(unclear), 'file')} could be of different people of the participants table, by the numbers in "
            f"their names: {listed(unclear)}"
        )
        if not any(whose.label for whose in out):
            raise ManifestError(
                f"{root}: {words_of}; name the files with sub-XX, or write the ids as the files have them"
            )
        notes.append(f"{words_of}; they were given to none (name them with sub-XX, or write the ids as the files do)")
    return out


def _of_label(named: str, ids: Mapping[str, str], people: People) -> Whose:
    """What a participant of a path is called: the table's word where it says the same, "" where it has none."""
    label, way = people.met(named)
    if not label:
        return Whose()
    same = ids[label] in (label, f"sub-{label}") and (not way or label.isdigit())
    return Whose(ids[label] if same else named, (), not way)
