"""Where a simple reference is as good as this encoder or better: marks for the tables, a sentence for the summary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medssl.evaluation.caution import clearly_below
from medssl.report.read import Difference, Row, Scores
from medssl.report.words import ordered, row_name, shown, site_chance

_ERRORS = ("mae_external", "mae_internal", "challenge")
_READERS = ("untrained", "unharmonised", "ridge_voxels", "ridge_features")
"""Rows whose reading of the site says how much of it a simpler way leaves."""
_WHERE = {
    "mae_external": ("on unseen sites", " years"),
    "mae_internal": ("on known sites", " years"),
    "challenge": ("by the challenge score", ""),
    "site_bacc": ("in how little of the scanner is left", ""),
}


@dataclass(frozen=True)
class Rival:
    """A reference that the encoder does not beat. better: it does better; otherwise the two cannot be told apart."""

    key: str
    metric: str
    better: bool
    value: float

    @property
    def mark(self) -> str:
        """What stands beside the encoder's number: "worse than ridge on voxels"."""
        return f"{'worse than' if self.better else 'not clearly better than'} {_name(self.key)}"


def rivals(scores: Scores) -> list[Rival]:
    """References that are better than the encoder or as good, by the interval of the difference where there is one."""
    return [rival for metric in (*_ERRORS, "site_bacc") for rival in _rivals(scores, metric)]


def _rivals(scores: Scores, metric: str) -> Iterator[Rival]:
    mine, chance = scores.encoder.values.get(metric), site_chance(ordered(scores))
    for row in ordered(scores)[1:]:
        theirs = row.values.get(metric)
        if mine is None or theirs is None or row.key == "age_oracle" or not _counts(scores, row, metric, chance):
            continue
        sign = sign_of(scores.differences.get(row.key, {}).get(metric), mine, theirs)
        if sign > 0 or (sign == 0 and metric != "site_bacc"):
            yield Rival(row.key, metric, sign > 0, theirs)


def _counts(scores: Scores, row: Row, metric: str, chance: float | None) -> bool:
    """Whether a row is a reference in this metric at all."""
    if metric == "site_bacc":
        mine = scores.encoder.values.get(metric)
        return row.key in _READERS and chance is not None and mine is not None and mine > chance
    if metric == "challenge" and clearly_below(row.values.get("site_bacc"), row.ci.get("site_bacc"), chance):
        return False  # which makes it look better than it is
    return row.key != "site_median" or not one_site(scores)


def one_site(scores: Scores) -> bool:
    """Whether the median of the site is that of everyone, as with one training site, so that it says nothing new."""
    rows = (scores.row("site_median"), scores.row("constant"))
    values = [row.values.get("mae_internal") for row in rows if row is not None]
    return len(values) == 2 and None not in values and math.isclose(values[0] or 0, values[1] or 0, rel_tol=1e-9)


def sure(difference: Difference | None) -> int | None:
    """Sign of a difference whose interval excludes 0; 0 when it includes 0, None without an interval."""
    if difference is None or difference.ci is None:
        return None
    low, high = difference.ci
    return 1 if low > 0 else -1 if high < 0 else 0


def sign_of(difference: Difference | None, mine: float, theirs: float) -> int:
    """-1 where the encoder's error is lower for sure, 1 where it is higher, 0 where the interval leaves it open.

    Without an interval the numbers alone decide.
    """
    sign = sure(difference)
    return (mine > theirs) - (mine < theirs) if sign is None else sign


def unbeaten(scores: Scores, told: Sequence[tuple[str, str]] = ()) -> list[str]:
    """A sentence per metric on the references that the encoder does not beat.

    told: (key, metric) of references that are spoken of elsewhere.
    """
    found: dict[str, list[Rival]] = {}
    for rival in rivals(scores):
        if (rival.key, rival.metric) not in told:
            found.setdefault(rival.metric, []).append(rival)
    sentences = []
    for metric, those in found.items():
        where, unit = _WHERE[metric]
        mine = shown(metric, scores.encoder.values[metric])
        parts = []
        for better, words in ((True, "worse than"), (False, "not clearly better than")):
            names = [f"{_name(r.key)} ({shown(metric, r.value)}{unit})" for r in those if r.better == better]
            if names:
                parts.append(f"{words} {_either(names)}")
        sentences.append(f"{where[:1].upper()}{where[1:]}, this encoder ({mine}{unit}) is {' and '.join(parts)}.")
    return sentences


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _name(key: str) -> str:
    """Name of a row inside a sentence."""
    name = _INSIDE.get(key, row_name(key))
    return name[:1].lower() + name[1:]


_INSIDE = {
    "constant": "constant features, which say nothing",
    "unharmonised": "the features without harmonisation",
    "untrained": "the untrained encoder",
    "site_median": "the median age of the site",
}
