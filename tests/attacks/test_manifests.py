"""Every column of a manifest holds every odd cell, in one row and in all: used, or refused in one sentence."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator, Mapping

import pytest

from tests.attacks.test_arguments import complaint
from tests.attacks.world import World, medssl

MANIFEST = "cohort/manifest.csv"
READERS: Mapping[str, tuple[str, ...]] = {
    "check": ("cohort", "check", MANIFEST),
    "check encoder": ("cohort", "check", MANIFEST, "--encoder", "run"),
    "split": ("cohort", "split", MANIFEST, "-o", "split.csv"),
    "cache": ("cohort", "cache", MANIFEST, "--spacing", "8", "--shape", "24", "--workers", "1", "--quiet"),
    "embed": ("embed", "run", MANIFEST, "-o", "features.csv", "--quiet"),
    "embed skip": ("embed", "run", MANIFEST, "-o", "features.csv", "--on-error", "skip", "--quiet"),
    "pretrain": ("pretrain", "my.yaml", "output=new", "trainer.epochs=1", "monitors.every=0", "--quiet"),
    "score": ("score", "run", "--no-references", "--resamples", "10", "--quiet"),
    "resume": ("pretrain", "--resume", "stopped", "--quiet"),
}
LONG = frozenset({"pretrain", "resume", "score"})
COLUMNS = ("participant_id", "session", "image", "age", "sex", "site", "split", "dataset", "weight", "family_id", "odd")
CELLS: Mapping[str, str] = {
    "empty": "",
    "blank": "  ",
    "nan": "nan",
    "NA": "NA",
    "inf": "inf",
    "negative": "-1",
    "overflow": "1e400",
    "digits": "9" * 400,
    "more digits": "9" * 5000,
    "formula": "=HYPERLINK(1)",
    "newline": "a\nb",
    "return": "a\rb",
    "quotes": 'a"b',
    "nul": "a\x00b",
    "bytes": "\udcff",
    "accents": "e\u0301",
    "right to left": "\u202eabc",
    "emoji": "\U0001f9e0",
    "long": "y" * 5000,
    "markup": "<script>alert(1)</script>{{x}}[red]%s",
    "up": "../../../../etc/passwd",
    "device": "../null",
    "endless": "../zero",
    "pipe": "pipe.nii.gz",
    "folder": "images",
    "itself": "manifest.csv",
    "number": "images/sub-0001_T1w.nii.gz,0",
    "sub-volume": "images/sub-0001_T1w.nii.gz#7",
}


def write(world: World, column: str, cell: str, every: bool) -> None:
    """The manifest of the world with that cell in its third row, or in all."""
    path = world.home / MANIFEST
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) + [column] * (column not in rows[0])
    for k, row in enumerate(rows):
        if every or k == 2:
            row[column] = cell
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(out.getvalue().encode("utf-8", "surrogateescape"))


def cases(column: str, few: bool) -> Iterator[tuple[str, str, bool]]:
    """Reader, kind of cell, whether in every row: for the fast tests as many as every one has its turn.

    For the slow tests every cell in every column, once in one row and once in all, and the readers by turns: those that
    train or score take part in one of the two.
    """
    readers, kinds = sorted(READERS), sorted(CELLS)
    quick = [reader for reader in readers if reader not in LONG]
    if few:
        for k in range(COLUMNS.index(column), max(len(COLUMNS), len(readers), len(kinds)), len(COLUMNS)):
            reader = readers[k] if k < len(readers) else quick[k % len(quick)]
            yield reader, kinds[k % len(kinds)], bool(k % 2)
        return
    first = COLUMNS.index(column)
    for k, kind in enumerate(kinds):
        every = bool((first + k) % 2)
        yield readers[(first + k) % len(readers)], kind, every
        yield quick[(first + k) % len(quick)], kind, not every


def attacked(column: str, world: World, few: bool) -> list[str]:
    """Every complaint about a column."""
    bad = []
    for reader, kind, every in cases(column, few):
        world.restore()
        os.mkfifo(world.home / "cohort" / "pipe.nii.gz")
        write(world, column, CELLS[kind], every)
        told = medssl(*READERS[reader])
        found = complaint(told)
        if not found and told.status and (world.home / "new").exists():
            found = "refused, and left a folder"
        if found:
            where = "every row" if every else "one row"
            bad.append(f"{column} [{kind}, {where}] {reader}: {found}: {told.status} {(told.err or told.out)[-300:]!r}")
    return bad


def test_every_reader_column_and_cell_has_its_turn_in_the_fast_tests():
    fast = [(column, *case) for column in COLUMNS for case in cases(column, few=True)]
    assert [{each[k] for each in fast} for k in range(4)] == [set(COLUMNS), set(READERS), set(CELLS), {True, False}]


def test_every_two_of_reader_column_and_cell_meet_in_the_slow_tests():
    slow = [(column, *case) for column in COLUMNS for case in cases(column, few=False)]
    lists = (COLUMNS, READERS, CELLS, (False, True))
    for a, b in itertools.combinations(range(4), 2):
        assert {(each[a], each[b]) for each in slow} == set(itertools.product(lists[a], lists[b]))
    assert {(column, kind, every) for column, _, kind, every in slow} == set(itertools.product(COLUMNS, CELLS, (0, 1)))


@pytest.mark.parametrize("column", COLUMNS)
def test_an_odd_cell_is_used_or_refused(column: str, world: World):
    complaints = attacked(column, world, few=True)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
def test_every_odd_cell_is_used_or_refused(column: str, world: World):
    complaints = attacked(column, world, few=False)
    assert not complaints, "\n".join(complaints)
