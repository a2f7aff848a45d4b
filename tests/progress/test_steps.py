from __future__ import annotations

import doctest
import io
import sys

import pytest

from medssl.progress import steps
from medssl.progress.steps import Tenths, counting, tracked

QUIET_S = 5.0


@pytest.fixture(autouse=True)
def _as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "QUIET_S", QUIET_S)


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_long_step_gets_a_line_in_a_log_at_every_tenth_with_the_time_left(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    line = Tenths("scanning", 600, clock)
    for _ in range(600):
        clock.now += 2.7
        line.advance()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "scanning: 60 of 600 (10 %), about 24 min left"
    assert lines[-1] == "scanning: 600 of 600 (100 %), after 27 min"


def test_a_short_step_says_nothing_and_one_that_drags_on_begins_then(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    line = Tenths("reading scans", 10, clock)
    for second in (0.1, 0.2, 0.3, QUIET_S + 1, QUIET_S + 2):
        clock.now = second
        line.advance()
    assert capsys.readouterr().err.splitlines() == [
        "reading scans: 4 of 10 (40 %), about 9 s left",
        "reading scans: 5 of 10 (50 %), about 7 s left",
    ]


def test_items_are_passed_on_with_lines_in_a_log_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(steps, "QUIET_S", 0.0)
    assert list(tracked(range(2), "cells", 2)) == [0, 1]
    assert [text.split(",")[0] for text in capsys.readouterr().err.splitlines()] == [
        "cells: 1 of 2 (50 %)",
        "cells: 2 of 2 (100 %)",
    ]
    assert list(tracked(range(2), "cells", 2, show=False)) == [0, 1]
    assert capsys.readouterr().err == "", "a quiet step is silent"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with counting("reading scans", 3) as advance:
        for _ in range(3):
            advance()
    assert "3/3" in screen.getvalue()
    assert " of 3 (" not in screen.getvalue()


def test_the_examples_are_true():
    results = doctest.testmod(steps)
    assert (results.failed, results.attempted) == (0, 1)
