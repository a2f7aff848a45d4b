"""The example of the README runs as it is printed."""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path

import pytest

import medssl

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "quickstart.py"


def test_quickstart_is_short_and_runs(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25
    train, draw = medssl.pretrain, inspect.signature(medssl.synthetic_cohort)

    def drawn(out: Path, **options: object) -> Path:
        draw.bind(out, **options)
        return cohort

    monkeypatch.setattr(medssl, "synthetic_cohort", drawn)  # the tests' own, which is as coarse and drawn already
    monkeypatch.setattr(medssl, "pretrain", lambda *recipe, **more: train(*recipe, "trainer.epochs=1", **more))
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "| encoder |" in printed
    assert "| untrained |" in printed
    assert (tmp_path / "out" / "run" / "report.html").stat().st_size > 100_000
    assert "parameters" in printed
