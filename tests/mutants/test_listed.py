"""The list of deliberate mistakes cannot rot: every one still fits the code, and its tests exist."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_fits_the_code_once_and_names_tests_that_exist(mutant: Mutant) -> None:
    ast.parse(mutant.applied(ROOT))
    assert mutant.old != mutant.new
    for argument in mutant.selection():
        assert not argument.startswith("tests/") or (ROOT / argument).exists(), argument
    assert mutant.own or mutant.by != "own"
    assert mutant.names or mutant.by == "own"


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) >= 55
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
    assert max(Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS).values()) == 1


def test_a_text_that_is_gone_or_stands_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a = 1\nb = 1\n")
    assert Mutant("m", "x.py", "a = 1", "a = 2").applied(tmp_path) == "a = 2\nb = 1\n"
    with pytest.raises(ValueError, match="stands 2 times"):
        Mutant("m", "x.py", " = 1", " = 2").applied(tmp_path)
    with pytest.raises(ValueError, match="stands 0 times"):
        Mutant("m", "x.py", "c = 1", "c = 2").applied(tmp_path)
