"""Holders of one scan in a cohort that is to be divided: they belong on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns, raw_values
from medssl.data.manifest.copies import mark, repeats, same_files
from medssl.tables.people import COPY


def with_copies(cohort: Cohort, columns: Sequence[str] | None) -> pd.DataFrame:
    """The cohort's table with the column ``COPY``, which is the same in rows with one scan and "" in the others.

    columns: patterns of features where the rows are of a table; the same features (16 or more) are one scan then. Of
    images, files of the same content are; what holds the same voxels in another container is not found here. Splits
    keep such rows on one side (``medssl.tables.people.groups_of``).
    """
    if columns is None:
        return cohort.table.assign(**{COPY: same_files(cohort.table["image"].tolist())})
    z_NF = _standardised(raw_values(cohort, chosen_columns(cohort, columns)))
    marks = [mark(row.reshape(1, -1, 1, 1)) for row in z_NF]
    labels = [""] * len(marks)
    for row, earlier in repeats(marks):
        labels[earlier] = labels[row] = labels[earlier] or marks[earlier]
    return cohort.table.assign(**{COPY: labels})


def _standardised(values_NF: np.ndarray) -> np.ndarray:
    """The features as a training sees them, so that what it would refuse is found: an empty cell is the mean, 0."""
    known = np.isfinite(values_NF)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, values_NF, 0.0).sum(0) / counts
    gap_NF = np.where(known, values_NF - mean, 0.0)
    sd = np.sqrt((gap_NF**2).sum(0) / counts)
    return np.asarray(gap_NF / np.where(sd > 0, sd, 1.0))
