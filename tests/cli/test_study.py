"""The command: what it prints, what it refuses, without training anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl.experiments.study import run as running
from tests.cli.conftest import one_sentence
from tests.experiments.study.conftest import write

MANIFEST = "participant_id,age,site,split,a_thickness\n" + "".join(
    f"p{k},{20 + k},s{k % 6},train,{k % 7}.5\n" for k in range(90)
)


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, Path]:
    """A study file and its manifest."""
    (tmp_path / "m.csv").write_text(MANIFEST)
    return write(tmp_path / "s.yaml"), tmp_path / "m.csv"


def test_slurm_prepares_the_folder_and_prints_the_script(medssl, study, tmp_path: Path):
    path, data = study
    status, out, _ = medssl("study", "slurm", path, "--data", data, "-o", tmp_path / "out", "--gpus", 0)
    assert status == 0
    assert out.startswith("#!/bin/bash\n#SBATCH --job-name=out\n#SBATCH --array=0-3%8\n")
    assert f"study run {path} -o {tmp_path / 'out'} --array --of 4 --data {data}" in out
    assert json.loads((tmp_path / "out" / "study.json").read_text())["study"]["title"] == "Toy"
    status, out, _ = medssl(
        "study", "slurm", path, "--data", data, "-o", tmp_path / "out", "--script", tmp_path / "a.sh"
    )
    assert out == f"sbatch {tmp_path / 'a.sh'}\n"


def test_an_array_task_reads_its_number_from_slurm(medssl, study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, data = study
    asked = []
    record = {"name": "temperature0.1", "scores": {"challenge": 2.34567, "mae_external": None}}

    def task(*arguments: object, **options: object) -> list[object]:
        asked.append((*arguments[2:], options["of"]))
        return [record, None, {"name": "temperature9", "stopped": "the loss is not finite"}]

    monkeypatch.setattr(running, "run_task", task)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    status, out, _ = medssl("study", "run", path, "--data", data, "-o", tmp_path / "out", "--array", "--of", 3)
    assert (status, asked) == (0, [(2, 3)])
    assert out.splitlines() == [
        "task 2: temperature0.1: challenge 2.346",
        "task 2: another process is at its trial",
        "task 2: temperature9: the loss is not finite",
    ]
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert "SLURM_ARRAY_TASK_ID is not set" in one_sentence(medssl("study", "run", path, "--array"))
    assert "leave out --jobs" in one_sentence(medssl("study", "run", path, "--task", 1, "--jobs", 2))
    assert "give --task K or --array too" in one_sentence(medssl("study", "run", path, "--of", 2))


def test_the_table_of_a_prepared_study_is_empty_but_whole(medssl, study, tmp_path: Path):
    path, data = study
    medssl("study", "slurm", path, "--data", data, "-o", tmp_path / "out")
    status, out, err = medssl("study", "table", tmp_path / "out")
    assert status == 0
    assert "No setting has all of its trials yet" in out
    assert "2 missing" in out
    assert "study.md" in err
    assert "study.png" not in err
    status, out, _ = medssl("study", "table", tmp_path / "out", "--csv")
    assert out.startswith("method.temperature,trainer.seed,mae_internal,")


def test_what_the_user_wrote_wrongly_is_one_sentence(medssl, study, tmp_path: Path):
    path, data = study
    wrong = write(tmp_path / "w.yaml", grid={"method.temprature": [1]})
    assert "did you mean 'method.temperature'" in one_sentence(
        medssl("study", "run", wrong, "--data", data, "-o", tmp_path / "no")
    )
    assert not (tmp_path / "no").exists()
    assert "no cohort is named" in one_sentence(medssl("study", "run", path, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert "there is no study 'nothing'; give a YAML file, or one of demo, search" in one_sentence(
        medssl("study", "run", "nothing")
    )
    assert "is no study folder" in one_sentence(medssl("study", "table", tmp_path))


@pytest.mark.parametrize("hours", ["nan", "inf", "1e300", "0"])
def test_hours_that_no_task_lasts_are_refused_before_a_folder_is_made(medssl, study, tmp_path: Path, hours: str):
    path, data = study
    told = medssl("study", "slurm", path, "--data", data, "-o", tmp_path / "out", "--hours", hours)
    assert "a task lasts at most 8784 hours" in one_sentence(told)
    assert not (tmp_path / "out").exists()
