"""Tables that grow row by row while a training runs, and go back to where a checkpoint stands."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.files import write_atomic


class Log:
    """One table that grows row by row, as CSV for people and as JSONL for programs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.csv, self.jsonl = folder / f"{name}.csv", folder / f"{name}.jsonl"
        self.columns: list[str] | None = None

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Forget rows after ``step`` (a resumed run writes them again) and a half-written last line; returns the rest.

        The files are replaced whole, so that a training that dies meanwhile loses nothing.
        """
        rows = [row for row in self._rows() if row.get("step", 0) <= step]
        self.columns = list(rows[0]) if rows else None
        if not rows:
            for path in (self.csv, self.jsonl):
                path.unlink(missing_ok=True)
            return rows
        table = io.StringIO(newline="")
        csv.writer(table).writerow(self.columns or ())
        for row in rows:
            self._writer(table).writerow(row)
        write_atomic(self.csv, table.getvalue())
        write_atomic(self.jsonl, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        if self.columns is None:
            self.columns = list(row)
            with self.csv.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(self.columns)
        with self.csv.open("a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(_plain(row))
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(row)) + "\n")

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns or (), extrasaction="ignore", restval="")

    def _rows(self) -> list[dict[str, Any]]:
        """Whole rows of the file for programs; what is no row, such as a half-written one, is left out."""
        if not self.jsonl.is_file():
            return []
        rows = []
        for line in self.jsonl.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step", 0), int):
                rows.append(row)
        return rows


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
