"""A manifest from a folder of scans: which layout it has, and the reading of BIDS folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from medssl.data.cohorts.flat import FILE_ENDINGS, SUFFIX, natural, scan_files, stem
from medssl.data.cohorts.persons import tidy
from medssl.data.cohorts.tables import (
    TABLE_NAMES,
    bare,
    in_order,
    listed,
    merge_persons,
    read_table,
    write_manifest,
)
from medssl.errors import ManifestError

__all__ = ["scan_folder", "write_manifest"]

LAYOUTS = ("auto", "bids", "flat", "plain")


def scan_folder(
    root: str | Path,
    suffix: str = SUFFIX,
    derivative: str | None = None,
    layout: str = "auto",
    *,
    table: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    sex: Mapping[str, str] | None = None,
    pattern: str | None = None,
) -> pd.DataFrame:
    """The scans below ``root`` as manifest rows: participant_id, image (absolute), and what the tables know.

    layout: "bids" (sub-*/[ses-*/][anat/]*_<suffix>.nii[.gz]), "flat" (files whose names contain the ids of a
    participants table; the longest id wins), "plain" (images only, ids from the file names) or "auto".
    suffix: the end of the names of the images; flat and plain folders must only have it where it is not T1w.
    derivative: a folder name under ``derivatives/``, or a part of file names there such as "desc-brain".
    table: a participants table that lies elsewhere or is called otherwise. columns: manifest name -> name in
    that table. sex: its codes -> "M" or "F", where they are not words. pattern: glob for flat and plain
    folders, on file names ("*_brain.nii.gz") or, with a slash, on paths below root ("*/T1/T1.nii.gz").

    One image per participant and session: of several runs the first is taken. participants.tsv and
    sessions.tsv are merged, other columns of theirs are kept, those that look like names or birth dates are
    not. ``result.attrs["notes"]`` is a list of sentences: further runs, images without a table row, rows
    without an image, codes that were translated. Raises ManifestError where nothing is found.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise ManifestError(f"{root}: is not a folder; give the folder that holds the scans")
    if layout not in LAYOUTS:
        raise ManifestError(f"layout '{layout}' is unknown; choose one of {', '.join((*LAYOUTS, 'openbhb'))}")
    notes: list[str] = []
    source = Path(table).absolute() if table is not None else _table_of(root)
    if layout == "auto":
        layout = "bids" if derivative or _looks_bids(root, suffix) else "flat" if source else "plain"
        notes.append(f"read as a {layout} folder")
        deeper = [p / name for p in sorted(root.iterdir()) for name in TABLE_NAMES if (p / name).is_file()]
        if layout == "plain" and deeper:
            notes.append(f"{deeper[0]} was not read; scan {deeper[0].parent}, or give it by --table")
    if layout == "flat" and source is None:
        raise ManifestError(f"{root}: a flat folder needs participants.tsv or .csv; add one or use --table")
    persons = None
    if source is not None and layout != "plain":
        persons = tidy(read_table(source), source, notes, columns, sex)
        if "participant_id" not in persons:
            raise ManifestError(f"{source}: has no column participant_id; name it with --column participant_id=THEIRS")
    if layout != "bids":
        out = scan_files(root, suffix, persons, pattern, notes)
    else:
        out = _scan_bids(root, suffix, derivative, persons, notes)
    out = in_order(out)
    out.attrs["notes"] = notes
    return out


def _table_of(root: Path) -> Path | None:
    """The participants table of a folder, or of the one above a rawdata or derivative folder."""
    for folder in (root, root.parent, root.parent.parent):
        for name in TABLE_NAMES:
            if (folder / name).is_file():
                return folder / name
        if folder.name != "rawdata" and folder.parent.name != "derivatives" and folder.name != "derivatives":
            break
    return None


def _looks_bids(root: Path, suffix: str) -> bool:
    """Whether there are sub-* folders with an image in them."""
    return any(True for place in _places(root, None) for _ in _files(place, suffix, ""))


def _places(root: Path, derivative: str | None) -> list[Path]:
    """The folders that hold sub-* folders: the root, its rawdata, or derivatives."""
    derived = root / "derivatives"
    if derivative and derived.is_dir():
        if (derived / derivative).is_dir():
            return [derived / derivative]
        return [derived, *sorted(folder for folder in derived.iterdir() if folder.is_dir())]
    if not derivative and (root / "rawdata").is_dir() and not any(root.glob("sub-*/")):
        return [root / "rawdata"]
    return [root]


def _files(place: Path, suffix: str, part: str) -> Iterator[Path]:
    """Images <place>/sub-*/[ses-*/][anat/]*<part>*_<suffix>.nii[.gz] (or .npy), in natural order."""
    if not place.is_dir():
        return
    for subject in sorted(place.glob("sub-*"), key=lambda path: natural(path.name)):
        if not subject.is_dir():
            continue
        homes = [subject, *sorted(subject.glob("ses-*"), key=lambda path: natural(path.name))]
        for home in homes:
            for folder in (home, home / "anat"):
                if folder.is_dir():
                    files = [path for path in folder.iterdir() if path.name.endswith(FILE_ENDINGS)]
                    named = [path for path in files if stem(path).endswith(f"_{suffix}")]
                    fitting = [path for path in named if part in f"{place.name}/{path.name}"]
                    yield from sorted(fitting, key=lambda path: natural(path.name))


def _entity(path: Path, root: Path, key: str) -> str:
    """A BIDS label with its key ("sub-01") from the file's name, else from its folders, else ""."""
    for text in (path.name, path.parent.relative_to(root).as_posix()):
        found = re.search(rf"(?:^|[_/]){key}-[A-Za-z0-9+]+", text)
        if found:
            return found.group().lstrip("_/")
    return ""


def _scan_bids(
    root: Path, suffix: str, derivative: str | None, persons: pd.DataFrame | None, notes: list[str]
) -> pd.DataFrame:
    """One row per subject and session of a BIDS folder, merged with its tables."""
    places = _places(root, derivative)
    inside = bool(derivative) and places == [root / "derivatives" / str(derivative)]
    part = derivative if derivative and not inside else ""
    chosen: dict[tuple[str, str], Path] = {}
    further: list[str] = []
    for place in places:
        for path in _files(place, suffix, part or ""):
            key = (_entity(path, place, "sub"), _entity(path, place, "ses"))
            if not key[0]:
                key = (path.relative_to(place).parts[0], key[1])
            if key in chosen and _run(path) < _run(chosen[key]):
                chosen[key], path = path, chosen[key]
            if key in chosen and chosen[key] != path:
                further.append(path.name)
            chosen.setdefault(key, path)
    if not chosen:
        what = f"sub-*/[ses-*/]anat/*{part}*_{suffix}.nii[.gz]".replace("**", "*")
        raise ManifestError(
            f"{', '.join(str(place) for place in places[:3])}: no image {what}; set --suffix or --derivative, "
            "or use --layout flat or plain"
        )
    if further:
        notes.append(
            f"{len(further)} further runs or variants were left out (first run taken; --derivative chooses by "
            f"a part of the name): {listed(further)}"
        )
    images = pd.DataFrame(
        [(subject, session, str(path)) for (subject, session), path in sorted(chosen.items(), key=_key)],
        columns=["participant_id", "session", "image"],
        dtype=object,
    )
    out = merge_persons(images, persons, notes)
    out = _merge_sessions(out, [root, *places], notes)
    name = _dataset_name(root)
    if name and "dataset" not in out:
        out["dataset"] = name
    return out


def _key(item: tuple[tuple[str, str], Path]) -> tuple[list[tuple[int, str]], ...]:
    return tuple(natural(text) for text in item[0])


def _run(path: Path) -> int:
    """The number behind run-; 0 where there is none."""
    found = re.search(r"_run-(\d+)", path.name)
    return int(found.group(1)) if found else 0


def _merge_sessions(out: pd.DataFrame, places: list[Path], notes: list[str]) -> pd.DataFrame:
    """Values of sub-XX/sub-XX_sessions.tsv over those of the participants table, where they are given."""
    rows = {(str(a), str(b)): k for k, (a, b) in enumerate(zip(out["participant_id"], out["session"], strict=True))}
    said: list[str] = []
    for subject in dict.fromkeys(out["participant_id"]):
        for place in dict.fromkeys(places):
            path = place / subject / f"{subject}_sessions.tsv"
            if not path.is_file():
                continue
            table = tidy(read_table(path), path, said)
            if "session" not in table:
                raise ManifestError(f"{path}: has no column session_id; name the session of each row")
            for record in table.to_dict("records"):
                session = f"ses-{bare(record['session'], 'ses')}"
                row = rows.get((str(subject), session))
                for name, value in record.items():
                    if row is None or name in {"session", "participant_id"} or value in ("",) or value != value:
                        continue
                    if name not in out:
                        out[name] = float("nan") if name == "age" else ""
                    out.loc[row, name] = value
            break
    notes += said[:3] + ([f"and {len(said) - 3} more notes on tables of sessions"] if len(said) > 3 else [])
    return out


def _dataset_name(root: Path) -> str:
    """Name in dataset_description.json; "" where there is none."""
    try:
        described = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(described.get("Name") or "").strip() if isinstance(described, dict) else ""
