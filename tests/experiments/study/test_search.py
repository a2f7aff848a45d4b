"""Proposals of Optuna, with trials that answer at once; the trial itself is tested in test_run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from medssl import stages
from medssl.errors import UserError
from medssl.experiments.study import search
from medssl.experiments.study.run import open_study, prepare, run_task
from medssl.experiments.study.table import tabulate
from medssl.experiments.study.trial import Place
from tests.experiments.study.conftest import SEARCH, write

SPACE = {
    "method.temperature": {"low": 0.05, "high": 1.0, "log": True},
    "data.batch_size": {"low": 8, "high": 32, "step": 8},
    "encoder.hidden": [[8, 4], [16]],
}


def needs_optuna() -> Any:
    return pytest.importorskip("optuna", reason="searches need optuna: pip install 'medssl[tune]'")


def answer(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """A trial without training: its score is known, and seeds move it."""
    value = abs(settings["method.temperature"] - 0.3) + 0.01 * settings.get("trainer.seed", 0)
    return {"settings": settings, "scores": {"challenge": value}}


def half_stopped(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """The second seed stops."""
    return {"settings": settings, "stopped": "NaN"} if settings["trainer.seed"] else answer(place, settings)


def searched(place: Place, calls: int) -> list[dict[str, Any]]:
    return [r for _ in range(calls) for r in search.search_once(place) if r is not None]


@pytest.fixture
def place(tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    needs_optuna()
    monkeypatch.setattr(search, "run_trial", answer)
    return prepare(
        write(tmp_path / "s.yaml", grid=None, search=SEARCH | {"trials": 14, "space": SPACE}),
        tmp_path / "out",
        measures,
    )


def test_as_many_proposals_as_asked_for_each_in_its_space(place: Place):
    records = searched(place, 20)
    assert len(records) == 14
    for record in records:
        settings = record["settings"]
        assert 0.05 <= settings["method.temperature"] <= 1.0
        assert settings["data.batch_size"] in (8, 16, 24, 32)
        assert settings["encoder.hidden"] in ([8, 4], [16])
        place.study.recipe_of(settings)
    told = search.open_journal(place)
    assert sorted(t.value for t in told.trials) == sorted(r["scores"]["challenge"] for r in records)
    assert told.direction.name == "MINIMIZE"


def test_a_killed_proposal_is_taken_over_and_the_search_stays_the_same(
    place: Place, tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = [r["settings"] for r in searched(place, 14)]
    other = prepare(tmp_path / "s.yaml", tmp_path / "again", measures)
    first = [r["settings"] for r in searched(other, 11)]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        search.search_once(other)
    assert search.open_journal(other).trials[-1].state.name == "RUNNING"
    monkeypatch.setattr(search, "run_trial", answer)
    assert first + [r["settings"] for r in searched(other, 14)] == whole
    assert {t.state.name for t in search.open_journal(other).trials} == {"COMPLETE"}
    assert not list(other.out.glob(".*.lock"))


def test_a_process_killed_while_it_asked_leaves_no_gap(place: Place):
    study = search.open_journal(place)
    study.ask()  # without values, as between two lines of the journal
    assert len(searched(place, 16)) == 14
    states = [t.state.name for t in search.open_journal(place).trials]
    assert (states.count("FAIL"), states.count("COMPLETE")) == (1, 14)


def test_optuna_hears_the_mean_of_the_seeds_and_of_failures(
    tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch
):
    needs_optuna()
    path = write(tmp_path / "s.yaml", grid=None, search=SEARCH | {"seeds": [0, 4], "trials": 2})
    place = prepare(path, tmp_path / "out", measures)
    monkeypatch.setattr(search, "run_trial", answer)
    records = search.search_once(place)
    assert [r["settings"]["trainer.seed"] for r in records if r] == [0, 4]
    mean = sum(r["scores"]["challenge"] for r in records if r) / 2
    assert search.open_journal(place).trials[0].value == pytest.approx(mean)
    monkeypatch.setattr(search, "run_trial", half_stopped)
    search.search_once(place)
    assert search.open_journal(place).trials[1].state.name == "FAIL"
    assert search.search_once(place) == []


def test_an_r2_is_maximised_and_another_space_begins_anew(place: Place, tmp_path: Path, measures: Path):
    searched(place, 3)
    narrow = SEARCH | {"space": SPACE | {"encoder.hidden": [[4]]}}
    other = prepare(write(tmp_path / "s.yaml", grid=None, search=narrow, score="r2_external"), place.out, measures)
    study = search.open_journal(other)
    assert (len(study.trials), study.direction.name) == (0, "MAXIMIZE")
    assert len(search.open_journal(place).trials) == 3


def test_real_trials_end_in_a_table(tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch):
    needs_optuna()
    monkeypatch.setattr(stages, "build_report", lambda folder: folder)
    path, out = (
        write(tmp_path / "s.yaml", grid=None, search=SEARCH | {"trials": 2, "sampler": "random"}),
        tmp_path / "o",
    )
    records = run_task(path, out, 0, data=measures) + run_task(path, out, 1, data=measures)
    assert run_task(path, out, 1, data=measures) == []
    found = tabulate(open_study(out))
    assert {r["name"] for r in records if r} == {r["name"] for r in found["trials"]}
    assert found["best"]["score"] == min(r["scores"]["challenge"] for r in records if r)
    values = [t.value for t in search.open_journal(open_study(out)).trials]
    assert values == [r["scores"]["challenge"] for r in records if r]


def test_without_optuna_a_search_says_what_to_install(tmp_path: Path, measures: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = write(tmp_path / "s.yaml", grid=None, search=SEARCH)
    with pytest.raises(UserError, match=r"pip install 'medssl\[tune\]'"):
        prepare(path, tmp_path / "out", measures)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["{garbage\n", "[]\n", "{}\n"])
def test_a_damaged_journal_is_named_with_what_to_do_and_can_be_made_anew(place: Place, damage: str):
    before = searched(place, 2)
    journal = place.out / "optuna.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], damage, *lines[1:]]))
    with pytest.raises(UserError, match=r"optuna\.journal is damaged .*; delete it"):
        search.open_journal(place)
    journal.unlink()
    assert searched(place, 2) == before
