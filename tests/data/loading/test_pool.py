from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl.data.loading.pool import in_order, processors


def square(x: int) -> int:
    if x < 0:
        raise ValueError(f"{x} is negative")
    return x * x


def who(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
def test_answers_come_in_the_order_of_the_jobs(workers):
    assert in_order(square, list(range(40)), workers, False, "squares") == [x * x for x in range(40)]
    assert in_order(square, [], workers, False, "squares") == []


def test_one_worker_is_this_process_and_several_are_not():
    assert set(in_order(who, [1, 2, 3], 1, False, "who")) == {os.getpid()}
    assert os.getpid() not in in_order(who, [1, 2, 3], 2, False, "who")
    assert processors() >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_a_worker_is_raised_here(workers):
    with pytest.raises(ValueError, match="-1 is negative"):
        in_order(square, [1, 2, -1, 4], workers, False, "squares")


def test_the_bar_stays_silent_where_there_is_no_terminal(capfd):
    in_order(square, [1, 2, 3], 1, True, "squares")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of the death of its parent")
def test_workers_die_with_a_main_process_that_is_killed(tmp_path):
    code = (
        "import os, sys, time, pathlib\n"
        "from medssl.data.loading.pool import in_order\n"
        "def work(k):\n"
        "    (pathlib.Path(sys.argv[1]) / str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "in_order(work, [1, 2], 2, False, 'sleep')\n"
    )
    main = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert all(runs(pid) for pid in workers)
    main.kill()
    main.wait()
    assert wait_for(lambda: not any(runs(pid) for pid in workers))


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie that nobody collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
