"""Tables that grow row by row while a training runs, and go back to where a checkpoint stands."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.files import append_text, write_atomic


class Log:
    """One table that grows row by row, as CSV for people and as JSONL for programs. rows: how many it has."""

    def __init__(self, folder: Path, name: str) -> None:
        self.csv, self.jsonl = folder / f"{name}.csv", folder / f"{name}.jsonl"
        self.columns: list[str] | None = None
        self.rows = 0

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Forget rows after ``step`` (a resumed run writes them again) and a half-written last line; returns the rest.

        The files are replaced whole, so that a training that dies meanwhile loses nothing.
        """
        rows = [row for row in self._rows() if row.get("step", 0) <= step]
        self.columns = list(rows[0]) if rows else None
        self.rows = len(rows)
        if self.columns is None:
            for path in (self.csv, self.jsonl):
                path.unlink(missing_ok=True)
            return rows
        write_atomic(self.csv, _csv_line(self.columns) + "".join(self._cells(row) for row in rows))
        write_atomic(self.jsonl, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        if self.columns is None:
            self.columns = list(row)
            write_atomic(self.csv, _csv_line(self.columns))
        plain = _plain(row)
        append_text(self.csv, self._cells(plain))
        append_text(self.jsonl, json.dumps(plain) + "\n")
        self.rows += 1

    def _cells(self, row: Mapping[str, Any]) -> str:
        """A row as CSV; columns that the first row had not are left out."""
        return _csv_line([row.get(name, "") for name in self.columns or ()])

    def _rows(self) -> list[dict[str, Any]]:
        """Whole rows of the file for programs; what is no row, such as a half-written one, is left out."""
        if not self.jsonl.is_file():
            return []
        rows = []
        for line in self.jsonl.read_bytes().splitlines():
            try:
                row = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError):  # no JSON, no UTF-8, or far too deep
                continue
            if isinstance(row, dict) and isinstance(row.get("step", 0), int):
                rows.append(row)
        return rows


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
