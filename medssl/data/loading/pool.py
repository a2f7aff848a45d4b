"""One function over many jobs by several processes, in order, with a progress bar, stopped cleanly by Ctrl-C."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import TypeVar

from medssl.progress.steps import counting

Job = TypeVar("Job")
Answer = TypeVar("Answer")
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def in_order(
    work: Callable[[Job], Answer], jobs: Sequence[Job], workers: int | None, progress: bool, title: str
) -> list[Answer]:
    """``[work(job) for job in jobs]`` by ``workers`` processes (None: one per processor; 0 or 1: this one).

    ``work`` must be a module-level function. The first exception it raises ends the whole and is raised here. After
    Ctrl-C no new job starts, and running ones finish, so that nothing is left half-done. Where the system can fork,
    workers are forks: scripts need no ``if __name__ == "__main__"``. On Linux they die with this process, however it
    ends.
    """
    count = min(len(jobs), processors() if workers is None else max(1, workers))
    if count <= 1:
        with counting(title, len(jobs), progress) as advance:
            return [_tell(work(job), advance) for job in jobs]
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_set_up, initargs=(os.getpid(),))
    chunk = max(1, min(8, len(jobs) // (4 * count)))
    try:
        answers = pool.map(work, jobs, chunksize=chunk)  # starts the forks, before the bar starts its thread
        with counting(title, len(jobs), progress) as advance:
            return [_tell(answer, advance) for answer in answers]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _set_up(parent: int) -> None:
    """Leave Ctrl-C to the main process, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)


def die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends, where the system can tell (Linux)."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # a system library without prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before this worker could ask for the signal
            os._exit(1)


def _tell(answer: Answer, advance: Callable[[], None]) -> Answer:
    advance()
    return answer
