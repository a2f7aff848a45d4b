"""The run itself: what it calls caught, what it goes on from, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import verdict
from tests.mutants.mutant import Mutant
from tests.mutants.run import Outcome, Records, jobs_of, mistaken

CAUGHT, SURVIVED, NO_TEST = 1, 0, 5


def mutant(equivalent: str = "") -> Mutant:
    return Mutant("m", "x.py", "1", "2", names=("moco",), own=("tests/memory",), equivalent=equivalent)


@pytest.mark.parametrize(
    ("equivalent", "code", "wrong"),
    [
        ("", CAUGHT, ""),
        ("", SURVIVED, "survives"),
        ("", NO_TEST, "no test ran"),
        ("a reason", SURVIVED, ""),
        ("a reason", CAUGHT, "drop the reason"),
    ],
)
def test_a_survivor_needs_a_reason_and_a_reason_a_survivor(equivalent: str, code: int, wrong: str) -> None:
    found = verdict([(1, mutant(equivalent), "m", [])], {"m": Outcome("m", code, 1.0)})
    assert len(found) == bool(wrong)
    assert wrong in "".join(found)


def test_tests_that_fail_without_a_mistake_prove_nothing() -> None:
    found = verdict([(0, None, "as it is", [])], {"as it is": Outcome("as it is", CAUGHT, 1.0, "test_a")})
    assert "fail without any mistake (test_a)" in found[0]


def test_the_file_is_put_back_and_never_has_the_same_time_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("a = 1\n")
    times = set()
    for number in (1, 2):
        with mistaken(tmp_path, mutant(), number):
            assert path.read_text() == "a = 2\n"
            times.add(path.stat().st_mtime_ns)
        assert path.read_text() == "a = 1\n"
        times.add(path.stat().st_mtime_ns)
    assert len(times) == 4


def test_records_survive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    records = Records(tmp_path / "deep" / "listed.jsonl")
    assert records.read() == {}
    records.add(Outcome("m", CAUGHT, 2.0, "test_a"))
    with records.path.open("a") as out:
        out.write('{"mutant": "n", "co')
    assert records.read() == {"m": Outcome("m", CAUGHT, 2.0, "test_a")}


def test_every_file_of_tests_is_run_once_without_a_mistake() -> None:
    jobs = jobs_of([mutant(), mutant()], None)
    assert [job[1] is None for job in jobs] == [False, False, True, True]
    assert jobs[0][3][-2:] == ["-k", "moco"]
    assert [job[3] for job in jobs_of([mutant()], "own")] == [["tests/memory"], ["tests/memory"]]
