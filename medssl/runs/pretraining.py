"""Starts or continues the training of a run and finishes it: one writer at a time, the same scans, whole files."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from medssl.distributed import process_is_first, say
from medssl.files import exclusive
from medssl.recipe.build import Assembly, assemble
from medssl.recipe.model import Recipe
from medssl.report.build import build_report
from medssl.runs.finish import draw_map, finish
from medssl.runs.folder import Run
from medssl.runs.lineage import began, continued, note, older, same_parents
from medssl.training.checkpoints import how_to_continue, identity_of, newest_checkpoint, resumable
from medssl.training.hardware.device import announce


def resume_run(run: Run, overrides: Sequence[str], progress: bool, page: bool) -> Path:
    """Continue a run on the same scans from its newest sound checkpoint; a finished one is left as it is.

    Errors: UserError where the recipe, the manifest, a scan or the checkpoints are not those of the run.
    """
    newest_checkpoint(run.folder)  # refuses what holds none
    recipe = continued(run, overrides)
    before = began(run)
    if finished_at(run.folder):
        same_parents(run, assemble(recipe, progress=progress, began=before))
        if page and not run.report.is_file() and process_is_first():  # it died while it was made
            with exclusive(run.lock, str(run.folder)):
                build_report(run.folder)
        return run.folder
    checkpoint, notes = resumable(run.folder, run.read_info(), process_is_first())
    say(notes)  # --quiet is about bars: what was damaged is told
    say(older(before), progress)
    parts = assemble(recipe, progress=progress, began=before)
    same_parents(run, parts)
    announce(recipe.trainer, recipe.trainer, recipe.data.batch_size, quiet=not progress or not process_is_first())
    train_run(recipe, parts, run, checkpoint, progress, page)
    return run.folder


def train_run(recipe: Recipe, parts: Assembly, run: Run, checkpoint: Path | None, progress: bool, page: bool) -> None:
    """Start the training of a run, or continue it from a checkpoint, and save its encoder.

    Raises KeyboardInterrupt with the sentence that says how to go on.
    """
    first = process_is_first()
    lock = exclusive(run.lock, str(run.folder)) if first else nullcontext()
    try:
        with lock:
            _train(recipe, parts, run, checkpoint, progress, page, first)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stopped_by_hand(run.folder)) from None


def stopped_by_hand(folder: Path) -> str:
    """One sentence after Ctrl-C, by what is in the folder of the run."""
    if finished_at(folder):
        return f"stopped by hand after the run was finished; nothing is lost: its encoder is in {folder}"
    if not folder.is_dir():
        return "stopped by hand before the training began; nothing is lost"
    return how_to_continue(folder)


def finished_at(run: str | Path) -> str | None:
    """When a run was finished, None where it was not."""
    found = Run(run)
    if not found.encoder.is_file() or not found.info.is_file():
        return None
    info = found.read_info()
    return str(info.get("finished")) if info.get("state") == "finished" else None


def _train(
    recipe: Recipe, parts: Assembly, run: Run, checkpoint: Path | None, progress: bool, page: bool, first: bool
) -> None:
    from medssl.training.session import train  # Lightning is slow to import

    scans = None if parts.contents is None else parts.contents.to_csv()
    if checkpoint is not None:
        note(run, recipe, checkpoint, scans)
    elif first:
        run.start(recipe.to_yaml(), {"id": secrets.token_hex(16), **parts.info}, scans)
    trained = train(
        parts.method,
        parts.dataset,
        parts.train_rows,
        parts.cohort.table,
        run.folder,
        title=recipe.method.name,
        batch=recipe.data.batch_size,
        workers=recipe.data.workers,
        optim=recipe.optim,
        trainer=recipe.trainer,
        monitors=recipe.monitors,
        draw=draw_map,
        balance=parts.balance,
        resume=checkpoint,
        identity=identity_of(run.read_info()) if first else None,
        progress=progress,
        notes=parts.leaks,
    )
    if first:
        finish(replace(parts, method=trained), run, page)
