"""A whole benchmark: cohort, folds, all cells over several processes, table and figure. Interrupt it and go on."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl import stages
from medssl.checks import Count, Flag, Processes, checked
from medssl.environment import origin
from medssl.errors import UserError
from medssl.experiments.benchmark.board import collect, markdown
from medssl.experiments.benchmark.cell import Beside, run_cell
from medssl.experiments.benchmark.figure import trade_off
from medssl.experiments.benchmark.folds import fold_manifests
from medssl.experiments.benchmark.preset import Cell, Preset, cells, load_preset
from medssl.experiments.benchmark.processes import spread
from medssl.files import Output, exclusive, make_folder, refuse_foreign, write_atomic
from medssl.progress.steps import tracked
from medssl.report.figures import save_figure

_OUTPUTS = {
    "benchmark.md": Output("a table of a benchmark", {".md": re.compile(rb"## [^\n]*\n\n### ")}),
    "benchmark.json": Output("a record of a benchmark", {".json": re.compile(rb'\{\s*"medssl_version":')}),
}


@checked
def benchmark(
    preset: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    columns: Sequence[str] = (),
    quick: Flag = False,
    seeds: Count | None = None,
    jobs: Processes | None = None,
    progress: Flag = True,
) -> dict[str, Any]:
    """Run or continue a benchmark; writes OUT/benchmark.json, .md and one figure per design, returns the record.

    preset: synthetic, roi, full, or a YAML file. data: manifest or table where the preset makes no cohort itself;
    columns: patterns of its feature columns. quick: the preset's small form. seeds: instead of the preset's number.
    jobs: processes, default the preset's number or one per core; 1 stays in this process. Finished cells are kept, so
    the same command goes on after an interruption.
    Raises UserError for a preset that needs data, and what a single training would raise.
    """
    out = Path(out).absolute()
    chosen = load_preset(preset)
    chosen = chosen.reduced() if quick else chosen
    chosen = chosen if seeds is None else chosen.model_copy(update={"seeds": seeds})
    if columns:
        chosen = chosen.model_copy(update={"changes": (*chosen.changes, f"data.columns={json.dumps(list(columns))}")})
    for name, kind in _OUTPUTS.items():
        refuse_foreign(out / name, kind, [] if data is None else [data])
    fresh = not out.exists()
    make_folder(out)
    with exclusive(out / ".lock", str(out)):
        try:
            manifest = _cohort(chosen, out, data, progress)
            folds = fold_manifests(manifest, chosen, out, progress)
        except UserError:
            if fresh and os.listdir(out) == [".lock"]:
                shutil.rmtree(out)
            raise
        results = _all_cells(chosen, folds, out, jobs or chosen.jobs or os.cpu_count() or 1, progress)
        return _write(chosen, results, out)


def _cohort(preset: Preset, out: Path, data: str | Path | None, progress: bool) -> Path:
    if (preset.synthetic is None) == (data is None):
        which = "makes its own cohort, so leave out --data" if data is not None else "needs --data TABLE"
        raise UserError(f"the preset '{preset.title}' {which}")
    if preset.synthetic is None:
        return Path(str(data))
    return stages.synthetic_cohort(out / "cohort", **preset.synthetic.model_dump(), progress=progress)


def plan_of(preset: Preset) -> list[tuple[Cell, Beside]]:
    """Cells in order; the first of a fold scores its references too, the first of a seed the untrained encoder."""
    plan: list[tuple[Cell, Beside]] = []
    seen: set[tuple[Any, ...]] = set()
    for cell in cells(preset):
        fold, own = (cell.design, cell.fold), (cell.design, cell.fold, cell.encoder, cell.seed)
        plan.append((cell, "all" if fold not in seen else "untrained" if own not in seen else "none"))
        seen |= {fold, own}
    return plan


def _all_cells(
    preset: Preset, folds: Mapping[tuple[str, int], Path], out: Path, jobs: int, progress: bool
) -> list[dict[str, Any]]:
    """Every cell, most in parallel; the first cell of each fold comes first, since it fills the cache for the rest."""
    jobs_of = [(cell, preset, folds[cell.design, cell.fold], out, beside) for cell, beside in plan_of(preset)]
    if jobs == 1:  # in this process: a GPU is not shared, and nothing is started
        return [run_cell(*arguments) for arguments in tracked(jobs_of, "cells", len(jobs_of), progress)]
    return spread(run_cell, jobs_of, jobs, progress=progress, title="cells")


def _write(preset: Preset, results: Sequence[dict[str, Any]], out: Path) -> dict[str, Any]:
    lines = collect(results)
    seconds = sum(float(r["seconds"]) for r in results)
    notes = [f"{len(results)} trainings, {seconds / 60:.0f} minutes of one core"]
    text = markdown(lines, preset.title, notes)
    record = {
        **origin(),
        "preset": preset.model_dump(mode="json"),
        "seconds": seconds,
        "lines": lines,
        "cells": list(results),
        "markdown": text,
        "figures": [],
    }
    for design in preset.designs:
        path = save_figure(trade_off(lines, design, preset.title), out / f"benchmark-{design}.png")
        record["figures"].append(path.name)
    write_atomic(out / "benchmark.md", text)
    write_atomic(out / "benchmark.json", json.dumps(record, indent=1) + "\n")
    return record
