"""What uses ages (methods, probes, monitors) asks first: is their unit years, and which of them are possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medssl.tables.ages import OLDEST, PER_YEAR, looks_like, possible

RULE = f"is not between 0 and {OLDEST:g} years"
"""Why an age cannot be used."""


def other_unit(years: npt.ArrayLike, groups: Sequence[object] | None = None) -> str:
    """What is wrong with the unit of ages, with range and remedy, "" where they are years; to stand behind a name.

    groups: (N,) data sets, each judged by itself, since one may be in months beside others in years.

    >>> other_unit([61.0, 72.5]), other_unit([732.0, 870.0])[:36]
    ('', '2 ages (732 to 870) look like months')
    """
    ages = np.asarray(years, dtype=np.float64)
    names = np.full(len(ages), "") if groups is None else np.array([str(g) for g in groups], dtype=str)
    suspects = set(names[ages > OLDEST].tolist())
    for name in sorted(suspects):
        known = ages[(names == name) & np.isfinite(ages)]
        if unit := looks_like(known):
            of = f" of {name}" if name else ""
            return (
                f"{len(known)} ages{of} ({known.min():g} to {known.max():g}) look like {unit}, but ages are read as "
                f"years; {_remedy(unit)}"
            )
    return ""


def impossible(years: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Rows whose age is known, but not between 0 and 120 years."""
    ages = np.asarray(years, dtype=np.float64)
    return np.flatnonzero(~np.isnan(ages) & ~possible(ages))


def _remedy(unit: str) -> str:
    if unit not in PER_YEAR:
        return "write ages in years in the table (year of the scan less year of birth)"
    return (
        f'divide them by {PER_YEAR[unit]:g} in the table, or give participants.json the "Units": "{unit}" of age '
        "and write the manifest anew with `medssl cohort scan`, which converts them"
    )
