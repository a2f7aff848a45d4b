"""Processes that begin with everything imported: half a second each, where a new interpreter needs eight."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

IMPORTS = [
    "medssl.stages",
    "medssl.training.session",
    "medssl.report.build",
    "matplotlib.pyplot",
    "tests.training.killed",
    "tests.training.ranks",
]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(IMPORTS)


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """``work(*arguments)`` in a process of its own, which leads a group as one that a shell started."""
    child = processes.Process(target=_lead, args=(work, arguments))
    child.start()
    return child


def finished(*children: BaseProcess, timeout: float = 300) -> list[int]:
    """Exit codes of processes; negative: the signal that ended one. One that hangs is an error."""
    for child in children:
        child.join(timeout)
    if hanging := [child for child in children if child.exitcode is None]:
        for child in hanging:
            child.kill()
        raise AssertionError("a process hangs")
    return [child.exitcode or 0 for child in children]


def run_two(work: Callable[..., None], *arguments: Any) -> None:
    """``work`` in two processes that torch takes for two of one torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}  # fmt: skip
    ranks = [start(_at, places | {"RANK": rank, "LOCAL_RANK": rank}, work, arguments) for rank in ("0", "1")]
    assert finished(*ranks) == [0, 0], "what they said is in the output of this test"


def _lead(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    os.setsid()
    torch.set_num_threads(1)
    work(*arguments)


def _at(places: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= places
    work(*arguments)
