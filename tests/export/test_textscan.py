from __future__ import annotations

import pytest

from medssl.export.textscan import FORBIDDEN, forbidden, too_new


@pytest.mark.parametrize(
    "line",
    [
        "# an open data set",
        "import subprocess",
        "from subprocess import Popen",
        "import shutil",
        "x.rmtree()",
        "copytree",
        "f = os.fdopen(1)",
        "fchmod",
        "fchown",
        "ftruncate",
        "os.listdir('.')",
        "os.scandir('.')",
        "os.removedirs('x')",
        "os.open('x')",
        "with open('x') as f:",
        "posxopen",
    ],
)
def test_every_string_that_the_server_refuses_is_found_with_its_line(line: str):
    said = forbidden(f"import numpy\n{line}\n")
    assert said is not None
    assert said.startswith("line 2 has the forbidden key word ")


def test_other_words_pass():
    for line in ("f=open('x')", "Image.open('x')", "(open)", "reopened", "\topen", "is_open", "sub_process"):
        assert forbidden(line) is None, line
    assert len(FORBIDDEN) == 13


def test_the_rules_are_those_of_ramp_workflow():
    sanitize = pytest.importorskip("rampwf.utils.sanitize", reason="ramp-workflow is not installed")
    assert sanitize.BLACKLIST == FORBIDDEN


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("match x:\n    case 1:\n        pass", "is no Python 3.8"),
        ("with (a as b, c as d):\n    pass", "is no Python 3.8"),
        ("def f(x: int | None):\n    pass", "line 1 has an annotation that Python 3.8 cannot evaluate"),
        ("def f() -> list[int]:\n    pass", "cannot evaluate"),
        ("x: dict[str, int] = {}", "cannot evaluate"),
        ("# caf\u00e9", "outside ASCII"),
        ("def (", "is no Python"),
    ],
)
def test_what_python_38_cannot_read_is_named(source: str, words: str):
    said = too_new(source)
    assert said is not None
    assert words in said


def test_old_python_passes():
    assert too_new("def f(x: int, *, y=None) -> str:\n    if (n := x):\n        return f'{n}'\n") is None
