"""Commands that read what other commands wrote, and which files of the world each of them opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.attacks.world import Told, World, medssl

READERS: Mapping[str, tuple[str, ...]] = {
    "check": ("cohort", "check", "cohort/manifest.csv"),
    "scan": ("cohort", "scan", "cohort", "-o", "scanned.csv"),
    "split": ("cohort", "split", "cohort/manifest.csv", "-o", "split.csv"),
    "cache": ("cohort", "cache", "cohort/manifest.csv", "--spacing", "8", "--shape", "24", "--workers", "1", "--quiet"),
    "print": ("pretrain", "my.yaml", "--print"),
    "pretrain": ("pretrain", "my.yaml", "output=new", "trainer.epochs=1"),
    "resume": ("pretrain", "--resume", "stopped"),
    "resume finished": ("pretrain", "--resume", "run"),
    "embed": ("embed", "run", "cohort/manifest.csv", "-o", "features.csv"),
    "embed z": ("embed", "run", "cohort/manifest.csv", "-o", "features.csv", "--projection"),
    "score": ("score", "run", "--no-references", "--resamples", "10"),
    "score references": ("score", "run", "--resamples", "0"),
    "score table": ("score", "run/features.csv", "-o", "scored", "--no-references", "--resamples", "10"),
    "report": ("report", "run"),
    "openbhb score": ("openbhb", "score", "run/features.csv"),
    "openbhb export": ("openbhb", "export", "roi", "-o", "exported"),
    "openbhb check": ("openbhb", "check", "submission"),
    "study run": (
        "study",
        "run",
        "study.yaml",
        "--data",
        "regions.csv",
        "-o",
        "study",
        "--task",
        "0",
        "--of",
        "1",
        "--quiet",
    ),
    "study table": ("study", "table", "study"),
    "benchmark": ("benchmark", "openbhb", "--preset", "preset.yaml", "--data", "regions.csv", "-o", "bench"),
}
HEAVY = frozenset({"openbhb score", "openbhb check", "study run", "benchmark"})
"""Seconds each: in the slow tests alone."""
_UNSEEN: Mapping[str, tuple[str, ...]] = {  # safetensors are opened outside Python
    "run/encoder.safetensors": ("embed", "score", "report", "resume finished"),
    "run/projection.safetensors": ("embed z",),
    "roi/encoder.safetensors": ("openbhb export",),
    "roi/projection.safetensors": ("openbhb export",),
}

_opened: list[str] | None = None


def _notice(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | os.PathLike | bytes):
        _opened.append(os.fsdecode(arguments[0]))


@contextmanager
def noticing() -> Iterator[list[str]]:
    """Paths of the files that Python opens meanwhile."""
    global _opened
    if _notice not in _hooked:
        sys.addaudithook(_notice)
        _hooked.append(_notice)
    _opened = opened = []
    try:
        yield opened
    finally:
        _opened = None


_hooked: list[Callable[..., None]] = []


def run(reader: str) -> Told:
    """The command, in the working folder."""
    return medssl(*READERS[reader])


def opened_by(reader: str, world: World) -> set[Path]:
    """Files of the world that a command opens, relative to its home; the command itself must succeed."""
    with noticing() as opened:
        told = run(reader)
    assert told.status == 0, (reader, told)
    home = world.home.resolve()
    paths = {Path(os.path.realpath(name)) for name in opened}
    inside = {path.relative_to(home) for path in paths if path.is_relative_to(home)}
    extra = {Path(name) for name, readers in _UNSEEN.items() if reader in readers}
    return (inside | extra) & set(world.files())
