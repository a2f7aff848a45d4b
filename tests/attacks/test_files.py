"""Every file that a command opens is damaged in every way: a sentence that names it, or a result that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from zlib import crc32

import pytest

from tests.attacks.damage import BY_SUFFIX, kinds_for, suffix_of
from tests.attacks.readers import HEAVY, READERS, opened_by, run
from tests.attacks.world import Told, World

pytestmark = pytest.mark.slow

HARMLESS: Mapping[tuple[str, str, str], str] = {
    ("scan", r"cohort/images/.*", "*"): "lists scans, which check judges",
    ("split", r"cohort/images/.*", "*"): "deals with rows, not with scans",
    ("cache", r"cache/.*", "*"): "what is there already is checked where it is read, or with --verify",
    ("*", r"cohort/dataset_description\.json", "*"): "only tells whether the cohort is synthetic",
    ("resume", r"stopped/logs/.*\.csv", "*"): "written again from the .jsonl beside it",
    ("resume", r"stopped/logs/probe\.jsonl", "*"): "its one row is later than the checkpoint, and is written again",
    ("resume", r"stopped/logs/.*\.jsonl", "odd lines"): "every row is there, and the lines that are none are dropped",
    ("*", r".*\.nii\.gz", "tail"): "what follows the voxels is not read",
    ("*", r".*\.ckpt", "tail"): "an archive is read from its end, which is whole",
    ("*", r".*\.csv", "rows twice"): "every row is as good as before",
}
"""(reader, pattern of the file, kind of damage) -> why a command may go on without a word."""
FEW = 3
"""Kinds of damage per file in the fast tests; the slow ones try all."""


def attacks(reader: str, world: World, few: bool) -> Iterator[tuple[Path, str]]:
    """Files that the reader opens, one for each folder and suffix, and kinds of damage."""
    chosen: dict[tuple[object, ...], Path] = {}
    unread = {path for path in world.files() if path.suffix == ".npy"} - world.trained_on
    for path in sorted(opened_by(reader, world), key=lambda path: (path in unread, path)):
        chosen.setdefault((path.parts[0], path.suffix) if path.suffix in (".npy", ".gz") else (path,), path)
    for path in chosen.values():
        kinds = sorted(kinds_for(path))
        if few:
            start = crc32(f"{reader} {path.name}".encode()) % len(kinds)
            kinds = (kinds + kinds)[start : start + FEW]
        for kind in kinds:
            yield path, kind


def is_harmless(reader: str, path: Path, kind: str) -> bool:
    """Whether a command may take this damage without a word."""
    return any(r in (reader, "*") and k in (kind, "*") and re.fullmatch(p, str(path)) for r, p, k in HARMLESS)


def complaint(told: Told, path: Path, kind: str, reader: str, home: Path) -> str:
    """What is wrong with how a command took a damaged file, or ""."""
    text = told.out + told.err
    if told.status == -1:
        return "hangs"
    for word in ("Traceback", "run again with --debug", "the memory does not suffice"):
        if word in text:
            return f"says '{word}'"
    if (home / "unpickled").exists():
        return "ran code"
    left = list(home.rglob("*.tmp"))
    if left:
        return f"left {left[0].name}"
    named = path.name in text or str(path.parent) in text.replace(str(home) + "/", "")
    if told.status == 0:
        if reader == "report":
            named = named or path.name in (home / "run" / "report.html").read_text(encoding="utf-8")
        return "" if named or is_harmless(reader, path, kind) else "goes on without a word"
    sentences = [line for line in told.err.splitlines() if line.startswith("medssl: error: ")]
    if reader in ("check", "openbhb check") and not sentences:
        return "" if named else "fails and does not name the file"
    if len(sentences) != 1:
        return f"says {len(sentences)} sentences"
    return "" if named else "does not name the file"


def attacked(reader: str, world: World, few: bool) -> list[str]:
    """Every complaint about a reader."""
    bad = []
    for path, kind in list(attacks(reader, world, few)):
        world.restore()
        whole = (world.home / path).read_bytes()
        damaged = kinds_for(path)[kind](whole)
        if damaged == whole:
            continue
        (world.home / path).write_bytes(damaged)
        told = run(reader)
        found = complaint(told, path, kind, reader, world.home)
        if found:
            bad.append(f"{path} [{kind}]: {found}: {told.status} {(told.err or told.out)[-400:]}")
    return bad


@pytest.mark.parametrize("reader", [r for r in READERS if r not in HEAVY])
def test_a_damaged_file_is_named(reader: str, world: World):
    complaints = attacked(reader, world, few=True)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_named_for_every_kind_of_damage(reader: str, world: World):
    complaints = attacked(reader, world, few=False)
    assert not complaints, "\n".join(complaints)


def test_every_file_has_kinds_of_damage(built: World):
    """A new kind of artefact is attacked, or this fails."""
    assert {suffix_of(path) for path in built.files()} <= set(BY_SUFFIX)
