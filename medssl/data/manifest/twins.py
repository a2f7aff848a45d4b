"""Holders of one scan in a cohort that is to be divided: they belong on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.columns import chosen_columns, raw_values
from medssl.data.manifest.copies import mark, same_files
from medssl.tables.people import COPY


def with_copies(cohort: Cohort, columns: Sequence[str] | None) -> pd.DataFrame:
    """The cohort's table with the column ``COPY``, which is the same in rows with one scan and "" in the others.

    columns: patterns of features where the rows are of a table; the same features (16 or more) are one scan then. Of
    images, files of the same content are; what holds the same voxels in another container is not found here. Splits
    keep such rows on one side (``medssl.tables.people.groups_of``).
    """
    if columns is None:
        return cohort.table.assign(**{COPY: same_files(cohort.table["image"].tolist())})
    values_NF = raw_values(cohort, chosen_columns(cohort, columns))
    marks = [mark(row.reshape(1, -1, 1, 1)) for row in values_NF]
    often = Counter(marks)
    return cohort.table.assign(**{COPY: [text if often[text] > 1 else "" for text in marks]})
