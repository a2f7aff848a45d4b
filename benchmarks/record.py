"""Dated records: JSON with everything, Markdown for reading."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medssl.environment import origin
from medssl.files import write_atomic

RESULTS = Path(__file__).parent / "results"


def commit() -> str:
    """The commit that ran, marked where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            cwd=RESULTS.parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def write(name: str, content: dict[str, Any], text: str) -> Path:
    """results/DATE-name.json and .md."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    source = origin()
    source.pop("command")
    full = {"date": day, "commit": commit(), **source, **content}
    write_atomic(RESULTS / f"{day}-{name}.json", json.dumps(full, indent=1) + "\n")
    path = RESULTS / f"{day}-{name}.md"
    hardware = full["hardware"]
    head = f"# {name}, {day}\nCommit {full['commit']}, torch {full['versions']['torch']}, {hardware['system']}, "
    head += f"{hardware['cores']} cores, {hardware['threads']} threads, GPU {hardware['gpu']}.\n\n"
    write_atomic(path, head + text + "\n")
    return path


def cell(row: dict[str, Any], key: str) -> str:
    """A number with its interval."""
    value = row.get(key)
    if value is None:
        return "-"
    low_high = (row.get("ci") or {}).get(key)
    return f"{value:.2f}" + (f" [{low_high[0]:.2f}, {low_high[1]:.2f}]" if low_high else "")
