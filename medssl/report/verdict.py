"""What the scores say, a sentence per question: honest also where a baseline wins."""

from __future__ import annotations

from dataclasses import dataclass

from medssl.evaluation.caution import BELOW_CHANCE, clearly_below
from medssl.report.baselines import one_site, sign_of, sure
from medssl.report.read import Difference, Row, Scores
from medssl.report.words import NARROW, bounds, ordered, percent, ratio, signed, site_chance, years

_WIDE = 1.5  # an interval from chance to more than so many times chance says little


@dataclass(frozen=True)
class Verdict:
    """One sentence of the verdict; kind is "good", "bad" or "open"."""

    kind: str
    text: str


def verdict(scores: Scores) -> list[Verdict]:
    """The encoder beside each reference, a sentence per question; nothing where a number is missing."""
    found = [
        _against(
            scores,
            "untrained",
            "Training helped: on unseen sites the age error is {mine} years, against {theirs} for the same network "
            "before training{tail}.",
            "Training did harm: the untrained network predicts age better, {theirs} years against {mine} after "
            "training{tail}.",
            "Training made no clear difference to the age error on unseen sites: {mine} years after training, {theirs} "
            "before{tail}.",
        ),
        _against(
            scores,
            "constant",
            "Better than chance: giving everyone the same age would be off by {theirs} years on average{tail}.",
            "Worse than chance: giving everyone the same age would be off by only {theirs} years{tail}.",
            "Not clearly better than chance: giving everyone the same age would be off by {theirs} years{tail}.",
        ),
        _against(
            scores,
            "ridge_voxels",
            "Better than the simple baseline: ridge on voxels is off by {theirs} years{tail}.",
            "Ridge on voxels predicts age better: {theirs} years{tail}. For age alone, the simple baseline is the "
            "better choice on these scans.",
            "There is no clear difference to ridge on voxels, which is off by {theirs} years{tail}.",
        ),
        _against(
            scores,
            "ridge_features",
            "Better than the simple baseline: ridge on the measures is off by {theirs} years{tail}.",
            "Ridge on the measures predicts age better: {theirs} years{tail}. For age alone, the simple "
            "baseline is the better choice on this table.",
            "There is no clear difference to ridge on the measures, which is off by {theirs} years{tail}.",
        ),
        None
        if one_site(scores)
        else _against(
            scores,
            "site_median",
            "It reads more than the site: the median age of a scan's site is off by {theirs} years on known sites, "
            "the encoder by {mine}{tail}.",
            "Knowing only the site of a scan predicts age better on known sites: {theirs} years, against {mine} for "
            "this encoder{tail}.",
            "On known sites there is no clear difference to the median age of a scan's site: {theirs} years, against "
            "{mine} for this encoder{tail}.",
            metric="mae_internal",
        ),
    ]
    return [v for v in found if v is not None]


def _against(
    scores: Scores, key: str, better: str, worse: str, unclear: str, metric: str = "mae_external"
) -> Verdict | None:
    """Compare an error (lower is better) with a reference; the interval of the difference decides."""
    other, mine = scores.row(key), scores.encoder.values.get(metric)
    theirs = other.values.get(metric) if other else None
    if mine is None or theirs is None:
        return None
    difference = scores.differences.get(key, {}).get(metric)
    kind = {-1: "good", 1: "bad", 0: "open"}[sign_of(difference, mine, theirs)]
    text = {"good": better, "bad": worse, "open": unclear}[kind]
    tail = _tail(difference, metric)
    return Verdict(kind, text.format(mine=years(mine), theirs=years(theirs), tail=tail))


def _tail(difference: Difference | None, metric: str) -> str:
    if difference is None or difference.ci is None:
        return " (no interval was computed for the difference)"
    between = bounds(metric, difference.ci)
    text = f" (difference {signed(difference.difference)}{f', 95{NARROW}% interval {between}' if between else ''}"
    sites = difference.ci_sites
    if sites is not None and sure(difference) and sites[0] <= 0 <= sites[1]:
        text += f"; but {bounds(metric, sites)} when whole sites are resampled, so other sites may disagree"
    return text + ")"


def site_verdict(scores: Scores) -> Verdict | None:
    """Whether a linear probe reads the site from the features; None where that was not measured."""
    mine, chance = scores.encoder.values.get("site_bacc"), site_chance(ordered(scores))
    if mine is None or chance is None:
        return None
    pair = scores.encoder.ci.get("site_bacc")
    low, high = pair or (mine, mine)
    if low > chance:
        return _site_is_read(scores, mine, chance)
    between = _interval(pair)
    numbers = f"a linear probe names the site with a balanced accuracy of {percent(mine)}{between}"
    guess = f"chance is {percent(chance)}"
    if pair is not None and clearly_below(mine, pair, chance):
        text = (
            f"Something is odd about the scanner: {numbers}, clearly below chance ({percent(chance)}): {BELOW_CHANCE}."
        )
        return Verdict("bad", text)
    luck = (
        " A value below chance is luck here, not skill." if percent(mine) != percent(chance) and mine < chance else ""
    )
    if pair is not None and high > _WIDE * chance:
        text = f"It is not clear whether the scanner can be read from the features: {numbers}, and {guess}."
        return Verdict("open", text + luck)
    text = f"Which scanner made a scan cannot be read from the features better than by chance: {numbers}, and {guess}."
    return Verdict("good", text + luck)


def _site_is_read(scores: Scores, mine: float, chance: float) -> Verdict:
    pair = scores.encoder.ci.get("site_bacc")
    between = _interval(pair)
    text = (
        "Which scanner made a scan can still be read from the features: a linear probe names the site with a balanced "
        f"accuracy of {percent(mine)}{between}; chance is {percent(chance)}"
    )
    plain = scores.row("untrained")
    theirs = plain.values.get("site_bacc") if plain else None
    if theirs is None:
        return Verdict("bad", text + ".")
    kind = "open" if mine < theirs else "bad"
    return Verdict(kind, f"{text}, and the untrained encoder gives {percent(theirs)}.")


def _interval(pair: tuple[float, float] | None) -> str:
    between = bounds("site_bacc", pair)
    return f" (95\u00a0% interval {between})" if between else ""


REMARKS = {
    **dict.fromkeys(("below chance", "clearly below chance"), f"Below chance: {BELOW_CHANCE}."),
    "below 0": "R² below 0: giving everyone the mean age of these scans would be closer than the predictions are.",
    "worse than chance": "Worse than chance: giving everyone the same age would be off by fewer years.",
}
"""What stands in the table beside a value that is worse than guessing -> the sentence below the table."""


def remark(row: Row, metric: str, constant: Row | None) -> str:
    """A key of ``REMARKS`` for a value that is worse than guessing; "" for any other.

    constant: the row of constant features, which says how large an age error guessing gives.
    """
    value = row.values.get(metric)
    if value is None or row.key == "constant":
        return ""
    if metric == "site_bacc":
        chance, pair = site_chance([row, constant] if constant is not None else [row]), row.ci.get(metric)
        if chance is None or value >= chance or percent(value) == percent(chance):
            return ""
        return "clearly below chance" if clearly_below(value, pair, chance) else "below chance"
    if metric.startswith("r2"):
        return "below 0" if ratio(value).startswith("−") else ""
    guess = constant.values.get(metric) if constant is not None else None
    worse = metric.startswith(("mae", "rmse")) and guess is not None and value > guess
    return "worse than chance" if worse and years(value) != years(guess) else ""
