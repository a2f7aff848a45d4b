"""A killed training, resumed, ends with the very same bits as one that was never interrupted."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from medssl import stages
from medssl.errors import UserError
from medssl.training.checkpoints import list_checkpoints
from tests.conftest import tiny_recipe
from tests.ready import finished, start
from tests.training.killed import train_here

QUIET: dict[str, Any] = {"progress": False, "page": False}

BALANCED = ["data.balance=site", "regularizers=[{name: fair_kl}, {name: variance}]"]

SMALL_BIGAN = ["method.latent=8", "method.generator_width=4", "method.critic_width=4"]
UNWATCHED = ["monitors.every=0", "monitors.map=false"]  # one case shows that probes disturb nothing


def recipe_of(method: str, manifest: Path, output: Path, workers: int = 0, more: list[str] | None = None) -> list[str]:
    """24 steps with a checkpoint every 5, which does not divide the 3 steps of an epoch."""
    return [
        *tiny_recipe(manifest, output, method),
        "trainer.epochs=8",
        "trainer.checkpoint_steps=5",
        f"data.workers={workers}",
        *(more or []),
    ]


def kill_after(process: BaseProcess, run: Path, step: int) -> int:
    """SIGKILL the whole process group once ``step`` was logged; returns the last logged step."""
    log = run / "logs" / "train.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if not process.is_alive():
            pytest.fail("training ended before it was killed")
        lines = log.read_text().splitlines() if log.is_file() else []
        if len(lines) >= step:
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
            assert finished(process) == [-signal.SIGKILL]
            return json.loads(log.read_text().splitlines()[len(lines) - 1])["step"]
        time.sleep(0.005)
    process.kill()
    pytest.fail("training did not reach the step in time")


@pytest.mark.parametrize(
    ("method", "workers", "more"),
    [
        ("exponential", 2, []),
        ("moco", 0, UNWATCHED),
        ("bigan", 0, [*SMALL_BIGAN, *UNWATCHED]),
        ("deepcluster", 0, UNWATCHED),
        ("simclr", 0, [*BALANCED, *UNWATCHED]),
        ("exponential", 0, ["trainer.micro_batch=3", "trainer.precision=bf16-mixed", *UNWATCHED]),
    ],
)
def test_a_killed_training_resumes_bit_for_bit(
    method: str, workers: int, more: list[str], cohort: Path, tmp_path: Path
) -> None:
    whole = stages.pretrain(method, *recipe_of(method, cohort, tmp_path / "whole", workers, more), **QUIET)

    broken = tmp_path / "broken"
    process = start(train_here, [method, *recipe_of(method, cohort, broken, workers, more)])
    killed_at = kill_after(process, broken, 12)
    assert killed_at < 24
    assert not (broken / "encoder.safetensors").exists()
    stages.pretrain(resume=broken, **QUIET)

    first, second = (torch.load(list_checkpoints(r / "checkpoints")[-1], weights_only=True) for r in (whole, broken))
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for key, value in first["state_dict"].items():
        assert torch.equal(value.nan_to_num(), second["state_dict"][key].nan_to_num()), key
    assert (whole / "encoder.safetensors").stat().st_size > 0
    from medssl.encoders.file import load_encoder, weights_digest

    assert weights_digest(load_encoder(whole / "encoder.safetensors")) == weights_digest(
        load_encoder(broken / "encoder.safetensors")
    )
    for states in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        for slot in states[0]["state"]:
            for name, value in states[0]["state"][slot].items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1]["state"][slot][name]))
    steps = [json.loads(line)["step"] for line in (broken / "logs" / "train.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 25)), "the log of a resumed run has every step once"


def test_resuming_a_finished_run_changes_nothing(cohort: Path, tmp_path: Path) -> None:
    run = stages.pretrain("simclr", *tiny_recipe(cohort, tmp_path / "run"), "trainer.epochs=2", **QUIET)
    before = (run / "encoder.safetensors").read_bytes()
    stages.pretrain(resume=run, **QUIET)
    from medssl.encoders.file import load_encoder, weights_digest

    (tmp_path / "copy.safetensors").write_bytes(before)
    assert weights_digest(load_encoder(run / "encoder.safetensors")) == weights_digest(
        load_encoder(tmp_path / "copy.safetensors")
    )


def test_resuming_on_another_cohort_is_refused(cohort: Path, tmp_path: Path) -> None:
    copy = cohort.parent / "other.csv"
    copy.write_text(cohort.read_text())
    run = stages.pretrain("simclr", *tiny_recipe(copy, tmp_path / "run"), "trainer.epochs=1", **QUIET)
    lines = copy.read_text().splitlines()
    copy.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="manifest changed"):
        stages.pretrain(resume=run, **QUIET)


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        stages.pretrain(resume=tmp_path)
