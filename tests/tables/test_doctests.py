from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(("name", "least"), [("missing", 5), ("ages", 1), ("people", 5), ("spelling", 2)])
def test_examples_in_docstrings_are_true(name, least):
    results = doctest.testmod(import_module(f"medssl.tables.{name}"))
    assert results.failed == 0
    assert results.attempted >= least
