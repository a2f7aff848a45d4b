"""Participants tables in, manifests out: reading, merging with images, writing."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medssl.data.reference import parse
from medssl.errors import ManifestError
from medssl.files import write_atomic

COLUMNS = ("participant_id", "session", "image", "age", "sex", "site", "dataset", "split", "diagnosis")
"""The columns of a manifest that have a meaning, in the order in which they are written."""

TABLE_NAMES = ("participants.tsv", "participants.csv")
_MISSING = {"", "n/a", "na", "nan"}


def read_table(path: Path) -> pd.DataFrame:
    """Rows of a TSV or CSV file as text, "" where a value is missing (n/a, NA, nan, empty).

    Raises ManifestError where the file is absent, unreadable, empty, names a column twice or where a row has
    more cells than the header.
    """
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        raise ManifestError(f"{path}: tables are read from .tsv or .csv; save it in one of these forms")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); give the path of a table") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not UTF-8 text; save the table as CSV in UTF-8") from error
    head = text.split("\n", 1)[0]
    separator = max("\t;,", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    rows = [row for _, row in numbered]
    if len(rows) < 2:
        raise ManifestError(f"{path}: has no rows; it needs a header line and one line per participant")
    header = [name.strip() for name in rows[0]]
    for line, row in numbered[1:]:
        if any(cell.strip() for cell in row[len(header) :]):
            raise ManifestError(
                f"{path} row {line} ({row[0].strip()}): has {len(row)} cells but the header names {len(header)} "
                "columns; quote cells that hold the separator"
            )
    # Index columns of a spreadsheet carry no name; they are not data.
    named = [k for k, name in enumerate(header) if name and not name.startswith("Unnamed:")]
    twice = sorted({header[k] for k in named if header.count(header[k]) > 1})
    if twice:
        raise ManifestError(f"{path}: names the column '{twice[0]}' twice; keep one of them")
    cells = [[row[k].strip() if k < len(row) else "" for k in named] for row in rows[1:]]
    cells = [["" if cell.lower() in _MISSING else cell for cell in row] for row in cells]
    return pd.DataFrame([row for row in cells if any(row)], columns=[header[k] for k in named], dtype=object)


def listed(items: Sequence[str], most: int = 5) -> str:
    """The first few items as text: "a, b, c and 12 more"."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def bare(label: str, key: str) -> str:
    """A BIDS label without its key: "sub-01" -> "01"."""
    return str(label).strip().removeprefix(f"{key}-")


def merge_persons(images: pd.DataFrame, persons: pd.DataFrame | None, notes: list[str]) -> pd.DataFrame:
    """Images with the columns of the participants table, joined by id (with or without "sub-") and session.

    Ids that lost their leading zeros in a spreadsheet are found where the number names one participant only.
    """
    if persons is None:
        notes.append("no participants table was found: the manifest has no age, sex or site")
        return images
    labels = [bare(label, "sub") for label in images["participant_id"]]
    sessions = [bare(session, "ses") for session in images["session"]]
    rows, unseen = _rows_by_id(persons, set(labels), notes)
    at = [rows.get(key, rows.get((key[0], ""), -1)) for key in zip(labels, sessions, strict=True)]
    extra = persons.drop(columns=["participant_id", "session"], errors="ignore").astype(object)
    extra = extra.reindex(at).set_axis(images.index)
    for name in extra.columns:
        extra[name] = extra[name].astype(float) if name == "age" else extra[name].fillna("")
    lone = [str(label) for label, row in zip(images["participant_id"], at, strict=True) if row < 0]
    if lone:
        notes.append(
            f"{len(lone)} images have no row in the participants table, so no age, sex or site: {listed(lone)}"
        )
    if unseen:
        notes.append(f"{len(unseen)} rows of the participants table have no image: {listed(unseen)}")
    return pd.concat([images, extra], axis=1)


def _rows_by_id(
    persons: pd.DataFrame, labels: set[str], notes: list[str]
) -> tuple[dict[tuple[str, str], int], list[str]]:
    """(bare id, bare session or "") -> row of the table, and the ids of the table that no image has."""
    by_number: dict[int, list[str]] = {}
    for label in labels:
        if label.isdigit():
            by_number.setdefault(int(label), []).append(label)
    rows: dict[tuple[str, str], int] = {}
    guessed, unseen, repeated = [], [], []
    sessions = persons.get("session", [""] * len(persons))
    for row, (written, session) in enumerate(zip(persons["participant_id"], sessions, strict=True)):
        label = bare(written, "sub")
        if label not in labels and label.isdigit() and len(by_number.get(int(label), [])) == 1:
            guessed.append(str(written))
            label = by_number[int(label)][0]
        if label not in labels:
            unseen.append(str(written))
        elif (label, bare(session, "ses")) in rows:
            repeated.append(str(written))
        rows.setdefault((label, bare(session, "ses")), row)
    for (label, _), row in list(rows.items()):  # a table by session also serves images without one
        rows.setdefault((label, ""), row)
    if guessed:
        notes.append(
            f"{len(guessed)} ids of the participants table lack the zeros in front and were matched by number: "
            f"{listed(guessed)}"
        )
    if repeated:
        notes.append(
            f"{len(repeated)} rows of the participants table repeat an id; its first row counts: {listed(repeated)}"
        )
    return rows, list(dict.fromkeys(unseen))


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Known columns first, then the others as they came; empty optional columns dropped; rows renumbered."""
    known = [name for name in COLUMNS if name in table.columns]
    others = [name for name in table.columns if name not in COLUMNS]
    table = table[known + others].reset_index(drop=True)
    empty = [
        name
        for name in table.columns
        if name not in {"participant_id", "image"} and not table[name].astype(str).str.strip().replace("nan", "").any()
    ]
    return table.drop(columns=empty)


def write_manifest(table: pd.DataFrame, path: str | Path, *, images: bool = True) -> Path:
    """Write a manifest (CSV, or TSV by its name), image paths relative to its folder; atomic.

    Columns that ``Cohort`` adds (manifest, row) are not written. Ages keep their digits, missing is empty.
    images: False for a table of features, which needs no column image.
    Raises ManifestError where required columns are absent, UserError where the folder cannot be written to.
    """
    path = Path(path).absolute()
    needed = ("participant_id", "image") if images else ("participant_id",)
    lacking = [name for name in needed if name not in table.columns]
    if lacking:
        raise ManifestError(f"{path}: a manifest needs the column '{lacking[0]}'; the table has none")
    out = table.drop(columns=[name for name in ("manifest", "row") if name in table.columns])
    for name in out.columns:
        if name == "image" or str(name).startswith("image_"):
            paths = {value: _relative(str(value), path.parent) if value else "" for value in out[name].unique()}
            out[name] = [paths[value] for value in out[name]]
    if "mask" in out and "image" in out:  # a path only where the image is a part that needs one
        needs = [parse(str(image)).needs_mask for image in out["image"]]
        near = {value: _relative(str(value), path.parent) for value in out["mask"][needs].unique() if value}
        out["mask"] = [near.get(v, v) if need else v for v, need in zip(out["mask"], needs, strict=True)]
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    text = out.to_csv(sep=separator, index=False, na_rep="", lineterminator="\n")
    write_atomic(path, lambda file: file.write(text.encode("utf-8")), remedy="choose another place with -o")
    return path


def _relative(image: str, folder: Path) -> str:
    """The path from the manifest's folder with forward slashes; absolute where no relative one exists.

    Folders are resolved first, since ".." does not undo a linked folder; the file itself may stay a link.
    """
    place = Path(os.path.realpath(os.path.dirname(image)), os.path.basename(image))
    try:
        return Path(os.path.relpath(place, os.path.realpath(folder))).as_posix()
    except ValueError:  # another drive
        return place.as_posix()
