"""The progress bar of a training: loss, rate and remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medssl.errors import shown
from medssl.progress.steps import duration


class Bar:
    """A rich bar on stderr; a plain line every tenth where stderr is no terminal; silent where ``show`` is False."""

    def __init__(self, title: str, scans_per_step: int, show: bool = True) -> None:
        self.console = Console(stderr=True)
        self.scans, self.show = scans_per_step, show and sys.stderr.isatty()
        self.title, self.plain, self.told = title, show and not self.show, 0
        self.first, self.began = -1, 0.0  # the step that the time left is counted from
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.show,
        )
        self.task = self.progress.add_task(title, total=None, loss="", rate="")

    def __enter__(self) -> Bar:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self.progress.stop()

    def __call__(self, step: int, steps: int, row: Mapping[str, float]) -> None:
        """Show where the training stands."""
        if self.first < 0:
            self.first, self.began = step, time.monotonic()
        loss = "  ".join(f"{k} {v:.3f}" for k, v in row.items() if k.startswith("loss"))
        speed = self.progress.tasks[self.task].speed
        rate = f"{speed * self.scans:.0f} scans/s" if speed else ""
        if self.plain and steps and step * 10 // steps > self.told:
            self.told = step * 10 // steps
            gone, seconds = step - self.first, time.monotonic() - self.began
            left = f"  about {duration(seconds / gone * (steps - step))} left" if gone and step < steps else ""
            line = f"{self.title}: {step}/{steps} steps  {loss}  {rate}{left}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.progress.update(self.task, completed=step, total=steps, loss=loss, rate=rate)

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        self.console.print(f"medssl: {shown(text)}", highlight=False, markup=False, soft_wrap=True)
