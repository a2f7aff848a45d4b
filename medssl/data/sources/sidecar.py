"""The JSON file beside a table of people: units, levels and the codes of missing values of its columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.documents.json_file import parse_json
from medssl.errors import ManifestError, UserError
from medssl.tables.ages import unit_named
from medssl.tables.missing import sidecar_codes
from medssl.tables.text import decoded


@dataclass(frozen=True)
class Sidecar:
    """name: of the file, "" where there is none. entries: column in small letters -> what the file says of it."""

    name: str = ""
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def missing(self, column: str) -> list[str]:
        """Codes that the file calls missing in a column."""
        return sidecar_codes(self._entry(column))

    def levels(self, column: str) -> dict[str, str]:
        """Code -> meaning; levels may be words or objects with a Description."""
        levels = self._entry(column).get("Levels")
        return dict(levels) if isinstance(levels, dict) else {}

    def unit(self, column: str, notes: list[str]) -> str | None:
        """Unit of a column of ages; None where the file names none, with a note where it names no unit of time."""
        entry = self._entry(column)
        key = next((k for k in ("Units", "units", "Unit", "unit") if k in entry), None)
        if key is None:
            return None
        given = entry[key]
        word = re.match(r"\s*([A-Za-z]+)", given) if isinstance(given, str) else None
        unit = unit_named(word[1]) if word else None
        if unit is None and given not in ("", "n/a", None):
            notes.append(
                f"{self.name} says {key} {json.dumps(given)[:40]} of {column}, which is no unit of age that medssl "
                "knows (years, months, weeks, days); the file is not used for it"
            )
        return unit

    def over(self, other: Sidecar) -> Sidecar:
        """This file, and what the other says of a column where this one says nothing (of units, of levels, ...)."""
        entries = {name: dict(entry) for name, entry in self.entries.items()}
        for name, entry in other.entries.items():
            mine = entries.setdefault(name, {})
            said = {_sort_of(key) for key in mine}
            mine.update({key: value for key, value in entry.items() if _sort_of(key) not in said})
        return Sidecar(" and ".join(name for name in (self.name, other.name) if name), entries)

    def also(self, names: Sequence[str]) -> Sidecar:
        """The same entries, where what is said of one of these columns holds for all of them (sex, gender)."""
        lower = [name.strip().lower() for name in names]
        entry = next((self.entries[name] for name in lower if name in self.entries), None)
        return self if entry is None else Sidecar(self.name, {**dict.fromkeys(lower, entry), **self.entries})

    def _entry(self, column: str) -> Mapping[str, Any]:
        return self.entries.get(column.strip().lower(), {})


def read_sidecar(source: Path, notes: list[str]) -> Sidecar:
    """The JSON file of a table (same name, any capitals; for sub-01_sessions.tsv also sessions.json one folder up).

    What cannot be used goes to ``notes``; nothing in such a file stops a scan.
    """
    path = _beside(source)
    if path is None:
        return Sidecar()
    try:
        text = decoded(path, [])
    except ManifestError as error:
        notes.append(f"{path.name} beside {source.name} was not used: {error}")
        return Sidecar()
    try:
        content = parse_json(text, path.name, "correct it", nan=True, repeated_keys=True)
    except UserError as error:
        notes.append(f"{path.name} beside {source.name} was not used, since it is no JSON that can be read ({error})")
        return Sidecar()
    if not isinstance(content, dict):
        notes.append(f"{path.name} beside {source.name} was not used, since it holds no object by column")
        return Sidecar()
    entries = {str(key).strip().lower(): _plain(value) for key, value in content.items() if isinstance(value, dict)}
    return Sidecar(path.name, entries)


def _sort_of(key: str) -> str:
    """What a key of an entry speaks of: its unit in any spelling, or else the key in small letters."""
    return "units" if key.lower() in ("unit", "units") else key.lower()


def _beside(source: Path) -> Path | None:
    """The file of the same name with the suffix .json, whatever its capitals."""
    wanted = [(source.parent, f"{source.stem}.json".lower())]
    if source.stem.lower().endswith("_sessions"):
        wanted.append((source.parent.parent, "sessions.json"))
    for folder, name in wanted:
        try:
            found = sorted(p for p in folder.iterdir() if p.name.lower() == name and not p.is_dir())
        except OSError:
            continue
        if found:
            return found[0]
    return None


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry whose levels are words: {"1": {"Description": "male"}} says the same as {"1": "male"}."""
    levels = next((value for key, value in entry.items() if str(key).lower() == "levels"), None)
    if not isinstance(levels, dict):
        return entry
    return {**entry, "Levels": {str(code): _word(meaning) for code, meaning in levels.items()}}


def _word(meaning: Any) -> str:
    if isinstance(meaning, dict):
        return next((str(meaning[k]) for k in ("Description", "Label", "LongName", "description") if k in meaning), "")
    return str(meaning)
