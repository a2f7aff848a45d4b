"""One manifest file as a checked table: its columns and the meaning of every cell."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.data.manifest.cells import raw_cells, years
from medssl.data.volumes.reference import parse
from medssl.errors import ManifestError, UserError
from medssl.tables.people import GROUP, ascii_if_odd, family_cells, is_group

SPLITS = ("train", "internal_test", "external_test")
TEXT = ("participant_id", "session", "image", "sex", "site", "dataset", "split", "diagnosis", "subject")
"""Columns that are text whatever they look like."""
_ORDER = (*TEXT[:3], "age", *TEXT[3:], "weight")
_RESERVED = ("manifest", "row")
_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(
        ("internal_test", "internal", "val", "validation", "test", "internal_val"),
        "internal_test",
    ),
    **dict.fromkeys(("external_test", "external", "external_val"), "external_test"),
}
_SEXES = {**dict.fromkeys(("m", "male"), "M"), **dict.fromkeys(("f", "female"), "F")}
_SEXES |= dict.fromkeys(("o", "other", "u", "unknown"), "")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_PADDED = re.compile(r"[+-]?0\d+")


def split_name(value: str) -> str | None:
    """The split that a word means (internal, val, validation and test are internal_test), None for no split."""
    return _ALIASES.get(value.strip().lower())


def known_name(name: str) -> str:
    """The name of a column, in lower case where that is a column with a meaning (Age is age)."""
    return name.lower() if name.lower() in _ORDER else name


def read_table(path: Path, images: bool = True, notes: list[str] | None = None) -> pd.DataFrame:
    """All rows of a manifest, as ``Cohort`` describes them; ``subject`` only where the file has that column.

    images: whether every row needs an image (a table of features has none; ``image`` is then ""). notes: takes
    sentences on what was read otherwise than it stands there (ages with units, decimal commas) or as missing.
    Errors: ManifestError naming the file and, where there is one, the row (line number, the header is line 1).
    """
    said: list[str] = []
    raw, header = raw_cells(path, {name: name for name in _ORDER}, said)
    needed = ("participant_id", "image") if images else ("participant_id",)
    missing = [name for name in needed if name not in header]
    if missing:
        features = "of a table of features, name these (--columns, or data.columns of a recipe); of scans, "
        raise ManifestError(
            f'{path} has no column "{missing[0]}"; {features if missing[0] == "image" else ""}add it, or write a '
            f"manifest with `medssl cohort scan ROOT -o manifest.csv` (it has {few(header)})"
        )
    if raw.empty:
        raise ManifestError(f"{path} has a header but no rows; add one row per scan")
    for name in needed:
        _refuse(path, raw, raw[name] == "", name, "is empty, but every row needs one; fill it or drop the row")
    table = pd.DataFrame(index=raw.index)
    for name in _ORDER:
        table[name] = raw[name] if name in header else pd.Series("", index=raw.index, dtype=object)
    table["age"] = years(path, raw, said)
    table["weight"] = _numbers(path, raw, "weight", 1.0, "write a sampling weight such as 1 or 0.5")
    _refuse(path, raw, table["weight"] < 0, "weight", "is negative; write a sampling weight of at least 0")
    table["sex"] = _translated(path, raw, "sex", _SEXES, "write M or F, or n/a")
    table["split"] = _translated(path, raw, "split", _ALIASES, f"allowed are {', '.join(SPLITS)}, or empty")
    others = [name for name in header if name not in _ORDER and name not in _RESERVED]
    kept = {name: raw[name] if _is_text(name) else _plain_numbers(raw[name]) for name in others}
    table = pd.concat([table, pd.DataFrame(kept, index=raw.index)], axis=1)
    folder = os.path.dirname(os.path.abspath(path))
    for name in [c for c in table.columns if c == "image" or c.startswith("image_")]:
        joined = [os.path.normpath(os.path.join(folder, v)) if v else "" for v in table[name]]
        table[name] = pd.Series(joined, index=table.index, dtype=object)
    if "mask" in table:
        table["mask"] = [_mask_path(folder, *cells) for cells in zip(table["image"], table["mask"], strict=True)]
    table["manifest"] = pd.Series(os.path.abspath(path), index=table.index, dtype=object)
    table["row"] = raw["row"]
    table = _one_family(path, table, said)
    if notes is not None:
        notes += said
    return table.reset_index(drop=True)


def _mask_path(folder: str, image: str, mask: Any) -> Any:
    """The mask of a row whose image is read with one, as absolute path; other cells of that name stay as they are."""
    if not isinstance(mask, str) or not mask or not parse(image).needs_mask:
        return mask
    return os.path.normpath(os.path.join(folder, mask))


def few(names: list[str], most: int = 12) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _numbers(path: Path, raw: pd.DataFrame, name: str, default: float, remedy: str) -> pd.Series:
    """A column as float, ``default`` when missing."""
    if name not in raw:
        return pd.Series(default, index=raw.index, dtype=float)
    filled = raw[name].where(raw[name] != "", str(default))
    values = pd.to_numeric(filled, errors="coerce").astype(float)
    _refuse(path, raw, (raw[name] != "") & ~np.isfinite(values), name, f"is not a number; {remedy}")
    return values


def _translated(path: Path, raw: pd.DataFrame, name: str, meaning: dict[str, str], remedy: str) -> pd.Series:
    """A column of known words in their one spelling."""
    if name not in raw:
        return pd.Series("", index=raw.index, dtype=object)
    values = raw[name].str.lower().map({**meaning, "": ""})
    _refuse(path, raw, values.isna(), name, f"is unknown; {remedy}")
    return values.astype(object)


def _is_text(name: str) -> bool:
    """Whether an optional column is text whatever it looks like: paths of images, names of families."""
    return name.startswith("image_") or is_group(name)


def _one_family(path: Path, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with one column ``family`` where several are called so. Errors: ManifestError where they disagree."""
    columns = [name for name in table.columns if is_group(name)]
    if len(columns) < 2:
        return table
    try:
        families = family_cells(table)
    except UserError as error:
        raise ManifestError(f"{path}: {error}") from None
    listed = " and ".join(map(ascii_if_odd, columns))
    notes.append(f"the columns {listed} of {path.name} were read as one column family")
    return table.drop(columns=columns).assign(**{GROUP: pd.Series(families, index=table.index, dtype=object)})


def _plain_numbers(values: pd.Series) -> pd.Series:
    """Float where every filled cell is a plain number without leading zeros, else the text."""
    words = set(values.tolist()) - {""}
    if not words or not all(map(_NUMBER.fullmatch, words)) or any(map(_PADDED.fullmatch, words)):
        return values
    return pd.to_numeric(values, errors="coerce").astype(float)


def _refuse(path: Path, raw: pd.DataFrame, wrong: pd.Series, name: str, rule: str) -> None:
    """Raise for the first row where ``wrong``: file, row, participant, value, rule."""
    if not wrong.any():
        return
    k = int(np.flatnonzero(wrong.to_numpy())[0])
    person = raw["participant_id"].iloc[k] if "participant_id" in raw else ""
    value = raw[name].iloc[k]
    shown = f'{name} "{value}"' if value else name
    more = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
    raise ManifestError(f"{path} row {raw['row'].iloc[k]}{f' ({person})' if person else ''}: {shown} {rule}{more}")
