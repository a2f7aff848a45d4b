"""The Python of the README runs as it is printed, and does not take the scanner for a diagnosis."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def snippet(word: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


def features(folder: Path, diagnosis_of: str) -> None:
    """80 people at two scanners that shift all features; nothing else is in them."""
    rng = np.random.default_rng(0)
    site = np.arange(80) % 2
    sick = site if diagnosis_of == "site" else np.arange(80) // 2 % 2
    table = pd.DataFrame(rng.normal(0, 1, (80, 16)) + 3 * site[:, None], columns=[f"f{k:04d}" for k in range(16)])
    ids = {"participant_id": [f"{k:03d}" for k in range(80)], "site": site + 1, "age": 60.0}
    table.assign(**ids, diagnosis=np.where(sick, "AD", "CN")).to_csv(folder / "clinic-features.csv", index=False)


@pytest.mark.oddity("diagnosis-known-from-the-site")
def test_a_scanner_is_not_sold_as_a_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    features(tmp_path, "site")
    exec(compile(snippet("cross_val_score"), "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "1: {'CN': 40} people, so diagnosis and scanner cannot be told apart here",
        "2: {'AD': 40} people, so diagnosis and scanner cannot be told apart here",
    ]


def test_two_sites_that_have_both_are_scored_one_by_one_beside_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    features(tmp_path, "nothing")
    exec(compile(snippet("cross_val_score"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for site, line in enumerate(lines, start=1):
        found = re.fullmatch(rf"{site}: balanced accuracy (0\.\d\d), chance 0\.50, .*people", line)
        assert found is not None, line
        assert 0.25 < float(found[1]) < 0.75


def test_every_command_of_the_readme_exists_with_its_options():
    from typer.main import get_command

    from medssl.cli import app

    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"^medssl .*$", text, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        words = line.split("#")[0].split()[1:]
        command = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        wrong = [word for word in words if word.startswith("-") and word not in options]
        assert wrong == [], line
