"""The OpenBHB challenge as calls: score a table or a run as the challenge does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np

from medssl.challenge.board import Job, challenge_board
from medssl.challenge.folds import fold_columns, read_folds
from medssl.challenge.table import Board, refuse_foreign_board
from medssl.checks import Flag, Interval, Processes, Resamples, SolverSeed, checked
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.folds import challenge_folds
from medssl.errors import UserError
from medssl.evaluation.rows import people
from medssl.features.table import FeatureTable
from medssl.progress.steps import tracked
from medssl.runs.folder import Run
from medssl.runs.network import network_of
from medssl.runs.references import reference_features
from medssl.runs.same_scans import copied, trained_on
from medssl.stages import embed

QUICK = (
    "--quick: no bootstrap intervals",
    "no leave-site-out",
    "no voxel and untrained reference rows",
)


@checked
def score_openbhb(
    target: str | Path,
    out: str | Path | None = None,
    *,
    folds: Annotated[int, Interval(2, 1000)] | None = None,
    prefix: str | None = None,
    resamples: Resamples = 2000,
    every_site: Flag = True,
    references: Flag = True,
    quick: Flag = False,
    seed: SolverSeed = 0,
    n_jobs: Processes | None = None,
    progress: Flag = True,
) -> Board:
    """Score a features table, or h and z of a run, by the probes of the OpenBHB challenge (see ``challenge_board``).

    Writes openbhb.json and openbhb.md into ``out`` (default: beside the table, or into the run folder). folds: make
    so many from the training rows (:func:`medssl.data.manifest.folds.challenge_folds`) where the table has no columns
    fold0, fold1, ... prefix: of the feature columns of a foreign table. references: also voxels and the untrained
    encoder, where the scans can still be read. quick: one fold and what ``QUICK`` says; the table names it. n_jobs:
    threads (default: one per core). Errors: UserError, before anything is written.
    """
    target = Path(target)
    folder = Path(out) if out else (target if target.is_dir() else target.parent)
    if folder.is_file():
        raise UserError(f"{folder} is a file; give a folder for openbhb.json and openbhb.md")
    if folder != target:
        refuse_foreign_board(folder, target)
    if target.is_dir():
        if prefix is not None:
            raise UserError(f"{target} is a run, whose features need no prefix; leave out --prefix, or name a table")
        if folds is None:
            _refuse_unsplit(target)
        table, features = _of_run(target, progress)
    else:
        table = FeatureTable.read(target, prefix=prefix)
        kind = str(table.provenance.get("features", ""))
        features = {{"projection": "projection z", "encoder": "encoder h"}.get(kind, "features"): table.values}
    if folds is not None:
        table = _with_folds(table, folds, seed)
    extra = reference_features(table, progress) if references and not quick else {}
    board = challenge_board(
        table,
        features,
        extra,
        seed=seed,
        resamples=0 if quick else resamples,
        every_site=every_site and not quick,
        n_jobs=n_jobs or os.cpu_count() or 1,
        only_folds=1 if quick else None,
        reduced=QUICK if quick else (),
        watch=lambda jobs: _watched(jobs, progress),
    )
    board = replace(board, notes=(*copied(table), *trained_on(table), *board.notes))
    board.write(folder)
    return board


def _of_run(run: Path, progress: bool) -> tuple[FeatureTable, dict[str, np.ndarray]]:
    """The table of h, and the matrices of h and, where the method has a projector, z."""
    table = embed(run, progress=progress)
    features = {"encoder h": table.values}
    if Run(run).projection.is_file():
        z = embed(run, projection=True, progress=progress)
        if z.meta["participant_id"].tolist() != table.meta["participant_id"].tolist():
            raise UserError(f"{run}: the tables of h and z have other rows; delete features*.csv there and score again")
        features["projection z"] = z.values
    return table, features


def _refuse_unsplit(run: Path) -> None:
    """What ``read_folds`` says of rows without any split, before features are written into the run folder."""
    sources = network_of(run, False).manifests if Run(run).encoder.is_file() else []  # embedding says what lacks
    if sources:
        meta = Cohort.read(sources, images=False).table
        if not fold_columns(meta) and not any(str(cell or "").strip() for cell in meta.get("split", ())):
            read_folds(meta[["participant_id"]])


def _with_folds(table: FeatureTable, n: int, seed: int) -> FeatureTable:
    if there := fold_columns(table.meta):
        raise UserError(f"the table has its own folds ({', '.join(there)}); leave out --folds, or drop these columns")
    made = challenge_folds(table.meta.assign(subject=people(table.meta)), n, seed=seed)
    meta = table.meta.drop(columns=[c for c in made if c in table.meta]).join(made)
    return FeatureTable(meta, table.values, table.provenance, table.notes)


def _watched(jobs: list[Job], progress: bool) -> Iterable[Job]:
    return tracked(jobs, "scoring", len(jobs), progress)
