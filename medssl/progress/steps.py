"""How far a long step is, on stderr: a bar on a terminal, and in a log a plain line at every tenth."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
QUIET_S = 5.0
"""Seconds for which a step is silent in a log: most are over by then."""


class Tenths:
    """Plain lines for a log: "scanning: 120 of 600 (20 %), about 11 min left", one at every tenth of a step.

    A step that is over within ``QUIET_S`` prints nothing. clock: seconds.
    """

    def __init__(self, title: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.total, self.clock = title, total, clock
        self.done, self.told, self.began = 0, 0, clock()

    def advance(self) -> None:
        """One more of the total is done."""
        self.done += 1
        tenth, seconds = self.done * 10 // max(1, self.total), self.clock() - self.began
        if tenth <= self.told or seconds < QUIET_S:
            return
        self.told = tenth
        left = seconds / self.done * (self.total - self.done)
        end = f"after {duration(seconds)}" if self.done >= self.total else f"about {duration(left)} left"
        print(f"{self.title}: {self.done} of {self.total} ({10 * tenth} %), {end}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42.4), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def counting(title: str, total: int, show: bool = True) -> Iterator[Callable[[], None]]:
    """What is called after each of ``total`` pieces: a bar on a terminal, lines in a log, nothing unless ``show``."""
    if not (show and total):
        yield lambda: None
        return
    if not sys.stderr.isatty():
        yield Tenths(title, total).advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def tracked(items: Iterable[Item], title: str, total: int, show: bool = True) -> Iterator[Item]:
    """The items one by one, counted as each is finished; see ``counting``."""
    with counting(title, total, show) as advance:
        for item in items:
            yield item
            advance()
