"""What the challenge's server refuses to read in a submission, and what an old Python could not parse."""

from __future__ import annotations

import ast
import re

FORBIDDEN = {
    "subprocess": "subprocess",
    "Popen": "Popen",
    "shutil": "shutil",
    "rmtree": "rmtree",
    "copytree": "copytree",
    "fdopen": "fdopen",
    "fchmod": "fchmod",
    "fchown": "fchown",
    "ftruncate": "ftruncate",
    "listdir": "listdir",
    "scandir": "scandir",
    "removedirs": "removedirs",
    "open": "(?:os.| )open",
}
"""Key word -> regular expression that may occur nowhere in the text, comments included (ramp-workflow 0.7.0)."""
OLDEST = (3, 8)
_BUILT_IN = ("list", "dict", "tuple", "set", "frozenset", "type")


def forbidden(text: str) -> str | None:
    """The first forbidden key word with its line, None for a clean text.

    >>> forbidden("import numpy\\n# an open data set")
    "line 2 has the forbidden key word 'open'"
    """
    for word, pattern in FORBIDDEN.items():
        found = re.search(pattern, text)
        if found:
            return f"line {text.count(chr(10), 0, found.start()) + 1} has the forbidden key word '{word}'"
    return None


def too_new(text: str) -> str | None:
    """What Python 3.8 could not read, or could not evaluate in an annotation; None where there is nothing."""
    if not text.isascii():
        return "it has letters outside ASCII, which a server in another locale misreads"
    try:
        tree = ast.parse(text, feature_version=OLDEST)
    except SyntaxError as error:
        return f"line {error.lineno} is no Python {OLDEST[0]}.{OLDEST[1]} ({error.msg})"
    except (ValueError, RecursionError, MemoryError):  # a NUL, or thousands of brackets
        return "it is no Python text"
    for node in ast.walk(tree):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for inner in (part for note in notes if isinstance(note, ast.AST) for part in ast.walk(note)):
            generic = isinstance(inner, ast.Subscript) and ast.unparse(inner.value) in _BUILT_IN
            if generic or (isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.BitOr)):
                line = getattr(node, "lineno", 0)
                return f"line {line} has an annotation that Python 3.8 cannot evaluate"
    return None
