from __future__ import annotations

import errno
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch._utils import ExceptionWrapper

from medssl import __version__, cli, stages
from medssl.errors import UserError, VolumeError
from medssl.recipe.catalog import CATALOG
from tests.cli.conftest import Told, left_in, one_sentence
from tests.conftest import tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "pretrain", "embed", "score", "report", "methods", "demo",
    "cohort scan", "cohort check", "cohort synth", "cohort split", "cohort cache",
    "openbhb export", "openbhb check",
]  # fmt: skip
QUICK = ("trainer.epochs=1", "monitors.every=0", "monitors.map=false")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, medssl: Callable[..., Told]):
    status, out, err = medssl(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert "Example" in out
    assert f"medssl {command}" in out.split("Example", 1)[1]
    assert "Options:" in out


def test_help_names_every_command_and_where_to_start(medssl: Callable[..., Told]):
    status, out, _ = medssl("-h")
    assert status == 0
    assert all(f"  {name.split()[0]} " in out for name in COMMANDS)
    assert "medssl demo" in out
    assert medssl("--version")[:2] == (0, f"medssl {__version__}\n")
    bare = medssl()
    assert bare[0] != 0
    assert "Usage:" in bare[1] + bare[2]


@pytest.mark.parametrize("group", ["", "cohort", "openbhb", "benchmark", "study"])
def test_no_line_of_a_list_of_commands_is_cut(group: str, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = medssl(*group.split(), "--help")[1].split("Commands:\n")[1].splitlines()
    commands = list(itertools.takewhile(str.strip, lines))
    assert commands
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), commands


def test_the_demo_takes_its_folder_in_either_way(medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch):
    def asked(out: str | Path, **_: object) -> None:
        raise UserError(f"asked for {out}")

    monkeypatch.setattr(stages, "demo", asked)
    for arguments, place in (((), "medssl-demo"), (("a",), "a"), (("-o", "a"), "a"), (("--out", "a"), "a")):
        assert medssl("demo", *arguments)[2] == f"medssl: error: asked for {place}\n"
    assert "a and -o b both name the folder" in medssl("demo", "a", "-o", "b")[2]


def test_help_imports_nothing_heavy():
    heavy = ("torch", "monai", "pandas", "numpy", "matplotlib", "sklearn", "pytorch_lightning", "pydantic")
    code = f"import medssl.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_mistyped_key_is_refused_before_torch_is_imported():
    code = (
        "import sys; from medssl import cli; sys.argv = ['medssl', 'pretrain', 'simclr', 'trainer.epoch=3']\n"
        "try: cli.main()\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "did you mean 'trainer.epochs'?" in done.stderr
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'; see `medssl --help`"),
        (["pretrain"], "give a recipe file, a method name, or --resume RUN; see `medssl pretrain --help`"),
        (["pretrain", "simclr", "--resume", "x"], "leave out the recipe"),
        (["embed"], "Missing argument"),
        (["score", "x.csv", "--resamples", "many"], "--resamples"),
        (["embed", "x", "--batch", "0"], "--batch"),
        (["methods", "--jsn"], "--jsn"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_sentence(
    arguments: list[str], words: str, medssl: Callable[..., Told]
):
    told = medssl(*arguments)
    assert told[0] == 2
    assert words in one_sentence(told)


def test_an_unknown_failure_is_one_sentence_and_a_traceback_only_with_debug(
    medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: Any) -> None:
        raise ValueError("shapes do not\n  agree")

    monkeypatch.setattr(stages, "report", fail)
    told = one_sentence(medssl("report", "run"))
    assert told == "unexpected ValueError: shapes do not agree; run again with --debug and report the traceback"
    for arguments in (["report", "run", "--debug"], ["--debug", "report", "run"]):
        monkeypatch.setattr(sys, "argv", ["medssl", *arguments])
        with pytest.raises(ValueError, match="do not"):
            cli.main()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (MemoryError(), "the memory does not suffice"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "smaller data.batch_size"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: permission denied"),
        (OSError(errno.ENOSPC, "No space left", "/data/f"), "no space left in /data while writing f"),
        (UserError("a clear sentence"), "a clear sentence"),
    ],
)
def test_troubles_of_the_machine_have_their_own_sentence(
    problem: Exception, words: str, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: Any) -> None:
        raise problem

    monkeypatch.setattr(stages, "report", fail)
    assert words in one_sentence(medssl("report", "run"))


def test_what_a_worker_process_raises_keeps_its_own_sentence(
    medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: Any) -> None:
        try:
            raise VolumeError("scan.nii is cut off: copy it again")
        except VolumeError:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        wrapped.reraise()

    monkeypatch.setattr(stages, "report", fail)
    assert one_sentence(medssl("report", "run")) == "scan.nii is cut off: copy it again"


def test_ctrl_c_in_any_command_is_one_sentence_and_status_130(
    medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "report", stop)
    told = medssl("report", "run")
    assert told[0] == 130
    assert told[2].strip().startswith("medssl: stopped by hand")
    assert len(told[2].strip().splitlines()) == 1


def test_debug_shows_the_traceback_of_a_users_mistake():
    done = subprocess.run(
        [sys.executable, "-m", "medssl", "--debug", "methods", "mocco"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "RecipeError" in done.stderr


def test_methods_are_listed_and_shown_for_people_and_for_programs(medssl: Callable[..., Told]):
    status, out, _ = medssl("methods")
    assert status == 0
    assert all(f"  {name} " in out and entry.paper in out for name, entry in CATALOG.items())
    rows = json.loads(medssl("methods", "--json")[1])
    assert [r["name"] for r in rows] == list(CATALOG)
    assert set(rows[0]) == {"name", "family", "line", "paper"}
    card = medssl("methods", "moco")[1]
    assert all(
        word in card
        for word in (
            "Collapse:",
            "momentum = 0.99: a number from 0 to below 1",
            "arXiv 1911.05722",
            "medssl pretrain moco",
        )
    )
    told = json.loads(medssl("methods", "threshold", "--json")[1])
    assert told["fixed"] == {"loss": "threshold"}
    assert told["arguments"]["temperature"] == 0.1
    assert told["ranges"]["temperature"] == "a number from 0.001 to 100"
    assert yaml.safe_load(told["recipe"])["method"]["name"] == "threshold"


def test_the_resolved_recipe_can_be_printed_and_used_again(tmp_path: Path, medssl: Callable[..., Told]):
    out = medssl("pretrain", "moco", "optim.lr=1e-4", "--print")[1]
    assert yaml.safe_load(out)["optim"]["lr"] == 1e-4
    (tmp_path / "mine.yaml").write_text(out)
    assert medssl("pretrain", tmp_path / "mine.yaml", "--print")[1] == out
    assert left_in(tmp_path) == ["mine.yaml"]


def test_the_flow_by_commands(cohort: Path, tmp_path: Path, medssl: Callable[..., Told]):
    run = tmp_path / "run"
    status, out, _ = medssl("pretrain", "simclr", *tiny_recipe(cohort, run), *QUICK, "--quiet")
    assert status == 0
    assert out.split() == ["encoder", str(run / "encoder.safetensors"), "report", str(run / "report.html")]
    status, out, _ = medssl("embed", run, cohort, "-o", tmp_path / "f.npz", "--projection", "--quiet")
    assert (status, out) == (0, f"40 scans x 128 features -> {tmp_path / 'f.npz'}\n")
    assert medssl("embed", run, "--quiet")[:2] == (0, f"40 scans x 8 features -> {run / 'features.csv'}\n")
    status, out, _ = medssl("score", run, "--no-references", "--resamples", 20, "--quiet")
    assert status == 0
    assert "| encoder |" in out
    scores = json.loads(medssl("score", run, "--no-references", "--resamples", 20, "--json", "--quiet")[1])
    assert scores["site_chance"] == pytest.approx(1 / 5, abs=0.06)
    assert medssl("report", run, "-o", tmp_path / "page.html")[:2] == (0, f"{tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").stat().st_size > 10_000
