"""How a synthetic cohort is known as one: by the data set of its scans, and by the description beside its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DATASET = "synthetic"
"""Data set of every scan of a synthetic cohort."""
NAME = "medssl synthetic cohort"
"""Name of the cohort in its dataset_description.json."""


def synthetic_rows(datasets: Iterable[object], manifests: Iterable[Path]) -> int:
    """How many rows of a cohort are synthetic scans, by their data set.

    All of them where each of the manifests stands beside the description that `medssl cohort synth` wrote.
    """
    names, paths = list(datasets), list(manifests)
    if paths and all(_described(path.parent / "dataset_description.json") for path in paths):
        return len(names)
    return sum(name == DATASET for name in names)


def _described(path: Path) -> bool:
    try:
        return f'"{NAME}"' in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
