"""A whole study, or one task of an array: prepare the folder, run what is missing, write the table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from pydantic import ValidationError

from medssl import stages
from medssl.checks import Flag, Processes, checked
from medssl.data.loading.pool import processors
from medssl.data.manifest.cohort import Cohort
from medssl.distributed import say
from medssl.documents.json_file import read_json
from medssl.errors import UserError, shown
from medssl.experiments.benchmark.processes import gpus, spread
from medssl.experiments.study.holdout import hold_out
from medssl.experiments.study.plan import Study, load_study, trial_name
from medssl.experiments.study.search import load_optuna, open_journal, search_once, turn
from medssl.experiments.study.table import OUTPUTS, tabulate
from medssl.experiments.study.trial import Place, run_trial
from medssl.files import make_folder, write_atomic
from medssl.recipe.ages import usable_ages
from medssl.recipe.model import explain, load_recipe
from medssl.recipe.overrides import assigned


class StudyRecord(TypedDict):
    """The content of study.json."""

    identity: str
    study: dict[str, Any]


_ANEW = "delete it and give `medssl study run` the same arguments again, which writes it anew"


def prepare(study: str | Path, out: str | Path, data: str | Path | None = None, progress: bool = True) -> Place:
    """Check a study and make its folder: cohort, held-out part, study.json. Again with the same arguments: no change.

    Raises UserError where the folder holds trials that cannot be compared (another recipe, cohort, validation or
    other swept keys); values of the grid, the number of trials and the score may change.
    """
    out, chosen = Path(out).absolute(), load_study(study, data)
    _refuse_foreign(out)
    if chosen.search is not None:
        load_optuna()
    fresh = not out.exists()
    try:
        return _prepared(chosen, make_folder(out), progress)
    except UserError:
        with suppress(OSError):  # only where nothing is in it yet
            if fresh:
                out.rmdir()
        raise


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds files of the names that a study writes, but no study."""
    foreign = next((name for name in OUTPUTS if (out / name).exists()), None)
    if foreign is not None and not (out / "study.json").is_file():
        raise UserError(
            f"{out / foreign} exists, but {out} is no folder of a study, so it is kept; choose another folder with -o"
        )


def _prepared(chosen: Study, out: Path, progress: bool) -> Place:
    if chosen.synthetic is not None:
        with turn(out / ".lock"):
            manifest = stages.synthetic_cohort(out / "cohort", **chosen.synthetic.model_dump(), progress=progress)
        chosen = chosen.model_copy(update={"changes": (*chosen.changes, assigned("data.manifest", manifest))})
    recipe = load_recipe(chosen.recipe, chosen.changes).absolute()
    cohort = Cohort.read(recipe.data.sources, images=recipe.data.columns is None)
    place = Place(chosen, out, chosen.identity(cohort.digest))
    _refuse_another(place, cohort)
    _, said = usable_ages(cohort, cohort.rows("train"), recipe)
    say((*cohort.notes, *said), progress)
    hold_out(cohort, chosen, out)
    if chosen.search is not None:
        open_journal(place)
    content = {"identity": place.identity, "study": chosen.model_dump(mode="json")}
    write_atomic(out / "study.json", json.dumps(content, indent=1) + "\n")
    return place


def open_study(out: str | Path) -> Place:
    """The study whose folder this is; UserError where it is none."""
    path = Path(out).absolute() / "study.json"
    if not path.is_file():
        raise UserError(f"{out} is no study folder (study.json is missing); give the folder of `medssl study run`")
    content = read_json(path, StudyRecord, _ANEW)
    try:
        study = Study.model_validate(content["study"])
    except ValidationError as problem:
        raise UserError(f"{path} is damaged ({explain(problem, content['study'], Study)}); {_ANEW}") from None
    return Place(study, path.parent, content["identity"])


@checked
def run_study(
    study: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    jobs: Processes | None = None,
    progress: Flag = True,
) -> dict[str, Any]:
    """Run what a study still lacks by ``jobs`` processes (default: one per GPU, or per core) and write its table.

    Finished trials are kept and begun ones continued, so the same command goes on after any interruption, and may run
    on several machines at once. Returns what ``tabulate`` returns. Raises UserError for what the user wrote.
    """
    place = prepare(study, out, data, progress)
    count = min(jobs or len(gpus()) or processors(), place.study.count)
    work, plan = _plan(place)
    threads = max(1, processors() // count)
    names = [trial_name(arguments[1]) for arguments in plan if len(arguments) > 1]  # a search chooses as it goes
    if progress:
        _say(f"{place.study.count} trials, {count} at a time, in {place.out / 'trials'}; finished ones are kept")
    spread(work, plan, count, progress=progress, title="trials", threads=threads, names=names)
    return tabulate(place)


def run_task(
    study: str | Path, out: str | Path, task: int, *, of: int | None = None, data: str | Path | None = None
) -> list[dict[str, Any] | None]:
    """The trials of one array task in this process: task K of N takes trials K, K + N, ... (default: one per task).

    Returns their records, None for a trial that another process is at. Raises UserError for a task out of range.
    """
    place = prepare(study, out, data, progress=False)
    tasks = of or place.study.count
    if not 0 <= task < tasks:
        raise UserError(f"task {task} is outside 0 to {tasks - 1}; the study has {place.study.count} trials")
    work, plan = _plan(place)
    records: list[dict[str, Any] | None] = []
    own = plan[task::tasks]
    for k, arguments in enumerate(own, start=1):
        name = f" ({trial_name(arguments[1])})" if len(arguments) > 1 else ""
        _say(f"task {task}: trial {k} of {len(own)}{name} begins")
        found = work(*arguments)
        records += found if isinstance(found, list) else [found]
    return records


def _plan(place: Place) -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
    """What is called how often."""
    if place.study.search is not None:
        return search_once, [(place,)] * place.study.count
    return run_trial, [(place, settings) for settings in place.study.trials()]


def _say(text: str) -> None:
    """A line for whoever waits."""
    print(shown(text), file=sys.stderr, flush=True)


def _refuse_another(place: Place, cohort: Cohort) -> None:
    path = place.out / "study.json"
    if path.is_file() and read_json(path, StudyRecord, _ANEW)["identity"] != place.identity:
        names = ", ".join(str(file) for file in cohort.paths)
        raise UserError(
            f"{place.out} holds trials of another recipe, validation or other swept keys, or of another cohort than "
            f"{names} is now, which cannot be compared with these; give another -o, or delete the folder"
        )
