"""Checklists and model card of a run, from Python and from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medssl import cli, stages
from medssl.errors import UserError
from tests.report.checklists.study import study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("studies") / "demo")


def test_every_checklist_and_the_card_are_written_into_one_folder(run: Path, tmp_path: Path):
    paths = stages.documents(run, tmp_path / "paper", checklists=["all"], model_card=True)
    assert [p.name for p in paths] == ["checklist-tripod-ai.md", "checklist-claim.md", "README.md"]
    assert sorted((tmp_path / "paper").iterdir()) == sorted(paths)
    again = stages.documents(str(run), str(tmp_path / "paper"), checklists=["claim", "claim"])
    assert [p.name for p in again] == ["checklist-claim.md"]


@pytest.mark.parametrize(
    ("name", "meant"), [("tripodai", "tripod-ai"), ("CLAIM2024", "claim"), ("tripod_ai", "tripod-ai"), ("", "known:")]
)
def test_an_unknown_checklist_names_the_nearest_before_anything_is_written(
    name: str, meant: str, run: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=f"unknown checklist '{name}'") as caught:
        stages.documents(run, tmp_path / "paper", checklists=["claim", name])
    assert meant in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_several_documents_do_not_go_into_one_file(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match="names one file, but 2 are written; give a folder"):
        stages.documents(run, tmp_path / "x.md", checklists=["claim"], model_card=True)
    assert list(tmp_path.iterdir()) == []


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["medssl", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_command_writes_what_it_is_asked_for_and_no_report(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, run, "--checklist", "claim", "-o", tmp_path / "c.html") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'c.html'}\n"
    assert "questions for the authors" in err
    assert command(monkeypatch, run, "--model-card", "-o", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'README.md'}\n"
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checklist", "tripod"], "did you mean 'tripod-ai'?"),
        (["--checklist", "claim", "-o", "list.docx"], "ending '.docx'"),
        (["--checklist", "all", "-o", "list.md"], "give a folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    arguments: list[str], words: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, run, *arguments) == 1
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_the_licence_that_documents_name_is_that_of_the_project():
    from medssl.report.checklists.model import LICENCE

    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    assert f'license = "{LICENCE}"' in project.read_text(encoding="utf-8")
