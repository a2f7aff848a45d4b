"""Commands on the page work where the page was made, and show neither an absolute path nor a user."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from medssl.report.build import build_report
from medssl.report.checklists.claim import CLAIM
from medssl.report.checklists.known import read_known
from medssl.report.checklists.write import render
from medssl.report.commands import below, command, from_where
from tests.report.conftest import RECIPE


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder that holds runs/my run, unscored."""
    folder = tmp_path / "study" / "runs" / "my run"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE.format(method="exponential"), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"state": "training"}))
    return folder


def commands(html: str) -> list[str]:
    return [text.strip() for text in re.findall(r"(?:<code>|\n|<pre>)(medssl [^<\n#]+)", unescape(html))]


def test_commands_have_the_path_below_the_working_folder(runs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(runs.parents[1])
    html = build_report(Path("runs/my run")).read_text(encoding="utf-8")
    about_run = [text for text in commands(html) if "my run" in text]
    assert len(about_run) >= 6
    assert all("'runs/my run" in text for text in about_run), about_run
    assert "medssl score 'runs/my run'" in about_run
    assert "in the folder in which this page was made" in html
    assert str(runs.parent) not in html
    text = render(read_known(runs), CLAIM, ".md")
    assert "medssl score 'runs/my run' (commands are to be typed in the folder in which this page was made)" in text


def test_a_run_elsewhere_has_its_name_and_the_page_says_from_where(runs: Path, monkeypatch: pytest.MonkeyPatch):
    (runs.parents[1] / "other").mkdir()
    monkeypatch.chdir(runs.parents[1] / "other")
    html = build_report(runs).read_text(encoding="utf-8")
    assert "medssl score 'my run'" in commands(html)
    assert "Commands are to be typed in the folder that holds the run." in html
    assert "runs/my run" not in html


def test_the_run_itself_is_not_below_itself(runs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(runs)
    assert below(Path(".")) is None
    assert command(Path("."), "my run", "report") == "medssl report 'my run'"


def test_no_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    assert below(Path("/home/anna/runs/first")) is None
    assert below(Path("/Users/anna/runs/first")) is None
    assert below(Path("/data/runs/first")) == "data/runs/first"
    monkeypatch.setattr(Path, "home", lambda: Path("/data/people/anna"))
    assert below(Path("/data/anna/first")) is None
    assert from_where(Path("/data/anna/first")).endswith("the folder that holds the run.")


def test_a_link_to_the_working_folder_is_the_working_folder(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    link = tmp_path / "link"
    link.symlink_to(runs.parents[1], target_is_directory=True)
    monkeypatch.chdir(runs.parents[1])
    assert below(link / "runs" / "my run") == "runs/my run"
