from __future__ import annotations

import multiprocessing
import os

import pytest
import torch

from medssl.benchmark import processes
from medssl.benchmark.processes import gpus, spread


def described(number: int) -> tuple[int, int, int]:
    """Square, process and threads; the number 13 is refused."""
    if number == 13:
        raise ValueError("unlucky")
    return number**2, os.getpid(), torch.get_num_threads()


def test_answers_come_in_order_from_other_processes_and_errors_come_through():
    found = spread(described, [(k,) for k in range(6)], 1, progress=False, title="squares", threads=2)
    assert [square for square, _, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {2}
    with pytest.raises(ValueError, match="unlucky"):
        spread(described, [(13,)], 1, progress=False, title="squares")


def test_processes_see_one_gpu_each_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "die_with", lambda parent: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    devices = gpus()
    started = multiprocessing.get_context("spawn").Value("i", 0)
    seen = []
    for _ in range(3):
        processes._set_up(0, started, devices)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "6", "4"]


def test_without_gpus_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
