from __future__ import annotations

import doctest

import pytest

from medssl.report import markdown
from medssl.report.markdown import md, table


def test_the_examples_in_the_docstrings_are_right():
    from medssl.report.checklists import model

    for module in (markdown, model):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("site_a and _b_", "site_a and \\_b\\_"),
        ("1. first", "1\\. first"),
        ("16.9 (11.1 to 23.4)", "16.9 (11.1 to 23.4)"),
        ("# head", "\\# head"),
        ("- item", "\\- item"),
        ("-c", "\\-c"),
        ("a\n\n- b", "a - b"),
        ("![x](y)", "\\!\\[x\\](y)"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("`a` ~~b~~ $c$ \\", "\\`a\\` \\~\\~b\\~\\~ \\$c\\$ \\\\"),
        ("", ""),
    ],
)
def test_nothing_in_a_text_is_markup(text: str, shown: str):
    assert md(text) == shown


def test_a_cell_cannot_leave_its_table():
    assert table(("a", "b"), [("x|y\nz", "")]) == ["| a | b |", "|---|---|", "| x\\|y z |  |"]
