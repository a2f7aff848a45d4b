"""Paired timing inside one process, and peak memory of a fresh one: what every part of the speed benchmark uses."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Action = Callable[[], object]
TARGETS: dict[str, tuple[str, float]] = {
    **{f"views.{order}vs_monai": ("at least", 6) for order in ("", "paper_")},
    **{f"views.{order}bf16_vs_monai": ("at least", 10) for order in ("", "paper_")},
    **{f"views.{order}vs_nidl": ("at least", 4) for order in ("", "paper_")},
    **{f"loader.vs_persistent{what}": ("at least", 5) for what in ("", "_batches", "_workers")},
    "loader.vs_memcpy": ("at most", 1.5),
    "loader.cold_vs_monai": ("at least", 3),
    "loader.manifest_100k_s": ("at most", 5),
    "step.vs_plain": ("at least", 1.8),
    "step.adapter_overhead": ("at most", 1.05),
    "step.loss_gap": ("at most", 1),
    **{
        f"losses.{loss}{what}_vs_ntxent": ("at most", 4)
        for loss in ("thr", "exp", "yaware")
        for what in ("", "_memory")
    },
    **{f"{place}memory": ("at most", 1.3) for place in ("gradcache.", "gpu.gradcache_")},
    **{f"{place}time": ("at most", 1.6) for place in ("gradcache.", "gpu.gradcache_")},
    "gradcache.gradient_error": ("at most", 1e-5),
    "embed.vs_forward": ("at most", 1.15),
    "embed.probe_100k_gb": ("at most", 8),
}
"""What was aimed at; ratios that are not here have no target."""


@dataclass
class Part:
    """What one part of the benchmark found.

    ratios: key (``views.vs_monai``) to a ratio; how to read it stands in ``meaning``. rows: the measurements behind
    them, one mapping a line (same keys in one table). notes: what a reader must know.
    """

    title: str
    ratios: dict[str, float] = field(default_factory=dict)
    meaning: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ratio(self, key: str, value: float, meaning: str) -> None:
        """Keep a ratio and one phrase that says what it compares."""
        self.ratios[key] = value
        self.meaning[key] = meaning


def margin(key: str, value: float) -> float | None:
    """How many times better than its target a ratio is; None without a target."""
    if key not in TARGETS:
        return None
    way, target = TARGETS[key]
    return value / target if way == "at least" else target / value


def paired(actions: Mapping[str, Action], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each action in each round; the actions take turns, so that a drifting machine hits all alike."""
    for _ in range(warmup):
        for action in actions.values():
            action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            actions[name]()
            times[name].append(time.perf_counter() - began)
    return times


def ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """Median over rounds of the seconds of ``slow`` over those of ``fast``."""
    return median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def peak_memory(function: Callable[..., object], *arguments: Any) -> float:
    """MiB that a call adds to the peak resident memory of a fresh process (imports and inputs made before count not).

    ``function`` is importable, takes ``arguments`` and returns the callable to be measured.
    """
    return alone(function, *arguments)[1]


def alone(function: Callable[..., object], *arguments: Any) -> tuple[float, float]:
    """Seconds of one call in a fresh process, and ``peak_memory`` of the same call."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function: Callable[..., object], arguments: tuple[Any, ...]) -> tuple[float, float]:
    measured = function(*arguments)
    before, began = _reset_peak(), time.perf_counter()
    measured()  # type: ignore[operator]
    return time.perf_counter() - began, max(0.0, _resident_peak() - before)


def _reset_peak() -> float:
    """Start a new peak where the system can (Linux), and return the resident memory now in MiB."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass
    return _resident_peak()


def _resident_peak() -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024) if sys.platform == "darwin" else peak / 1024
