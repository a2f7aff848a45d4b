"""Ctrl-C on a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from medssl import stages
from medssl.training.checkpoints import list_checkpoints
from tests.conftest import tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("monitors.every=0", "monitors.map=false")


def test_ctrl_c_in_a_training_says_how_to_go_on_and_it_does(cohort: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "medssl", "pretrain", "simclr", *tiny_recipe(cohort, run), *QUICK,
               "trainer.epochs=8", "--quiet"]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log, until = run / "logs" / "train.jsonl", time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if log.is_file() and len(log.read_text().splitlines()) >= 4:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    step = int(list_checkpoints(run / "checkpoints")[-1].stem.removeprefix("step-"))
    said = f"stopped by hand; continue after step {step} with `medssl pretrain --resume {run}`"
    assert err.splitlines()[-1] == f"medssl: {said}"
    assert "Traceback" not in err
    assert 3 <= step < 24
    assert not (run / "encoder.safetensors").exists()
    assert not list(run.rglob("*.tmp"))
    stages.pretrain(resume=run, progress=False, page=False)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, 25))
    assert (run / "encoder.safetensors").is_file()
