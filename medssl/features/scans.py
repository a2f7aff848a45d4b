"""Which scans of a cohort are embedded, and what a features table tells of those that are not, or look strange."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import ScanDataset
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import UserError, VolumeError, count
from medssl.features.table import FeatureTable
from medssl.features.unlike import UNLIKE


def failures_path(out: Path) -> Path:
    """The table of scans that could not be read, beside the features."""
    return out.with_name(f"{out.name}.failures.csv")


def said_of(table: FeatureTable, out: Path) -> list[str]:
    """What a table that was made here must tell: which scans it lacks, and which look unlike the training scans."""
    lost, unlike = table.provenance.get("skipped"), table.provenance.get(UNLIKE, [])
    if not lost:
        return list(unlike)
    are = "is" if lost == 1 else "are"
    return [f"{count(lost, 'scan')} could not be read and {are} not in the table; see {failures_path(out)}", *unlike]


def read_scans(
    cohort: Cohort,
    images: tuple[str, ...],
    cache: VolumeCache,
    preprocessing: Preprocessing,
    clean: Callable[[Tensor], Tensor] | None,
    progress: bool,
    skip: bool,
) -> tuple[ScanDataset, dict[int, str]]:
    """The scans in the cache, and with ``skip`` those that cannot be used (row -> reason)."""
    failed: dict[int, str] = {}
    rows = cohort.rows()
    if skip:
        named, failed = rows_with_images(cohort, images)
        rows = named
        if not len(rows):
            raise UserError(f"no scan can be embedded: {next(iter(failed.values()))}")
    files = cohort.files(rows, images)
    wrong: dict[int, str] = {}
    try:
        made = cache.prepare(
            files,
            preprocessing,
            workers=None,
            progress=progress,
            where=cohort.names(rows),
            failed=wrong if skip else None,
        )
    except VolumeError as error:
        if skip:
            raise
        raise VolumeError(f"{error}; --on-error skip embeds the others") from error
    failed |= {int(rows[k]): reason for k, reason in wrong.items()}
    kept = [group for k, group in enumerate(files) if k not in wrong]
    return ScanDataset(kept, cache, preprocessing, {}, None, clean, made.keys), failed


def rows_with_images(cohort: Cohort, images: tuple[str, ...]) -> tuple[np.ndarray, dict[int, str]]:
    """Rows (n,) that name all these images, and what is wrong with the others (row -> reason)."""
    failed: dict[int, str] = {}
    for row in cohort.rows():
        for name in images:
            cell = cohort.table[name].iloc[row] if name in cohort.table else None
            if name in cohort.table and (not isinstance(cell, str) or not cell):
                failed[int(row)] = f'{cohort.where(int(row))}: "{name}" names no file'
    return np.array([row for row in cohort.rows() if int(row) not in failed], dtype=int), failed
