"""The page in three or four sentences, computed from the scores: for a reader who stops after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medssl.errors import count
from medssl.evaluation.caution import FEW_PEOPLE, FEW_SITES
from medssl.report.baselines import sign_of, unbeaten
from medssl.report.read import Row, Scores
from medssl.report.verdict import Verdict, site_verdict
from medssl.report.words import bounds, listing, years

PLACES = {"mae_external": ("external_test", "unseen sites"), "mae_internal": ("internal_test", "known sites")}
_RIDGES = ("ridge_voxels", "ridge_features")
_NAMES = {"ridge_voxels": "ridge on voxels", "ridge_features": "ridge on the measures"}


@dataclass(frozen=True)
class Alarms:
    """What else of the page a reader must know before trusting a number."""

    state: str = "finished"
    training: Verdict | None = None
    """What the training warned of."""
    failed: int = 0
    disagreement: bool = False
    damaged_logs: int = 0


def summary(scores: Scores | None, alarms: Alarms) -> list[Verdict]:
    """Age error, comparison with references, scanner, warnings of the training, what else needs attention.

    Without scores, what the training warned of alone.
    """
    if scores is None:
        return [alarms.training] if alarms.training else []
    metric = next((m for m in PLACES if scores.encoder.values.get(m) is not None), None)
    judged: list[Verdict | None] = [_compared(scores, metric)] if metric is not None else []
    judged += [_unbeaten(scores, metric), site_verdict(scores) or _no_site(scores), alarms.training]
    said = [v for v in judged if v is not None]
    return [_errors(scores), *said, _attention(scores, alarms, all(v.kind == "good" for v in said))]


def _errors(scores: Scores) -> Verdict:
    parts = [_error(scores, metric) for metric in PLACES if scores.encoder.values.get(metric) is not None]
    if not parts:
        return Verdict("open", "No age error was measured: no scan of the tests has a known age.")
    return Verdict("open", f"The age error is {listing(parts)}.")


def _error(scores: Scores, metric: str) -> str:
    between = bounds(metric, scores.encoder.ci.get(metric))
    notes = [f"95\u00a0% interval {between}" if between else "no interval", who_was_tested(scores.n, metric)]
    place = PLACES[metric][1]
    return f"{years(scores.encoder.values[metric])} years on {place} ({', '.join(n for n in notes if n)})"


def who_was_tested(n: Mapping[str, Any], metric: str, kind: bool = False) -> str:
    """How many people at how many sites gave a number: "17 people at 2 sites"; "" where it is not known.

    kind: say whether these are known or unseen sites.
    """
    split = PLACES[metric][0] if metric in PLACES else "internal_test"
    people, sites = n.get(f"subjects_{split}"), n.get(f"sites_{split}")
    if not isinstance(people, int):
        return ""
    text = count(people, "person", "people")
    site = PLACES[metric][1].removesuffix("s") if kind and metric in PLACES else "site"
    return f"{text} at {count(sites, site)}" if isinstance(sites, int) and sites else text


def _tested(scores: Scores, metric: str) -> str:
    return who_was_tested(scores.n, metric if metric in PLACES else "mae_internal", kind=True)


def few(scores: Scores, metric: str) -> bool:
    """Whether a number that was measured rests on fewer than 30 people."""
    if scores.encoder.values.get(metric) is None:
        return False
    splits = ["external_test"] if metric.endswith("_external") else ["internal_test"]
    splits += ["external_test"] if metric == "challenge" else []
    people = [scores.n.get(f"subjects_{split}") for split in splits]
    return any(isinstance(number, int) and 0 < number < FEW_PEOPLE for number in people)


def _compared(scores: Scores, metric: str) -> Verdict | None:
    """The encoder beside ridge and beside giving everyone the same age."""
    ridge = next((r for r in map(scores.row, _RIDGES) if r is not None and r.values.get(metric) is not None), None)
    constant = scores.row("constant")
    parts, signs = [], []
    if ridge is not None:
        signs.append(_sign(scores, ridge, metric))
        how = {-1: "does worse", 1: "does better", 0: "is not clearly better or worse"}[signs[-1]]
        parts.append(f"the simple baseline, {_NAMES[ridge.key]}, {how}: {years(ridge.values[metric])} years.")
    if constant is not None and constant.values.get(metric) is not None:
        signs.append(_sign(scores, constant, metric))
        how = {-1: "better than", 1: "worse than", 0: "not clearly better than"}[signs[-1]]
        guess = (
            f"{'G' if parts else 'g'}iving everyone the same age would be off by {years(constant.values[metric])} years"
        )
        parts.append(f"{guess}, so this encoder is {how} chance.")
    if not parts:
        return None
    kind = "bad" if 1 in signs else "good" if set(signs) == {-1} else "open"
    return Verdict(kind, f"On {PLACES[metric][1]}, {' '.join(parts)}")


def _sign(scores: Scores, row: Row, metric: str) -> int:
    difference = scores.differences.get(row.key, {}).get(metric)
    return sign_of(difference, scores.encoder.values[metric] or 0.0, row.values[metric] or 0.0)


def _unbeaten(scores: Scores, metric: str | None) -> Verdict | None:
    """The references that the encoder does not beat, other than those of ``_compared`` and of the scanner's verdict."""
    told = [(key, metric) for key in (*_RIDGES, "constant")] if metric else []
    sentences = unbeaten(scores, [*told, ("untrained", "site_bacc")])
    if not sentences:
        return None
    return Verdict("bad" if any("worse than" in text for text in sentences) else "open", " ".join(sentences))


def _no_site(scores: Scores) -> Verdict:
    sites = scores.n.get("sites_train")
    if isinstance(sites, int) and sites < 2:
        why = "all training scans come from one site" if sites else "no training scan names its site"
        return Verdict("open", f"Whether the scanner can be read from the features was not measured: {why}.")
    return Verdict("open", "Whether the scanner can be read from the features was not measured.")


def _attention(scores: Scores, alarms: Alarms, fine: bool) -> Verdict:
    """What else needs attention; fine: whether all that was said before is good."""
    points: list[str] = []
    if alarms.state != "finished":
        points.append(f"the training is not finished (state: {alarms.state})")
    if alarms.failed:
        points.append(f"{count(alarms.failed, 'check')} of which scans were used for what failed (see below)")
    if alarms.disagreement:
        points.append("the scores and the predictions were not made together")
    starred = [m for m in (*PLACES, "site_bacc") if few(scores, m)]
    small = list(dict.fromkeys(_tested(scores, m) for m in starred))
    if small:
        points.append(
            f"fewer than {FEW_PEOPLE} people were tested ({listing(small)}), so the numbers with a star (*) can easily "
            "change"
        )
    sites = scores.n.get("sites_external_test")
    if isinstance(sites, int) and 0 < sites < FEW_SITES:
        points.append(f"{count(sites, 'unseen site is', 'unseen sites are')} too few to speak for other hospitals")
    if scores.encoder.values.get("mae_external") is None:
        points.append("nothing was measured on unseen sites, so this says nothing about other hospitals")
    if alarms.damaged_logs:
        points.append(
            f"{count(alarms.damaged_logs, 'log of the training is', 'logs of the training are')} damaged, so warnings "
            "may be missing (see the messages)"
        )
    if not points:
        if not fine:
            return Verdict("open", "Apart from what stands above, no check of this page asks for attention.")
        return Verdict("good", "None of the checks of this page asks for attention.")
    bad = alarms.failed > 0 or alarms.disagreement or alarms.state != "finished"
    return Verdict("bad" if bad else "open", f"Needs attention: {'; '.join(points)}.")
