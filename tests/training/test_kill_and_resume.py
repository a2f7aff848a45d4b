"""A run that was killed anywhere and continued leaves the same files as one that was never interrupted."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny_recipe
from tests.training.killed import artefacts, report_of, train

WITH_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
slow = pytest.mark.slow
BOARD = [f"trainer.tensorboard={str(WITH_TENSORBOARD).lower()}"]
MORE = [
    "trainer.epochs=5",
    "trainer.checkpoint_steps=2",
    "monitors.every=1",
    "monitors.map=true",
    "optim.lr=0.01",
    *BOARD,
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def recipe(cohort: Path, place: Path) -> list[str]:
    """15 steps in 5 epochs, a checkpoint every 2 steps, a map after every epoch; always in the same folder."""
    return ["exponential", *tiny_recipe(cohort, place / "run"), *MORE]


@pytest.fixture(scope="module")
def whole(recipe: list[str], place: Path) -> dict[str, Any]:
    """The files of a run that was not interrupted."""
    assert train(recipe) == 0
    shutil.move(place / "run", place / "whole")
    return artefacts(place / "whole")


@pytest.fixture
def run(place: Path) -> Iterator[Path]:
    yield place / "run"
    shutil.rmtree(place / "run", ignore_errors=True)


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def test_the_run_has_something_to_lose(whole: dict[str, Any]) -> None:
    assert {"logs/map-epoch0001.csv", "logs/map-epoch0005.png", "logs/messages.jsonl", "scans.csv"} <= whole.keys()
    assert b"collapse" in whole["logs/messages.jsonl"], "an alarm whose count a killed run must remember"
    assert len(whole) >= 22


@pytest.mark.parametrize(
    "where",
    [
        "in an epoch",
        pytest.param("after a checkpoint", marks=slow),  # as "in an epoch", with no step to repeat
        "in a checkpoint",
        "in a row of a log",
        pytest.param("in a map", marks=slow),  # one half-written file in an epoch is enough
        "between a map and its picture",
        pytest.param("in the likeness", marks=slow),  # between the last step and the encoder, as "after the encoder"
        "after the encoder",
    ],
)
def test_a_run_killed_anywhere_and_continued_is_the_same(
    where: str, recipe: list[str], run: Path, whole: dict[str, Any]
) -> None:
    assert train(recipe, where) == -signal.SIGKILL
    assert train(recipe, resume=run) == 0
    assert differing(artefacts(run), whole) == []


def test_the_report_of_a_run_that_was_killed_while_it_was_made_is_the_same(
    recipe: list[str], run: Path, whole: dict[str, Any], place: Path
) -> None:
    assert train(recipe, "in the report", page=True) == -signal.SIGKILL
    assert not (run / "report.html").exists()
    assert train(recipe, resume=run, page=True) == 0
    assert differing(artefacts(run), whole) == ["report.html"], "the other run has none yet"
    assert report_of(run, place) == report_of(place / "whole", place)


def test_two_kills_one_of_them_while_it_goes_back(recipe: list[str], run: Path, whole: dict[str, Any]) -> None:
    assert train(recipe, "in an epoch") == -signal.SIGKILL
    assert train(recipe, "while it goes back", run) == -signal.SIGKILL
    assert train(recipe, "late", run) == -signal.SIGKILL
    assert train(recipe, resume=run) == 0
    assert differing(artefacts(run), whole) == []


def test_a_run_killed_before_its_first_checkpoint_is_started_again(
    recipe: list[str], run: Path, whole: dict[str, Any]
) -> None:
    assert train(recipe, "before the first checkpoint") == -signal.SIGKILL
    assert train(recipe) == 0
    assert differing(artefacts(run), whole) == []


def test_ctrl_c_is_no_other_end(recipe: list[str], run: Path, whole: dict[str, Any]) -> None:
    assert train(recipe, "by Ctrl-C") == 130
    assert train(recipe, resume=run) == 0
    assert differing(artefacts(run), whole) == []


def test_the_comparison_sees_monitors_that_forget_and_files_it_does_not_know(
    recipe: list[str], run: Path, whole: dict[str, Any]
) -> None:
    assert train(recipe, "in an epoch") == -signal.SIGKILL
    assert train(recipe, resume=run, forgetful=True) == 0
    lost = differing(artefacts(run), whole)
    assert {"logs/messages.csv", "logs/messages.jsonl"} <= set(lost)
    assert any(name.startswith("logs/map-epoch") for name in lost)
    (run / "logs" / "new.json").write_text("{}")
    with pytest.raises(AssertionError, match=r"logs/new\.json"):
        artefacts(run)
