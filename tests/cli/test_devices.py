"""``medssl pretrain`` on two devices, as somebody would start, stop and continue it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medssl import stages
from medssl.errors import UserError
from medssl.recipe.model import load_recipe
from tests.conftest import tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.timeout=60", "monitors.map=false")


def start(*arguments: str, launcher: Sequence[str] = (), **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "medssl", "pretrain", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished(*processes: subprocess.Popen[str], timeout: float = 240) -> list[str]:
    """What the processes printed; each must have succeeded."""
    told = [p.communicate(timeout=timeout) for p in processes]
    for process, (out, err) in zip(processes, told, strict=True):
        assert process.returncode == 0, out + err
    return [out for out, _ in told]


def assert_written_once(run: Path, joint: Path) -> None:
    """A finished run of six steps, with the encoder that one device gave with the joint batch."""
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    assert (run / "report.html").is_file()
    steps = [json.loads(line)["step"] for line in (run / "logs" / "train.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    got, expected = load_file(run / "encoder.safetensors"), load_file(joint / "encoder.safetensors")
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5)


def recipe(cohort: Path, run: Path, *more: str) -> list[str]:
    return ["simclr", *tiny_recipe(cohort, run), "optim.name=sgd", "optim.lr=0.01", *more]


@pytest.fixture(scope="module")
def joint(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one device with the joint batch of two."""
    run = tmp_path_factory.mktemp("joint") / "run"
    stages.pretrain(*recipe(cohort, run, "data.batch_size=8"), progress=False)
    return run


@pytest.mark.slow
def test_two_devices_give_the_run_of_one_with_the_joint_batch(cohort: Path, joint: Path, tmp_path: Path):
    run = tmp_path / "run"
    (out,) = finished(start(*recipe(cohort, run, "data.batch_size=4", *TWO)))
    assert out.count("encoder ") == 1
    assert_written_once(run, joint)


@pytest.mark.slow
def test_torchrun_may_start_the_processes(cohort: Path, joint: Path, tmp_path: Path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    (out,) = finished(start(*recipe(cohort, tmp_path / "run", "data.batch_size=4", *TWO), launcher=launcher))
    assert out.count("encoder ") == 1
    assert_written_once(tmp_path / "run", joint)


@pytest.mark.slow
def test_slurm_variables_place_two_nodes_of_one_device(cohort: Path, joint: Path, tmp_path: Path):
    places = {"SLURM_JOB_NAME": "medssl", "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
              "SLURM_NODELIST": "localhost", "SLURM_NNODES": "2", "SLURM_LOCALID": "0",
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}  # fmt: skip
    where = (*TWO, "trainer.devices=1", "trainer.nodes=2", "data.batch_size=4")
    line = recipe(cohort, tmp_path / "run", *where)
    tasks = [start(*line, SLURM_PROCID=str(n), SLURM_NODEID=str(n), **places) for n in (0, 1)]
    first, second = finished(*tasks)
    assert "encoder " in first
    assert second == ""
    assert_written_once(tmp_path / "run", joint)


def children(process: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def runs(process: int) -> bool:
    """Whether a process is there and is more than an entry that nobody has read (Z)."""
    found = subprocess.run(["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True, check=False)
    return found.stdout.strip()[:1] not in ("", "Z", "X")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "hang", "interrupt"])
def test_no_process_waits_for_ever_and_one_device_continues(how: str, cohort: Path, joint: Path, tmp_path: Path):
    run = tmp_path / "run"
    slow = ("trainer.checkpoint_steps=1", "data.batch_size=4", "monitors.every=0")
    process = start(*recipe(cohort, run, *TWO, *slow, "trainer.epochs=300"))
    until = time.monotonic() + 300
    while not list(run.glob("checkpoints/step-*.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    (helper,) = children(process.pid)
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(helper, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    _, err = process.communicate(timeout=300)
    assert process.returncode == (130 if how == "interrupt" else 1) or process.returncode == -signal.SIGKILL
    until = time.monotonic() + 20
    while runs(helper):
        assert time.monotonic() < until, "the other process ends too"
        time.sleep(0.1)
    assert "Traceback" not in err
    if process.returncode > 0:
        assert f"medssl pretrain --resume {run}" in err
    if how != "kill":
        return
    changed = run / "recipe.yaml"
    recipe_before = changed.read_text()
    with pytest.raises(UserError, match="lets you change only"):
        stages.pretrain(None, "optim.lr=1", resume=run, progress=False)
    again = start("--resume", str(run), "trainer.devices=1", "trainer.strategy=auto", "data.batch_size=8", "--quiet")
    step = len((run / "logs" / "train.jsonl").read_text().splitlines())
    until = time.monotonic() + 300
    while len((run / "logs" / "train.jsonl").read_text().splitlines()) < step + 5:
        assert again.poll() is None, again.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert changed.read_text() == recipe_before
    (entry,) = json.loads((run / "run.json").read_text())["continued"]
    assert (entry["processes"], entry["batch_size"]) == (1, 8)


def test_a_continued_run_changes_only_where_it_runs(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.ckpt").touch()
    (tmp_path / "recipe.yaml").write_text("method: simclr\n")
    with pytest.raises(UserError, match=r"override 'optim.lr=1'.*lets you change only trainer.accelerator"):
        stages.pretrain(None, "optim.lr=1", resume=tmp_path, progress=False)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("cluster/*.yaml")), ids=lambda p: p.stem)
def test_cluster_recipes_are_valid_and_name_their_devices(path: Path):
    found = load_recipe(path)
    assert found.trainer.devices == 8
    assert found.trainer.strategy in ("ddp", "fsdp")
    assert found.encoder.name == "vit" or found.trainer.strategy == "ddp"


def test_the_slurm_script_starts_a_run_and_then_continues_it(tmp_path: Path):
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "4", "SLURM_NTASKS_PER_NODE": "8(x4)"}
    run = tmp_path / "run"

    def submit(*arguments: str) -> str:
        script = ["bash", str(CONFIGS / "slurm" / "pretrain.sbatch"), *arguments]
        done = subprocess.run(script, env=variables, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.strip()

    asked = (str(run), "simclr", "data.manifest=m.csv")
    where = "trainer.nodes=4 trainer.devices=8"
    one = "--kill-on-bad-exit=1 medssl pretrain"
    assert submit(*asked) == f"{one} simclr output={run} {where} data.manifest=m.csv"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step-00000004.ckpt").touch()
    assert submit(*asked) == f"{one} --resume {run} {where}"
    assert submit(str(run)).startswith("usage: sbatch")
