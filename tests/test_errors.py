from __future__ import annotations

from medssl.errors import shown


def test_what_moves_the_cursor_is_spelled_out():
    assert shown("a\x1b[2Jb\nc\r\udcff") == r"a\x1b[2Jb\nc\r\xff"


def test_a_long_word_loses_its_middle_and_a_path_does_not():
    text = shown(f"'{'y' * 5000}' is unknown; known: moco")
    assert len(text) < 400
    assert text.startswith("'yyy")
    assert text.endswith("y' is unknown; known: moco")
    path = "/" + "/".join(["folder" * 5] * 12)
    assert shown(path) == path
