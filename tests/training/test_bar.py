from __future__ import annotations

import io
import sys

import pytest

from medssl.training.bar import Bar


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_plain_line_every_tenth(capsys: pytest.CaptureFixture[str]):
    with Bar("simclr", 8) as bar:
        for step in range(1, 41):
            bar(step, 40, {"loss": 0.5, "lr": 0.1})
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 10
    assert lines[0].startswith("simclr: 4/40 steps  loss 0.500")
    assert all(line.endswith(" left") for line in lines[:-1])
    assert lines[-1].startswith("simclr: 40/40 steps")
    assert " left" not in lines[-1]


def test_the_bar_is_silent_where_it_is_told_to_be(capsys: pytest.CaptureFixture[str]):
    with Bar("simclr", 8, show=False) as bar:
        bar(1, 10, {"loss": 0.5})
        bar(2, 10, {"loss": 0.25, "lr": 0.1})
    assert capsys.readouterr() == ("", "")
    assert bar.progress.tasks[0].completed == 2


def test_the_bar_shows_steps_losses_and_remaining_time_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "200")
    with Bar("bigan", 8) as bar:
        for step in range(1, 4):
            bar(step, 10, {"loss_encoder": 1.5, "loss_critic": 0.125, "lr": 0.1})
    shown = screen.getvalue()
    assert "3/10 steps" in shown
    assert "loss_encoder 1.500  loss_critic 0.125" in shown
    assert "left" in shown


def test_a_hidden_bar_still_says_its_sentences_on_standard_error(capsys: pytest.CaptureFixture[str]):
    with Bar("simclr", 8, show=False) as bar:
        bar.say("step 3: collapse [0.01], " + "long " * 60 + "end")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("medssl: step 3: collapse [0.01], long")
    assert err.count("\n") == 1, "a sentence is one line whatever the width of the screen"
