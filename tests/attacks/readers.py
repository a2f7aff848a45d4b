"""Commands that read what other commands wrote, and which files of the world each of them opens."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.attacks.world import Told, World, medssl

MANIFEST = "cohort/manifest.csv"
SCANS = ("cohort/manifest.csv", "cohort/images/*.nii.gz", "cache/*/*.npy")
RUN = ("run/run.json", "run/recipe.yaml", "run/encoder.safetensors", "run/scans.csv")


class Reader(NamedTuple):
    """A command, and patterns of the files of the world that it opens.

    sample: cases of it in the fast tests. whole: pattern of the files that get every kind of damage in the slow tests;
    the others share the kinds among them, file by file of one suffix. drawn: with the pictures of the report.
    sampled: pattern of the files that the fast tests damage.
    """

    command: tuple[str, ...]
    opens: tuple[str, ...]
    sample: int = 8
    whole: str = ".*"
    drawn: bool = False
    sampled: str = ".*"


_STUDY = ("study", "run", "study.yaml", "--data", "regions.csv", "-o", "study", "--task", "0", "--of", "1", "--quiet")
_BENCHMARK = ("benchmark", "openbhb", "--preset", "preset.yaml", "--data", "regions.csv", "-o", "bench")
_CACHE = ("cohort", "cache", MANIFEST, "--spacing", "8", "--shape", "24", "--workers", "1", "--quiet")
_EMBED = ("embed", "run", MANIFEST, "-o", "features.csv")
_SCORE = ("score", "--no-references", "--resamples", "10")
_TABLE = ("run/features.csv", "run/features.csv.json", "run/scan-digests.json", "run/run.json", MANIFEST)
_REPORT = (*RUN[:3], "run/features.csv", "run/predictions.csv", "run/scores.json", "run/views.npz")
_SHOWN = ("run/logs/messages.jsonl", "run/logs/probe.csv", "run/logs/train.csv")
_EXPORT = ("openbhb", "export", "roi", "-o", "exported")
_ROI = ("roi/run.json", "roi/manifest.csv", "roi/encoder.safetensors")
_MARK = "cohort/dataset_description.json"
READERS: Mapping[str, Reader] = {
    "check": Reader(("cohort", "check", MANIFEST), (MANIFEST, "cohort/images/*.nii.gz"), 8),
    "scan": Reader(("cohort", "scan", "cohort", "-o", "scanned.csv"), ("cohort/images/*.nii.gz", _MARK), 3),
    "split": Reader(("cohort", "split", MANIFEST, "-o", "split.csv"), (MANIFEST, "cohort/images/*.nii.gz"), 12),
    "cache": Reader(_CACHE, (MANIFEST, "cache/*/*.npy"), 8),
    "print": Reader(("pretrain", "my.yaml", "--print"), ("my.yaml",), 20),
    "pretrain": Reader(("pretrain", "my.yaml", "output=new", "trainer.epochs=1"), ("my.yaml", *SCANS, _MARK), 1, ""),
    "resume": Reader(
        ("pretrain", "--resume", "stopped"),
        (*SCANS, _MARK, "stopped/*", "stopped/logs/*", "stopped/*/*2.ckpt"),
        1,
        r"stopped/logs/(train|messages)\.jsonl",
    ),
    "resume finished": Reader(("pretrain", "--resume", "run"), (*RUN, *SCANS, _MARK), 12),
    "embed": Reader(_EMBED, (*SCANS, "run/run.json", "run/encoder.safetensors"), 8),
    "embed z": Reader((*_EMBED, "--projection"), (*SCANS, "run/run.json", "run/projection.safetensors"), 4),
    "score": Reader(
        ("score", "run", "--no-references", "--resamples", "10"), ("run/encoder.safetensors", *_TABLE), 1, ""
    ),
    "score references": Reader(("score", "run", "--resamples", "0"), (*_TABLE, "cache/*/*.npy"), 1, ""),
    "score table": Reader((*_SCORE, "run/features.csv", "-o", "scored"), _TABLE, 1, r"cohort/.*|run/run\.json"),
    "report": Reader(("report", "run"), (*_REPORT, *_SHOWN), 2),
    "report with pictures": Reader(("report", "run"), (*_REPORT, *_SHOWN), 0, "", drawn=True),
    "openbhb score": Reader(("openbhb", "score", "run/features.csv", "--quick"), _TABLE[:3], 1, ""),
    "openbhb export": Reader(_EXPORT, _ROI, 4),
    "openbhb export z": Reader((*_EXPORT, "--features", "z"), (*_ROI, "roi/projection.safetensors"), 4),
    "openbhb check": Reader(("openbhb", "check", "submission"), ("submission/*",), 8),
    "study run": Reader(
        _STUDY, ("study.yaml", "regions.csv", "study/study.json", "study/train.csv", "study/trials/*/trial.json"), 1
    ),
    "study table": Reader(("study", "table", "study"), ("study/study.json", "study/trials/*/trial.json"), 8),
    "benchmark": Reader(_BENCHMARK, ("preset.yaml", "regions.csv"), 1, sampled=r"preset\.yaml"),
}
"""A command twice, where it is in the slow tests alone with something that takes seconds."""
UNREAD: Mapping[str, str] = {
    "cohort/sites.csv": "the truth of the synthetic sites, for people",
    "cohort/truth.csv": "the truth of the synthetic scans, for people",
    "run/logs/messages.csv": "for people; the report reads the .jsonl beside it",
    "run/logs/probe.jsonl": "for programs; the report reads the .csv beside it",
    "run/logs/train.jsonl": "for programs; the report reads the .csv beside it",
    "run/report.html": "for people, and written again by report",
    "run/checkpoints/*.ckpt": "of a finished run, kept for people",
    "study/trials/*/run/*": "attacked as the same files of run/",
    "study/trials/*/run/logs/*": "attacked as the same files of run/",
    "stopped/checkpoints/*1.ckpt": "older than the one that a resumed training starts from",
}
"""Patterns of files that no command opens -> why."""
_UNSEEN: Mapping[str, tuple[str, ...]] = {  # safetensors are opened outside Python
    "run/encoder.safetensors": ("embed", "score", "report", "resume finished"),
    "run/projection.safetensors": ("embed z",),
    "roi/encoder.safetensors": ("openbhb export", "openbhb export z"),
    "roi/projection.safetensors": ("openbhb export z",),
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
    return medssl(*READERS[reader].command, drawn=READERS[reader].drawn)


def fits(path: Path, pattern: str) -> bool:
    """Whether a relative path has the form of a pattern, part by part."""
    return len(path.parts) == len(Path(pattern).parts) and path.match(pattern)


@functools.cache
def files_of(reader: str, world: World) -> list[Path]:
    """Files of the world that the row of a reader names."""
    return [path for path in world.files() if any(fits(path, pattern) for pattern in READERS[reader].opens)]


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
