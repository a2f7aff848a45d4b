"""docs/inputs.md and the tests name the same oddities."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "inputs.md"


def described() -> Counter[str]:
    """First cells of the rows of the page's tables."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip().strip("`") for line in rows]
    return Counter(name for name in names if name not in ("oddity", "---"))


def names_in_tests() -> set[str]:
    """Names in pytest.mark.oddity("name") anywhere in the tests."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.oddity"):
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}: the name of an oddity is written out"
                found.add(str(name.value))
    return found


def test_every_row_of_the_page_is_tested_and_every_oddity_described():
    rows = described()
    assert [name for name, n in rows.items() if n > 1] == []
    assert sorted(names_in_tests() - set(rows)) == [], "tested, but not in docs/inputs.md"
    assert sorted(set(rows) - names_in_tests()) == [], "in docs/inputs.md, but not tested"
