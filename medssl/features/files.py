"""Feature tables on disk: reading and writing of CSV, TSV, npz and parquet, and the record beside the file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np
import pandas as pd

from medssl.documents.json_file import parse_json, read_json
from medssl.documents.shape import checked
from medssl.errors import StaleError, UserError
from medssl.features.columns import (
    ID_LIKE,
    META,
    SUFFIXES,
    Parts,
    feature_columns,
    known_names,
    named_values,
    split_frame,
    tidy,
)
from medssl.files import BROKEN_ARRAYS, Output, refuse_foreign, write_atomic
from medssl.tables.missing import cell_text as text
from medssl.tables.missing import said_missing, without_missing
from medssl.tables.people import GROUP
from medssl.tables.text import decoded, separator_of

_AGAIN = "delete it and write the table again with `medssl embed`"


_LONGEST_NAME = 160
"""Bytes of a name: systems take 255, and names of temporaries and records are longer than that of the table."""
_COLUMNS = re.compile(rb"[^\r\n]*[,\t]f0+[,\t\r\n]")
_TABLE = Output(
    "a features table",
    {
        **dict.fromkeys((".csv", ".tsv"), _COLUMNS),
        ".npz": re.compile(rb"PK.{28}values\.npy", re.DOTALL),
        ".parquet": re.compile(rb"(?!)"),  # told by its record alone
    },
)
_ANYTHING = Output("a features table", dict.fromkeys(SUFFIXES, re.compile(rb"")))


class Provenance(TypedDict, total=False):
    """The form of what is read of a table's provenance, which may hold more."""

    run: str
    preprocessing: dict[str, Any]
    manifests: list[str]
    weights: list[float]
    skipped_rows: list[int]
    unlike: list[str]


class _Record(TypedDict, total=False):
    sha256: str
    provenance: Provenance


def write_table(table: Parts, path: Path) -> Path:
    """Write ``table`` in the format of the suffix; see ``FeatureTable.write``."""
    suffix = _suffix(path)
    record = record_of(path)
    if suffix == ".npz":
        write_atomic(path, lambda file: _write_npz(table, file))
        record.unlink(missing_ok=True)
        return path
    record.unlink(missing_ok=True)  # first: a table may lack its record, but must never have a foreign one
    if suffix == ".parquet":
        _need_pyarrow(path)
        frame = pd.concat([table.meta, pd.DataFrame(table.values, columns=named_values(table.values))], axis=1)
        write_atomic(path, lambda file: frame.to_parquet(file, engine="pyarrow", index=False))
    else:
        write_atomic(path, lambda file: _write_text(table, file, "\t" if suffix == ".tsv" else ","))
    content = {
        "file": path.name,
        "sha256": sha256(path),
        "rows": len(table.values),
        "features": int(table.values.shape[1]),
        "provenance": table.provenance,
    }
    write_atomic(record, _json(content, path))
    return path


def check_target(path: Path) -> None:
    """UserError where a table could not be written under this name, before hours are spent on its content."""
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise UserError(f"{path.name} has more than {_LONGEST_NAME} letters, too many for a file; shorten it")
    if path.is_dir():  # also "", which stands for the working folder
        raise UserError(f"{path} is a folder, but a feature table needs a file name such as {path / 'features.csv'}")
    if _suffix(path) == ".parquet":
        _need_pyarrow(path)


def refuse_foreign_table(path: Path, inputs: Sequence[str | Path]) -> None:
    """Refuse to replace one of the files that the table is made from, or a file that is no features table."""
    check_target(path)
    recorded = record_of(path).is_file()
    refuse_foreign(path, _ANYTHING if recorded else _TABLE, inputs)


def read_table(path: Path, prefix: str | None = None) -> Parts:
    """Read a table; see ``FeatureTable.read``."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; write a table with `medssl embed` or correct the path")
    suffix = _suffix(path)
    if suffix == ".npz":
        return _read_npz(path)
    provenance = _read_record(path)
    if suffix == ".parquet":
        _need_pyarrow(path)
        try:
            frame = pd.read_parquet(path, engine="pyarrow")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a readable parquet file ({error}); write it again") from error
        return split_frame(frame, provenance, prefix, path.name)
    return _read_text(path, prefix, provenance)


def record_of(path: Path) -> Path:
    """The file beside a table that says where it comes from: ``<path>.json``."""
    return path.with_name(path.name + ".json")


def sha256(path: Path) -> str:
    """Hex digest of the bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: a feature table must end in {', '.join(SUFFIXES)}, not {suffix or 'nothing'!r}")
    return suffix


def _need_pyarrow(path: Path) -> None:
    if find_spec("pyarrow") is None:
        raise UserError(
            f"{path}: parquet needs pyarrow, which is not installed; pip install pyarrow, or use .csv or .npz"
        )


def _read_record(path: Path) -> dict[str, Any]:
    """Provenance of a text or parquet table; {} without a record, StaleError where the table has changed."""
    record = record_of(path)
    if not record.is_file():
        return {}
    content = read_json(record, _Record, _AGAIN)
    if content.get("sha256") != sha256(path):
        raise StaleError(
            f"{path} is not the table that {record.name} describes (its sha256 differs): it was changed after it "
            f"was written; write it again with `medssl embed`, or delete {record.name} to use it without provenance"
        )
    return _provenance(content.get("provenance", {}), record)


def _provenance(content: Any, path: Path) -> dict[str, Any]:
    """Provenance in the form that it is read in; UserError naming the key that is not."""
    known = checked(content, Provenance, f"{path}: provenance", _AGAIN)
    if "weights" in known and len(known["weights"]) != len(known.get("manifests", ())):
        raise UserError(f"{path}: provenance has {len(known['weights'])} weights of other manifests; {_AGAIN}")
    return dict(content)


def _write_text(table: Parts, file: IO[bytes], separator: str) -> None:
    wrapper = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(wrapper, delimiter=separator, lineterminator="\n")
    writer.writerow([*table.meta.columns, *named_values(table.values)])
    cells = [[_cell(v) for v in table.meta[name].tolist()] for name in table.meta.columns]
    for i, row in enumerate(table.values):
        writer.writerow([*(column[i] for column in cells), *[f"{v:.9g}" for v in row.tolist()]])
    wrapper.flush()
    wrapper.detach()


def _cell(value: object) -> str:
    """A meta cell in text: "" where missing, floats with all their digits, text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)


def _read_text(path: Path, prefix: str | None, provenance: dict[str, Any]) -> Parts:
    """A CSV or TSV, whatever its encoding and separator; numbers of a table with semicolons may have commas."""
    cells: list[list[str]] = []
    values: list[np.ndarray] = []
    notes: list[str] = []
    content = decoded(path, notes)
    separator = separator_of(path, content, notes)
    if separator == " ":
        content = "\n".join(" ".join(line.split()) for line in content.splitlines())
    commas = False
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
        header = known_names([name.strip() for name in next(filter(None, reader), [])])
        if len(set(header)) < len(header):
            twice = next(name for i, name in enumerate(header) if name in header[:i])
            raise UserError(f"{path} has two columns called {twice!r}; rename one of them")
        chosen = set(feature_columns(header, prefix=prefix, source=str(path)))
        meta_at = [i for i, name in enumerate(header) if name not in chosen]
        feature_at = [i for i, name in enumerate(header) if name in chosen]
        for row in reader:
            if row and len(row) != len(header):
                raise UserError(
                    f"{path} row {reader.line_num} has {len(row)} cells but the header has {len(header)}; "
                    "quote text that holds the separator, or write the file again if it was cut off"
                )
            if row:
                cells.append([row[i] for i in meta_at])
                if separator == ";" and any("," in row[i] for i in feature_at):
                    commas = True
                    row = [cell.replace(",", ".") if i in feature_at else cell for i, cell in enumerate(row)]
                values.append(_numbers(path, reader.line_num, header, row, feature_at))
    except csv.Error as error:
        remedy = (
            "shorten the cell, or close a quote that is open"
            if "limit" in str(error)
            else "write it as UTF-8 CSV or TSV"
        )
        raise UserError(f"{path} cannot be read as a table ({error}); {remedy}") from error
    if not values:
        raise UserError(f"{path} has a header but no row; a feature table needs at least one scan")
    if commas:
        notes.append(f"features of {path.name} were read with decimal commas")
    meta = pd.DataFrame(cells, columns=[header[i] for i in meta_at], dtype=object)
    counts = {}
    for name in meta.columns:
        if name not in (*META, "subject"):
            words_only = name.lower().endswith(ID_LIKE) or name.lower() == GROUP or name in ("row", "manifest")
            column = "participant_id" if words_only else name
            kept, counts[name] = without_missing(meta[name].tolist(), column)
            meta[name] = _numbers_if_all(name, pd.Series(kept, dtype=object))
    meta = tidy(meta, path.name, notes)
    return Parts(meta, np.stack(values), provenance, (*notes, *said_missing(path.name, counts)))


def _numbers(path: Path, line: int, header: list[str], row: list[str], feature_at: list[int]) -> np.ndarray:
    """Features of one line, float32; an empty cell is NaN, a word and a number beyond float32 are an error."""
    try:
        numbers = np.array([float(row[i]) for i in feature_at])
        if (large := np.flatnonzero(np.isfinite(numbers) & (np.abs(numbers) > np.finfo(np.float32).max))).size:
            k = feature_at[int(large[0])]
            raise UserError(f"{path} row {line}: {header[k]} is {row[k]}, but features are at most 3.4e38; correct it")
        return numbers.astype(np.float32)
    except UserError:
        raise
    except ValueError:
        out = np.full(len(feature_at), np.nan, dtype=np.float32)
        for k, i in enumerate(feature_at):
            number = pd.to_numeric(text(row[i]) or "nan", errors="coerce")
            if text(row[i]) and np.isnan(number):
                raise UserError(
                    f"{path} row {line}: {header[i]} is {row[i]!r}, not a number; features must be numeric"
                ) from None
            out[k] = number
        return out


def _numbers_if_all(name: str, column: pd.Series) -> Any:
    """A further column as numbers where every cell is one (no leading zeros, no id), else as text."""
    cells = [text(v) for v in column.tolist()]
    given = [c for c in cells if c]
    padded = any(len(c) > 1 and c.lstrip("+-")[:1] == "0" and c.lstrip("+-")[1:2].isdigit() for c in given)
    if not given or padded or name.lower().endswith(ID_LIKE):
        return np.array(cells, dtype=object)
    numbers = pd.to_numeric(pd.Series([c or "nan" for c in cells], dtype=object), errors="coerce")
    if int(numbers.notna().sum()) != len(given):
        return np.array(cells, dtype=object)
    return np.array([int(c) for c in cells]) if all(c.lstrip("+-").isdigit() for c in cells) else numbers.to_numpy()


def _write_npz(table: Parts, file: IO[bytes]) -> None:
    arrays: dict[str, np.ndarray] = {"values": table.values}
    arrays["columns"] = np.array([str(c) for c in table.meta.columns], dtype=str)
    for i, name in enumerate(table.meta.columns):
        column = table.meta[name].to_numpy()
        if column.dtype.kind not in "fiub":
            column = np.array([_cell(v) for v in column.tolist()], dtype=str)
        arrays[f"meta{i:03d}"] = column
    arrays["provenance"] = np.array(_json(table.provenance, None).decode())
    np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_npz(path: Path) -> Parts:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            columns = [str(c) for c in arrays["columns"]]
            meta = {name: arrays[f"meta{i:03d}"] for i, name in enumerate(columns)}
            values = arrays["values"]
            origin = str(arrays["provenance"])
    except BROKEN_ARRAYS as error:
        raise UserError(
            f"{path} is not a feature table in npz ({error}); write it again with `medssl embed`"
        ) from error
    provenance = _provenance(parse_json(origin, f"{path}: provenance", _AGAIN, lines=False), path)
    lists = {name: a.astype(object) if a.dtype.kind in "US" else a for name, a in meta.items()}
    notes: list[str] = []
    tidied = tidy(pd.DataFrame(lists), path.name, notes)
    return Parts(tidied, values, provenance, tuple(notes))


def _json(content: dict[str, Any], path: Path | None) -> bytes:
    try:
        return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        where = f"{path}: " if path else ""
        raise UserError(f"{where}provenance must hold JSON values only ({error})") from error
