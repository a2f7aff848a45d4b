"""What stands in each section of the report, as plain values and pictures for the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medssl.errors import count
from medssl.report import charts, curves, words
from medssl.report.cohort import TESTS, describe, groups, of_encoder, site_errors, site_rows
from medssl.report.figures import Picture, picture, scatter_map
from medssl.report.read import RunFiles, Scores
from medssl.report.recipe import block, joined, lines, policy_lines, value

_MOST_SITES = 40


def mapping(given: Any) -> dict[str, Any]:
    """A JSON object, or {} for anything else."""
    return given if isinstance(given, dict) else {}


def headline(files: RunFiles) -> dict[str, Any]:
    """Method, training in one sentence, the three numbers that matter, the verdict."""
    facts, training = files.facts, mapping(files.facts.get("training"))
    method = facts.get("method") or value(files.recipe, "method", "name") or "unknown method"
    method = mapping(method).get("name", method)
    spent = words.duration(facts.get("created"), facts.get("finished"))
    made = [
        count(training["scans"], "scan") if isinstance(training.get("scans"), int) else "",
        f"of {count(training['subjects'], 'person', 'people')}" if isinstance(training.get("subjects"), int) else "",
        f"from {count(len(training['sites']), 'site')}" if isinstance(training.get("sites"), list) else "",
    ]
    epochs = value(files.recipe, "trainer", "epochs")
    tail = [f"{epochs} epochs" if epochs else "", f"{spent} of training" if spent else ""]
    found = groups(files)
    external = found.get("external_test")
    unseen = None if external is None else external.frame["site"].replace("", np.nan).nunique()
    return {
        "method": str(method),
        "encoder": value(files.recipe, "encoder", "name") or "",
        "trained_on": " ".join(m for m in made if m),
        "effort": ", ".join(t for t in tail if t),
        "state": str(facts.get("state", "finished")),
        "figures": _key_figures(files.scores) if files.scores else [],
        "verdict": words.verdict(files.scores, unseen) if files.scores else [],
        "warnings": sum(str(m.get("level")) in ("warning", "error") for m in files.messages or ()),
    }


_RIDGE = {"ridge_voxels": "ridge on voxels", "ridge_features": "ridge on the measures"}


def _key_figures(scores: Scores) -> list[dict[str, Any]]:
    found = []
    for metric, label, unit, beside in (
        ("mae_external", "age error on unseen sites", " years", ("untrained", "constant", *_RIDGE)),
        ("mae_internal", "age error on known sites", " years", ("untrained", "constant", *_RIDGE)),
        ("site_bacc", "site recognised (balanced accuracy)", "", ("untrained", *_RIDGE)),
    ):
        if scores.encoder.values.get(metric) is None:
            continue
        names = {"constant": "chance", "untrained": "untrained", **_RIDGE}
        rows = [(names[k], scores.row(k)) for k in beside]
        values = [(name, r.values.get(metric)) for name, r in rows if r is not None]
        if metric == "site_bacc":
            values.insert(0, ("chance", scores.encoder.values.get("site_chance")))
        found.append(
            {
                "label": label,
                "value": words.shown(metric, scores.encoder.values[metric]) + unit,
                "interval": words.bounds(metric, scores.encoder.ci.get(metric)),
                "beside": ", ".join(f"{name} {words.shown(metric, v)}" for name, v in values if v is not None),
            }
        )
    return found


def cohort(files: RunFiles) -> dict[str, Any]:
    """Data card: where the scans come from, who they are, what was done to them."""
    training, found = mapping(files.facts.get("training")), groups(files)
    manifests = training.get("manifests")
    manifests = [str(mapping(m).get("path", m)) for m in manifests] if isinstance(manifests, list) else []
    rows = [
        ("Manifests", manifests),
        ("Trained on", [t for t in [describe(training, found.get("train"))] if t]),
        (
            "Preprocessing",
            _standardised(training) or joined(lines(block(block(files.recipe, "data"), "preprocessing"))),
        ),
        ("Encoder", joined(lines(block(files.recipe, "encoder")))),
        ("Method", joined(lines(block(files.recipe, "method")))),
        (
            "Views (augmentation)",
            policy_lines(files.facts.get("views")) or lines(block(files.recipe, "views")),
        ),
    ]
    rows[2:2] = [(charts.SPLITS[s].capitalize(), [describe({}, found[s])]) for s in TESTS if s in found]
    ages = {s: g.frame["age"].to_numpy(float) for s, g in found.items()}
    plot = None
    if any(np.isfinite(a).any() for a in ages.values()):
        parts = "; ".join(f"{charts.SPLITS[s]}: {describe({}, g)}" for s, g in found.items())
        plot = picture(charts.age_histogram(ages), f"Histogram of ages per split. {parts}.")
    return {
        "rows": [(k, v) for k, v in rows if v],
        "sites": site_rows(training, found),
        "plot": plot,
        "splits": found,
    }


def _standardised(training: Mapping[str, Any]) -> list[str]:
    """What was done to the features of a table; [] for images."""
    if not isinstance(training.get("features"), int):
        return []
    said = f"{training['features']} columns of the table, standardised by mean and sd of the training rows"
    empty = training.get("empty_cells")
    return [said + (f"; {count(empty, 'empty cell')} became the mean" if empty else "")]


def scorecard(files: RunFiles) -> dict[str, Any] | None:
    """Rows with intervals, differences to the references, and the dot plot."""
    if files.scores is None:
        return None
    rows = words.ordered(files.scores)
    changes = [
        {"key": row.key, "metric": metric, "difference": found}
        for row in rows
        for metric, found in files.scores.differences.get(row.key, {}).items()
        if metric in ("mae_external", "mae_internal") and row.missing is None and row.key != "age_oracle"
    ]
    resampled = files.scores.protocol.get("resampled", "people")
    plot = picture(
        charts.scorecard_plot(rows),
        charts.describe_scores(rows),
        "Dots are estimates, bars 95 % intervals; dashed lines are chance.",
    )
    return {"rows": rows, "plot": plot, "differences": changes, "notes": files.scores.notes, "resampled": resampled}


def ages(files: RunFiles) -> Picture | None:
    """Predicted against true age, per split."""
    table = of_encoder(files)
    if table is None:
        return None
    parts = {s: table[table["split"] == s] for s in TESTS if (table["split"] == s).any()}
    if not parts:
        return None
    alt = "; ".join(
        f"{charts.SPLITS[s]}: {len(p)} scans, mean absolute error {words.years(charts.mae(p))} years, "
        f"R2 {words.ratio(charts.r2(p))}"
        for s, p in parts.items()
    )
    return picture(
        charts.age_plot(parts),
        f"Scatter of predicted against true age. {alt}.",
        "The dashed line is perfect prediction. Points above it look older than they are.",
    )


def disagreement(files: RunFiles) -> str:
    """Says where predictions.csv is not the table that scores.json was made from; "" where they agree."""
    table = of_encoder(files)
    if table is None or files.scores is None:
        return ""
    for split, metric in zip(TESTS, ("mae_internal", "mae_external"), strict=True):
        part, stated = table[table["split"] == split], files.scores.encoder.values.get(metric)
        if len(part) and stated is not None and abs(charts.mae(part) - stated) > 0.05:
            return (
                f"predictions.csv gives an error of {words.years(charts.mae(part))} years on {charts.SPLITS[split]}, "
                f"scores.json {words.years(stated)}: they were not made together. Make both again with"
            )
    return ""


def sites(files: RunFiles) -> dict[str, Any] | None:
    """Age error per site: dot plot and table."""
    table = of_encoder(files)
    if table is None:
        return None
    table = table[table["split"].isin(TESTS)]
    if table.empty:
        return None
    found = site_errors(table)
    plain = files.predictions[files.predictions["features"] == "untrained"]  # type: ignore[index]
    plain = plain.assign(error=(plain["predicted"] - plain["age"]).abs())
    theirs = plain.groupby(["split", "site"])["error"].mean()
    found["untrained"] = [theirs.get((r.split, r.site), np.nan) for r in found.itertuples()]
    drawn = found if len(found) <= _MOST_SITES else found.loc[np.sort(found["n"].nlargest(_MOST_SITES).index)]
    first = zip(drawn["site"][:12], drawn["mae"][:12], strict=True)
    alt = "; ".join(f"{site or 'no site'}: {words.years(float(error))} years" for site, error in first)
    plot = picture(
        charts.site_plot(drawn.reset_index(drop=True)),
        f"Age error per site with intervals. {alt}.",
        "Bars are 95 % bootstrap intervals over the scans of the site (none below five scans)."
        + ("" if len(drawn) == len(found) else f" The {_MOST_SITES} sites with most scans are drawn."),
    )
    return {"plot": plot, "rows": found.to_dict("records")}


def training(files: RunFiles) -> dict[str, Any]:
    """Curves of the training and of the probes run beside it."""
    found: dict[str, Any] = {"curves": None, "probes": None}
    losses, others = ([], []) if files.steps is None else curves.curve_columns(files.steps)
    if files.steps is not None and losses + others:
        ends = ", ".join(f"{n} from {_end(files.steps, n, 0)} to {_end(files.steps, n, -1)}" for n in losses)
        rate = files.steps.get("scans_per_s", pd.Series(dtype=float)).median()
        found["curves"] = picture(
            curves.curves(files.steps),
            f"Training curves over steps: {ends}.",
            "Faint: logged values; strong: running median; dashed: chance level."
            + (f" Median speed {rate:.3g} scans per second." if rate == rate else ""),
        )
    if files.probes is not None:
        error = [e for e in files.probes.get("age_mae", []) if np.isfinite(e)]
        alt = f" Age error ends at {words.years(error[-1])} years." if error else ""
        found["probes"] = picture(
            curves.probe_curves(files.probes),
            f"Online probes over epochs.{alt}",
            "Probes are fitted on a part of the training scans and tested on held-out training "
            "people; no test scan is used.",
        )
    return found


def _end(steps: pd.DataFrame, name: str, at: int) -> str:
    return f"{steps[name].dropna().iloc[at]:.3g}"


def maps(files: RunFiles) -> list[Picture]:
    """2-D maps of the first and the last epoch that has one; the last one first."""
    found = []
    for epoch, table in reversed(files.maps):
        if not np.isfinite(table[["x", "y"]]).all(axis=1).any():
            continue
        fig = scatter_map(
            table[["x", "y"]].to_numpy(),
            table["age"].to_numpy(),
            table["site"].tolist(),
            table["sex"].tolist(),
            f"after epoch {epoch}",
        )
        alt = f"2-D map of {len(table)} training scans after epoch {epoch}, coloured by age, by site and by sex."
        found.append(picture(fig, alt))
    return found


def views(files: RunFiles) -> Picture | None:
    """Sample scans beside their augmented views."""
    if files.slices is None:
        return None
    made = min(files.slices.shape[1] - 1, 3)
    alt = f"{min(len(files.slices), 4)} scans, each with {made} augmented views, in middle slices of every direction."
    return picture(charts.view_sheet(files.slices, files.ages), alt, "All pictures of a scan share one grey scale.")


def messages(files: RunFiles) -> list[dict[str, str]] | None:
    """What the monitors said; None when no log was kept."""
    if files.messages is None:
        return [] if files.steps is not None else None
    return [
        {
            "level": str(m.get("level", "")),
            "epoch": str(m["epoch"] + 1) if isinstance(m.get("epoch"), int) else "",
            "step": str(m.get("step", "")),
            "text": str(m.get("text", "")),
        }
        for m in files.messages
    ]
