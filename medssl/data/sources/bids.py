"""A manifest from a folder of scans, or from several: which layout each has, and what its tables say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from medssl.data.sources.bids_tree import SUFFIX, dataset_name, looks_bids, scan_bids
from medssl.data.sources.flat import scan_files
from medssl.data.sources.folders import children_of, joined, once
from medssl.data.sources.found import NoImages, say_absent
from medssl.data.sources.match import named_id, split_ids
from medssl.data.sources.names import filled, keep_readable
from medssl.data.sources.options import refuse_keep, refuse_options
from medssl.data.sources.persons import tidy
from medssl.data.sources.sessions import Reading, has_sessions
from medssl.data.sources.tables import TABLE_NAMES, Keep, in_order, is_writable, listed, read_table, write_manifest
from medssl.data.sources.visits import Named
from medssl.errors import ManifestError, count, shown
from medssl.tables.pointers import stands_in

__all__ = ["scan_folder", "write_manifest"]

_IDS = ("id", "subject", "subjectid", "subject_id", "sub_id", "subid", "participant", "patient_id", "code", "ixi_id")
_TABLES = (".csv", ".tsv", ".xlsx", ".xls")
LAYOUTS = ("auto", "bids", "flat", "plain")


@dataclass(frozen=True)
class _Asked:
    """What was asked for, besides the folder; see ``scan_folder``."""

    suffix: str = SUFFIX
    derivative: str | None = None
    layout: str = "auto"
    table: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    sex: Mapping[str, str] = field(default_factory=dict)
    pattern: str | None = None
    echo: int | None = None
    sessions: Named = ()
    keep: Keep = ()
    several: bool = False


def scan_folder(
    root: str | Path | Sequence[str | Path],
    suffix: str = SUFFIX,
    derivative: str | None = None,
    layout: str = "auto",
    *,
    table: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    sex: Mapping[str, str] | None = None,
    pattern: str | None = None,
    echo: int | None = None,
    sessions: Named = (),
    keep: Keep = (),
) -> pd.DataFrame:
    """The scans below ``root`` as manifest rows: participant_id, image (absolute), and what the tables know.

    layout: "bids" (sub-*/[ses-*/][anat/]*_<suffix>.nii[.gz]), "flat" (files whose names contain the ids of a
    participants table; the longest id wins), "plain" (images only, ids from the file names) or "auto".
    suffix: the end of the names of the images; flat and plain folders must only have it where it is not T1w.
    derivative: a folder name under ``derivatives/``, or a part of file names there such as "desc-brain".
    table: a participants table that lies elsewhere or is called otherwise. columns: manifest name -> name in
    that table. sex: its codes -> "M" or "F", where they are not words. pattern: glob for flat and plain
    folders, on file names ("*_brain.nii.gz") or, with a slash, on paths below root ("*/T1/T1.nii.gz").
    echo: the one to take of scans with several. sessions: (in the table, in the folder), where spellings do not meet.
    keep: (column, word), where a word for "missing" is a name.

    sub-XX in a path is the participant in every layout. One image per participant and session: of several runs the
    first is taken, of echoes the combined image or the first. participants.tsv and sessions.tsv are merged, other
    columns of theirs are kept, those that look like names or birth dates are not.

    Several roots, or a root that holds several BIDS folders, are read one by one into one table: dataset is the
    folder's name where its table names none, so that equal ids of different folders stay different people, and site
    likewise. One without images is named in the notes.

    ``result.attrs["notes"]`` is a list of sentences: further runs, images without a table row, rows without an image,
    codes that were translated. Raises ManifestError where nothing is found.
    """
    if layout not in LAYOUTS:
        raise ManifestError(f"layout '{layout}' is unknown; choose one of {', '.join((*LAYOUTS, 'openbhb'))}")
    source = None if table is None else Path(table).absolute()
    asked = _Asked(suffix, derivative, layout, source, columns or {}, sex or {}, pattern, echo, sessions, keep)
    roots = [root] if isinstance(root, (str, Path)) else list(root)
    refuse_keep(asked.keep, asked.columns)
    folders, left = _folders([Path(one).absolute() for one in roots], asked)
    doubled: list[str] = []
    folders = once(folders, doubled)
    tables = {folder: asked.table or _table_of(folder) for folder in folders}
    refuse_options(tables, asked.keep, asked.sessions, asked.columns, read=asked.layout != "plain")
    if len(folders) > 1:
        out, notes = _scan_each(folders, replace(asked, several=True))
    else:
        out, notes = _scan(folders[0], asked)
        if len(roots) == 1 and folders[0] != Path(roots[0]).absolute():
            notes.insert(0, f"the BIDS folder in it was read: {folders[0]}")
        name = dataset_name(folders[0])
        if name and "dataset" not in out:
            out["dataset"] = filled([name], "dataset", notes)[0]
    notes += doubled
    keep_readable(out, notes)
    if left:
        names = listed([folder.name for folder in left])
        notes.append(f"folders without sub-*, and those of derivatives, were left out: {names}")
    out = in_order(out, notes)
    out.attrs["notes"] = notes
    return out


def _scan_each(folders: Sequence[Path], asked: _Asked) -> tuple[pd.DataFrame, list[str]]:
    """The scans of several folders; those without images are named. Errors: NoImages where none has any."""
    found: dict[Path, tuple[pd.DataFrame, list[str]]] = {}
    failed: dict[Path, NoImages] = {}
    for folder in folders:
        result = _tried(folder, asked)
        if isinstance(result, NoImages):
            failed[folder] = result
        else:
            found[folder] = result
    if not found:
        raise NoImages(f"none of {len(folders)} folders gave a scan; the first: {next(iter(failed.values()))}")
    out, notes = joined(found)
    return out, notes + [f"{folder} was left out: {error}" for folder, error in failed.items()]


def _tried(folder: Path, asked: _Asked) -> tuple[pd.DataFrame, list[str]] | NoImages:
    """``_scan``, or why there are no images."""
    try:
        return _scan(folder, asked)
    except NoImages as error:
        return error


def _folders(roots: Sequence[Path], asked: _Asked) -> tuple[list[Path], list[Path]]:
    """The folders to scan each by itself, and those beside them that are none. Errors: ManifestError."""
    seen: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise ManifestError(f"{root}: is not a folder; give the folder that holds the scans")
        if root.resolve() in seen:
            raise ManifestError(f"{root}: is given twice (also as {seen[root.resolve()]}); give every folder once")
        seen[root.resolve()] = root
    folders: list[Path] = []
    left: list[Path] = []
    for root in roots:
        inside: list[Path] = []
        derived = asked.derivative and (root / "derivatives").is_dir()
        if asked.layout in ("auto", "bids") and not derived and _table_of(root) is None:
            inside, others = children_of(root)
            left += others
        folders += inside or [root]
    return folders, left


def _scan(root: Path, asked: _Asked) -> tuple[pd.DataFrame, list[str]]:
    """The scans of one folder, and notes."""
    notes: list[str] = []
    source = asked.table or _table_of(root)
    layout = asked.layout
    if layout == "auto":
        layout = "bids" if asked.derivative or looks_bids(root, asked.suffix) else "flat" if source else "plain"
        notes.append(f"read as a {layout} folder")
        deeper = [p / name for p in sorted(root.iterdir()) for name in TABLE_NAMES if os.path.isfile(p / name)]
        if layout == "plain" and deeper:
            notes.append(f"{deeper[0]} was not read; scan {deeper[0].parent}, or give it by --table")
        lying = [p for p in sorted(root.iterdir()) if p.suffix.lower() in _TABLES and not p.name.startswith(".")]
        if layout == "plain" and lying:
            notes.append(f"{lying[0].name} lies in the folder and was not read; give it by --table {lying[0]}")
    if layout == "flat" and source is None:
        raise ManifestError(f"{root}: a flat folder needs participants.tsv or .csv; add one or use --table")
    aside = layout == "bids" and bool(asked.keep or asked.columns) and has_sessions(root)
    persons = None if source is None or layout == "plain" else _persons(source, asked, notes, aside)
    if persons is None and asked.keep and not asked.several and not aside:
        raise ManifestError(f"{root}: has no participants table, of which --keep speaks; leave it out or use --table")
    known = None if not aside or asked.several else [] if persons is None else persons.attrs["columns"]
    reading = Reading(source, asked.columns, asked.sex, asked.keep, known=known)
    if layout != "bids":
        out = scan_files(root, asked.suffix, persons, asked.pattern, notes, asked.echo, asked.sessions)
    else:
        out = scan_bids(root, asked.suffix, asked.derivative, persons, notes, asked.echo, asked.sessions, reading)
    out = _writable(root, out, notes)
    named = [named_id(str(label)) for label in out["participant_id"]]
    changed = list(dict.fromkeys(new for new, old in zip(named, out["participant_id"], strict=True) if new != old))
    if changed:
        notes.append(f"an id that reads as missing, or as a formula, is written with sub- before it: {listed(changed)}")
        out["participant_id"] = named
    say_absent(out["image"].tolist(), notes)
    return out, notes


def _writable(root: Path, out: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The scans whose names a manifest can hold as they are; the others are said."""
    names = [os.path.relpath(image, root) for image in out["image"]]
    odd = [shown(name) for name in names if not is_writable(name)]
    if not odd:
        return out
    rule = "whose names hold control characters or bytes that are no text, which no table can hold; rename them"
    if len(odd) == len(names):
        raise NoImages(f"{root}: there are only images {rule}: {listed(odd)}")
    notes.append(f"{count(len(odd), 'image')} left out, {rule}: {listed(odd)}")
    return out[[is_writable(name) for name in names]].reset_index(drop=True)


def _persons(source: Path, asked: _Asked, notes: list[str], aside: bool) -> pd.DataFrame:
    """The participants table with the manifest's names. Errors: ManifestError where it has no ids.

    aside: whether tables of sessions, too, may have the columns of which the user speaks.
    """
    table = read_table(source, notes, asked.columns, asked.keep, lenient=asked.several or aside)
    columns = {name: theirs for name, theirs in asked.columns.items() if not aside or theirs in table}
    persons = tidy(table, source, notes, columns, asked.sex)
    if "participant_id" not in persons:
        near = next((n for n in table.columns if n.lower() in _IDS), "THEIRS")
        raise ManifestError(
            f"{source}: has no column participant_id (its columns are {listed(list(table.columns), 12)}); name it with "
            f"--column participant_id={near}"
        )
    if len(persons) < len(table):
        notes.append(f"{len(table) - len(persons)} rows of {source.name} have no participant_id and were left out")
    persons = split_ids(persons, notes)
    persons.attrs["file"], persons.attrs["columns"] = str(source), list(table.columns)
    return persons


def _table_of(root: Path) -> Path | None:
    """The participants table of a folder, or of the one above a rawdata or derivative folder.

    One that only stands in for its content (a link or pointer of git-annex) counts, so that its reading says so.
    """
    for folder in (root, root.parent, root.parent.parent):
        for name in TABLE_NAMES:
            if (folder / name).is_file() or stands_in(folder / name):
                return folder / name
        if folder.name != "rawdata" and folder.parent.name != "derivatives" and folder.name != "derivatives":
            break
    return None
