"""Numbers as people read them, and the verdict in sentences: honest also where a baseline wins."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from medssl.errors import count
from medssl.report.read import Difference, Row, Scores

ROWS: Mapping[str, str] = {
    "encoder": "This encoder",
    "untrained": "Untrained encoder",
    "ridge_voxels": "Ridge on voxels",
    "ridge_features": "Ridge on the measures themselves",
    "site_median": "Median age of the site",
    "constant": "Constant features (chance)",
    "age_oracle": "True age as feature (ceiling)",
}
"""Rows of the scorecard in the order in which they are shown."""
_FEW_SITES = 6
_WIDE = 1.5  # an interval from chance to more than so many times chance says little
NARROW = "\u00a0"
"""Between a number and its percent sign."""


@dataclass(frozen=True)
class Verdict:
    """One sentence of the verdict; kind is "good", "bad" or "open"."""

    kind: str
    text: str


def years(value: float | None) -> str:
    """Years with one decimal; a dash where undefined.

    >>> years(5.04), years(None), years(-0.04)
    ('5.0', '–', '0.0')
    """
    return _fixed(value, 1)


def ratio(value: float | None) -> str:
    """R2, challenge score and the like: two decimals.

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
    """An interval without brackets: "4.4 to 5.6"; empty where there is none."""
    if pair is None:
        return ""
    low, high = (shown(metric, v) for v in pair)
    return f"{low.removesuffix(f'{NARROW}%') if high.endswith('%') else low} to {high}"


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


def verdict(scores: Scores, external_sites: int | None = None) -> list[Verdict]:
    """What the scorecard says, a sentence per question; nothing where a number is missing."""
    said = [
        _against(
            scores,
            "untrained",
            "Training helped: on unseen sites the age error is {mine} years, against {theirs} for the same network "
            "before training{tail}.",
            "Training did harm: the untrained network predicts age better, {theirs} years against {mine} after "
            "training{tail}.",
            "Training made no clear difference to age on unseen sites: {mine} years trained, {theirs} untrained{tail}.",
        ),
        _against(
            scores,
            "constant",
            "Better than chance: giving every scan the same age is wrong by {theirs} years on average{tail}.",
            "Worse than chance: giving every scan the same age is wrong by only {theirs} years{tail}.",
            "Not clearly better than chance: giving every scan the same age is wrong by {theirs} years{tail}.",
        ),
        _against(
            scores,
            "ridge_voxels",
            "Better than the simple baseline: ridge on voxels is wrong by {theirs} years{tail}.",
            "Ridge on voxels predicts age better: {theirs} years{tail}. For age alone, the simple baseline is the "
            "better choice on these scans.",
            "Ridge on voxels predicts age about as well: {theirs} years{tail}.",
        ),
        _against(
            scores,
            "ridge_features",
            "Better than the simple baseline: ridge on the measures themselves is wrong by {theirs} years{tail}.",
            "Ridge on the measures themselves predicts age better: {theirs} years{tail}. For age alone, the simple "
            "baseline is the better choice on this table.",
            "Ridge on the measures themselves predicts age about as well: {theirs} years{tail}.",
        ),
        None
        if _same(scores, "site_median", "constant", "mae_internal")  # one training site: nothing is read from it
        else _against(
            scores,
            "site_median",
            "It reads more than the site: the median age of a scan's site is wrong by {theirs} years on known sites, "
            "the encoder by {mine}{tail}.",
            "Knowing only the site of a scan predicts age better on known sites: {theirs} years, against {mine} for "
            "this encoder{tail}.",
            "On known sites the median age of a scan's site does about as well: {theirs} years, against {mine} "
            "for this encoder{tail}.",
            metric="mae_internal",
        ),
        *_site(scores),
    ]
    if external_sites is not None and 0 < external_sites < _FEW_SITES:
        said.append(
            Verdict(
                "open",
                f"Only {count(external_sites, 'unseen site')}: how well this carries over to further "
                "sites cannot be judged from so few.",
            )
        )
    return [v for v in said if v is not None]


def _same(scores: Scores, key: str, other: str, metric: str) -> bool:
    """Whether two references have the same value, to nine digits."""
    rows = (scores.row(key), scores.row(other))
    values = [row.values.get(metric) for row in rows if row is not None]
    return len(values) == 2 and None not in values and math.isclose(values[0] or 0, values[1] or 0, rel_tol=1e-9)


def _against(
    scores: Scores, key: str, better: str, worse: str, unclear: str, metric: str = "mae_external"
) -> Verdict | None:
    """Compare an error (lower is better) with a reference; the interval of the difference decides."""
    other, mine = scores.row(key), scores.encoder.values.get(metric)
    theirs = other.values.get(metric) if other else None
    if mine is None or theirs is None:
        return None
    difference = scores.differences.get(key, {}).get(metric)
    sign = sure(difference)
    if sign is None:  # no interval: the numbers alone
        kind = "good" if mine < theirs else "bad" if mine > theirs else "open"
    else:
        kind = {-1: "good", 1: "bad", 0: "open"}[sign]
    text = {"good": better, "bad": worse, "open": unclear}[kind]
    tail = _tail(difference, metric)
    return Verdict(kind, text.format(mine=years(mine), theirs=years(theirs), tail=tail))


def sure(difference: Difference | None) -> int | None:
    """Sign of a difference whose interval excludes 0; 0 when it includes 0, None without an interval."""
    if difference is None or difference.ci is None:
        return None
    low, high = difference.ci
    return 1 if low > 0 else -1 if high < 0 else 0


def _tail(difference: Difference | None, metric: str) -> str:
    if difference is None or difference.ci is None:
        return " (no interval was computed for the difference)"
    text = f" (difference {signed(difference.difference)}, 95\u00a0% interval {bounds(metric, difference.ci)}"
    sites = difference.ci_sites
    if sites is not None and sure(difference) and sites[0] <= 0 <= sites[1]:
        text += f"; but {bounds(metric, sites)} when whole sites are resampled, so other sites may disagree"
    return text + ")"


def signed(value: float) -> str:
    """A difference in years with its sign.

    >>> signed(1.54), signed(-5.01)
    ('+1.5', '−5.0')
    """
    text = years(value)
    return f"+{text}" if value > 0 and text != "0.0" else text


def _site(scores: Scores) -> list[Verdict]:
    mine, chance = scores.encoder.values.get("site_bacc"), scores.encoder.values.get("site_chance")
    if mine is None or chance is None:
        return []
    pair = scores.encoder.ci.get("site_bacc")
    between = f" ({bounds('site_bacc', pair)})" if pair else ""
    beside = f"{percent(mine)}{between}"
    low = pair[0] if pair else mine
    if low <= chance and pair is not None and pair[1] > _WIDE * chance:
        text = "It is not clear whether the scanner is in the features: a linear probe recognises the site with "
        return [Verdict("open", f"{text}a balanced accuracy of {beside}, and chance is {percent(chance)}.")]
    if low <= chance:
        text = "The site of a scan is not recognised from the features better than by chance: balanced accuracy "
        return [Verdict("good", f"{text}{beside}, chance {percent(chance)}.")]
    text = (
        "The scanner is still in the features: a linear probe recognises the site of a scan with a balanced accuracy "
        f"of {beside}; chance is {percent(chance)}"
    )
    plain = scores.row("untrained")
    theirs = plain.values.get("site_bacc") if plain else None
    if theirs is None:
        return [Verdict("bad", text + ".")]
    kind = "open" if mine < theirs else "bad"
    return [Verdict(kind, f"{text}, and the untrained encoder gives {percent(theirs)}.")]


def duration(created: Any, finished: Any) -> str:
    """Time between two stamps of run.json in words; empty where one is missing."""
    try:
        seconds = (_stamp(finished) - _stamp(created)).total_seconds()
    except (ValueError, TypeError):
        return ""
    if seconds < 0:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _stamp(text: Any) -> datetime:
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
