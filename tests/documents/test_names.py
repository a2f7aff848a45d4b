"""A name from a file is the name of one file in the folder that is meant, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl.documents.names import inside, is_file, refuse_same, safe_name
from medssl.errors import UserError

ESCAPES = [
    "", " ", ".", "..", "../x", "../../../../x", "a/b", "/etc/passwd", "a\\b", "..\\x", "C:x", "~", "~root", "a\0b",
    "a\nb", "a\rb", "a\x1b[31m", "-rf", ".hidden", "a.", "a ", " a", "con", "NUL", "com1", "LPT9.txt", "aux.tar.gz",
    "a*", "a?", 'a"', "a<b", "a|b", "x" * 300, "é" * 100, "\ud800", "a\u202eb", "a\u2028b",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_would_be_another_place_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^p\.yaml: the encoder .* no file can be named after it; use letters"
    ) as caught:
        inside(tmp_path, name, "p.yaml: the encoder")
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@pytest.mark.parametrize(
    "name", ["resnet18", "A-b_c.d", "y-aware + FairKL", "größe", "脳", "com", "console", "a" * 120]
)
def test_an_ordinary_name_is_kept(name: str, tmp_path: Path) -> None:
    assert safe_name(name) == name
    path = inside(tmp_path, name)
    path.write_text("")
    assert path.parent == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("names", [["a", "A"], ["x", "é", "e\u0301"], ["straße", "STRASSE"], ["a", "b", "a"]])
def test_names_that_would_be_one_file_somewhere_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="would have the same file name as"):
        refuse_same(names, "p.yaml: the row")


def test_different_names_pass_until_one_comes_twice() -> None:
    names = ["a", "b", "A1", "é", "e"]
    refuse_same(names, "p.yaml: the row")
    for name in names:
        with pytest.raises(UserError, match="would have the same file name as"):
            refuse_same([*names, name.upper()], "p.yaml: the row")


def test_text_that_can_be_no_path_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert is_file(tmp_path / "a")
    for name in ("x" * 300, "a\0b", "\ud800", str(tmp_path), "a/" * 3000):
        assert not is_file(name)
