"""One trial: a training in its own run folder, scored on what was held out of train. Finished ones are kept."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch

from medssl import stages
from medssl.documents.json_file import read_json
from medssl.environment import now
from medssl.errors import BusyError, StoppedByHand, TrainingStopped, UserError
from medssl.evaluation.intervals import METRICS
from medssl.evaluation.scorecard import scorecard
from medssl.experiments.benchmark.cell import trained
from medssl.experiments.study.plan import Settings, Study, trial_name
from medssl.features.table import FeatureTable
from medssl.files import exclusive, write_atomic
from medssl.recipe.overrides import assigned
from medssl.runs.folder import Run


class _Finished(TypedDict):
    settings: dict[str, Any]
    name: str
    identity: str
    seconds: float
    finished: str


class TrialRecord(_Finished, total=False):
    """The content of trial.json: scores, or why there are none."""

    scores: dict[str, float | None]
    stopped: str
    test: dict[str, float | None]


@dataclass(frozen=True)
class Place:
    """A study and its folder. identity: see ``Study.identity``."""

    study: Study
    out: Path
    identity: str

    def trial(self, settings: Mapping[str, Any]) -> Path:
        """Folder of a trial."""
        return self.out / "trials" / trial_name(settings)


def run_trial(place: Place, settings: Settings) -> dict[str, Any] | None:
    """Train and score one setting, or take its trial.json; None where another process is at it.

    Writes TRIAL/run (a run folder; its checkpoints go once it is scored) and TRIAL/trial.json. A training that
    stopped (a loss that is no number, too little memory) is a result too: {"stopped": why}.
    """
    folder = place.trial(settings)
    record = read_trial(place, folder)
    if record is None or (place.study.test and "test" not in record and "scores" in record):
        try:
            with exclusive(folder / ".lock", str(folder)):
                record = _finished(place, settings, folder)
        except BusyError:
            return None
    return record


def read_trial(place: Place, folder: Path) -> dict[str, Any] | None:
    """The record of a finished trial of this study, None where there is none."""
    path = folder / "trial.json"
    if not path.is_file():
        return None
    remedy = "delete it, and its trial is made again"
    record = read_json(path, TrialRecord, remedy, nan=True)
    if record["identity"] != place.identity:
        return None
    lacking = [key for key in place.study.swept if key not in record["settings"]]
    if lacking or not ("scores" in record or "stopped" in record):
        raise UserError(f"{path} lacks {f'settings.{lacking[0]}' if lacking else 'both scores and stopped'}; {remedy}")
    return dict(record)


def _finished(place: Place, settings: Settings, folder: Path) -> dict[str, Any]:
    """The record, made or completed under the trial's lock."""
    record = read_trial(place, folder)  # another process may have made it while this one waited
    run = Run(folder / "run")
    if record is None:
        began = time.perf_counter()
        record = {"settings": settings, "name": folder.name, "identity": place.identity}
        record |= _result(place, settings, run)
        record |= {"seconds": time.perf_counter() - began, "finished": now()}
    if place.study.test and "scores" in record:
        record["test"] = _on_test_rows(run, place.out)
    write_atomic(folder / "trial.json", json.dumps(record, indent=1) + "\n")
    return record


def _result(place: Place, settings: Settings, run: Run) -> dict[str, Any]:
    """Scores on the held-out part, or why there are none."""
    own = [assigned("data.manifest", place.out / "train.csv"), "data.manifests=[]", assigned("output", run.folder)]
    if place.study.recipe_of(settings).data.cache is None:
        own.append(assigned("data.cache", place.out / "cache"))
    recipe = place.study.recipe_of(settings, tuple(own)).absolute()
    try:
        trained(recipe, run.folder)
    except StoppedByHand:
        raise
    except TrainingStopped as problem:
        return {"stopped": str(problem)}
    except RuntimeError as problem:
        if not is_no_memory(problem):
            raise
        return {"stopped": "the memory does not suffice"}
    table = stages.embed(run.folder, progress=False)
    if not np.isfinite(table.values).all():
        return {"stopped": "features of the trained encoder are NaN or infinite"}
    result = scorecard(table, resamples=0)
    result.write(run.folder)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    return {"scores": {name: result.main[name] for name in METRICS}}


def _on_test_rows(run: Run, out: Path) -> dict[str, float | None]:
    """Metrics of the cohort's own test rows, by probes on all its train rows; of the record, never of the choice."""
    fit = FeatureTable.read(run.features)
    test = stages.embed(run.folder, out / "test.csv", run.folder / "features-test.csv", progress=False)
    columns = [name for name in fit.meta.columns if name in test.meta.columns]
    meta = pd.concat([fit.meta[columns].assign(split="train"), test.meta[columns]], ignore_index=True)
    main = scorecard(FeatureTable(meta, np.concatenate([fit.values, test.values])), resamples=0).main
    return {name: main[name] for name in METRICS}


def is_no_memory(problem: RuntimeError) -> bool:
    """Whether a training failed since it needs more memory than there is."""
    if isinstance(problem, torch.cuda.OutOfMemoryError):
        return True
    return any(words in str(problem).lower() for words in ("out of memory", "can't allocate memory"))
