"""The command in this process, and what a failed one may say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl import cli

Told = tuple[int, str, str]


@pytest.fixture
def medssl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """The command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["medssl", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return run


def one_sentence(told: Told) -> str:
    """The sentence of a failed command, which is all that it says."""
    status, _, err = told
    assert status != 0
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("medssl: error: ")
    return lines[0].removeprefix("medssl: error: ")


def left_in(folder: Path) -> list[str]:
    """Everything below a folder, temporaries too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
