"""Numbers, times and names as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from medssl.evaluation.caution import SITE_DIRECTION as SITE_DIRECTION
from medssl.evaluation.caution import guessing
from medssl.progress.steps import duration as spoken_time
from medssl.report.read import Row, Scores

ROWS: Mapping[str, str] = {
    "encoder": "This encoder",
    "unharmonised": "This encoder, not harmonised",
    "untrained": "Untrained encoder",
    "ridge_voxels": "Ridge on voxels",
    "ridge_features": "Ridge on the measures",
    "site_median": "Median age of the site",
    "constant": "Constant features (chance)",
    "age_oracle": "True age as feature (best possible)",
}
"""Rows of the scorecard in the order in which they are shown."""
NARROW = "\u00a0"
"""Between a number and its percent sign."""


def years(value: float | None) -> str:
    """Years with one decimal; a dash where undefined.

    >>> years(5.04), years(None), years(-0.04)
    ('5.0', '–', '0.0')
    """
    return _fixed(value, 1)


def ratio(value: float | None) -> str:
    """R², challenge score and the like: two decimals.

    >>> ratio(0.8449)
    '0.84'
    """
    return _fixed(value, 2)


def percent(value: float | None) -> str:
    """A share as percent, a no-break space between; one decimal below twenty where it says something.

    >>> [percent(v).replace(NARROW, " ") for v in (0.348, 0.125, 0.1, 0.0156)]
    ['35 %', '12.5 %', '10 %', '1.6 %']
    """
    if value is None or not math.isfinite(value):
        return "–"
    number = f"{100 * value:.1f}" if abs(value) < 0.2 else f"{100 * value:.0f}"
    return f"{number.removesuffix('.0')}{NARROW}%"


def _fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if not float(text) else text
    return text.replace("-", "−")


def shown(metric: str, value: float | None) -> str:
    """A value in the form its metric asks for."""
    if metric.startswith("site"):
        return percent(value)
    return years(value) if metric.startswith(("mae", "rmse")) else ratio(value)


def bounds(metric: str, pair: tuple[float, float] | None) -> str:
    """An interval without brackets: "4.4 to 5.6"; empty where there is none or its ends are one number."""
    if pair is None:
        return ""
    low, high = (shown(metric, v) for v in pair)
    if low == high:
        return ""
    return f"{low.removesuffix(f'{NARROW}%') if high.endswith('%') else low} to {high}"


def signed(value: float) -> str:
    """A difference in years with its sign.

    >>> signed(1.54), signed(-5.01)
    ('+1.5', '−5.0')
    """
    text = years(value)
    return f"+{text}" if value > 0 and text != "0.0" else text


def with_interval(row: Row, metric: str) -> str:
    """ "5.0 (4.4 to 5.6)"; the value alone where there is no interval."""
    between = bounds(metric, row.ci.get(metric))
    text = shown(metric, row.values.get(metric))
    return f"{text} ({between})" if between else text


def row_name(key: str) -> str:
    """Name of a scorecard row in words."""
    return ROWS.get(key, key.replace("_", " "))


def ordered(scores: Scores) -> list[Row]:
    """Rows of the scorecard: the encoder, then references from useful to formal."""
    place = {key: i for i, key in enumerate(ROWS)}
    return [scores.encoder, *sorted(scores.references, key=lambda r: (place.get(r.key, 99), r.key))]


_SPOKEN = (
    (r"\binternal_test rows\b", "test scans of known sites"),
    (r"\bexternal_test rows\b", "test scans of unseen sites"),
    (r"\binternal_test row\b", "test scan of a known site"),
    (r"\bexternal_test row\b", "test scan of an unseen site"),
    (r"\btrain row\b", "training scan"),
    (r"\binternal_test\b", "the test on known sites"),
    (r"\bexternal_test\b", "the test on unseen sites"),
    (r"\binternal scores\b", "scores on known sites"),
    (r"\bexternal scores\b", "scores on unseen sites"),
    (r"\btrain(?:ing)? rows\b", "training scans"),
    (r"\btraining row\b", "training scan"),
    (r"\bsite_bacc\b", "the balanced accuracy of the site"),
)


def site_chance(rows: Sequence[Row]) -> float | None:
    """Balanced accuracy that guessing the site reaches.

    One over the number of training sites, or what constant features reach where that is more, since guessing is
    better where the tests do not hold all sites.
    """
    chance = rows[0].values.get("site_chance") if rows else None
    return guessing(chance, next((r.values.get("site_bacc") for r in rows if r.key == "constant"), None))


def spoken(note: str) -> str:
    """A note of the scorecard in the words of the page: known and unseen sites, scans.

    >>> spoken("3 of 60 internal_test rows have no age")
    '3 of 60 test scans of known sites have no age.'
    """
    for pattern, words in _SPOKEN:
        note = re.sub(pattern, words, note)
    return f"{note[:1].upper()}{note[1:]}{'' if note.endswith('.') else '.'}" if " " in note else note


def duration(created: Any, finished: Any) -> str:
    """Time between two stamps of run.json in words; empty where one is missing."""
    try:
        seconds = (stamp(finished) - stamp(created)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return spoken_time(seconds) if seconds >= 0 else ""


def stamp(text: Any) -> datetime:
    """A time of run.json; ValueError for anything else."""
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def natural(name: str) -> tuple[str, str]:
    """Sorting key that puts site 2 before site 10.

    >>> sorted(["s10", "s2"], key=natural)
    ['s2', 's10']
    """
    return re.sub(r"\d+", lambda m: m[0].zfill(12), name), name


def listing(words: Sequence[str]) -> str:
    """ "a, b and c".

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
