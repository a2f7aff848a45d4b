"""Every file that a command opens is damaged in every way: a sentence that names it, or a result that says so."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.synthetic.mark import synthetic_rows
from tests.attacks.damage import BY_SUFFIX, kinds_for, suffix_of
from tests.attacks.readers import MANIFEST, READERS, UNREAD, files_of, fits, opened_by, run
from tests.attacks.world import Told, World

HARMLESS: Mapping[tuple[str, str, str], str] = {
    ("scan", r"cohort/images/.*", "*"): "lists scans, which check judges",
    ("split", r"cohort/images/.*", "*"): "deals with rows, not with scans",
    ("cache", r"cache/.*", "*"): "what is there already is checked where it is read, or with --verify",
    ("*", r"cohort/dataset_description\.json", "*"): "tells a second time what the column dataset tells (test below)",
    ("split", r"cohort/manifest\.csv", "one column"): "deals out people, and says that without sites none is held out",
    ("resume", r"stopped/logs/train\.jsonl", "cut"): "the third of three rows is later than the checkpoint",
    ("resume", r"stopped/logs/train\.jsonl", "half a line"): "the third of three rows is later than the checkpoint",
    ("resume", r"stopped/logs/.*\.csv", "*"): "written again from the .jsonl beside it",
    ("resume", r"stopped/logs/probe\.jsonl", "*"): "its one row is later than the checkpoint, and is written again",
    ("resume", r"stopped/logs/.*\.jsonl", "odd lines"): "every row is there, and the lines that are none are dropped",
    (
        "openbhb export",
        r"roi/manifest\.csv",
        "*",
    ): "tells the modality, or it is asked for (test below)",
    (
        "openbhb export z",
        r"roi/manifest\.csv",
        "*",
    ): "tells the modality, or it is asked for (test below)",
    ("study run", r"study/train\.csv", "*"): "written again from the cohort where it differs (tests/experiments/study)",
    ("resume finished", r"cache/.*", "*"): "nothing is left to train, so that no voxels are read",
    ("*", r".*\.nii\.gz", "tail"): "what follows the voxels is not read",
    ("*", r".*\.ckpt", "tail"): "an archive is read from its end, which is whole",
    ("*", r".*\.csv", "rows twice"): "every row is as good as before",
}
"""(reader, pattern of the file, kind of damage) -> why a command may go on without a word."""


def attacks(reader: str, world: World) -> list[tuple[Path, str]]:
    """Files that the reader opens, one for each folder and suffix of scans, and all kinds of damage."""
    chosen: dict[tuple[object, ...], Path] = {}
    unread = {path for path in world.files() if path.suffix == ".npy"} - world.trained_on
    for path in sorted(files_of(reader, world), key=lambda path: (path in unread, path)):
        alike = (path.parts[0], path.suffix) if path.suffix in (".npy", ".gz") else (path,)
        chosen.setdefault(alike, path)
    return [(path, kind) for path in chosen.values() for kind in sorted(kinds_for(path))]


def shared(reader: str, world: World) -> list[tuple[Path, str]]:
    """Attacks of the slow tests: all of the files that the reader's row wants whole, and of the others every kind of
    damage to every kind of file, by turns, and every file at least once.
    """
    turns: Counter[Path] = Counter()
    by_kind: dict[tuple[str, str], list[Path]] = {}
    for path, kind in telling(reader, world):
        by_kind.setdefault((suffix_of(path), kind), []).append(path)
    cases = {(path, kind) for path, kind in attacks(reader, world) if re.fullmatch(READERS[reader].whole, str(path))}
    for (_, kind), paths in by_kind.items():
        chosen = min(paths, key=lambda path: turns[path])
        turns[chosen] += 1
        cases.add((chosen, kind))
    for path, kind in attacks(reader, world):
        if all(path != other for other, _ in cases):
            cases.add((path, kind))
    return sorted(cases)


def telling(reader: str, world: World) -> list[tuple[Path, str]]:
    """Attacks of which a command must say something."""
    return [(path, kind) for path, kind in attacks(reader, world) if not is_harmless(reader, path, kind)]


@functools.cache
def sample(world: World) -> dict[str, list[tuple[Path, str]]]:
    """For the fast tests: of every reader as many attacks as its row says, those first that had no turn before."""
    turns: Counter[object] = Counter()
    cases: dict[str, list[tuple[Path, str]]] = {}
    sampled = (name for name, reader in READERS.items() if reader.sample)
    rare = Counter(suffix for name in sampled for suffix in {suffix_of(path) for path in files_of(name, world)})
    for reader in READERS:
        left, files = telling(reader, world) or attacks(reader, world), Counter[Path]()
        left = [(path, kind) for path, kind in left if re.fullmatch(READERS[reader].sampled, str(path))]
        cases[reader] = []
        for _ in range(min(READERS[reader].sample, len(left))):
            path, kind = min(left, key=lambda case: _turn(*case, turns, rare, files))
            cases[reader].append((path, kind))
            left.remove((path, kind))
            turns.update([kind, (suffix_of(path), kind)])
            files[path] += 1
    return cases


def _turn(path: Path, kind: str, turns: Counter[object], rare: Counter[str], files: Counter[Path]) -> tuple[int, ...]:
    """What comes first: kinds without a turn, then of this suffix, files that few readers open, files still whole."""
    suffix = suffix_of(path)
    return turns[kind], turns[suffix, kind], rare[suffix], files[path]


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
        if reader.startswith("report"):
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
    for path, kind in sample(world)[reader] if few else shared(reader, world):
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


@pytest.mark.parametrize("reader", [name for name, reader in READERS.items() if reader.sample])
def test_a_damaged_file_is_named(reader: str, world: World):
    complaints = attacked(reader, world, few=True)
    assert not complaints, "\n".join(complaints)


def test_a_damaged_manifest_changes_no_submission(world: World):
    """It exports the same bytes as the whole manifest, or asks for what it does not tell."""
    path, export = world.home / "roi" / "manifest.csv", "openbhb export"
    assert run(export).status == 0
    whole, submission = path.read_bytes(), contents(world.home / "exported")
    for kind, damage in kinds_for(path).items():
        world.restore()
        path.write_bytes(damage(whole))
        told = run(export)
        same = told.status == 0 and contents(world.home / "exported") == submission
        assert same or "does not tell which images of OpenBHB it was trained on" in told.err, (kind, told)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_damaged_description_hides_no_synthetic_cohort(world: World):
    """The column dataset says it too."""
    description = world.home / "cohort" / "dataset_description.json"
    datasets = Cohort.read(world.home / MANIFEST).table["dataset"]
    whole = description.read_bytes()
    for damage in kinds_for(description).values():
        description.write_bytes(damage(whole))
        assert synthetic_rows(datasets, [world.home / MANIFEST]) == len(datasets)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_named_for_every_kind_of_damage(reader: str, world: World):
    complaints = attacked(reader, world, few=False)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_the_row_of_a_reader_names_what_it_opens(reader: str, world: World):
    named, opened = set(files_of(reader, world)), opened_by(reader, world)
    assert opened <= named, f"not in the row: {sorted(map(str, opened - named))}"


def test_every_file_has_a_reader_and_kinds_of_damage(built: World):
    """A new artefact is attacked, or this fails."""
    files = set(built.files())
    assert {suffix_of(path) for path in files} <= set(BY_SUFFIX)
    read = {path for reader in READERS for path in files_of(reader, built)}
    unread = {path for path in files if any(fits(path, pattern) for pattern in UNREAD)}
    assert sorted(map(str, files - read - unread)) == []
    for pattern in [*UNREAD, *(pattern for reader in READERS.values() for pattern in reader.opens)]:
        assert any(fits(path, pattern) for path in files), f"no file is {pattern}"


def test_every_file_and_kind_of_damage_has_its_turn_in_the_slow_tests(built: World):
    """With every reader: each file that it opens, and each kind of damage that it must say something of."""
    for reader in READERS:
        cases, everything = shared(reader, built), attacks(reader, built)
        assert {path for path, _ in cases} == {path for path, _ in everything}
        turns = {(suffix_of(path), kind) for path, kind in cases}
        assert {(suffix_of(path), kind) for path, kind in telling(reader, built)} <= turns


def test_every_kind_of_damage_has_its_turn_in_the_fast_tests(built: World):
    cases = {kind for listed in sample(built).values() for _, kind in listed}
    sampled = [name for name, reader in READERS.items() if reader.sample]
    assert {kind for name in sampled for _, kind in telling(name, built)} <= cases
