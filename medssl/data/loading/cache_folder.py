"""The files of a cache folder: what it holds, what can go, and which entries are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from medssl.data.loading.cache_entries import CacheUsage
from medssl.data.loading.entry_file import fault
from medssl.data.loading.pool import in_order
from medssl.errors import count
from medssl.files import TEMPORARY_SUFFIX, is_abandoned


def cache_usage(root: Path) -> CacheUsage:
    """What the cache holds."""
    files = [(file, file.stat().st_size) for file in _files(root) if file.exists()]
    temporaries = sum(file.name.endswith(TEMPORARY_SUFFIX) for file, _ in files)
    return CacheUsage(len(files) - temporaries, sum(size for _, size in files), temporaries)


def prune_cache(root: Path, keep: set[str] | None) -> CacheUsage:
    """Remove entries whose key is not in ``keep`` (None: all) and what killed processes left; returns what went."""
    entries = size = temporaries = 0
    for file in _files(root):
        temporary = file.name.endswith(TEMPORARY_SUFFIX)
        if not is_abandoned(file) if temporary else keep is not None and file.stem in keep:
            continue
        try:
            size += file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        entries, temporaries = entries + (not temporary), temporaries + temporary
    return CacheUsage(entries, size, temporaries)


def faults(entries: Sequence[Path], dtype: str, workers: int | None, progress: bool) -> dict[Path, str]:
    """What is wrong with those of these entries that are damaged; all are read, by ``workers`` processes."""
    there = [entry for entry in entries if entry.exists()]
    reasons = in_order(partial(fault, dtype=dtype), there, workers, progress, "checking the cache")
    return {entry: reason for entry, reason in zip(there, reasons, strict=True) if reason}


def repaired(faulty: Mapping[Path, tuple[str, str]]) -> str:
    """The sentence that says which entries are built again. faulty: entry -> what is wrong with it, and its scan."""
    parts = []
    for reason, number in Counter(reason for reason, _ in faulty.values()).items():
        entry, scan = next((entry, scan) for entry, (other, scan) in faulty.items() if other == reason)
        these = count(number, "cache entry", "cache entries")
        again = "is built again from" if number == 1 else "are built again, the first from"
        parts.append(f"{these} with {reason} {again} {scan} ({entry})")
    return "; ".join(parts)


def _files(root: Path) -> list[Path]:
    """Entries and temporaries; nothing else below the root is ever touched."""
    entries = [p for p in root.glob("[0-9a-f][0-9a-f]/*.npy") if _is_key(p.stem)]
    temporaries = list(root.glob(f"[0-9a-f][0-9a-f]/.*.npy.*{TEMPORARY_SUFFIX}"))
    return sorted(entries) + sorted(temporaries)


def _is_key(stem: str) -> bool:
    return len(stem) == 64 and set(stem) <= set("0123456789abcdef")
