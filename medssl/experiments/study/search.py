"""Proposals of a search by Optuna, whose journal in the study's folder many processes and array tasks share."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from medssl.documents.json_file import parse_json
from medssl.errors import BusyError, UserError
from medssl.experiments.study.plan import SEED, Range, Search, Settings, dimension
from medssl.experiments.study.trial import Place, run_trial
from medssl.files import exclusive, no_room, said

_WAIT_S = 300.0
_JOURNAL = "optuna.journal"
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
"""What Optuna raises for a damaged line of its journal."""
_OPEN = ("RUNNING", "WAITING")


def search_once(place: Place) -> list[dict[str, Any] | None]:
    """Take over a proposal that a killed process left, or make one, train it and tell Optuna; [] where all are made.

    Returns the records of its trainings, one per seed (None: another process is at it).
    """
    study = open_journal(place)
    with ExitStack() as held:
        with turn(place.out / ".ask.lock"), said(place.out / _JOURNAL, "choose another -o"):
            taken = _left_over(place, study, held) or _ask(place, study, held)
        return [] if taken is None else _train(place, study, *taken)


def open_journal(place: Place) -> Any:
    """The Optuna study behind a search: another space, sampler or score is another one in the same journal file."""
    optuna = load_optuna()
    search = _search(place)
    parts = [place.identity, search.model_dump(exclude={"trials"}), place.study.score]
    name = f"medssl-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"
    direction = "maximize" if place.study.greater_is_better else "minimize"
    journal = place.out / _JOURNAL
    try:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    except OSError as problem:
        raise UserError(no_room(problem, journal, "choose another -o") or f"{journal}: {problem}") from problem
    except _DAMAGED as problem:
        raise UserError(
            f"{journal} is damaged ({problem}); delete it: proposals are made anew, and those "
            "that were trained are read from trials/"
        ) from problem


def distributions(search: Search) -> dict[str, Any]:
    """Optuna's form of the space; listed values are JSON texts, so that any value of a recipe may be listed."""
    optuna = load_optuna()
    made: dict[str, Any] = {}
    for key, value in search.space.items():
        one = dimension(key, value)
        if not isinstance(one, Range):
            made[key] = optuna.distributions.CategoricalDistribution([json.dumps(each) for each in one])
        elif all(isinstance(v, int) for v in (one.low, one.high, one.step or 1)):
            made[key] = optuna.distributions.IntDistribution(one.low, one.high, log=one.log, step=one.step or 1)
        else:
            made[key] = optuna.distributions.FloatDistribution(one.low, one.high, log=one.log, step=one.step)
    return made


def _left_over(place: Place, study: Any, held: ExitStack) -> tuple[int, Settings] | None:
    """A proposal that nobody is at although it was not told: its process was killed. Held until the stack closes."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name not in _OPEN or not _complete(trial, place):
            continue
        with suppress(BusyError):
            _hold(place, trial.number, held)
            if study.get_trials(deepcopy=False)[trial.number].state.name in _OPEN:  # not told in the meantime
                return trial.number, _decoded(trial.params)
    return None


def _ask(place: Place, study: Any, held: ExitStack) -> tuple[int, Settings] | None:
    """A new proposal, held until the stack closes; None where there are as many as the search asks for.

    One without values was left by a process killed while it asked. The sampler is seeded by (seed, number), so that
    proposals do not depend on which process makes them.
    """
    optuna = load_optuna()
    search, done = _search(place), 0
    for trial in study.get_trials(deepcopy=False):
        if _complete(trial, place):
            done += 1
        elif trial.state.name in _OPEN:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if done >= search.trials:
        return None
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study.sampler = kinds[search.sampler](seed=(search.seed * 1_000_003 + done) % 2**31)
    trial = study.ask(distributions(search))
    _hold(place, trial.number, held)
    return trial.number, _decoded(trial.params)


def _hold(place: Place, number: int, held: ExitStack) -> None:
    held.enter_context(exclusive(place.out / f".proposal-{number}.lock", f"proposal {number} of {place.out}"))


def _train(place: Place, study: Any, number: int, settings: Settings) -> list[dict[str, Any] | None]:
    """All seeds of a proposal; Optuna hears their mean, or that it failed, once all are there."""
    seeds = _search(place).seeds
    every = [settings | {SEED: seed} for seed in seeds] if seeds else [settings]
    records = [run_trial(place, one) for one in every]
    done = [record for record in records if record is not None]
    with said(place.out / _JOURNAL, "choose another -o"):
        _tell(place, study, number, records, done)
    return records


def _tell(place: Place, study: Any, number: int, records: list[Any], done: list[dict[str, Any]]) -> None:
    """Write into the journal what the seeds of a proposal scored, once all are there."""
    optuna = load_optuna()
    if len(done) == len(records):
        values = [record.get("scores", {}).get(place.study.score) for record in done]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(values):
            study.tell(number, statistics.fmean(numbers), skip_if_finished=True)
        else:
            study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)


def _complete(trial: Any, place: Place) -> bool:
    return set(trial.params) == set(_search(place).space)


def _decoded(params: dict[str, Any]) -> Settings:
    anew = "delete it: proposals are made anew, and those that were trained are read from trials/"
    return {
        key: parse_json(value, f"optuna.journal: {key}", anew) if isinstance(value, str) else value
        for key, value in params.items()
    }


def _search(place: Place) -> Search:
    assert place.study.search is not None
    return place.study.search


@contextmanager
def turn(lock: Path) -> Iterator[None]:
    """Hold a lock that others hold for moments only; BusyError where that takes minutes."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            held = exclusive(lock, str(lock.parent))
            held.__enter__()
            break
        except BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def load_optuna() -> Any:
    """The package, quiet; UserError that says how to install it."""
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs optuna; run `pip install 'medssl[tune]'`, or write a grid") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
