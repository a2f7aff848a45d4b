"""Trainings over several processes: each on its share of the cores and on one GPU, all ended with their parent."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from medssl.data.pool import die_with


def spread(
    work: Callable[..., Any],
    plan: Sequence[tuple[Any, ...]],
    jobs: int,
    *,
    progress: bool,
    title: str,
    threads: int = 1,
) -> list[Any]:
    """``[work(*arguments) for arguments in plan]`` by ``jobs`` fresh processes, with a bar; answers in order.

    work: a module-level function. threads: of torch in each process. Where the machine has GPUs, process k sees GPU
    k modulo their number. The first exception ends the whole and is raised here; what runs is not waited for.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the processes that are started below
    context = multiprocessing.get_context("spawn")
    started = context.Value("i", 0)
    answers: dict[int, Any] = {}
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_set_up, initargs=(os.getpid(), started, gpus())
    ) as pool:
        waiting = {pool.submit(work, *arguments): place for place, arguments in enumerate(plan)}
        done = as_completed(waiting)
        hidden = not (progress and os.isatty(2))
        try:
            for future in track(done, title, total=len(plan), disable=hidden, console=Console(stderr=True)):
                answers[waiting[future]] = future.result()
        except BaseException:
            with suppress(Exception):
                pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [answers[place] for place in range(len(plan))]


def gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may say for one GPU of each that this process sees; empty without GPUs."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = [str(k) for k in range(count)] if given is None else [name.strip() for name in given.split(",")]
    return names[:count]


def _set_up(parent: int, started: Any, devices: Sequence[str]) -> None:
    """Die with the parent, and see one GPU."""
    die_with(parent)
    with started.get_lock():
        place = started.value
        started.value += 1
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
