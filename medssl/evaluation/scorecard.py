"""The OpenBHB-style scorecard on any cohort: how well is age known, how much of the scanner is left.

Probes are fitted on the train rows only and judged on internal (same sites) and external (other sites) test
rows, beside references that say what a number is worth: constant features, the true age, the median age of the
site, and whatever the caller adds (voxels, the untrained encoder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.errors import UserError
from medssl.evaluation.age import fit_age
from medssl.evaluation.caution import below_chance, by_sites, few_people
from medssl.evaluation.harmonized import harmonized
from medssl.evaluation.intervals import Prediction, Verdict, difference, judge, resampling
from medssl.evaluation.large import LARGE, LONG, WIDEST
from medssl.evaluation.rows import EXTERNAL, INTERNAL, Rows, read_rows
from medssl.evaluation.scores import Scores
from medssl.evaluation.site import fit_site
from medssl.harmonize.base import Harmonizer

ENCODER = "encoder"
EXPECTED = ("ridge_voxels", "untrained")
RAW = "unharmonised"
TABLE_EXPECTED = ("ridge_features", "untrained")
"""The same for features of a table: ridge on the measures themselves."""
OWN = (ENCODER, RAW, "constant", "age_oracle", "site_median")


class Table(Protocol):
    """What a scorecard reads of a ``medssl.features.table.FeatureTable``."""

    @property
    def meta(self) -> pd.DataFrame:
        """Columns participant_id, session, age, site, split, subject, dataset; N rows."""

    @property
    def values(self) -> NDArray[np.float32]:
        """Features, (N, F)."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the features come from."""


class Line(NamedTuple):
    """A row of the scorecard before it is fitted: features (N, F), None for the median of the site; usable rows."""

    name: str
    features: NDArray[np.float64] | None
    usable: NDArray[np.bool_]


def scorecard(
    table: Table,
    extra: Mapping[str, NDArray[Any]] | None = None,
    *,
    seed: int = 0,
    scale: bool = False,
    resamples: int = 2000,
    n_jobs: int = 1,
    harmonize: Harmonizer | None = None,
    watch: Callable[[list[Line]], Iterable[Line]] = iter,
) -> Scores:
    """Score a feature table by the protocol of the OpenBHB challenge (see ``fit_age``, ``fit_site``, ``challenge``).

    In large cohorts the probes are solved as ``medssl.evaluation.large`` says: the age probe with the same result up to
    rounding (from 20,000 training rows on), the site probe by another solver where SAGA would take one core longer
    than about 30 s, which is noted.

    table: features with age, site and split. extra: more reference rows, name -> (N, F) in the order of the
    table ("ridge_voxels", or "ridge_features" of a table, and "untrained" are expected; without them the scores
    say that they are missing).
    seed: of the site probe's solver and of the bootstrap. scale: standardise features inside the folds, which
    is not the challenge's protocol and is recorded. resamples: bootstrap samples (0: no intervals). n_jobs: threads.
    harmonize: takes the site out of the table's features (not of ``extra``), fitted on the train rows; the features
    as they are become the row "unharmonised". One that was fitted on other rows is refused (see ``harmonized``).
    watch: passes on the rows of the scorecard while they are fitted, such as a progress bar.
    Raises UserError without a split, where a person or a family is on both sides of it, and for features that are not
    finite.
    """
    rows = read_rows(table.meta)
    matrices = {ENCODER: checked(ENCODER, table.values, rows)}
    for name, values in (extra or {}).items():
        if name in OWN:
            raise UserError(f"extra features are called {name!r}, the name of a built-in row; choose another name")
        matrices[name] = checked(name, values, rows)
    everyone = np.ones(len(rows.age), dtype=bool)
    made = None
    if harmonize is not None:
        made = harmonized(harmonize, matrices[ENCODER], rows, table.meta)
        raw, matrices[ENCODER] = matrices[ENCODER], made.values
    lines = [Line(ENCODER, matrices.pop(ENCODER), everyone)]
    if made is not None:
        lines.append(Line(RAW, raw, everyone))
    lines.append(Line("constant", np.ones((len(rows.age), 1)), everyone))
    lines.append(Line("age_oracle", np.where(rows.aged, rows.age, 0.0)[:, None], rows.aged))
    lines.append(Line("site_median", None, everyone))
    expected = TABLE_EXPECTED if table.provenance.get("columns") or "ridge_features" in matrices else EXPECTED
    given = [*(n for n in expected if n in matrices), *(n for n in matrices if n not in expected)]
    lines += [Line(name, matrices[name], everyone) for name in given]
    predictions = {line.name: _predict(rows, line, seed, scale, n_jobs) for line in watch(lines)}
    verdicts = {name: judge(rows, p, seed=seed, resamples=resamples) for name, p in predictions.items()}
    chance = 1.0 / len(rows.sites) if len(rows.sites) > 1 else None
    scored = {name: _line(v, predictions[name], chance) for name, v in verdicts.items()}
    cautions = [*by_sites(len(set(rows.site[rows.external]) - {""}) if resamples else 0), *below_chance(scored)]
    main = scored.pop(ENCODER)
    absent = {name: {"missing": "not given to this scorecard"} for name in expected if name not in predictions}
    notes = dict.fromkeys(
        [
            *getattr(table, "notes", ()),
            *(made.notes if made else ()),
            *rows.notes,
            *_small(rows),
            *(note for p in predictions.values() for note in p.notes),
            *cautions,
        ]
    )
    drawn = resampling([rows]) if resamples else None
    if drawn:
        notes[drawn] = None
    if scale:
        notes["features were standardised inside the folds: not the challenge's protocol"] = None
    return Scores(
        main=main,
        references={**scored, **absent},
        differences={name: difference(verdicts[ENCODER], v) for name, v in verdicts.items() if name != ENCODER},
        per_site=_per_site(rows, predictions),
        n=rows.count(),
        notes=tuple(notes),
        protocol={
            "age": "GridSearchCV(Ridge, alpha 1e-2..1e2, KFold 5, r2)",
            "site": "GridSearchCV(LogisticRegression saga 150, C 1e-2..1e2, StratifiedKFold 5, balanced accuracy); "
            "L-BFGS where the notes say so",
            "challenge": "site_bacc^0.3 * mae_external, lower is better",
            "harmonize": made.how if made else "none",
            "scale": scale,
            "seed": seed,
            "resamples": resamples,
            **({"resampled": "families"} if drawn else {}),
        },
        provenance=dict(table.provenance),
        predictions=_predictions(rows, predictions),
        label=f"{ENCODER}, {made.label}" if made else ENCODER,
    )


def _small(rows: Rows) -> list[str]:
    """Says which scores rest on few people."""
    parts = ((INTERNAL, rows.internal), (EXTERNAL, rows.external))
    return [note for name, mask in parts for note in few_people(name, len(set(rows.subject[mask & rows.aged])))]


def checked(name: str, values: NDArray[Any], rows: Rows) -> NDArray[np.float64]:
    """Features as float64 (N, F); UserError for another length and for values that are not finite."""
    features = np.asarray(values, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(rows.age) or not features.shape[1]:
        raise UserError(
            f"{name} features have shape {features.shape} for {len(rows.age)} rows; "
            "pass a matrix with one row per row of the table, in its order"
        )
    used = rows.split != ""
    bad = np.flatnonzero(used & ~np.isfinite(features).all(axis=1))
    if bad.size:
        shown = ", ".join(rows.where(int(i)) for i in bad[:5]) + (", ..." if bad.size > 5 else "")
        raise UserError(
            f"{name}: the features of {bad.size} rows are NaN or infinite: {shown}; "
            "embed these scans again or take them out of the table"
        )
    return features


def _predict(rows: Rows, line: Line, seed: int, scale: bool, n_jobs: int) -> Prediction:
    """What a row of the scorecard says of the test rows."""
    if line.features is None:
        return site_median(rows)
    return _probe(rows, line.features, line.usable, seed, scale, n_jobs)


def _probe(
    rows: Rows,
    features_NF: NDArray[np.float64],
    usable: NDArray[np.bool_],
    seed: int,
    scale: bool,
    n_jobs: int,
) -> Prediction:
    """Fit both probes on the usable train rows and predict the usable test rows."""
    age = np.full(len(rows.age), np.nan)
    site = np.full(len(rows.age), "", dtype=object)
    notes: list[str] = []
    alpha = c = None
    fit = rows.train & rows.aged & usable
    test = rows.test & usable
    if fit.any():
        large = bool(fit.sum() >= LARGE and features_NF.shape[1] <= WIDEST)
        ridge = fit_age(features_NF[fit], rows.age[fit], scale=scale, n_jobs=n_jobs, large=large)
        age[test] = ridge.predict(features_NF[test])
        notes += ridge.notes
        alpha = ridge.alpha
    fit = rows.train & (rows.site != "") & usable
    asked = rows.site_scored & usable
    if asked.any() and len(set(rows.site[fit])) > 1:
        large = _long(features_NF[fit], rows.site[fit])
        logistic = fit_site(features_NF[fit], rows.site[fit], seed=seed, scale=scale, n_jobs=n_jobs, large=large)
        site[asked] = logistic.predict(features_NF[asked])
        notes += logistic.notes
        c = logistic.c
    return Prediction(age, site, tuple(notes), alpha, c)


def _long(features_NF: NDArray[np.float64], site_N: NDArray[np.object_]) -> bool:
    """Whether SAGA would take long: beside its features, a row costs what six features do."""
    rows, width = features_NF.shape
    return rows * (min(width, rows) + 6) * len(set(site_N)) >= LONG


def site_median(rows: Rows) -> Prediction:
    """Median training age of the row's site; of all training rows where the site is unseen."""
    age = np.full(len(rows.age), np.nan)
    known = rows.train & rows.aged
    if known.any():
        age[rows.test] = np.median(rows.age[known])
        for name in set(rows.site[known]) - {""}:
            at = rows.site == name
            age[rows.test & at] = np.median(rows.age[known & at])
    return Prediction(age, np.full(len(age), "", dtype=object))


def _line(verdict: Verdict, prediction: Prediction, chance: float | None) -> dict[str, Any]:
    """One row of the scorecard."""
    return {
        **verdict.metric,
        "site_chance": chance,
        "ci": verdict.intervals(),
        "probe": {"alpha": prediction.alpha, "C": prediction.c},
    }


def _per_site(rows: Rows, predictions: Mapping[str, Prediction]) -> list[dict[str, Any]]:
    """Errors of every test site: n, MAE, MAE of constant features, bias (mean of predicted minus true)."""
    out: list[dict[str, Any]] = []
    constant = predictions["constant"].age
    predicted = predictions[ENCODER].age
    for split, mask in ((INTERNAL, rows.internal), (EXTERNAL, rows.external)):
        for name in sorted(set(rows.site[mask])):
            at = mask & (rows.site == name) & rows.aged & np.isfinite(predicted)
            if at.any():
                error = predicted[at] - rows.age[at]
                out.append(
                    {
                        "site": name,
                        "split": split,
                        "n": int(at.sum()),
                        "mae": float(np.abs(error).mean()),
                        "mae_constant": float(np.abs(constant[at] - rows.age[at]).mean()),
                        "bias": float(error.mean()),
                    }
                )
    return out


def _predictions(rows: Rows, predictions: Mapping[str, Prediction]) -> pd.DataFrame:
    """Test rows of every line of the scorecard, in the order of the table."""
    test = np.flatnonzero(rows.test)
    frames = [
        pd.DataFrame(
            {
                "participant_id": rows.participant[test],
                "session": rows.session[test],
                "site": rows.site[test],
                "split": rows.split[test],
                "age": rows.age[test],
                "predicted": prediction.age[test],
                "features": name,
                "site_predicted": prediction.site[test],
            }
        )
        for name, prediction in predictions.items()
    ]
    return pd.concat(frames, ignore_index=True)
