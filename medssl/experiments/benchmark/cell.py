"""One cell: train, embed, score h and z (and what stands beside them) by the challenge's probes on one fold."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from medssl import stages
from medssl.challenge.probes import in_order, predict_fold
from medssl.documents.json_file import read_json
from medssl.documents.names import inside
from medssl.errors import TrainingStopped
from medssl.evaluation.age import fit_age
from medssl.evaluation.harmonized import harmonized
from medssl.evaluation.intervals import judge
from medssl.evaluation.rows import Rows, read_rows
from medssl.evaluation.scorecard import site_median
from medssl.experiments.benchmark.preset import Cell, Preset
from medssl.features.table import FeatureTable
from medssl.files import write_atomic
from medssl.harmonize.build import build_harmonizer
from medssl.recipe.model import Recipe, load_recipe
from medssl.recipe.overrides import assigned
from medssl.runs.folder import Run
from medssl.runs.references import reference_features
from medssl.training.checkpoints import list_checkpoints

HARMONIZED = {"combat": "ComBat", "residual": "residuals"}
SHOWN = ("mae_internal", "mae_external", "rmse_external", "r2_external", "site_bacc", "challenge")
Beside = Literal["all", "untrained", "none"]
"""What a cell scores beside its own features: all references, the untrained encoder alone, or nothing."""
Scores = dict[str, dict[str, float | None]]


class _Kept(TypedDict):
    key: dict[str, Any]
    cell: dict[str, Any]
    seconds: float


class CellRecord(_Kept, total=False):
    """The content of cell.json: scores, or why there are none."""

    scores: Scores
    stopped: str


def recipe_of(cell: Cell, preset: Preset, manifest: Path, out: Path) -> Recipe:
    """The recipe of a cell: one thread, no monitors, a cache that all cells share."""
    changes = [
        *preset.overrides(cell.row, cell.encoder),
        assigned("data.manifest", manifest),
        assigned("data.cache", out / "cache"),
        assigned("output", inside(out / "cells", cell.name, "the cell") / "run"),
        f"trainer.seed={cell.seed}",
        "trainer.threads=1",
        "monitors.every=0",
        "monitors.map=false",
    ]
    return load_recipe(preset.recipe, changes).absolute()


def run_cell(cell: Cell, preset: Preset, manifest: Path, out: Path, beside: Beside) -> dict[str, Any]:
    """Train and score one cell, or take what stands in its cell.json where recipe and fold are the same.

    beside: also score what needs no training of this row (constant, oracle, site median, raw input, the raw input
    harmonised or reduced to one number, the untrained encoder). A training that stopped is a result too:
    {"stopped": why}. Errors: UserError for a cell.json that is damaged.
    """
    recipe = recipe_of(cell, preset, manifest, out)
    folder = inside(out / "cells", cell.name, "the cell")
    key = {"recipe": recipe.digest, "beside": beside, "harmonized": cell.row in preset.harmonized}
    record = folder / "cell.json"
    if record.is_file():
        kept = read_json(record, CellRecord, "delete it, and its cell is scored again", nan=True)
        if kept["key"] == key and ("scores" in kept or "stopped" in kept):
            return dict(kept)
    began = time.perf_counter()
    result: dict[str, Any] = {"cell": asdict(cell), "key": key}
    try:
        run = Run(trained(recipe, folder / "run", page=False))
        result |= {"scores": _scores(cell, run, preset, beside)}
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    except TrainingStopped as problem:
        result |= {"stopped": str(problem)}
    result["seconds"] = time.perf_counter() - began
    write_atomic(record, json.dumps(result, indent=1) + "\n")
    return result


def trained(recipe: Recipe, run: Path, page: bool = True) -> Path:
    """The finished run of a recipe (page: with its report): kept, continued, or made; one of another recipe anew."""
    there = Run(run)
    if there.info.is_file() and there.read_info().get("hashes", {}).get("recipe") != recipe.settled().digest:
        shutil.rmtree(run)
    if stages.finished_at(run):
        return run
    if list_checkpoints(there.checkpoints):
        return stages.pretrain(resume=run, progress=False, page=page)
    return stages.pretrain(recipe, progress=False, page=page)


def _scores(cell: Cell, run: Run, preset: Preset, beside: Beside) -> Scores:
    table = stages.embed(run.folder, progress=False)
    rows = read_rows(table.meta, unseen_scored=True)
    values = {"h": table.values}
    if run.projection.is_file():
        values["z"] = stages.embed(run.folder, projection=True, progress=False).values
    found: Scores = {}
    for name, matrix in values.items():
        found[name] = score_matrix(rows, matrix)
        if cell.row in preset.harmonized:
            found |= {f"{name}, {how}": _harmonized(key, rows, matrix, table) for key, how in HARMONIZED.items()}
    found["h, 1 number"] = score_matrix(rows, age_direction(rows, table.values))
    if beside != "none":
        found |= _references(rows, table, beside == "all")
    return found


def score_matrix(rows: Rows, values: NDArray[Any]) -> dict[str, float | None]:
    """Metrics of a representation on one fold by the challenge's probes, fitted on its train rows."""
    features = np.asarray(values, dtype=np.float64)
    said = predict_fold(rows, features, rows.test, sites=in_order(rows.site), rotate=features.shape[1] > 2048)
    metric = judge(rows, said, seed=0, resamples=0).metric
    return {name: metric[name] for name in SHOWN}


def _harmonized(name: str, rows: Rows, values: NDArray[Any], table: FeatureTable) -> dict[str, float | None]:
    """The same after a harmoniser that is fitted on the train rows; sites it has not seen stay as they are."""
    made = harmonized(build_harmonizer(name, "none"), np.asarray(values, dtype=np.float64), rows, table.meta)
    return score_matrix(rows, made.values)


def age_direction(rows: Rows, values: NDArray[Any]) -> NDArray[np.float64]:
    """Features reduced to one number, (N, 1): the age that a ridge fitted on the train rows says.

    One number leaves a linear site probe little to read beside age itself.
    """
    features = np.asarray(values, dtype=np.float64)
    fit = rows.train & rows.aged
    return fit_age(features[fit], rows.age[fit]).predict(features)[:, None]


def _references(rows: Rows, table: FeatureTable, every: bool) -> Scores:
    """Rows that every benchmark shows beside its methods; not every: the untrained encoder alone."""
    features = reference_features(table, False)
    found: Scores = {}
    if "untrained" in features:
        found["untrained"] = score_matrix(rows, features.pop("untrained"))
    if not every:
        return found
    oracle = np.where(rows.aged, rows.age, 0.0)[:, None]
    found |= {
        "constant": score_matrix(rows, np.ones((len(rows.age), 1))),
        "age oracle": score_matrix(rows, oracle),
        "site median": {name: judge(rows, site_median(rows), seed=0, resamples=0).metric[name] for name in SHOWN},
    }
    for values in features.values():
        found["raw input"] = score_matrix(rows, values)
        found["raw input, 1 number"] = score_matrix(rows, age_direction(rows, values))
        found |= {f"raw input, {how}": _harmonized(key, rows, values, table) for key, how in HARMONIZED.items()}
    return found
