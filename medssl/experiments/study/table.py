"""The table of a study: settings with mean and spread over seeds, every trial, what was best by which score."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from medssl.errors import count
from medssl.evaluation.intervals import METRICS
from medssl.experiments.study.figure import against_settings, whole
from medssl.experiments.study.plan import SEED, Study, shown
from medssl.experiments.study.trial import Place, read_trial
from medssl.files import write_atomic
from medssl.recipe.model import load_recipe
from medssl.recipe.overrides import assigned
from medssl.report.figures import save_figure
from medssl.report.markdown import md

SHOWN = ("mae_internal", "mae_external", "r2_external", "site_bacc", "challenge")
OUTPUTS = ("study.md", "trials.csv", "study.png", "best.yaml")
"""What stands in the folder of a study beside its trials."""


def tabulate(place: Place) -> dict[str, Any]:
    """Write OUT/study.md, trials.csv, study.png and best.yaml from the trials so far; returns what they say.

    best.yaml: the recipe of the best setting on the cohort's own train rows, as the study found it, to be trained and
    scored once. Keys of the answer: lines, trials, best, stopped, missing, markdown, csv.
    """
    records = sorted(
        (r for p in place.out.glob("trials/*/trial.json") if (r := read_trial(place, p.parent)) is not None),
        key=lambda r: [_place(place.study, key, r["settings"][key]) for key in place.study.swept],
    )
    lines = settings_of(records, place.study)
    best = best_of(lines)
    text, table = markdown(lines, records, best, place.study), as_csv(records, place.study)
    write_atomic(place.out / "study.md", text)
    write_atomic(place.out / "trials.csv", table)
    if any(line["score"] is not None for line in lines):
        save_figure(against_settings(lines, place.study), place.out / "study.png")
    if best is not None:
        values = [assigned(key, value) for key, value in best["settings"].items()]
        recipe = load_recipe(place.study.recipe, [*place.study.changes, *values]).absolute()
        write_atomic(place.out / "best.yaml", recipe.to_yaml())
    missing = sum(len(line["missing"]) for line in lines) if place.study.search is None else None
    stopped = sum("stopped" in record for record in records)
    return {"lines": lines, "trials": records, "best": best, "stopped": stopped, "missing": missing,
            "markdown": text, "csv": table}  # fmt: skip


def settings_of(records: Sequence[Mapping[str, Any]], study: Study) -> list[dict[str, Any]]:
    """One line per setting (all swept keys but the seed), best mean first, incomplete and stopped ones last.

    score, sd (n - 1 in the divisor, None for one seed), values by seed, stopped and missing seeds, test: mean of each
    metric of the test rows. A line with a stopped or missing seed has a score but is never the best.
    """
    plain = [key for key in study.swept if key != SEED]
    lines: dict[str, dict[str, Any]] = {}
    for settings in [*study.trials(), *(record["settings"] for record in records)]:
        chosen = {key: settings[key] for key in plain}
        line = lines.setdefault(
            json.dumps(chosen),
            {"settings": chosen, "values": {}, "stopped": [], "seeds": [], "metrics": {}, "test": {}},
        )
        if settings.get(SEED) not in line["seeds"]:
            line["seeds"].append(settings.get(SEED))
    if study.search is not None and study.search.seeds:
        for line in lines.values():
            line["seeds"] = list(study.search.seeds)
    for record in records:
        line = lines[json.dumps({key: record["settings"][key] for key in plain})]
        seed, value = record["settings"].get(SEED), record.get("scores", {}).get(study.score)
        if value is None:
            line["stopped"].append(seed)
            continue
        line["values"][seed] = value
        for kind, found in (("metrics", record["scores"]), ("test", record.get("test", {}))):
            for name, number in found.items():
                if number is not None:
                    line[kind].setdefault(name, []).append(number)
    return sorted((_line(line) for line in lines.values()), key=lambda line: _rank(line, study))


def _line(line: dict[str, Any]) -> dict[str, Any]:
    values = list(line["values"].values())
    missing = [s for s in line.pop("seeds") if s not in line["values"] and s not in line["stopped"]]
    means = {kind: {k: statistics.fmean(v) for k, v in line[kind].items()} for kind in ("metrics", "test")}
    sd = statistics.stdev(values) if len(values) > 1 else None
    return line | means | {"score": statistics.fmean(values) if values else None, "sd": sd, "missing": missing}


def _rank(line: Mapping[str, Any], study: Study) -> tuple[Any, ...]:
    score = line["score"]
    signed = float("inf") if score is None else -score if study.greater_is_better else score
    return bool(line["stopped"] or line["missing"]), signed


def best_of(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The setting with the best mean of sorted lines among those that are whole, None while there is none."""
    return next((line for line in lines if whole(line)), None)


def markdown(
    lines: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    study: Study,
) -> str:
    """Settings first, then what was best and by which score, then every trial; ages in years."""
    keys = [key for key in study.swept if key != SEED]
    others = [name for name in SHOWN if name != study.score]
    tested = [name for name in SHOWN if study.test]
    heads = [*keys, f"{study.score} (validation)", *others, *(f"test {name}" for name in tested), "n"]
    text = [f"## {md(study.title)}", "", *_head(heads)]
    for line in lines:
        cells = [shown(line["settings"][key]) for key in keys]
        spread = "" if line["sd"] is None else f" ± {line['sd']:.3f}"
        cells.append("-" if line["score"] is None else f"{line['score']:.3f}{spread}")
        cells += [_number(line["metrics"].get(name)) for name in others]
        cells += [_number(line["test"].get(name)) for name in tested]
        notes = [f"{len(line[k])} {k}" for k in ("stopped", "missing") if line[k]]
        text.append(_row([*cells, f"{len(line['values'])}" + (f" ({', '.join(notes)})" if notes else "")]))
    text += ["", *_verdict(lines, best, study), "", "### Trials", ""]
    text += _head([*study.swept, f"{study.score} (validation)", "minutes", "folder"])
    for record in records:
        cells = [shown(record["settings"][key]) for key in study.swept]
        value = record.get("scores", {}).get(study.score)
        cells.append(f"stopped: {record['stopped']}" if "stopped" in record else _number(value))
        text.append(_row([*cells, f"{record['seconds'] / 60:.1f}", record["name"]]))
    return "\n".join(text) + "\n"


def _verdict(lines: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None, study: Study) -> list[str]:
    way = "greater" if study.greater_is_better else "lower"
    how = (
        f"Chosen by {study.score} ({way} is better) on people and sites held out of the train rows (shares: sites "
        f"{study.validation.sites:g}, people {study.validation.people:g}); test rows choose nothing. The best of many "
        "is flattered by its own choice: train best.yaml and score it once."
    )
    if best is None:
        return ["No setting has all of its trials yet, so none is best.", how]
    named = ", ".join(f"{key} {shown(value)}" for key, value in best["settings"].items()) or "the recipe"
    said = [f"Best: {named}, {study.score} {best['score']:.3f}. {how}"]
    spreads = [line["sd"] for line in lines if line["sd"] is not None]
    if spreads:
        sd = statistics.fmean(v * v for v in spreads) ** 0.5
        rest = [line["score"] for line in lines if line is not best and line["score"] is not None]
        near = sum(abs(score - best["score"]) <= sd for score in rest)
        others = count(near, "other setting lies", "other settings lie")
        said.append(f"Seeds alone move the score by {sd:.3f} (pooled sd): {others} within that of the best.")
    elif len(lines) > 1:
        where = f"{SEED}: [0, 1, 2] to the grid" if study.search is None else "seeds: [0, 1, 2] to the search"
        said.append(f"Every setting was trained with one seed, so differences may be noise: add {where}.")
    return said


def as_csv(records: Sequence[Mapping[str, Any]], study: Study) -> str:
    """Every trial: settings, all metrics of the validation part and of the test rows, seconds, why it stopped."""
    file = io.StringIO()
    tested = [f"test_{name}" for name in METRICS if study.test]
    columns = [*study.swept, *METRICS, *tested, "stopped", "seconds", "finished", "folder"]
    table = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    table.writeheader()
    for record in records:
        row = {key: _text(record["settings"][key]) for key in study.swept} | record.get("scores", {})
        row |= {f"test_{name}": value for name, value in record.get("test", {}).items() if study.test}
        row |= {"stopped": record.get("stopped", ""), "seconds": round(record["seconds"], 1)}
        table.writerow(row | {"finished": record["finished"], "folder": record["name"]})
    return file.getvalue()


def _place(study: Study, key: str, value: Any) -> tuple[int, float, str]:
    """Order of a value: as the grid lists it, else numbers by size, else as text."""
    listed = (study.grid or {}).get(key, [])
    number = value if isinstance(value, int | float) else 0
    return (listed.index(value) if value in listed else len(listed)), float(number), json.dumps(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|" + "---|" * len(cells)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
