"""What the features of a table say: empty cells, constant columns, far-off values, rows that are copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medssl.data.checks.table import Finding
from medssl.data.manifest.columns import chosen_columns, raw_values
from medssl.data.manifest.copies import LEAST

if TYPE_CHECKING:
    from medssl.data.manifest.cohort import Cohort

FAR = 10.0  # robust standard deviations


def check_columns(cohort: Cohort, globs: Sequence[str]) -> Iterator[Finding]:
    """Findings on the columns that the patterns choose (see ``chosen_columns``).

    Errors: feature-empty, feature-constant (in the training rows), copy-across-splits. Warnings: feature-missing
    (empty cells), feature-far (more than 10 robust sd from the median), duplicate (rows with the same features).
    Raises ManifestError where the patterns choose nothing or a column holds text.
    """
    names = chosen_columns(cohort, globs)
    values_NF = raw_values(cohort, names)
    train = cohort.rows("train")
    files = ", ".join(str(path) for path in cohort.paths)
    for k, name in enumerate(names):
        known = values_NF[train, k][np.isfinite(values_NF[train, k])]
        if len(train) and not len(known):
            text = f'feature "{name}" is empty in all training rows; leave it out of data.columns'
            yield Finding("error", "feature-empty", files, None, text)
        elif len(train) and np.ptp(known) == 0:
            text = f'feature "{name}" is {known[0]:g} in all training rows; leave it out of data.columns'
            yield Finding("error", "feature-constant", files, None, text)
    empty = ~np.isfinite(values_NF)
    if empty.any():
        most = int(empty.sum(0).argmax())
        text = f"{int(empty.sum())} of {empty.size} cells are empty in {int(empty.any(1).sum())} rows, most often in "
        text += f'"{names[most]}" ({int(empty[:, most].sum())}); they become the mean of the training rows'
        yield Finding("warning", "feature-missing", files, None, text)
    yield from _far(cohort, names, values_NF)
    yield from _copies(cohort, values_NF)


def _far(cohort: Cohort, names: Sequence[str], values_NF: np.ndarray) -> Iterator[Finding]:
    """The farthest cell of each row that has one beyond ``FAR`` robust sd (1.4826 median absolute deviations)."""
    known = np.isfinite(values_NF).any(0)
    gap_NF = np.zeros_like(values_NF)
    middle = np.nanmedian(values_NF[:, known], axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(values_NF[:, known] - middle), axis=0)
    usable = spread > 0
    columns = np.flatnonzero(known)[usable]
    gap_NF[:, columns] = np.abs(values_NF[:, columns] - middle[usable]) / spread[usable]
    gap_NF[~np.isfinite(gap_NF)] = 0
    for row in np.flatnonzero((gap_NF > FAR).any(1)):
        k = int(gap_NF[row].argmax())
        text = f"{cohort.where(int(row))}: {names[k]} is {values_NF[row, k]:g}, {gap_NF[row, k]:.0f} robust standard "
        text += "deviations from the median; look at the scan or leave the cell empty"
        yield _row(cohort, int(row), "warning", "feature-far", text)


def _copies(cohort: Cohort, values_NF: np.ndarray) -> Iterator[Finding]:
    """Rows with the same features; an error where they cross train and test."""
    first: dict[bytes, int] = {}
    for row, values in enumerate(values_NF):
        if not np.isfinite(values).any():
            continue
        other = first.setdefault(values.tobytes(), row)
        if other == row:
            continue
        splits = {str(cohort.table["split"].iloc[k]) for k in (row, other)} - {""}
        leak = len(splits) > 1 and "train" in splits
        text = f"{cohort.where(row)}: has the same features as {cohort.where(other)}"
        text += ", and one is in train and the other in a test split; keep one" if leak else "; keep one of them"
        if values_NF.shape[1] >= LEAST:
            text += ", or both on one side of a split (`medssl cohort split --columns` with the same patterns does)"
        yield _row(cohort, row, "error" if leak else "warning", "copy-across-splits" if leak else "duplicate", text)


def _row(cohort: Cohort, row: int, level: str, code: str, text: str) -> Finding:
    record = cohort.table.iloc[row]
    return Finding(level, code, str(record["manifest"]), int(record["row"]), text)
