"""What a run says of the worth of its results: robustness, failures, interpretation, limits."""

from __future__ import annotations

from medssl.errors import count
from medssl.evaluation.caution import FEW_SITES
from medssl.report.checklists.data import joined
from medssl.report.checklists.item import Fill
from medssl.report.checklists.known import Known
from medssl.report.checklists.performance import PLACES
from medssl.report.cohort import of_encoder
from medssl.report.verdict import site_verdict, verdict
from medssl.report.words import listing, signed, years

_SCORES, _PREDICTIONS = "scores.json", "predictions.csv"


def robustness(known: Known) -> Fill:
    """Whole sites resampled, the untrained encoder, harmonised or not."""
    scores = known.scores
    if scores is None:
        return Fill()
    found = scores.differences.get("untrained", {}).get("mae_external")
    unseen = _unseen(known)
    if found is not None and found.ci_sites is not None:
        low, high = found.ci_sites
        text = (f"Resampling whole unseen sites, the error differs from that of the untrained encoder by "
                f"{signed(found.difference)} years (95 % interval {years(low)} to {years(high)}).")  # fmt: skip
    elif found is not None and unseen and unseen < FEW_SITES:
        text = (f"Whole unseen sites were not resampled: with {count(unseen, 'site')} such an interval looks more "
                "certain than it is.")  # fmt: skip
    else:
        return Fill()
    raw = scores.row("unharmonised")
    plain = raw.values.get("mae_external") if raw else None
    beside = f"Without harmonisation the error on unseen sites is {years(plain)} years." if plain is not None else ""
    return Fill(joined(text, beside), (_SCORES,))


def failures(known: Known) -> Fill:
    """The worst predictions, in numbers."""
    table = of_encoder(known.files)
    if table is None:
        return Fill()
    error = (table["predicted"] - table["age"]).abs().to_numpy(float)
    worst = int(error.argmax())
    far = int((error > 2 * error.mean()).sum())
    old = float(table["age"].iloc[worst])
    text = (f"Of {count(len(error), 'test scan')}, {far} have an error of more than twice the mean; the largest error "
            f"is {years(float(error.max()))} years, at age {old:.0f}.")  # fmt: skip
    sites = [s for s in known.sites if s.n >= 5]
    bad = max(sites, key=lambda s: s.mae) if sites else None
    site = (f"Among sites with at least five test scans, {known.plain(bad.site)} has the largest mean absolute error "
            f"({years(bad.mae)} years, bias {signed(bad.bias)}).") if bad else ""  # fmt: skip
    return Fill(joined(text, site), (_PREDICTIONS, _SCORES))


def interpretation(known: Known) -> Fill:
    """The verdict of the report."""
    if known.scores is None:
        return Fill()
    found = [*verdict(known.scores), site_verdict(known.scores)]
    few = _few_sites(known)
    tail = "How well this carries over to further sites cannot be judged from so few." if few else ""
    return Fill(joined(*(known.plain(v.text.replace("`", "")) for v in found if v), few, tail), (_SCORES,))


def _few_sites(known: Known) -> str:
    """That few unseen sites were tested, or none; "" where they are many or not counted."""
    unseen = _unseen(known)
    if unseen is None or unseen >= FEW_SITES:
        return ""
    if not unseen:
        return "No unseen site was tested."
    return f"Only {count(unseen, 'unseen site was', 'unseen sites were')} tested."


def _unseen(known: Known) -> int | None:
    n = known.scores.n.get("sites_external_test") if known.scores else None
    return n if isinstance(n, int) else None


def limitations(known: Known) -> Fill:
    """Limits that can be read from the records."""
    said = []
    span = known.training.get("age")
    if isinstance(span, list) and len(span) == 3 and all(isinstance(v, int | float) for v in span):
        said.append(f"The encoder saw ages from {span[0]:.0f} to {span[2]:.0f} years only.")
    sites = known.training.get("sites")
    if isinstance(sites, list) and len(sites) == 1:
        said.append(f"All training scans are from one site ({known.plain(str(sites[0]))}).")
    said.append(_few_sites(known))
    if known.scores is not None:
        wide = [f"{years(low)} to {years(high)} years on {PLACES[m]}"
                for m, (low, high) in known.scores.encoder.ci.items() if m in PLACES]  # fmt: skip
        said += [f"The 95 % interval of the mean absolute error is {listing(wide)}."] if wide else []
    else:
        said.append("How well the features serve is not known yet: the run is not scored.") if known.card else None
    return Fill(joined(*said), (_SCORES,) if known.scores else ("run.json",))
