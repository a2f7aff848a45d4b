"""Trainings over several processes: each on its share of the cores and on one GPU, all ended with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from medssl.data.loading.pool import die_with
from medssl.progress.steps import duration, tracked


def spread(
    work: Callable[..., Any],
    plan: Sequence[tuple[Any, ...]],
    jobs: int,
    *,
    progress: bool,
    title: str,
    threads: int = 1,
    names: Sequence[str] = (),
) -> list[Any]:
    """``[work(*arguments) for arguments in plan]`` by ``jobs`` fresh processes, with a bar; answers in order.

    work: a module-level function. threads: of torch in each process. names: what a log calls each call, which gets a
    line there when it begins and when it ends; only its number where there are none.
    Where the machine has GPUs, process k sees GPU k modulo their number. The first exception ends the whole and is
    raised here: nothing new begins, and what runs is interrupted as by Ctrl-C and waited for, so that a training leaves
    a checkpoint.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read by the processes that are started below
    context = multiprocessing.get_context("spawn")
    started, stop = context.Value("i", 0), context.Event()
    before = set(multiprocessing.active_children())
    answers: dict[int, Any] = {}
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_set_up, initargs=(os.getpid(), started, stop, gpus())
    ) as pool:
        with _deaf_children():
            labelled = zip(plan, _labels(len(plan), title, names, progress), strict=True)
            waiting = {pool.submit(_guarded, work, call, label): place for place, (call, label) in enumerate(labelled)}
        done = as_completed(waiting)
        try:
            for future in tracked(done, title, len(plan), progress):
                with suppress(_Refused):
                    answers[waiting[future]] = future.result()
        except BaseException:
            stop.set()
            _interrupt(set(multiprocessing.active_children()) - before)
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if len(answers) < len(plan):
        raise KeyboardInterrupt
    return [answers[place] for place in range(len(plan))]


def _labels(number: int, title: str, names: Sequence[str], progress: bool) -> list[str]:
    """What the lines of a log call every piece of work; "" where there is a bar, or silence is asked for."""
    if not progress or sys.stderr.isatty():
        return [""] * number
    return [f"{title}: {k + 1} of {number}{f' ({names[k]})' if names else ''}" for k in range(number)]


class _Refused(Exception):
    """Work that was handed out after the whole was stopped."""


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start inside ignore Ctrl-C until they are set up, instead of dying in the middle of an import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        with suppress(OSError, TypeError):
            os.kill(process.pid, signal.SIGINT)  # type: ignore[arg-type]


def gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may say for one GPU of each that this process sees; empty without GPUs."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = [str(k) for k in range(count)] if given is None else [name.strip() for name in given.split(",")]
    return names[:count]


_state: dict[str, Any] = {"stop": None, "working": False}
"""Of a worker process: the event after which nothing begins, and whether there is work that Ctrl-C should reach."""


def _set_up(parent: int, started: Any, stop: Any, devices: Sequence[str]) -> None:
    """Die with the parent, see one GPU, and take Ctrl-C as the end of the work at hand and of all further work."""
    die_with(parent)
    _state["stop"] = stop
    signal.signal(signal.SIGINT, _on_interrupt)
    with started.get_lock():
        place = started.value
        started.value += 1
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]


def _on_interrupt(number: int, frame: Any) -> None:
    if _state["working"]:
        _state["working"] = False  # once: a terminal sends Ctrl-C to all processes, and the parent passes it on
        raise KeyboardInterrupt


def _guarded(work: Callable[..., Any], arguments: tuple[Any, ...], label: str = "") -> Any:
    """``work(*arguments)``, unless the whole was stopped: the pool hands out work that it cannot take back.

    label: what a log calls it, which says when it begins and ends; "" for silence.
    """
    if _state["stop"].is_set():
        raise _Refused
    _state["working"] = True
    began = time.monotonic()
    try:
        if label:
            print(f"{label} begins", file=sys.stderr, flush=True)
        answer = work(*arguments)
        if label:
            print(f"{label} ended after {duration(time.monotonic() - began)}", file=sys.stderr, flush=True)
        return answer
    except BaseException:
        _state["stop"].set()  # at once, so that this process does not begin the next one
        raise
    finally:
        _state["working"] = False
