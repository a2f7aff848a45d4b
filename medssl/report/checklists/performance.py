"""What a run says of its evaluation: aim, outcome, measures, errors, intervals, sites."""

from __future__ import annotations

import numpy as np

from medssl.errors import count
from medssl.report.checklists.data import joined, named, numbers
from medssl.report.checklists.item import Fill
from medssl.report.checklists.known import EXTERNAL, INTERNAL, SPLITS, Known
from medssl.report.checklists.subgroups import subgroups
from medssl.report.read import Scores
from medssl.report.words import bounds, listing, ordered, row_name, shown, signed, site_chance, years

_SCORES, _PREDICTIONS = "scores.json", "predictions.csv"
_MOST_SITES = 15
PLACES = {"mae_external": "unseen sites (external test)", "mae_internal": "known sites (internal test)"}


def aim(known: Known) -> Fill:
    """Development and evaluation of an age probe."""
    if known.scores is None:
        return Fill()
    tests = [PLACES[m] for m in ("mae_internal", "mae_external") if known.scores.encoder.values.get(m) is not None]
    where = f" and evaluates it on scans of {listing(tests)}" if tests else ""
    return Fill(f"The run develops a model that predicts age (in years) by ridge regression on the "
                f"features of a pre-trained encoder{where}.", (_SCORES,))  # fmt: skip


def outcome(known: Known) -> Fill:
    """Age as it stands in the manifest."""
    text = ("The outcome that the run predicts is age in years as it stands in the manifest. It belongs to the scan "
            "and not to a later time, so there is no time horizon.")  # fmt: skip
    return Fill(text, (_SCORES,)) if known.scores else Fill()


def no_assessor(known: Known) -> Fill:
    """Age is not a matter of judgement."""
    return Fill("The outcome is age as recorded; nobody judges it from the images.", inapplicable=True)


def no_annotation(known: Known) -> Fill:
    """No image was annotated."""
    return Fill("The reference is age as recorded in the manifest; no image was annotated.", inapplicable=True)


def no_diagnosis(known: Known) -> Fill:
    """No diagnosis is made."""
    return Fill("The run estimates age and makes no diagnosis, so there is no sensitivity, specificity or ROC curve; "
                "its errors are in item 37.", inapplicable=True)  # fmt: skip


def output(known: Known) -> Fill:
    """Years, no thresholds."""
    text = "The output is one predicted age in years per scan. There are no classes and no thresholds."
    return Fill(text, (_SCORES,)) if known.scores else Fill()


def handling(known: Known) -> Fill:
    """How features enter the regression."""
    if known.scores is None:
        return Fill()
    scale = "standardised on the training scans" if known.scores.protocol.get("scale") else "not rescaled"
    how = known.harmonised
    site = f"and harmonised over sites ({how})" if how else "and not harmonised over sites"
    return Fill(f"The features enter the regression linearly; they are {scale} {site}.", (_SCORES,))


def measures(known: Known) -> Fill:
    """Measures and references."""
    scores = known.scores
    if scores is None:
        return Fill()
    rows = [row_name(r.key) for r in ordered(scores) if r.key != "encoder" and r.missing is None]
    beside = f"Compared with: {known.plain(listing([r[:1].lower() + r[1:] for r in rows]))}." if rows else ""
    text = (
        "Mean absolute error, root mean squared error (years) and R² of predicted age, on known and on unseen sites. "
        "As a check for scanner effects, the balanced accuracy of a logistic regression that reads the site from the "
        "features, beside its chance level."
    )
    plots = "report.html plots predicted against true age, and the error per site."
    return Fill(joined(text, beside, plots), (_SCORES,))


def measures_and_intervals(known: Known) -> Fill:
    """Measures, references, and how intervals are made."""
    return Fill(joined(measures(known).text, uncertainty(known).text), (_SCORES,))


def uncertainty(known: Known) -> Fill:
    """What the intervals are, and what they leave out."""
    scores = known.scores
    if scores is None:
        return Fill()
    resamples = scores.protocol.get("resamples")
    drawn = known.plain(str(scores.protocol.get("resampled", "people")))
    if resamples == 0 or not scores.encoder.ci:
        return Fill("No intervals were computed.", (_SCORES,))
    number = f"{count(resamples, 'bootstrap resample')}" if isinstance(resamples, int) else "bootstrap resamples"
    return Fill(
        f"Intervals are 95 % percentile intervals of {number} of the test {drawn}; differences to a reference are "
        f"paired{' and are also resampled over whole unseen sites' if _by_site(scores) else ''}. Encoder and "
        "regression stay as fitted, so the intervals do not contain the variation of another training. No p values are "
        "computed, and nothing is adjusted for several comparisons.",
        (_SCORES,),
    )


def _by_site(scores: Scores) -> bool:
    """Whether differences were also resampled over whole sites."""
    return any(d.ci_sites is not None for metrics in scores.differences.values() for d in metrics.values())


def clusters(known: Known) -> Fill:
    """How differences between sites are looked at."""
    if known.scores is None or not known.sites:
        return Fill()
    drawn = (
        "Differences to the references are also resampled over whole unseen sites." if _by_site(known.scores) else ""
    )
    text = "Sites are the clusters. Errors are given per test site; no random effects are fitted."
    return Fill(joined(text, drawn), (_SCORES,))


def updating(known: Known) -> Fill:
    """None."""
    text = "None: predicted ages are used as the regression gives them, without a correction for age bias."
    return Fill(text, (_SCORES,)) if known.scores else Fill()


def no_updating(known: Known) -> Fill:
    """Nothing was updated, so that there is nothing to report."""
    return Fill("No model was updated (item 12f).", inapplicable=True) if known.scores else Fill()


def calculation(known: Known) -> Fill:
    """From a scan to a predicted age."""
    if known.scores is None:
        return Fill()
    protocol = known.plain(str(known.scores.protocol.get("age") or "ridge regression"))
    saved = " Every prediction is a row of predictions.csv." if known.files.predictions is not None else ""
    return Fill(f"Features of the frozen encoder are put into a ridge regression fitted on all training scans with a "
                f"known age ({protocol}), by {known.command('score')}.{saved}", (_SCORES, _PREDICTIONS))  # fmt: skip


def results(known: Known) -> Fill:
    """Errors with intervals, and the references beside them."""
    both = [_part(known, m) for m in ("mae_internal", "mae_external")]
    groups = subgroups(known) if any(both) else ""
    return Fill(joined(*both, site_probe(known), groups, *_notes(known)), (_SCORES, _PREDICTIONS))


def internal(known: Known) -> Fill:
    """Whether scans of known sites were tested."""
    return Fill(_tested(known, "mae_internal"), (_SCORES,))


def external(known: Known) -> Fill:
    """Whether scans of unseen sites were tested."""
    return Fill(_tested(known, "mae_external"), (_SCORES,))


def _tested(known: Known, metric: str) -> str:
    if known.scores is None or known.scores.encoder.values.get(metric) is None:
        return ""
    split = INTERNAL if metric == "mae_internal" else EXTERNAL
    n, sites = known.scores.n.get(split), known.scores.n.get(f"sites_{split}")
    size = f"{count(n, 'scan')} of " if isinstance(n, int) else "scans of "
    place = count(sites, "site") if isinstance(sites, int) else "sites"
    held = "that training holds" if split == INTERNAL else "that training does not hold"
    return f"Tested on {size}{place} {held}; the errors are in item 37."


def _part(known: Known, metric: str) -> str:
    """Errors and R2 on one split with their intervals, and the error of every reference with the difference to it."""
    scores = known.scores
    if scores is None or scores.encoder.values.get(metric) is None:
        return ""
    split = metric.partition("_")[2]
    own = [f"{label} {_value(scores, f'{key}_{split}', unit, first=key == 'mae')}"
           for key, label, unit in (("mae", "mean absolute error", " years"), ("rmse", "root mean squared error", ""),
                                    ("r2", "R²", ""))
           if scores.encoder.values.get(f"{key}_{split}") is not None]  # fmt: skip
    beside = []
    for row in ordered(scores)[1:]:
        theirs = row.values.get(metric)
        if theirs is None or row.key == "age_oracle":
            continue
        found = scores.differences.get(row.key, {}).get(metric)
        change = (f" (difference {signed(found.difference)}, {bounds(metric, found.ci)})"
                  if found is not None and found.ci is not None else "")  # fmt: skip
        name = row_name(row.key)
        beside.append(f"{known.plain(name[:1].lower() + name[1:])} {years(theirs)}{change}")
    text = f"On {PLACES[metric]}: {', '.join(own)}."
    return joined(
        text,
        f"The same of the references, with the difference (this encoder minus the reference) and its interval: "
        f"{'; '.join(beside)}."
        if beside
        else "",
    )


def _value(scores: Scores, metric: str, unit: str, first: bool) -> str:
    """ "5.0 years (95 % interval 4.4 to 5.6)"; further ones name the interval no more."""
    between = bounds(metric, scores.encoder.ci.get(metric))
    label = "95 % interval " if first else ""
    return f"{shown(metric, scores.encoder.values.get(metric))}{unit}{f' ({label}{between})' if between else ''}"


def site_probe(known: Known) -> str:
    """How well the site is read, beside chance."""
    scores = known.scores
    if scores is None or scores.encoder.values.get("site_bacc") is None:
        return ""
    chance = site_chance(ordered(scores))
    beside = f"; chance is {shown('site_chance', chance)}" if chance is not None else ""
    return f"The site is read with a balanced accuracy of {_value(scores, 'site_bacc', '', first=True)}{beside}."


def _notes(known: Known) -> list[str]:
    notes = known.scores.notes if known.scores else ()
    return [f"Note of the scores: {known.nameless(note).rstrip('.')}." for note in notes]


def per_site(known: Known) -> Fill:
    """Errors of the test sites: all of a few, else their range."""
    said = []
    for split in (INTERNAL, EXTERNAL):
        rows = [s for s in known.sites if s.split == split]
        if not rows:
            continue
        listed = [f"{known.plain(s.site) or 'no site'} {years(s.mae)} (n = {s.n}, bias {signed(s.bias)})" for s in rows]
        label = SPLITS[split].capitalize()
        if len(rows) <= _MOST_SITES:
            said.append(f"{label}, mean absolute error in years (bias: mean of predicted minus true): "
                        f"{'; '.join(listed)}.")  # fmt: skip
            continue
        low, high = min(rows, key=lambda s: s.mae), max(rows, key=lambda s: s.mae)
        middle = float(np.median([s.mae for s in rows]))
        said.append(f"{label}: the mean absolute error of {count(len(rows), 'site')} ranges from {years(low.mae)} "
                    f"({known.plain(low.site)}, n = {low.n}) to {years(high.mae)} years ({known.plain(high.site)}, "
                    f"n = {high.n}), median {years(middle)}; scores.json lists all.")  # fmt: skip
    return Fill(joined(*said), (_SCORES,))


def size(known: Known) -> Fill:
    """How many scans there are; why so many is not known."""
    parts = [count(v, f"{SPLITS[s]} scan") for s, v in numbers(known).items()]
    return Fill(f"There are {listing(parts)}; medssl computes no sample size." if parts else "", ("run.json", _SCORES))


def reference(known: Known) -> Fill:
    """Where age comes from."""
    names = known.manifests()
    return Fill(f"Age is the column age of {named(names)}, in years.", ("run.json",)) if names else Fill()
