"""The example of the README runs as it is printed."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medssl.data.synthetic import cohort as synthetic

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "quickstart.py"


def test_quickstart_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25
    coarse = replace(synthetic.grid_for(4.0), factor=1)  # drawn at 4 mm, not at 2: an eighth of the points
    monkeypatch.setattr(synthetic, "grid_for", lambda spacing: coarse)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "| encoder |" in printed
    assert "| untrained |" in printed
    assert (tmp_path / "out" / "run" / "report.html").stat().st_size > 100_000
    assert "parameters" in printed
