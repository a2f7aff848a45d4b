from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from medssl.errors import UserError
from medssl.experiments.study.slurm import MOST, array_script


def test_one_task_per_trial_with_its_resources(tmp_path: Path):
    text = array_script("my study.yaml", tmp_path / "out", 18, data=tmp_path / "m.csv", at_once=4, hours=30.5)
    assert text.startswith("#!/bin/bash\n")
    for wanted in ("--array=0-17%4", "--cpus-per-task=8", "--gpus-per-task=1", "--time=1-06:30:00", "--requeue"):
        assert f"#SBATCH {wanted}\n" in text
    assert text.splitlines()[-1].startswith("srun ")
    assert f"-m medssl study run 'my study.yaml' -o {tmp_path / 'out'} --array --of 18" in text
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_more_trials_than_an_array_holds_share_tasks(tmp_path: Path):
    text = array_script("s.yaml", tmp_path, 5000, gpus=0)
    assert f"--array=0-{MOST - 1}%8" in text
    assert f"--of {MOST}" in text
    assert "gpus" not in text


def test_a_path_never_becomes_a_line_of_the_script(tmp_path: Path):
    text = array_script("s.yaml", tmp_path / "a b%c", 3)
    assert f"#SBATCH --output='{tmp_path}/a b%%c'/slurm-%A_%a.log\n" in text
    for odd in ({"out": tmp_path / "a\n#SBATCH --uid=0"}, {"data": tmp_path / "m\r.csv"}, {"study": "s\n.yaml"}):
        with pytest.raises(UserError, match="a line break or another control character"):
            array_script(**{"study": "s.yaml", "out": tmp_path, "count": 3, **odd})


def test_impossible_resources_are_one_sentence(tmp_path: Path):
    for hours in (0, -1, float("nan"), float("inf"), 1e9):
        with pytest.raises(UserError, match=f"and {re.escape(str(hours))} hours"):
            array_script("s.yaml", tmp_path, 3, hours=hours)
    with pytest.raises(UserError, match="one GPU or none"):
        array_script("s.yaml", tmp_path, 3, gpus=2)
