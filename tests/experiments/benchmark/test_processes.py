from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from medssl.experiments.benchmark import processes
from medssl.experiments.benchmark.processes import gpus, spread


def described(number: int) -> tuple[int, int, int]:
    """Square, process and threads."""
    return number**2, os.getpid(), torch.get_num_threads()


def noted(folder: Path, number: int) -> None:
    """The first fails once the second is under way; every one leaves a note of how it began and ended."""
    if number == 0:
        (folder / "began0").touch()
        until = time.monotonic() + 60
        while not (folder / "began1").exists() and time.monotonic() < until:
            time.sleep(0.01)
        raise ValueError("unlucky")
    try:
        (folder / f"began{number}").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (folder / f"interrupted{number}").touch()
        raise


def test_an_error_interrupts_what_runs_and_nothing_new_begins(tmp_path: Path):
    began = time.monotonic()
    with pytest.raises(ValueError, match="unlucky"):
        spread(noted, [(tmp_path, k) for k in range(6)], 2, progress=False, title="notes")
    assert time.monotonic() - began < 60
    assert {p.name for p in tmp_path.iterdir()} == {"began0", "began1", "interrupted1"}


def test_ctrl_c_that_reaches_the_parent_alone_interrupts_its_processes(tmp_path: Path):
    def interrupt() -> None:
        until = time.monotonic() + 60
        while not ((tmp_path / "began1").exists() and (tmp_path / "began2").exists()) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script runs in the background
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            spread(noted, [(tmp_path, k) for k in range(1, 6)], 2, progress=False, title="notes")
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert {p.name for p in tmp_path.iterdir()} == {"began1", "began2", "interrupted1", "interrupted2"}


def test_answers_come_in_order_from_other_processes():
    found = spread(described, [(k,) for k in range(6)], 1, progress=False, title="squares", threads=2)
    assert [square for square, _, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {2}


def test_processes_see_one_gpu_each_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "die_with", lambda parent: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    devices = gpus()
    started = multiprocessing.get_context("spawn").Value("i", 0)
    seen = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    for _ in range(3):
        processes._set_up(0, started, None, devices)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "6", "4"]


def test_without_gpus_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_a_log_says_when_each_piece_of_work_begins_and_ends(capfd: pytest.CaptureFixture[str]):
    spread(described, [(1,), (2,)], 1, progress=True, title="trials", names=["sigma-2", "sigma-5"])
    lines = capfd.readouterr().err.splitlines()
    for k, name in ((1, "sigma-2"), (2, "sigma-5")):
        assert f"trials: {k} of 2 ({name}) begins" in lines
        assert any(line.startswith(f"trials: {k} of 2 ({name}) ended after ") for line in lines)
    spread(described, [(1,)], 1, progress=False, title="trials")
    assert "begins" not in capfd.readouterr().err
