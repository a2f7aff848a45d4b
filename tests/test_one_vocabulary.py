"""No other list of words for "missing" grows anywhere in the package: medssl.tables.missing is the only one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from medssl.tables.missing import WORDS

ROOT = Path(__file__).resolve().parents[1] / "medssl"
FILES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "tables")
NARROWER = "_NO_ID"
"""Cells that cannot be a person's id, while a word such as NA may be one."""
TELLTALE = WORDS - {"", ".", "-", "--", "?"}


def vocabularies(source: str) -> list[int]:
    """Lines of sets, tuples, lists and dicts (their keys) that hold two or more words for "missing"."""
    found = []
    tree = ast.parse(source)
    narrower = {
        id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == NARROWER
    }
    for node in ast.walk(tree):
        if id(node) in narrower:
            continue
        if isinstance(node, (ast.Set, ast.Tuple, ast.List)):
            items: list[ast.expr | None] = [*node.elts]
        elif isinstance(node, ast.Dict):
            items = [*node.keys]
        else:
            continue
        words = [i.value for i in items if isinstance(i, ast.Constant) and isinstance(i.value, str)]
        if len({w.strip().lower() for w in words} & TELLTALE) > 1:
            found.append(node.lineno)
    return found


@pytest.mark.oddity("words-for-missing")
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_has_its_own_words_for_missing(path: Path) -> None:
    lines = vocabularies(path.read_text(encoding="utf-8"))
    assert not lines, f"{path}, lines {lines}: use medssl.tables.missing"


@pytest.mark.parametrize(
    "source",
    [
        'A = {"", "n/a", "na", "nan"}',
        'if x in ("NA", "None"): pass',
        'B = frozenset(["null", "x", "N/A"])',
        'C = {"nan": 0, "na": 0}',
    ],
)
def test_another_vocabulary_would_be_found(source: str) -> None:
    assert vocabularies(source) == [1]


def test_a_single_word_is_no_vocabulary() -> None:
    assert vocabularies('x = ("male", "unknown", ""); y = {"none": 1, "combat": 2}') == []
