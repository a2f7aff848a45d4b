"""All rows of an OpenBHB table: every representation and its references, fold by fold, by the challenge's probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.challenge.extras import (
    fold_intervals,
    leave_site_out,
    left_out_errors,
    left_out_sites,
    within_site,
)
from medssl.challenge.folds import HELD_OUT, TEST, TITLES, Fold, read_folds
from medssl.challenge.probes import MAX_FEATURES, in_order, predict_fold
from medssl.challenge.table import Board
from medssl.errors import UserError
from medssl.evaluation.intervals import METRICS, Prediction, judge, resampling
from medssl.evaluation.rows import Rows
from medssl.evaluation.scorecard import Table, checked, site_median

CONSTANT, ORACLE, MEDIAN = "constant", "age_oracle", "site_median"
Job = Callable[[], None]


def challenge_board(
    table: Table,
    features: Mapping[str, NDArray[Any]],
    references: Mapping[str, NDArray[Any]] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    every_site: bool = True,
    n_jobs: int = 1,
    only_folds: int | None = None,
    reduced: Sequence[str] = (),
    watch: Callable[[list[Job]], Iterable[Job]] = iter,
) -> Board:
    """Score representations of the rows of one table as the OpenBHB challenge does.

    table: meta with age, site and split or fold0, fold1, ... (see ``read_folds``). features: name -> (N, F), at most
    10,000 wide. references: further rows of any width; wider ones are marked. seed: of saga (unseeded in the
    challenge) and the bootstrap. resamples: 0 for no intervals. every_site: also leave-site-out. only_folds: score
    the first so many folds. reduced: what the caller left out, printed above the table. watch: goes over the jobs,
    such as a progress bar. Errors: UserError for what cannot be scored as the challenge does.
    """
    folds = read_folds(table.meta)
    there = len(folds)
    folds = folds[:only_folds]
    if there > len(folds):
        reduced = [f"{len(folds)} of {there} folds", *reduced]
    lines = _lines(folds, features, references or {})
    said: dict[str, list[Prediction]] = {name: [] for name in lines}
    abroad: dict[str, list[NDArray[np.float64]]] = {name: [] for name in lines}
    jobs = [partial(_answer, said, folds, fold, name, lines[name], seed, n_jobs) for fold in folds for name in lines]
    if every_site:
        parts = [rows for fold in folds for rows in fold.parts.values()]
        used, sites = left_out_sites(parts)
        jobs += [
            partial(_leave_out, abroad, name, lines[name], folds[0].rows, used, site, n_jobs)
            for name in lines
            for site in (sites if len(sites) > 1 else ())
        ]
    for job in watch(jobs):  # type: ignore[arg-type]
        job()
    result = {
        name: {
            "width": None if values is None else int(values.shape[1]),
            **{
                part: _part([fold.parts[part] for fold in folds], said[name], seed, resamples)
                for part in (TEST, HELD_OUT)
                if part in folds[0].parts
            },
            "leave_site_out": left_out_errors(abroad[name], folds[0].rows) if every_site else None,
        }
        for name, values in lines.items()
    }
    drawn = {}
    for name in folds[0].parts if resamples else ():
        if text := resampling([fold.parts[name] for fold in folds]):
            drawn[name] = f"{TITLES[name]}: {text}"
    return Board(
        lines=result,
        scored=tuple(features),
        folds=[_about(fold) for fold in folds],
        notes=(*getattr(table, "notes", ()), *_notes(folds, lines, said), *drawn.values()),
        reduced=tuple(reduced),
        protocol={
            "age": "GridSearchCV(Ridge(), alpha 1e-2..1e2, cv=5 KFold without shuffling, r2)",
            "site": "GridSearchCV(LogisticRegression(saga, max_iter=150), C 1e-2..1e2, cv=5, balanced_accuracy)",
            "challenge": "site_bacc^0.3 * mae_external, lower is better",
            "sd": "over folds, divided by their number (as RAMP prints it)",
            "seed": seed,
            "resamples": resamples,
            **({"resampled": "families"} if drawn else {}),
        },
        provenance=dict(table.provenance),
    )


def _lines(
    folds: list[Fold], features: Mapping[str, NDArray[Any]], references: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64] | None]:
    """Name -> matrix of every row of the table, None for what is no ridge on features."""
    rows = folds[0].rows
    lines: dict[str, NDArray[np.float64] | None] = {}
    for name, values in {**features, **references}.items():
        for fold in folds:
            for part in fold.parts.values():
                lines[name] = checked(name, values, part)
        if name in features and values.shape[1] > MAX_FEATURES:
            raise UserError(
                f"{name} has {values.shape[1]} features, but the challenge admits at most {MAX_FEATURES}; "
                "embed with a smaller output, or reduce them before"
            )
    lines[CONSTANT] = np.ones((len(rows.age), 1))
    lines[ORACLE] = np.where(rows.aged, rows.age, 0.0)[:, None]
    lines[MEDIAN] = None
    return {name: lines[name] for name in [*features, CONSTANT, ORACLE, MEDIAN, *references]}


def _answer(
    said: dict[str, list[Prediction]],
    folds: list[Fold],
    fold: Fold,
    name: str,
    values_NF: NDArray[np.float64] | None,
    seed: int,
    n_jobs: int,
) -> None:
    """Fit the probes of one line on one fold and keep what they say of its test rows."""
    rows = fold.rows
    if values_NF is None:
        by_part = [site_median(part) for part in fold.parts.values()]
        age = np.full(len(rows.age), np.nan)
        for part, answer in zip(fold.parts.values(), by_part, strict=True):
            age[part.test] = answer.age[part.test]
        said[name].append(Prediction(age, np.full(len(age), "", dtype=object)))
        return
    everywhere = in_order(site for each in folds for site in each.rows.site)
    try:
        answer = predict_fold(
            rows,
            values_NF,
            fold.asked,
            sites=everywhere,
            usable_N=rows.aged if name == ORACLE else None,
            seed=seed,
            n_jobs=n_jobs,
            rotate=values_NF.shape[1] > MAX_FEATURES,
        )
    except UserError as error:
        raise UserError(f"{fold.name}: {error}") from error
    said[name].append(answer)


def _leave_out(
    abroad: dict[str, list[NDArray[np.float64]]],
    name: str,
    values_NF: NDArray[np.float64] | None,
    rows: Rows,
    used_N: NDArray[np.bool_],
    site: str,
    n_jobs: int,
) -> None:
    abroad[name] += leave_site_out(values_NF, rows, used_N, [site], n_jobs)


def _part(parts: list[Rows], said: list[Prediction], seed: int, resamples: int) -> dict[str, Any]:
    """Scores of one line on one set of test rows: per fold, mean and sd, intervals."""
    per_fold: list[dict[str, Any]] = []
    for rows, answer in zip(parts, said, strict=True):
        test = rows.test
        r, sites = within_site(rows.age[test], answer.age[test], rows.site[test])
        scores = judge(rows, answer, seed=seed, resamples=0).metric
        extra = {"within_site_r": r, "within_site_sites": sites, "alpha": answer.alpha, "C": answer.c}
        per_fold.append({**scores, **extra})
    mean: dict[str, float | None] = {}
    sd: dict[str, float | None] = {}
    for metric in (*METRICS, "within_site_r"):
        values = [fold[metric] for fold in per_fold if fold[metric] is not None]
        mean[metric] = float(np.mean(values)) if values else None
        sd[metric] = float(np.std(values)) if len(values) > 1 else None
    ci = fold_intervals(parts, said, resamples=resamples, seed=seed) if resamples else {}
    return {"mean": mean, "sd": sd, "ci": ci, "folds": per_fold}


def _about(fold: Fold) -> dict[str, Any]:
    """Counts of a fold and the balanced accuracy of guessing."""
    counts = {part: rows.count() for part, rows in fold.parts.items()}
    sites = len(fold.rows.sites)
    return {"name": fold.name, "chance": 1.0 / sites, "train_sites": sites, "n": counts}


def _notes(
    folds: list[Fold], lines: Mapping[str, NDArray[np.float64] | None], said: Mapping[str, list[Prediction]]
) -> tuple[str, ...]:
    """Notes of all folds; one that every fold, or every fitted line, has is said once."""
    found: dict[str, list[str]] = {}
    fitted = [name for name, values in lines.items() if values is not None]
    for i, fold in enumerate(folds):
        by_note: dict[str, list[str]] = {}
        for name in fitted:
            for note in said[name][i].notes:
                by_note.setdefault(note, []).append(name)
        own = [note if names == fitted else f"{', '.join(names)}: {note}" for note, names in by_note.items()]
        for note in dict.fromkeys([*fold.notes, *own]):
            found.setdefault(note, []).append(fold.name)
    notes = [note if len(names) == len(folds) else f"{', '.join(names)}: {note}" for note, names in found.items()]
    notes += [
        f"{name} is {values.shape[1]} wide, which the challenge does not admit; its site probe is fitted in a basis of "
        "the span of the rows"
        for name, values in lines.items()
        if values is not None and values.shape[1] > MAX_FEATURES
    ]
    return tuple(notes)
