"""What stands in each section of the report, as plain values and pictures for the template."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import count
from medssl.report import about, charts, words
from medssl.report.cohort import TESTS, describe, groups, of_encoder, site_errors, site_rows
from medssl.report.ownership import differing
from medssl.report.paths import name_of
from medssl.report.pictures import Picture, picture
from medssl.report.read import RunFiles
from medssl.report.recipe import block, joined, lines, policy_lines, value
from medssl.report.score_tables import key_figures
from medssl.report.summary import Alarms, summary
from medssl.report.verdict import REMARKS, Verdict
from medssl.report.warned import warned

_MOST_SITES = 40
_FOLDED = 15  # from more sites on, the figure of the sites is folded with its table
_ENOUGH = 5  # scans of a site from which on its error is worth a mention


def mapping(given: Any) -> dict[str, Any]:
    """A JSON object, or {} for anything else."""
    return given if isinstance(given, dict) else {}


def headline(files: RunFiles, trusted: list[Verdict]) -> dict[str, Any]:
    """Title, training in one sentence, the summary, and the three numbers that matter.

    trusted: the statements about which scans were used for what; the bad ones are told in the summary.
    """
    facts, training = files.facts, mapping(files.facts.get("training"))
    nouns = ("simulated person", "simulated people") if about.all_synthetic(files) else ("person", "people")
    parts = [
        count(training["scans"], "scan") if isinstance(training.get("scans"), int) else "",
        f"of {count(training['subjects'], *nouns)}" if isinstance(training.get("subjects"), int) else "",
        f"from {count(len(training['sites']), 'site')}" if training.get("sites") and _listed(training["sites"]) else "",
    ]
    epochs = value(files.recipe, "trainer", "epochs")
    spent = words.duration(facts.get("created"), facts.get("finished"))
    effort = [f"{epochs} passes over the scans" if epochs else "", f"in {spent}" if spent else ""]
    failed = sum(v.kind == "bad" for v in trusted)
    alarms = Alarms(about.state(files), warned(files.messages or ()), failed, bool(differing(files)), len(files.damage))
    return {
        "title": about.title(files),
        "method": about.method_name(files),
        "encoder": about.encoder_name(files),
        "trained_on": " ".join(p for p in parts if p),
        "effort": " ".join(e for e in effort if e),
        "state": about.state(files),
        "synthetic": about.synthetic_notice(files),
        "figures": key_figures(files.scores) if files.scores else [],
        "summary": summary(files.scores, alarms),
        "from_where": files.from_where,
    }


def _listed(sites: object) -> bool:
    return isinstance(sites, list)


def cohort(files: RunFiles) -> dict[str, Any]:
    """Data card: where the scans come from, who they are, and how many each site gave."""
    training, parts = mapping(files.facts.get("training")), groups(files)
    manifests = training.get("manifests")
    paths = [str(mapping(m).get("path", m)) for m in manifests] if isinstance(manifests, list) else []
    simulated = about.all_synthetic(files)
    rows = [
        ("Trained on", describe(training, parts.get("train"), simulated)),
        *((f"Tested on {charts.SPLITS[s]}", describe({}, parts[s], simulated)) for s in TESTS if s in parts),
        ("Tables of the scans", ", ".join(name_of(p) for p in paths)),
    ]
    ages = {s: g.frame["age"].to_numpy(float) for s, g in parts.items()}
    plot = None
    if any(np.isfinite(a).any() for a in ages.values()):
        text = "; ".join(f"{charts.SPLITS[s]}: {describe({}, g, simulated)}" for s, g in parts.items())
        plot = picture(partial(charts.age_histogram, ages), f"Histogram of the ages in training and tests. {text}.")
    sites = site_rows(training, parts)
    named = sum(row["site"] != "(no site)" for row in sites)
    return {"rows": [(k, v) for k, v in rows if v], "sites": sites if named else [], "named": named, "plot": plot}


def settings(files: RunFiles) -> list[tuple[str, list[str]]]:
    """What was done to the scans and with which arguments, for the appendix."""
    training = mapping(files.facts.get("training"))
    manifests = training.get("manifests")
    paths = [str(mapping(m).get("path", m)) for m in manifests] if isinstance(manifests, list) else []
    preprocessing = joined(lines(block(block(files.recipe, "data"), "preprocessing")))
    rows = [
        ("Manifests", paths),
        ("Preprocessing", _standardised(training) or preprocessing),
        ("Encoder", joined(lines(block(files.recipe, "encoder")))),
        ("Method", joined(lines(block(files.recipe, "method")))),
        ("Views (augmentation)", policy_lines(files.facts.get("views")) or lines(block(files.recipe, "views"))),
    ]
    return [(name, text) for name, text in rows if text]


def _standardised(training: Mapping[str, Any]) -> list[str]:
    """What was done to the features of a table; [] for images."""
    if not isinstance(training.get("features"), int):
        return []
    text = f"{training['features']} columns of the table, standardised by mean and sd of the training rows"
    empty = training.get("empty_cells")
    return [text + (f"; {count(empty, 'empty cell')} became the mean" if empty else "")]


def no_predictions(files: RunFiles) -> tuple[str, str]:
    """Why there is nothing to show of single predictions, and the command that makes them."""
    if files.scores is not None and files.predictions is not None:
        return "No test scan has a known age, so there is nothing to show.", ""
    return "There are no predictions yet. They are made by", files.command("score")


def ages(files: RunFiles) -> Picture | None:
    """Predicted against true age, per split."""
    table = of_encoder(files)
    if table is None:
        return None
    parts = {s: table[table["split"] == s] for s in TESTS if (table["split"] == s).any()}
    if not parts:
        return None
    alt = "; ".join(
        f"{charts.SPLITS[s]}: {count(len(p), 'scan')}, mean absolute error {words.years(charts.mae(p))} years, "
        f"R² {words.ratio(charts.r2(p))}"
        for s, p in parts.items()
    )
    caption = (
        "Each point is a scan, and the dashed line is perfect prediction: points above it look older than they are."
    )
    if any((charts.r2(p) or 0.0) < 0 for p in parts.values()):
        caption += f" {REMARKS['below 0']}"
    return picture(partial(charts.age_plot, parts), f"Scatter of predicted against true age. {alt}.", caption)


def disagreement(files: RunFiles) -> str:
    """Says where scores.json does not hold what predictions.csv gives; "" where they agree."""
    wrong = differing(files)
    if not wrong:
        return ""
    more = f" {count(len(wrong) - 1, 'further number differs', 'further numbers differ')}." if len(wrong) > 1 else ""
    return f"{wrong[0]}.{more} One of them was changed, or they were not made together. Make both again with"


def sites(files: RunFiles) -> dict[str, Any] | None:
    """Age error per site: one sentence, dot plot and table."""
    table = of_encoder(files)
    if table is None:
        return None
    table = table[table["split"].isin(TESTS)]
    if table.empty:
        return None
    errors = site_errors(table)
    plain = files.predictions[files.predictions["features"] == "untrained"]  # type: ignore[index]
    plain = plain.assign(error=(plain["predicted"] - plain["age"]).abs())
    theirs = plain.groupby(["split", "site"])["error"].mean()
    errors["untrained"] = [theirs.get((r.split, r.site), np.nan) for r in errors.itertuples()]
    drawn = errors if len(errors) <= _MOST_SITES else errors.loc[np.sort(errors["n"].nlargest(_MOST_SITES).index)]
    first = zip(drawn["site"][:12], drawn["mae"][:12], strict=True)
    alt = "; ".join(f"{site or 'no site'}: {words.years(float(error))} years" for site, error in first)
    plot = picture(
        partial(charts.site_plot, drawn.reset_index(drop=True)),
        f"Age error per site with intervals. {alt}.",
        "Bars are 95 % bootstrap intervals over the scans of the site (none below five scans)."
        + ("" if len(drawn) == len(errors) else f" The {_MOST_SITES} sites with most scans are drawn."),
    )
    unsited = int((table["site"] == "").sum())
    return {
        "plot": plot,
        "rows": errors.to_dict("records"),
        "range": _range(errors),
        "number": len(set(errors["site"]) - {""}),
        "folded": len(drawn) > _FOLDED,
        "unsited": f"{count(unsited, 'test scan names', 'test scans name')} no site." if unsited else "",
    }


def _range(errors: pd.DataFrame) -> str:
    """The best and the worst site of those with enough scans, in a sentence; "" where there are fewer than two."""
    known = errors[(errors["n"] >= _ENOUGH) & (errors["site"] != "")]
    if len(known) < 2:
        return f"No two sites have {_ENOUGH} test scans or more, so their errors cannot be compared."
    known = known.sort_values("mae", kind="stable")
    (best, least), (worst, most) = [(known["site"].iloc[i], words.years(float(known["mae"].iloc[i]))) for i in (0, -1)]
    return (
        f"Among the {len(known)} sites with at least {_ENOUGH} test scans, the age error ranges from {least} years "
        f"({best}) to {most} years ({worst})."
    )
