"""What is said of a value or a name that is refused."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medssl.checks.rules import mistaken

if TYPE_CHECKING:
    from pydantic import ValidationError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlevel, _REPR.maxlong = 3, 40


def nearest(word: Any, known: Iterable[Any], within: str = "") -> str:
    """The part of a sentence that helps after an unknown name; ``within`` is written before the one that was meant.

    >>> nearest("mocco", ["simclr", "moco"]), nearest("xyz", ["simclr", "moco"])
    ("did you mean 'moco'?", 'known: moco, simclr')
    """
    names = sorted({str(name) for name in known})
    close = near(word, names)
    if close is not None:
        return f"did you mean '{within}{close}'?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"known: {', '.join(names[:20]) or 'none'}{more}"


def near(word: Any, known: Iterable[str]) -> str | None:
    """The known name that looks most like a word, capitals aside; None where none is like it."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(clipped(word).lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def clipped(name: Any) -> str:
    """A name as it was written, without quotes, on one line and of at most 100 characters."""
    return " ".join(name[:100].split()) if isinstance(name, str) else short(name)


def short(value: Any) -> str:
    """A value as Python writes it, on one line and of at most 100 characters."""
    try:
        text = _REPR.repr(value)
    except Exception:  # an int of more digits than Python prints, or a class with a broken repr
        text = "a number of thousands of digits" if isinstance(value, int) else f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def fault(problem: ValidationError, content: Any) -> tuple[list[str], Any, str]:
    """Where plain values break a rule first (the path as it was written), the value there, and the rule."""
    errors = problem.errors()
    where = written(errors[0]["loc"], content)
    here = [error for error in errors if written(error["loc"], content) == where]
    rules = list(dict.fromkeys(_rule(error) for error in here))
    if len(rules) > 1:  # alternatives: what is wrong with one of them may be right for another
        rules = [rule.removesuffix(mistaken(errors[0].get("input"))) for rule in rules]
        rules = [rules[0], *(rule.removeprefix("it must be ") for rule in rules[1:])]
    return where, errors[0].get("input"), ", or ".join(rules)


def written(path: Sequence[str | int], content: Any) -> list[str]:
    """The part of a path that the user wrote; pydantic adds the names of alternatives ("int", "str")."""
    parts: list[str] = []
    for part in path:
        listed = isinstance(content, list | tuple) and isinstance(part, int) and part < len(content)
        if not listed and not (isinstance(content, Mapping) and part in content):
            break
        content = content[part]
        parts.append(clipped(part))
    return parts


def _rule(error: Mapping[str, Any]) -> str:
    """What a value must be, from an error of pydantic."""
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"])
        close = near(error["input"], expected.replace(" or ", ", ").replace("'", "").split(", "))
        return f"it must be {expected}{f'; did you mean {close!r}?' if close else ''}"
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "it must be", 1).replace(" should have ", " must have ", 1)
    return text[0].lower() + text[1:]
